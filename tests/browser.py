"""A real headless Chromium for the tests of what people open: pages on disk, and servers on 127.0.0.1."""

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needs import absent

INSTALL = "apt-get install chromium chromium-driver"
DESKTOP, PHONE = (1280, 900), (390, 844)
FLAGS = (
    *("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),  # no page may need the network
    *("--force-color-profile=srgb", "--lang=en-US"),
)

FIND = """
const arguments_ = arguments, found = [];
(function look(root) {
  for (const element of root.querySelectorAll('*')) {
    if (element.matches(arguments_[0])) found.push(element);
    if (element.shadowRoot) look(element.shadowRoot);
  }
})(document);
"""
"""JavaScript that leaves in `found` the elements that a selector (the script's first argument) finds."""


class Browser:
    """Selenium's driver, and what our tests ask of it."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, page: Path | str) -> None:
        """Loads a file or a URL; what the pages before it logged is forgotten."""
        self.errors()
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def size(self, width: int, height: int) -> None:
        """Sets the viewport in CSS pixels; one as narrow as a phone is a phone's, with touch and `<meta viewport>`."""
        phone = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def color_scheme(self, scheme: str) -> None:
        """`light` or `dark`, as the system would prefer it."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a JavaScript function body returns."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The text of every element that a CSS selector finds, in shadow trees, too; in order of the page."""
        return self.run(FIND + "return found.map(e => e.textContent.trim())", selector)

    def wait(self, true: Callable[[], Any], seconds: float = 30) -> Any:
        """The value of `true()` as soon as it is truthy; elements may vanish meanwhile. Raises TimeoutException."""
        from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = [JavascriptException, StaleElementReferenceException]
        return WebDriverWait(self.driver, seconds, 0.1, ignored).until(lambda _: true())

    def errors(self) -> list[str]:
        """Errors on the console since the last call, refused network requests among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> Path:
        """A PNG of the whole page, also of what is below the viewport."""
        options = {"format": "png", "captureBeyondViewport": True}
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
        path.write_bytes(base64.b64decode(data))
        return path


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One driver for all tests of a process, with a profile of its own."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        absent(f"no chromium or no chromedriver: {INSTALL}")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("chromium")
    root = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium refuses to start as root with one
    for flag in (*FLAGS, *root, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    chrome.set_script_timeout(30)
    yield chrome
    chrome.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    """An empty page of desktop size in light colours, without cookies or messages of earlier tests."""
    browser = Browser(chromium)
    browser.size(*DESKTOP)
    browser.color_scheme("light")
    yield browser
    chromium.delete_all_cookies()
    browser.open("about:blank")
