import copy
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from hpelib.models import create_model
from hpelib.skeletons import COCO17, MPII16
from hpelib.study.ablations import ablation_runs, describe_rows, require_persons, row_entry
from hpelib.study.config import make_run
from hpelib.study.evaluation import load
from hpelib.study.steps.ablate import evaluate_rows, train_rows
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.weights import checkpoint_path
from hpelib.training.objectives import make_objective

ROOT = Path(__file__).resolve().parents[3]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
QUICK = PARAMS | {"profile": "quick"}
ROWS = [(paper, row) for paper, ablation in PARAMS["ablations"].items() for row in ablation["rows"]]


@pytest.fixture
def ablated(params) -> dict:
    """The tiny parameters with an ablation of their only network."""
    rows = {"flat": {"options": {"widths": [8, 4]}, "recipe": {"loss": "ohkm"}}, "full": {}}
    return params | {"ablations": {"hourglass": {"datasets": ["mpii"], "rows": rows}}}


def test_a_row_is_laid_over_the_network_key_by_key():
    networks = {
        "net": {"model": "m", "options": {"width": 4, "depth": 2, "part": {"a": 1, "b": 2}}, "inputs": {"sigma": 8}},
        "trunk": {"model": "t", "options": {"width": 3}},
    }
    before = copy.deepcopy(networks)
    changes = {
        "options": {"depth": None, "gate": "se", "part": {"b": 3}},
        "inputs": {"sigma": None},
        "pretrained": False,
    }
    assert row_entry(networks, "net", changes) == {
        "model": "m",
        "options": {"width": 4, "gate": "se", "part": {"a": 1, "b": 3}},
        "inputs": {},
        "pretrained": False,
    }
    assert row_entry(networks, "net", {}) == networks["net"]
    named = row_entry(networks, "net", {"options": {"backbone_options": "trunk"}})
    assert named["options"]["backbone_options"] == {"width": 3}
    assert networks == before


def test_rows_share_everything_that_they_do_not_name(ablated):
    runs = ablation_runs(ablated, "hourglass", 1)
    plain = make_run(ablated, "hourglass", "mpii", 1)
    assert runs["full"] == dataclasses.replace(plain, variant="full")
    flat = dataclasses.replace(runs["flat"], variant="", options=plain.options, recipe=plain.recipe)
    assert flat == plain
    assert (runs["flat"].options["widths"], runs["flat"].recipe.loss) == ([8, 4], "ohkm")


def test_every_row_of_every_seed_has_its_own_folder_and_checkpoint(ablated):
    runs = [run for seed in (0, 1) for run in ablation_runs(ablated, "hourglass", seed).values()]
    plain = [make_run(ablated, "hourglass", "mpii", seed) for seed in (0, 1)]
    assert len({run.folder for run in runs + plain}) == 6
    assert len({run.digest for run in runs + plain}) == 6
    assert {run.evaluation for run in runs}.isdisjoint(run.evaluation for run in plain)


def test_rows_on_several_datasets_are_different_trainings(ablated):
    ablated["ablations"]["hourglass"]["datasets"] = ["mpii", "coco"]
    on = {name: ablation_runs(ablated, "hourglass", 0, name)["full"] for name in ("mpii", "coco")}
    assert on["mpii"] == ablation_runs(ablated, "hourglass", 0)["full"]
    assert on["coco"] == dataclasses.replace(make_run(ablated, "hourglass", "coco", 0), variant="full")
    assert on["mpii"].folder != on["coco"].folder


def test_an_unknown_ablation_is_named_with_the_known_ones(ablated):
    with pytest.raises(ValueError, match="unknown ablation 'hrnet'; known here: hourglass"):
        ablation_runs(ablated, "hrnet", 0)


def test_a_profile_without_the_network_has_no_ablation_of_it(ablated):
    ablated["ablations"]["hrnet"] = ablated["ablations"]["hourglass"]
    with pytest.raises(ValueError, match="profile tiny has no network hrnet"):
        ablation_runs(ablated, "hrnet", 0)


def test_rows_are_described_by_what_they_change(ablated):
    table = describe_rows(ablated, "hourglass").iloc[:, 0]
    assert table.to_dict() == {"flat": "widths=[8, 4], loss=ohkm", "full": ""}


@pytest.mark.parametrize(("paper", "row"), ROWS)
def test_every_row_of_the_study_takes_a_step(paper, row):
    run = ablation_runs(QUICK, paper, 0)[row]
    skeleton = {"coco": COCO17, "mpii": MPII16}[run.dataset.format]
    K, (width, height) = skeleton.num_keypoints, run.inputs.input_size
    torch.manual_seed(0)
    network = create_model(run.model, K, **run.options)
    objective = make_objective(run.recipe.loss, run.inputs.make_codec(), run.recipe.loss_options)
    keypoints = torch.rand(2, K, 2) * torch.tensor([width, height])
    loss = objective(network(torch.randn(2, 3, height, width)), {"keypoints": keypoints, "visible": torch.ones(2, K)})
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("paper", PARAMS["ablations"])
def test_no_two_rows_are_the_same(paper):
    runs = [dataclasses.replace(run, variant="") for run in ablation_runs(QUICK, paper, 0).values()]
    assert len({run.digest for run in runs}) == len(runs)
    full = ablation_runs(QUICK, paper, 0)["full"]
    common = make_run(QUICK, paper, full.dataset.name, 0)
    assert dataclasses.replace(full, variant="", recipe=common.recipe) == common


