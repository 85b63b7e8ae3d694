"""The demos in a real browser: a click makes a picture, a wrong input is told in one sentence, nothing comes from elsewhere."""

import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_genkit.demo import build_demo, launch_demo

from .tiny_demos import grey, save_classifier, save_ddpm, save_gan, save_vae


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


def test_a_missing_gradio_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=re.escape('pip install "hf-genkit[demo]"')):
        build_demo(str(tmp_path))
