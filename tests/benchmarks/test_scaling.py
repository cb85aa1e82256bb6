from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.photographs import in_folder
from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.writing import write_mannequins
from hpelib.study.config import load_params, make_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pictures(tmp_path):
    recipe = read_recipe(ROOT / "data/mannequins.yaml")
    write_mannequins(tmp_path, recipe, {"val": 8}, seed=0, processes=1)
    return in_folder(tmp_path / "coco", "few")


def test_processes_train_together(pictures):
    run = make_run(load_params(ROOT / "params.yaml"), "simple_baseline", "coco", 0)
    run = replace(run, inputs=replace(run.inputs, batch_size=4))
    costs = scaling.over_processes(pictures, run)
    assert costs["processes"].tolist() == [1, 2]
    assert (costs["persons per second"] > 0).all()
    assert (costs["peak memory of a process (MB)"] > 100).all(), "PyTorch alone needs more"
