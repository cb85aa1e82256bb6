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

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from hpelib.study.config import make_run
from hpelib.study.steps import evaluate

ROOT = Path(__file__).resolve().parents[3]
PICTURE = ".jp-OutputArea-output img[src^='data:image/png']"
WAIT_S = 120  # for a kernel that imports torch on a busy machine


@pytest.fixture
def lab(trained, tmp_path) -> Iterator[str]:
    """Address of a JupyterLab server on this machine, in a repository with one finished run."""
    run = make_run(trained, "hourglass", "coco", 1)
    evaluate.save(evaluate.evaluate([run]), run.evaluation)
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
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def test_a_choice_changes_the_picture(browser, lab):
    wait = WebDriverWait(browser, WAIT_S)
    browser.resize(1400, 3200)  # cells out of sight would not be there
    _open(browser, f"{lab}/lab/tree/notebooks/explore.ipynb")
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    browser.find_element(By.XPATH, "//*[@class='lm-MenuBar-itemLabel' and text()='Run']").click()
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "[data-command='runmenu:run-all']"))[0].click()
    wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, PICTURE)) == 3)  # the panel's and the last two cells'

    labels = [label.text for label in browser.find_elements(By.CSS_SELECTOR, ".widget-label") if label.text]
    expected = ["dataset", "run", "people", "number", "keypoint", "layer", "square: x", "square: y", "size"]
    assert labels == expected
    for label, value in (("keypoint", "left_wrist"), ("layer", "stack1"), ("people", "hardest")):
        before = _picture(browser)
        _select(browser, label).select_by_visible_text(value)
        wait.until(lambda b, before=before: _picture(b) not in ("", before))

    assert not browser.find_elements(By.CSS_SELECTOR, "[data-mime-type='application/vnd.jupyter.error']")
    assert not browser.find_elements(By.CSS_SELECTOR, "[data-mime-type='application/vnd.jupyter.stderr']")
    assert browser.hosts() == {"127.0.0.1"}
    assert [text for text in browser.complaints() if "SEVERE" in text] == []


def _open(browser, address: str) -> None:
    """Open a page of a server that may still be starting."""
    end = time.monotonic() + WAIT_S
    host, port = address.split("/")[2].split(":")
    while time.monotonic() < end:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            break
        except OSError:
            time.sleep(0.2)
    browser.get(address)


def _select(browser, label: str) -> Select:
    path = f"//*[contains(@class, 'widget-dropdown')][label[text()='{label}']]/select"
    return Select(browser.find_element(By.XPATH, path))


def _picture(browser) -> str:
    """The panel's picture, which stands beside its widgets; asked for at once, because it comes and goes."""
    return browser.execute_script(f"return document.querySelector(`.widget-output {PICTURE}`)?.src ?? ''")
