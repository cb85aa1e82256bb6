"""The explore notebook as its readers have it: opened in JupyterLab, all cells run, choices made, a box drawn."""

import json
import shutil
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from hpelib.study.config import make_run
from hpelib.study.evaluation import save
from hpelib.study.steps.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[3]
PICTURE = ".jp-OutputArea-output img[src^='data:image/png']"
PERSON = ".jp-OutputArea .image svg"  # what the mouse draws on


@pytest.fixture
def lab(open_lab, trained, tmp_path):
    """A JupyterLab in a repository with one finished run, in which all cells of the notebook have run."""
    run = make_run(trained, "hourglass", "coco", 1)
    save(evaluate([run]), run.evaluation)
    (tmp_path / "params.yaml").write_text(json.dumps(trained))
    shutil.copytree(ROOT / "hpelib", tmp_path / "hpelib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/explore.ipynb", tmp_path / "notebooks")
    lab = open_lab(tmp_path)
    lab.run_all("notebooks/explore.ipynb")
    lab.wait(lambda: len(lab.find(PICTURE)) == 3)  # the panel's and the last two cells'
    yield lab
    lab.screenshot("explore")
    assert lab.console_errors() == []
    assert lab.hosts() == {"127.0.0.1"}


def test_choices_and_a_drawn_box_change_the_picture(lab):
    labels = [label.text for label in lab.find(".widget-label") if label.text]
    assert labels[:-1] == ["dataset", "run", "beside it", "people", "number", "keypoint", "layer", "channel"]
    assert labels[-1].startswith("Drag")
    for label, value in (("keypoint", "left_wrist"), ("layer", "stack1"), ("people", "hardest")):
        before = _panel_picture(lab)
        path = f"//*[contains(@class, 'widget-dropdown')][label[text()='{label}']]/select"
        Select(lab.driver.find_element(By.XPATH, path)).select_by_visible_text(value)
        _changed(lab, before)

    free = _panel_picture(lab)
    _drag(lab, (-60, -60), (40, 60))
    one = _changed(lab, free)
    _drag(lab, (60, 60), (90, 90))
    other = _changed(lab, one)
    assert other != free
    assert len(lab.find(f"{PERSON} rect[stroke]")) <= 1 + len(lab.find(f"{PERSON} circle")), "one box at a time"

    lab.driver.find_element(By.XPATH, "//button[text()='keep this picture']").click()
    (kept,) = lab.wait(
        lambda: [area for area in lab.find("textarea") if "explorer.box(" in area.get_attribute("value")]
    )
    assert kept.is_displayed()


def _drag(lab, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Press the mouse, move it and let go, in px from the middle of the person's picture."""
    (person,) = lab.find(PERSON)
    mouse = ActionChains(lab.driver).move_to_element_with_offset(person, *start).click_and_hold()
    mouse.move_to_element_with_offset(person, *end).release().perform()


def _changed(lab, before: str) -> str:
    """The panel's picture as soon as it is another one."""
    return lab.wait(lambda: (now := _panel_picture(lab)) not in ("", before) and now)


def _panel_picture(lab) -> str:
    """The panel's picture, which stands beside its widgets; asked for in one step, because it comes and goes."""
    return lab.driver.execute_script(f"return document.querySelector(`.widget-output {PICTURE}`)?.src ?? ''")
