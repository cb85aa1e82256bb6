"""A headless Chromium that goes nowhere by itself, and what to ask of every page in it."""

import json
import os
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium import webdriver

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
QUIET = (
    "--headless=new",
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
)


class Browser(webdriver.Chrome):
    """Chromium with what the tests ask of it again and again."""

    def resize(self, width_px: int, height_px: int, phone: bool = False) -> None:
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": phone}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last call."""
        return [entry["message"] for entry in self.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def hosts(self) -> set[str]:
        """Whom pages asked for something over the network since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.get_log("performance")]
        requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        addresses = [urlsplit(request["request"]["url"]) for request in requests]
        return {address.hostname for address in addresses if address.scheme in ("http", "https")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here: pages were checked by their HTML alone")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    os.environ["SE_OFFLINE"] = "true"  # Selenium would look for a driver of its own
    driver = Browser(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()
