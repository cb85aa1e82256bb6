"""The site as readers have it: opened from a folder, on a desk and on a phone, with a mouse or without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from hpelib.study.site import build

ROOT = Path(__file__).resolve().parents[3]
MISSING = """
const done = arguments[0];
const waited = [...document.images].map(image => {
    image.loading = "eager";
    return image.decode().then(() => null, () => image.src);
});
Promise.all(waited).then(found => done(found.filter(Boolean)));
"""  # images that cannot be shown
LOW_CONTRAST = """
const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(v => v / 255).map(
        v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
    for (let e = element; e; e = e.parentElement) {
        const color = getComputedStyle(e).backgroundColor;
        if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
};
return [...document.querySelectorAll("body *")].filter(element => {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) return false;
    if (!element.checkVisibility()) return false;
    const both = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    return (both[0] + 0.05) / (both[1] + 0.05) < 4.5;
}).map(element => element.tagName + ": " + element.textContent.trim().slice(0, 40));
"""  # WCAG 2.2, success criterion 1.4.3, for text of any size
FOCUS = "return document.activeElement"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site of the committed reports."""
    target = tmp_path_factory.mktemp("site")
    build(ROOT, target)
    return target


def visited(browser, site: Path) -> Iterator[str]:
    """The name of every page while it is open."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        browser.get(page.as_uri())
        yield page.relative_to(site).as_posix()


def test_every_page_is_whole_and_readable(browser, site):
    browser.resize(1280, 900)
    browser.complaints(), browser.hosts()
    for page in visited(browser, site):
        assert browser.execute_async_script(MISSING) == [], page
        assert browser.execute_script(LOW_CONTRAST) == [], page
        assert browser.complaints() == [], page
        assert browser.hosts() == set(), page


def test_no_page_is_wider_than_a_phone(browser, site):
    browser.resize(390, 844, phone=True)
    for page in visited(browser, site):
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, page


def test_a_reader_without_a_mouse_gets_everywhere(browser, site):
    browser.resize(1280, 900)
    for page in ("index.html", "coco/tables/tables.notebook.html"):
        browser.get((site / page).as_uri())
        press(browser, Keys.TAB)
        skip = browser.execute_script(FOCUS)
        assert skip.text == "Skip to content"
        assert skip.rect["x"] >= 0, "it is seen once it has the focus"
        press(browser, Keys.TAB)
        assert browser.execute_script(FOCUS).text == "Start"
        browser.get((site / page).as_uri())
        press(browser, Keys.TAB)
        press(browser, Keys.ENTER)
        press(browser, Keys.TAB)
        first = browser.execute_script(FOCUS)
        assert browser.execute_script("return arguments[0].closest('main') !== null", first), page
        assert first.value_of_css_property("outline-style") == "solid"


def test_code_is_folded_away_and_opens_by_the_keyboard(browser, site):
    browser.get((site / "coco/tables/tables.notebook.html").as_uri())
    code = browser.find_element("css selector", "details.code")
    assert code.get_attribute("open") is None
    code.find_element("css selector", "summary").send_keys(Keys.ENTER)
    assert code.get_attribute("open") is not None


def test_a_wide_table_is_scrolled_by_the_keyboard(browser, site):
    browser.resize(390, 844, phone=True)
    browser.get((site / "index.html").as_uri())
    tables = browser.find_elements("css selector", ".table")
    wide = [table for table in tables if browser.execute_script("return arguments[0].scrollWidth", table) > 390]
    wide[0].send_keys(Keys.ARROW_RIGHT)
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script("return arguments[0].scrollLeft", wide[0]) > 0)


def press(browser, key: str) -> None:
    browser.switch_to.active_element.send_keys(key)
