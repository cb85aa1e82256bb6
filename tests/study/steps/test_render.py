import copy
import json

import pytest

from hpelib.study.config import RECIPE, load_params
from hpelib.study.steps import render


def test_an_unknown_level_is_named_before_anything_is_drawn(monkeypatch, tmp_path):
    params = copy.deepcopy(load_params())
    drawn = params["profiles"]["quick"]["mannequins"]
    drawn["plian"] = drawn["plain"]
    monkeypatch.setattr(render, "load_params", lambda: params)
    with pytest.raises(ValueError, match=r"level='plian' is none of .*did you mean 'plain'"):
        render.main("people", str(RECIPE), str(tmp_path / "drawn"))
    assert not list(tmp_path.iterdir())


def test_the_list_of_rendered_files_changes_with_every_file(monkeypatch, tmp_path):
    """Stages look at this list in place of the files themselves."""
    params = copy.deepcopy(load_params())
    drawn = params["profiles"]["quick"]["mannequins"]["plain"]
    drawn["persons"] = {"test": 1}
    monkeypatch.setattr(render, "load_params", lambda: params)
    lists = []
    for drawn["seed"] in (0, 1):
        render.main("people", str(RECIPE), str(tmp_path / "drawn"))
        lists.append(json.loads((tmp_path / "drawn/.hpelib.json").read_text()))
    files = {path for path in (tmp_path / "drawn").rglob("*.*") if path.name != ".hpelib.json"}
    assert {tmp_path / "drawn" / name for name in lists[1]} == files
    assert lists[0]["plain/coco/images/test/000000000001.jpg"] != lists[1]["plain/coco/images/test/000000000001.jpg"]
