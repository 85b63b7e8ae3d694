"""The demos in a real browser: a click makes a picture, a wrong input is told in one sentence, nothing comes from elsewhere."""

import io
import json
import re
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from hf_genkit.demo import build_demo, launch_demo

from .tiny_demos import grey, save_classifier, save_ddpm, save_gan, save_text_model, save_vae, save_vq_vae


CHROMIUM = "/usr/bin/chromium"
playwright = pytest.importorskip("playwright.sync_api")
if not Path(CHROMIUM).is_file():
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Opens the demo of some models in the browser, and sees to it that nothing is fetched from another host."""

    @contextmanager
    def visit(*names, **options):
        demo = build_demo(*map(str, names), **options)
        _, address, _ = launch_demo(demo, prevent_thread_lock=True, quiet=True)
        page, elsewhere = browser.new_page(viewport={"width": 1000, "height": 800}), []
        page.on(
            "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else elsewhere.append(r.url)
        )
        try:
            page.goto(address)
            page.wait_for_selector("h1")
            yield page
            assert elsewhere == []
            assert demo.analytics_enabled is False
            page.set_viewport_size({"width": 375, "height": 800})
            page.wait_for_function("document.documentElement.scrollWidth <= 375")
        finally:
            page.close()
            demo.close(verbose=False)

    return visit


def picture(page, label: str, other_than: str = "") -> str:
    """The address of the picture with a label, once one is drawn that is another one than before."""
    image = page.locator(".result", has_text=label).locator("img")
    playwright.expect(image).not_to_have_attribute("src", other_than)
    playwright.expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 0
    return image.get_attribute("src")


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def is_picture(response) -> bool:
    """Whether a response is a file that the page is to show."""
    return "/file=" in response.url and response.headers.get("content-type") == "image/png"


def told(page) -> str:
    """The sentence of the last error."""
    return page.locator(".toast-body").last.inner_text()


def test_a_vae_draws_by_its_seed_and_moves_with_its_sliders(visit, tmp_path):
    with visit(save_vae(tmp_path)) as page:
        first = picture(page, "Picture")
        page.get_by_label("Seed").locator("visible=true").fill("1")
        press(page, "Draw")
        second = picture(page, "Picture", first)
        page.get_by_label("number input for Latent").first.fill("3")
        page.keyboard.press("Tab")
        picture(page, "Picture", second)
        page.get_by_role("tab", name="Your picture").click()
        press(page, "Reconstruct")
        assert "There is no picture: upload one" in told(page)


def test_all_tabs_are_in_sight_on_a_phone(visit, tmp_path):
    with visit(save_vae(tmp_path)) as page:
        page.set_viewport_size({"width": 375, "height": 800})
        page.wait_for_timeout(500)
        assert page.get_by_role("tab").all_inner_texts() == ["Latents", "Samples", "Between two", "Your picture"]


def test_only_enlarged_pictures_have_hard_edges(visit, tmp_path):
    """A photo, or the names above the pictures, whose pixels are left out in between become jagged."""
    grey(9, 8).save(tmp_path / "small.png")
    grey(9, 2000).save(tmp_path / "large.png")
    with visit(save_vq_vae(tmp_path / "model")) as page:
        page.get_by_role("tab", name="Your picture").click()
        for name, rendering in (("small", "pixelated"), ("large", "auto"), ("small", "pixelated")):
            page.locator("input[type=file]").last.set_input_files(tmp_path / f"{name}.png")
            playwright.expect(page.get_by_test_id("image").locator("img:visible")).to_have_css(
                "image-rendering", rendering
            )
            page.get_by_label("Remove Image").locator("visible=true").click()


def test_a_page_is_as_wide_before_it_has_results_as_after(visit, tmp_path):
    with visit(save_text_model(tmp_path, "generation")) as page:
        assert page.locator(".gradio-container").evaluate("page => page.clientWidth") > 900


def test_a_gan_draws_by_seed_and_truncation(visit, tmp_path):
    with visit(save_gan(tmp_path)) as page:
        first = picture(page, "Pictures")
        page.get_by_label("Seed").locator("visible=true").fill("")
        press(page, "Draw")
        assert "The seed is empty" in told(page)
        page.get_by_label("Seed").locator("visible=true").fill("7")
        press(page, "Draw")
        picture(page, "Pictures", first)


def test_a_diffusion_model_draws_and_repaints_what_a_brush_covers(visit, tmp_path):
    with visit(save_ddpm(tmp_path)) as page:
        press(page, "Draw")
        first = picture(page, "Pictures")
        picture(page, "How the first one came out of noise")
        page.get_by_label("Seed").fill("1")
        press(page, "Draw")
        picture(page, "Pictures", first)
        page.get_by_role("tab", name="Repaint").click()
        press(page, "Take a drawn picture")
        for _ in range(20):  # until the picture lies in the editor, there is none
            press(page, "Repaint")
            page.locator(".toast-body").last.wait_for()
            if "Nothing is painted" in told(page):
                break
            page.wait_for_timeout(500)
        assert "Nothing is painted" in told(page)
        page.locator("canvas").first.click()
        press(page, "Repaint")
        picture(page, "Repainted")


def test_a_photo_to_repaint_is_shown_as_the_model_reads_it(visit, tmp_path):
    """Else the brush is too thin for a photo, and covers pixels that the model is not given."""
    grey(90, 640).crop((0, 0, 640, 480)).save(tmp_path / "photo.png")
    with visit(save_ddpm(tmp_path / "model")) as page:
        page.get_by_role("tab", name="Repaint").click()
        playwright.expect(page.locator(".pixelated canvas").first).to_be_visible()  # an upload before that is lost
        with page.expect_response(is_picture) as found:
            page.locator("input[type=file]").first.set_input_files(tmp_path / "photo.png")
        assert Image.open(io.BytesIO(page.request.get(found.value.url).body())).size == (384, 384)


def test_a_student_and_its_teacher_show_their_labels_side_by_side(visit, tmp_path):
    grey(200).save(tmp_path / "bright.png")
    models = save_classifier(tmp_path / "student"), save_classifier(tmp_path / "teacher", seed=1)
    with visit(*models, examples=[str(tmp_path / "bright.png")]) as page:
        press(page, "Classify")
        for number, side in enumerate(("Student", "Teacher")):
            label = page.locator(".output-class").nth(number)
            playwright.expect(label).to_have_text(re.compile("yes|no"))
            playwright.expect(page.get_by_text(f"{side} (")).to_be_visible()
        playwright.expect(page.locator("#summary")).to_contain_text(" ms a pass")


def test_a_teacher_of_other_classes_or_another_task_is_refused(tmp_path):
    student, teacher = save_classifier(tmp_path / "student"), save_classifier(tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    config["id2label"]["1"] = "perhaps"
    (teacher / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"tells 2 classes \(no, yes\), but the teacher .* tells 2 classes \(no, perhaps\)"
    ):
        build_demo(str(student), str(teacher))
    with pytest.raises(ValueError, match=r"is for image-classification, but the teacher .* for gan"):
        build_demo(str(student), str(save_gan(tmp_path / "gan")))
    with pytest.raises(ValueError, match="draws pictures, and has no teacher"):
        build_demo(str(tmp_path / "gan"), str(tmp_path / "gan"))


def test_examples_that_a_page_cannot_offer_are_refused(tmp_path):
    vae, gan = str(save_vae(tmp_path / "vae")), str(save_gan(tmp_path / "gan"))
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=f"The example 'one.png' is no file, but '{vae}' takes files"):
        build_demo(vae, examples=["one.png"])
    with pytest.raises(ValueError, match=r"The example .*text.png' is no picture"):
        build_demo(vae, examples=[str(tmp_path / "text.png")])
    with pytest.raises(ValueError, match=f"'{gan}' draws from seeds, and takes no examples such as 'one.png'"):
        build_demo(gan, examples=["one.png"])


def test_a_port_in_use_is_told(tmp_path):
    demo = build_demo(str(save_gan(tmp_path)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"The demo can't listen at 127.0.0.1, port {port}: choose another port"):
            launch_demo(demo, server_port=port, prevent_thread_lock=True, quiet=True)


def test_a_missing_gradio_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=re.escape('pip install "hf-genkit[demo]"')):
        build_demo(str(tmp_path))