def test_a_papers_own_recipe_is_laid_over_the_common_one():
    run = ablation_runs(QUICK, "ditn", 0)["full"]
    assert (run.recipe.optimizer, run.recipe.milestones) == ("adamw", (0.62, 0.76))
    assert run.recipe.loss == "transfer"  # the network's own stays
    assert run.recipe.learning_rate == QUICK["profiles"]["quick"]["recipe"]["learning_rate"]


@pytest.fixture
def prepared_mpii(write_set, tmp_path, monkeypatch):
    """A working directory that holds the tiny MPII set."""
    monkeypatch.chdir(tmp_path)
    dataset = write_set("mpii")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))


@pytest.mark.usefixtures("prepared_mpii")
def test_rows_are_trained_and_judged_in_their_own_folders(ablated):
    runs = ablation_runs(ablated, "hourglass", 0)
    history = train_rows(runs)
    assert history[["name", "epoch", "seed"]].values.tolist() == [["flat", 1, 0], ["full", 1, 0]]
    figures = evaluate_rows(runs.values())
    params = {}
    for row, run in runs.items():
        read = load(run.evaluation)
        found = figures[figures.row == row].drop(columns=["dataset", "row"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(read.figures, found, check_exact=False, atol=1e-5)
        assert read.summary.options == run.options
        params[row] = read.summary.params
    assert params["flat"] < params["full"]
    assert not (runs["full"].dataset.work / "runs").exists()


def test_rows_that_would_end_before_their_warmup_are_refused_before_any_row_trains(ablated):
    ablated["ablations"]["hourglass"]["rows"]["full"] = {"recipe": {"warmup_steps": 99}}
    message = (
        r"row full of hourglass on mpii cannot train: recipe: warmup_steps is 99, but the training has 2 steps only"
    )
    with pytest.raises(ValueError, match=message):
        require_persons(ablated, "mpii", 5)
    require_persons(ablated, "lsp", 5)  # the row is on MPII alone
    require_persons(ablated, "mpii", 500)


@pytest.mark.usefixtures("prepared_mpii")
def test_a_row_that_was_edited_after_the_check_is_refused_before_any_row_trains(ablated):
    ablated["ablations"]["hourglass"]["rows"]["full"] = {"recipe": {"warmup_steps": 99}}
    runs = ablation_runs(ablated, "hourglass", 0)
    with pytest.raises(ValueError, match=r"warmup_steps is 99, but the training has . steps only"):
        train_rows(runs)
    assert not runs["flat"].folder.exists()


STAGE = """
import json, os, signal, sys
from hpelib.study.steps import train
from hpelib.study.ablations import ablation_runs
from hpelib.study.steps.ablate import train_rows

original = train.make_validation

def make_validation(run, **place):
    if run.variant == sys.argv[2]:
        return lambda network: os.kill(os.getpid(), signal.SIGKILL)
    return original(run, **place)

train.make_validation = make_validation
train_rows(ablation_runs(json.loads(sys.argv[1]), "hourglass", 0))
"""


@pytest.mark.usefixtures("prepared_mpii")
def test_finished_rows_outlast_an_interruption_of_their_stage(ablated, monkeypatch):
    """The stage is killed in its second row. DVC then empties the folder of the stage, as before every run."""
    ablated["profiles"]["tiny"]["recipe"] |= {"epochs": 2, "checkpoint_steps": 1}
    runs = ablation_runs(ablated, "hourglass", 0)
    first, second = runs.values()
    stage = [sys.executable, "-c", STAGE, json.dumps(ablated), second.variant]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(stage, capture_output=True, env=environment).returncode == -signal.SIGKILL
    assert checkpoint_path(second, "").is_file()
    left = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    shutil.rmtree(first.folder.parent)

    updated, update = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_, **__: updated.append(1) or update(*_, **__))
    train_rows(runs)
    assert len(updated) < 2 * 2, "the first row is not trained again, nor the first epoch of the second"
    assert {name: (first.folder / name).read_bytes() for name in left} == left

    weights = (second.folder / "weights.safetensors").rename("aside")
    with pytest.raises(FileNotFoundError):
        evaluate_rows(runs.values())
    assert checkpoint_path(first, "").is_file(), "the stage has failed after one row"
    weights.rename(second.folder / "weights.safetensors")
    evaluate_rows(runs.values())
    assert all(load(run.evaluation).summary.options == run.options for run in (first, second))
    assert not list((first.dataset.work / "checkpoints").rglob("*.pt")), "a later training starts anew"
