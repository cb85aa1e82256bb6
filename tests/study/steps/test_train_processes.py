"""A run of the study on several processes: what it leaves, and what is said when one of them dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from hpelib.models.weights import read_state_dict
from hpelib.study.config import make_run
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, train, training_people

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(write_set, params, tmp_path, monkeypatch):
    """A run on two processes in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    dataset = write_set("lsp")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    params["profiles"]["tiny"]["recipe"] |= {"processes": 2, "epochs": 2}
    return make_run(params, "hourglass", "lsp", 0)


def end(node: subprocess.Popen) -> None:
    """Stop a launcher, which then stops what it started, or kill it where it does not."""
    node.terminate()  # does nothing to one that has ended
    try:
        node.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        node.kill()
        node.communicate()


def two_nodes() -> list[list[str]]:
    """Two launchers on this machine stand for two nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), "--node-rank"]
    return [[*command, "0"], [*command, "1"]]


def accelerate() -> list[list[str]]:
    return [["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]]


def train_by(launchers: list[list[str]]) -> None:
    module = ["-m", "hpelib.study.steps.train", "hourglass", "lsp", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    commands = [[sys.executable, "-m", *launcher, *module] for launcher in launchers]
    nodes = [subprocess.Popen(command, env=environment, **pipes) for command in commands]
    try:
        for node in nodes:
            said = node.communicate(timeout=600)[0]
            assert node.returncode == 0, said
    finally:
        for node in nodes:
            end(node)


def test_two_processes_leave_the_same_files_whoever_starts_them(run, params):
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
    assert len(json.loads(Path("logs/learning/lsp-hourglass-0.json").read_text())) == 2

    of_one = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for launchers in (two_nodes(), accelerate()):
        for folder in ("runs", "checkpoints"):
            shutil.rmtree(run.dataset.work / folder)
        train_by(launchers)
        assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == of_one


class Killed:
    """Kills the process that unpickles it."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_process_that_dies_ends_the_training_by_name(run):
    people = training_people(run)
    network = build_network(run, people)
    network.extra = Killed()
    message = r"process \d of 2 ended: Signal 9 \(SIGKILL\).*start again: a training goes on from its checkpoint"
    with pytest.raises(RuntimeError, match=message):
        train(run, network, people)


def test_an_error_in_a_process_is_passed_on(run):
    people = training_people(run)
    network = build_network(run, people)
    Path(people.image_paths[0]).write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"process \d of 2 ended: .*im0001\.jpg is empty"):
        train(run, network, people)
