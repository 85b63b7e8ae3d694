"""Reports in a real browser: opened from disk, without a network, in light and dark, on a desk and on a phone."""

from pathlib import Path

import pytest

from hf_genkit.report import report_of_folder, write_report

from .examples import rich_report, save_picture, save_pictures
from .test_folders import write


CHROMIUM = Path("/usr/bin/chromium")

# The contrast of an element's text with what is behind it, as WCAG 2 defines it.
CONTRAST = """element => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const levels = color => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const brightness = color => {
    const [r, g, b] = levels(color).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (levels(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
  const pair = [brightness(getComputedStyle(element).color), brightness(getComputedStyle(behind).backgroundColor)];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""
TEXTS = "h1, h2, h3, p, li, dt, dd, td, th, a, code, button, figcaption, summary, footer, .star, .arrow"


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    save_pictures(folder)
    return write_report(rich_report(), folder)


@pytest.fixture
def opened(browser, report):
    """A function that opens the report (or another page), and refuses whatever it asks the network or console for."""
    contexts, asked, said = [], [], []

    def open_page(path=report, width=1200, scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)


def wait_for(page, expression: str) -> None:
    """Waits until an expression is true; the page's policy forbids playwright's way of doing so."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(30)
    pytest.fail(f"never true: {expression}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_can_be_read(opened, scheme):
    page = opened(scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    elements = page.locator(TEXTS)
    contrasts = elements.evaluate_all(f"all => all.map(e => [({CONTRAST})(e), e.className, e.textContent.trim()])")
    assert len(contrasts) > 150
    assert [found for found in contrasts if found[0] < 4.5 and found[2]] == []
    labels = page.locator("svg").first
    assert labels.evaluate("svg => getComputedStyle(svg.querySelector('text')).fill") == page.evaluate(
        "getComputedStyle(document.body).color"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_of_charts_can_be_told_from_the_page(opened, scheme):
    page = opened(scheme=scheme)
    colors = page.evaluate(
        f"""() => [1, 2, 3, 4, 5, 6, 7].map(number => {{
          const probe = document.body.appendChild(document.createElement("p"));
          probe.style.color = `var(--series-${{number}})`;
          return ({CONTRAST})(probe);
        }})"""
    )
    assert min(colors) >= 3


@pytest.mark.parametrize("width", [320, 375, 900, 1200])
def test_the_page_does_not_scroll_sideways(opened, width):
    page = opened(width=width)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scrolled = page.locator(".scroll").evaluate_all(
        "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).length"
    )
    assert scrolled > 0 or width > 400


def test_wide_tables_are_scrolled_with_the_keyboard(opened):
    page = opened(width=375)
    box = page.locator(".table .scroll")
    box.focus()
    page.keyboard.press("ArrowRight")
    wait_for(page, "document.querySelector('.table .scroll').scrollLeft > 0")


def test_every_picture_is_loaded_and_none_is_wider_than_its_place(opened):
    page = opened(width=375)
    images = page.locator("main img").evaluate_all("all => all.map(i => [i.naturalWidth, i.clientWidth, i.className])")
    assert [natural for natural, _, _ in images] == [24, 24, 90, 90, 800, 1200]
    assert all(0 < shown <= 375 for _, shown, _ in images)
    assert [name for _, _, name in images] == ["pixelated"] * 4 + ["", ""]  # what is shrunk keeps its lines


def test_texts_of_charts_stay_inside_and_apart(opened):
    overlapping = (
        opened()
        .locator("svg")
        .evaluate_all(
            """charts => charts.map(chart => {
          const whole = chart.getBoundingClientRect();
          const boxes = [...chart.querySelectorAll("text")].map(text => text.getBoundingClientRect());
          const outside = boxes.filter(box =>
            box.left < whole.left || box.right > whole.right || box.top < whole.top || box.bottom > whole.bottom);
          const pairs = boxes.flatMap((one, i) => boxes.slice(i + 1).filter(other =>
            one.left < other.right && other.left < one.right && one.top + 4 < other.bottom && other.top + 4 < one.bottom));
          return [boxes.length > 8, outside.length, pairs.length];
        })"""
        )
    )
    assert overlapping == [[True, 0, 0], [True, 0, 0]]


def test_the_button_copies_the_command(opened):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    button = page.locator(".copy").first
    button.click()
    wait_for(page, "document.querySelector('.copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == rich_report().command


def test_the_button_copies_where_there_is_no_clipboard_to_write_to(opened):
    page = opened()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.addEventListener('copy', () => { window.copied = getSelection().toString(); })")
    page.locator(".copy").first.focus()
    page.keyboard.press("Enter")
    wait_for(page, "window.copied")
    assert page.evaluate("copied") == rich_report().command


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_button_changes_the_theme(opened, scheme):
    page = opened(scheme=scheme)
    toggle, background = page.locator(".theme"), "getComputedStyle(document.body).backgroundColor"
    other = "dark" if scheme == "light" else "light"
    assert toggle.inner_text() == other.capitalize()
    before = page.evaluate(background)
    toggle.focus()
    page.keyboard.press("Space")
    assert toggle.inner_text() == scheme.capitalize()
    changed = page.evaluate(background)
    assert changed != before
    assert page.locator("td").first.evaluate(CONTRAST) >= 4.5
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.emulate_media(media="screen", color_scheme=scheme)
    toggle.click()
    assert page.evaluate(background) == before


def test_a_picture_is_enlarged_and_put_away_with_the_keyboard(opened):
    page = opened()
    button, large = page.locator(".enlarge").nth(2), page.locator("dialog img")
    button.focus()
    page.keyboard.press("Enter")
    assert large.is_visible()
    assert (large.get_attribute("alt"), large.get_attribute("class")) == ("Steps", "pixelated")
    wait_for(page, "document.querySelector('dialog img').naturalWidth === 90")
    assert 90 < large.bounding_box()["width"] <= 1200 * 0.96
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert button.evaluate("button => button === document.activeElement")


def test_the_focus_can_be_seen_and_the_contents_lead_to_the_sections(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("link => link.getBoundingClientRect().left >= 0")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.locator("nav a").last.click()
    wait_for(page, "document.querySelector('section:last-of-type').getBoundingClientRect().top < innerHeight")


def test_nothing_is_hidden_without_a_script(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("main img").first.is_visible()
    assert page.locator("svg").count() == 2


def test_charts_as_files_are_pictures(opened, report):
    page = opened(report.parent / "report-loss.svg")
    assert page.locator("text").count() > 8


def test_the_report_of_a_run_opens_without_errors(opened, tmp_path):
    write(tmp_path, {"metrics": {"loss": 0.5}, "steps": 3})
    save_picture(tmp_path / "samples.png")
    page = opened(write_report(report_of_folder(tmp_path), tmp_path), width=375)
    assert page.locator("tbody tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
