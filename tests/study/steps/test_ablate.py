import copy
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hpelib.models import create_model
from hpelib.skeletons import COCO17, MPII16
from hpelib.study.ablations import ablation_runs, describe_rows, row_entry
from hpelib.study.config import make_run
from hpelib.study.evaluation import load
from hpelib.study.steps.ablate import evaluate_row, shared_images, train_row
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import checkpoint_path
from hpelib.training.objectives import make_objective

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
QUICK = PARAMS | {"profile": "quick"}
ROWS = [(paper, row) for paper, ablation in PARAMS["ablations"].items() for row in ablation["rows"]]


@pytest.fixture
def ablated(params) -> dict:
    """The tiny parameters with an ablation of their only network."""
    rows = {"flat": {"options": {"widths": [8, 4]}, "recipe": {"loss": "ohkm"}}, "full": {}}
    return params | {"ablations": {"hourglass": {"dataset": "mpii", "rows": rows}}}


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
def test_a_row_is_trained_and_judged_in_its_own_folder(ablated):
    scores, runs = {}, ablation_runs(ablated, "hourglass", 0)
    images = shared_images(runs.values())
    for row, run in runs.items():
        history = train_row(run, images)
        assert history["epoch"].tolist() == [1]
        scores[row] = evaluate_row(run)
        read = load(Path("work/ablations/hourglass/seed0") / row)
        np.testing.assert_array_equal(read.keypoint_scores, scores[row].keypoint_scores)
        assert read.summary.options == run.options
    assert scores["flat"].summary.params < scores["full"].summary.params
    assert not Path("work/runs").exists()


STAGE = """
import json, os, signal, sys
from hpelib.study.steps import train
from hpelib.study.ablations import ablation_runs
from hpelib.study.steps.ablate import evaluate_row, shared_images, train_row

def die(network):
    os.kill(os.getpid(), signal.SIGKILL)

params, fatal = sys.argv[1:]
runs = ablation_runs(json.loads(params), "hourglass", 0)
for row, run in runs.items():
    if row == fatal:
        train.make_validation = lambda run, **place: die
    train_row(run, shared_images(runs.values()))
for run in runs.values():
    evaluate_row(run)
train.forget(runs.values())
"""


@pytest.mark.usefixtures("prepared_mpii")
def test_finished_rows_outlast_an_interruption_of_their_stage(ablated):
    """The stage is killed in its second row; DVC then empties its folder, as before every run."""
    ablated["profiles"]["tiny"]["recipe"] |= {"epochs": 2, "checkpoint_steps": 1}
    first, second = ablation_runs(ablated, "hourglass", 0).values()
    stage = [sys.executable, "-c", STAGE, json.dumps(ablated)]
    assert subprocess.run([*stage, second.variant], capture_output=True).returncode == -signal.SIGKILL
    assert checkpoint_path(second).is_file()
    left = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    shutil.rmtree(first.folder.parent)
    shutil.rmtree("logs")

    subprocess.run([*stage, "none"], check=True, capture_output=True)
    assert [path.name for path in Path("logs").iterdir()] == ["mpii-hourglass-full-seed0.jsonl"], "trained this time"
    assert {name: (first.folder / name).read_bytes() for name in left} == left
    assert all(load(run.evaluation).summary.options == run.options for run in (first, second))
    assert list(Path("work/checkpoints").iterdir()) == [], "a later run starts anew"
