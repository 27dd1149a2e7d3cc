"""The browser that other tests look through: what it sees, and that nothing leaves the machine."""

import functools
import http.server
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import DESKTOP, PHONE, Browser

PAGE = """<!doctype html><meta name="viewport" content="width=device-width"><title>a page</title>
<style>body {margin: 0; height: 2000px; background: rgb(250, 0, 0)}
@media (prefers-color-scheme: dark) {body {background: rgb(0, 0, 250)}}</style><div>text</div>"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(PAGE)
    return tmp_path / "page.html"


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize(("scheme", "color"), [("light", (250, 0, 0)), ("dark", (0, 0, 250))])
def test_size_colors_and_the_whole_page(browser: Browser, page: Path, size, scheme: str, color) -> None:
    browser.size(*size)
    browser.color_scheme(scheme)
    browser.open(page)
    assert browser.run("return [innerWidth, innerHeight]") == list(size)
    with Image.open(browser.screenshot(page.with_suffix(".png"))) as picture:
        assert picture.size == (size[0], 2000)
        assert picture.convert("RGB").getpixel((size[0] - 1, 1999)) == color


def test_errors_are_those_of_the_page_that_is_open(browser: Browser, page: Path) -> None:
    page.write_text(PAGE + "<script>console.log('fine'); console.error('planted'); missing()</script>")
    browser.open(page)
    first, second = browser.errors()
    assert "planted" in first and "missing is not defined" in second
    page.write_text(PAGE)
    browser.open(page)
    assert browser.wait(lambda: browser.run("return document.title")) == "a page" and not browser.errors()


def test_only_this_machine_is_reached(browser: Browser, page: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None: ...

    serve = functools.partial(Quiet, directory=str(page.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.open(f"http://127.0.0.1:{server.server_port}/page.html")
        server.shutdown()
        thread.join()
    assert browser.run("return document.title") == "a page"
    page.write_text(PAGE + '<img src="http://example.org/a.png"><img src="http://93.184.215.14/b.png">')
    browser.open(page)
    assert sorted("ERR_NAME_NOT_RESOLVED" in e for e in browser.errors()) == [True, True]
