"""The explore notebook as its readers have it: opened in JupyterLab, all cells run, a choice made."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from hpelib.study.config import make_run
from hpelib.study.evaluation import save
from hpelib.study.steps.evaluate import evaluate

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
PICTURE = ".jp-OutputArea-output img[src^='data:image/png']"
TROUBLE = (
    ", ".join(f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")) + ", .jp-Dialog"
)
HANGS_S = 600  # nothing takes so long, on however busy a machine: what is waited for will never come


@pytest.fixture
def lab(trained, tmp_path) -> Iterator[str]:
    """Address of a JupyterLab server on this machine that answers, in a repository with one finished run."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here: the explore notebook was not opened in a browser")
    run = make_run(trained, "hourglass", "coco", 1)
    save(evaluate([run]), run.evaluation)
    (tmp_path / "params.yaml").write_text(json.dumps(trained))
    shutil.copytree(ROOT / "hpelib", tmp_path / "hpelib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/explore.ipynb", tmp_path / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": tmp_path,
        "IdentityProvider.token": "",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    folders = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = os.environ | folders | {"PYTHONPATH": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        while not _answer(f"{address}/api/status"):
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def browser(lab, tmp_path, monkeypatch) -> Iterator[webdriver.Chrome]:
    """A headless Chromium that goes nowhere by itself. It starts when the server answers and has nothing left to do."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    monkeypatch.setenv("SE_OFFLINE", "true")  # Selenium would look for a driver of its own
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_a_choice_changes_the_picture(browser, lab):
    size = {"width": 1400, "height": 3200, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # cells out of sight would not be there
    browser.get(f"{lab}/lab/tree/notebooks/explore.ipynb")
    _wait(browser, lambda: _find(browser, ".jp-Notebook .jp-CodeCell"))
    # a notebook without its kernel would ask for one, and run nothing
    _wait(browser, lambda: any(kernel["connections"] for kernel in json.loads(_answer(f"{lab}/api/kernels") or "[]")))
    browser.find_element(By.XPATH, "//*[@class='lm-MenuBar-itemLabel' and text()='Run']").click()
    _wait(browser, lambda: _find(browser, "[data-command='runmenu:run-all']"))[0].click()
    _wait(browser, lambda: len(_find(browser, PICTURE)) == 3)  # the panel's and the last two cells'

    labels = [label.text for label in _find(browser, ".widget-label") if label.text]
    assert labels == ["dataset", "run", "people", "number", "keypoint", "layer", "square: x", "square: y", "size"]
    for label, value in (("keypoint", "left_wrist"), ("layer", "stack1"), ("people", "hardest")):
        before = _panel_picture(browser)
        path = f"//*[contains(@class, 'widget-dropdown')][label[text()='{label}']]/select"
        Select(browser.find_element(By.XPATH, path)).select_by_visible_text(value)
        _wait(browser, lambda before=before: _panel_picture(browser) not in ("", before))

    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert _hosts(browser) == {"127.0.0.1"}


def _answer(address: str) -> str:
    """What a server says, or nothing if it does not answer or refuses."""
    try:
        return urlopen(address).read().decode()
    except URLError:
        return ""


def _wait(browser, condition):
    """What `condition` returns as soon as it is true. Fails at once if the notebook shows an error or a question."""

    def met(_browser):
        assert not [element.text for element in _find(browser, TROUBLE)]
        return condition()

    return WebDriverWait(browser, HANGS_S).until(met)


def _find(browser, selector: str) -> list:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def _panel_picture(browser) -> str:
    """The panel's picture, which stands beside its widgets; asked for in one step, because it comes and goes."""
    return browser.execute_script(f"return document.querySelector(`.widget-output {PICTURE}`)?.src ?? ''")


def _hosts(browser) -> set[str]:
    """Whom the page asked for something over the network."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
    addresses = [urlsplit(request["url"]) for request in requests]
    return {address.hostname for address in addresses if address.scheme in ("http", "https")}
