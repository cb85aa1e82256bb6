import copy

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
