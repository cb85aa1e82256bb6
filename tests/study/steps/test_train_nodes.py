"""Two launchers on this machine stand for two nodes."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from hpelib.models.weights import read_state_dict
from hpelib.study.config import make_run
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, train, training_people

ROOT = Path(__file__).resolve().parents[2]


def launch(node: int, port: int, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--node-rank", str(node), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    command += ["-m", "hpelib.study.steps.train_nodes", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run_nodes(*arguments: str, tries: int = 5) -> None:
    """Start both nodes and wait for them; at another port where somebody took the free one before they did."""
    port = free_port()
    nodes = [launch(node, port, *arguments) for node in (0, 1)]
    try:
        said = nodes[0].communicate(timeout=600)[0]
        taken = nodes[0].returncode != 0 and "EADDRINUSE" in said
        if not taken:
            assert nodes[0].returncode == 0, said
            said = nodes[1].communicate(timeout=600)[0]
            assert nodes[1].returncode == 0, said
    finally:
        for node in nodes:
            end(node)
    if taken:
        assert tries > 1, said
        run_nodes(*arguments, tries=tries - 1)


def end(node: subprocess.Popen) -> None:
    """Stop a launcher, which then stops what it started, or kill it where it does not."""
    node.terminate()  # does nothing to one that has ended
    try:
        node.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        node.kill()
        node.communicate()


def test_two_nodes_leave_the_weights_of_two_processes(write_set, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = write_set("lsp")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    Path("params.yaml").write_text(yaml.safe_dump(params))
    run_nodes("hourglass", "lsp", "0")

    run = make_run(params, "hourglass", "lsp", 0)
    weights = read_state_dict(run.folder / "weights.safetensors")
    assert not any(Path("work/checkpoints").iterdir())
    shutil.rmtree(run.folder)
    people = training_people(run)
    train(replace(run, recipe=replace(run.recipe, processes=2)), build_network(run, people), people)
    expected = read_state_dict(run.folder / "weights.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
