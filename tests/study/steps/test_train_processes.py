"""A run of the study on two processes: what it leaves, and what is said when one of them dies."""

import json
import signal
from pathlib import Path

import pytest
import torch

from hpelib.models.weights import read_state_dict
from hpelib.study.config import make_run
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, train, training_people


@pytest.fixture
def run(write_set, params, tmp_path, monkeypatch):
    """A run on two processes in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    dataset = write_set("lsp")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    params["profiles"]["tiny"]["recipe"] |= {"processes": 2, "epochs": 2}
    return make_run(params, "hourglass", "lsp", 0)


def test_two_processes_leave_the_files_of_one(run):
    people = training_people(run)
    network = build_network(run, people)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    history = train(run, network, people)
    assert history.columns.tolist() == ["epoch", "learning_rate", "loss", "PCK@0.2"]
    assert history.epoch.tolist() == [1, 2]
    weights = read_state_dict(run.folder / "weights.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights.items())
    assert sorted(path.name for path in run.folder.iterdir()) == ["history.csv", "weights.safetensors"]
    assert len(Path("logs/lsp-hourglass-seed0.jsonl").read_text().splitlines()) == 2


class Killed:
    """Kills the process that unpickles it."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_process_that_dies_ends_the_training_by_name(run):
    people = training_people(run)
    network = build_network(run, people)
    network.extra = Killed()
    message = (
        r"training process \d of 2 ended: Signal 9 \(SIGKILL\).*run again to go on from work/checkpoints/lsp-hourg"
    )
    with pytest.raises(RuntimeError, match=message):
        train(run, network, people)


def test_an_error_in_a_process_is_passed_on(run):
    people = training_people(run)
    network = build_network(run, people)
    Path(people.image_paths[0]).write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"training process \d of 2 ended: .*im0001\.jpg is empty"):
        train(run, network, people)
