"""JupyterLab as its readers have it: a server on this machine and a headless Chromium that opens notebooks in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

ROOT = Path(__file__).resolve().parents[3]
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
SCREEN = {"width": 1400, "height": 3200, "deviceScaleFactor": 1, "mobile": False}
TROUBLE = (
    ", ".join(f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")) + ", .jp-Dialog"
)
RUN_MENU = "//*[contains(@class, 'lm-MenuBar-itemLabel') and text()='Run']"
HANGS_S = 1200  # nothing takes so long, on however busy a machine: what is waited for will never come


class Lab:
    """A browser at a JupyterLab server."""

    def __init__(self, address: str, driver: webdriver.Chrome):
        self.address, self.driver = address, driver
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)  # what is out of sight would not be there

    def run_all(self, notebook: str) -> None:
        """Open a notebook, such as "notebooks/explore.ipynb", with a kernel of its own, and start all its cells."""
        self.driver.get(f"{self.address}/lab/tree/{notebook}?reset")  # of the places of other notebooks
        self.wait(lambda: self.find(".jp-Notebook .jp-CodeCell"))
        # a notebook without its kernel would ask for one, and run nothing
        self.wait(lambda: any(kernel["connections"] for kernel in self._kernels()))
        self.driver.find_element(By.XPATH, RUN_MENU).click()
        self.wait(lambda: self.find("[data-command='runmenu:run-all']"))[0].click()

    def wait(self, condition: Callable, trouble: str = TROUBLE):
        """What `condition` returns once it is true. Fails at once if the page shows an error or a question."""

        def met(_driver):
            assert not [element.text for element in self.find(trouble)]
            return condition()

        return WebDriverWait(self.driver, HANGS_S).until(met)

    def find(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def prompts(self) -> list[str]:
        """What stands beside the code cells: "[ ]:" before a cell runs, "[*]:" meanwhile, "[3]:" afterwards."""
        script = "return [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(each => each.textContent)"
        return self.driver.execute_script(script)

    def console_errors(self) -> list[str]:
        """Since the last question."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def hosts(self) -> set[str]:
        """Whom the pages asked for something over the network."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        requests = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
        addresses = [urlsplit(request["url"]) for request in requests]
        return {address.hostname for address in addresses if address.scheme in ("http", "https")}

    def screenshot(self, name: str) -> None:
        """A picture for a person to look at, in the folder `SCREENSHOTS` if the environment names one."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def stop_kernels(self) -> None:
        """Give back what the notebooks hold in memory. The page is left first: it would ask what became of them."""
        self.driver.get("about:blank")
        for kernel in self._kernels():
            urlopen(Request(f"{self.address}/api/kernels/{kernel['id']}", method="DELETE"))

    def _kernels(self) -> list[dict]:
        return json.loads(_answer(f"{self.address}/api/kernels") or "[]")


@pytest.fixture
def open_lab(tmp_path, monkeypatch) -> Iterator[Callable[[Path], Lab]]:
    """Starts JupyterLab in a repository, and a browser when it answers and has nothing left to do."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here: notebooks were not opened in a browser")
    monkeypatch.setenv("SE_OFFLINE", "true")  # Selenium would look for a driver of its own
    ends = []

    def start(repository: Path) -> Lab:
        address, server = _serve(repository, tmp_path / "jupyter")
        ends.append(lambda: (server.terminate(), server.wait()))
        while not _answer(f"{address}/api/status"):
            assert server.poll() is None, (tmp_path / "jupyter/lab.log").read_text()
            time.sleep(0.2)
        driver = _browser(tmp_path / "profile")
        ends.append(driver.quit)
        return Lab(address, driver)

    yield start
    for end in reversed(ends):
        end()


def _serve(repository: Path, folder: Path) -> tuple[str, subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": repository,
        "ServerApp.disable_check_xsrf": True,  # the test itself stops kernels
        "IdentityProvider.token": "",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    folder.mkdir()
    folders = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    python_path = os.pathsep.join(filter(None, (str(repository), os.environ.get("PYTHONPATH"))))
    environment = os.environ | folders | {"PYTHONPATH": python_path, "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=repository, env=environment, stdout=log, stderr=log)
    return f"http://127.0.0.1:{port}", server


def _browser(profile: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


def _answer(address: str) -> str:
    """What a server says, or nothing if it does not answer or refuses."""
    try:
        return urlopen(address).read().decode()
    except URLError:
        return ""
