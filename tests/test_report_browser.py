"""The report as people use it: opened from disk in a real browser, wide and narrow, and clicked through."""

from pathlib import Path

import pytest

from seglab.report.page import write_report
from tests.browser import DESKTOP, PHONE, Browser
from tests.study import add_cell, spoil
from tests.test_report_page import HOSTILE, LABELS, SECTIONS, study  # noqa: F401 (a fixture)

SHOWN = "return [...document.querySelectorAll('.sample')].filter(s => !s.hidden).map(s => s.dataset.kinds)"
OPACITY = "return getComputedStyle(document.querySelector('.sample:not([hidden]) .map .error')).opacity"


def click(browser: Browser, selector: str) -> None:
    found = browser.driver.find_element("css selector", selector)
    browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", found)
    found.click()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_whole_and_quiet(browser: Browser, study: Path, size: tuple[int, int], scheme: str) -> None:  # noqa: F811
    browser.size(*size)
    browser.color_scheme(scheme)
    browser.open(write_report(study))
    assert browser.run("return document.documentElement.scrollWidth") == size[0]
    assert browser.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))") == []
    assert browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    for part in SECTIONS:
        assert browser.run("return document.getElementById(arguments[0]).getBoundingClientRect().height", part) > 0
    light = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]") > 128
    assert light == (scheme == "light") and browser.errors() == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_samples_are_chosen_and_errors_shown(browser: Browser, study: Path, size: tuple[int, int]) -> None:  # noqa: F811
    browser.size(*size)
    browser.open(write_report(study))
    assert len(browser.run(SHOWN)) == 2
    for kind in ("worst", "disagree"):
        click(browser, f"[data-kind={kind}]")
        shown = browser.run(SHOWN)
        assert len(shown) == 6 and all(kind in kinds for kinds in shown)
    click(browser, "[data-kind='']")
    assert len(browser.run(SHOWN)) == browser.run("return document.querySelectorAll('.sample').length") > 6
    assert browser.run(OPACITY) == "0"
    click(browser, ".sample:not([hidden]) .map")
    assert browser.run(OPACITY) == "1"
    click(browser, ".sample:not([hidden]) .map")
    click(browser, "[data-switch=errors]")
    assert browser.run("return getComputedStyle(document.querySelectorAll('.map .error')[3]).opacity") == "1"
    wide = "return document.querySelector('.map').getBoundingClientRect().width"
    before = browser.run(wide)
    click(browser, "[data-switch=large]")
    assert browser.run(wide) > 1.3 * before and browser.errors() == []


def test_pointing_at_a_chart_tells_its_values(browser: Browser, study: Path) -> None:  # noqa: F811
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.wait import WebDriverWait

    browser.open(write_report(study))
    chart = browser.driver.find_element("css selector", "svg[data-lines]")
    browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    ActionChains(browser.driver).move_to_element(chart).move_by_offset(1, 1).perform()  # from elsewhere, for certain
    told = WebDriverWait(browser.driver, 10).until(lambda driver: driver.find_element("id", "tip").text)
    assert told.splitlines() == ["epoch 2", "dice: 0.35", "focal: 0.35"]
    assert browser.errors() == []


def test_hostile_names_run_nothing(browser: Browser, tmp_path: Path) -> None:
    classes = {HOSTILE: "#c8c8c8", "b": "#d1495b", "c": "#3e8e4f"}
    for loss in (HOSTILE, "dice"):
        add_cell(tmp_path, loss, 3, LABELS, spoil(LABELS, 0.2), classes=classes, scenes=[HOSTILE] * 12)
    browser.open(write_report(tmp_path))
    click(browser, "[data-kind=worst]")
    assert HOSTILE in browser.run("return document.querySelector('.heat').innerText")
    assert browser.errors() == []
