import errno
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hpelib.training.checkpoints import load_checkpoint, save_checkpoint, save_weights, trained_precision, write_whole

STATE = {"model": {}, "optimizer": {}, "history": [], "epoch": 3, "step": 0}


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, STATE | {"model": {"weight": torch.arange(3.0)}, "history": [{"loss": 0.5}]})
    state = load_checkpoint(path)
    assert state["model"]["weight"].tolist() == [0, 1, 2]
    assert state["history"] == [{"loss": 0.5}]


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "none.pt") is None


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def break_off(temporary):
        temporary.write_text("half of the n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, break_off)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "file.txt", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_ino, path.exists())))
    write_whole(path, lambda temporary: temporary.write_text("new"))
    assert synced[0] == (path.stat().st_ino, False)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 a zip that is none"])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.pt.*remove it"):
        load_checkpoint(path)


def test_a_truncated_checkpoint_is_named(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"run\.pt.*remove it"):
        load_checkpoint(path)


def test_a_state_of_something_else_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, {"model": {}})
    with pytest.raises(ValueError, match="not a checkpoint of hpelib"):
        load_checkpoint(path)


class Attack:
    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_loading_runs_no_code(tmp_path):
    attack = Attack()
    attack.target = str(tmp_path / "was run")
    path = tmp_path / "run.pt"
    path.write_bytes(pickle.dumps(attack))
    with pytest.raises(ValueError, match=r"run\.pt"):
        load_checkpoint(path)
    assert not (tmp_path / "was run").exists()


def test_weights_are_plain_safetensors(tmp_path):
    model = nn.Conv2d(1, 2, 3).to(memory_format=torch.channels_last)
    save_weights(model, tmp_path / "run" / "weights.safetensors", "fp32")
    stored = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())
    assert trained_precision(tmp_path / "run" / "weights.safetensors") == "fp32"
    save_file(stored, tmp_path / "others.safetensors")
    assert trained_precision(tmp_path / "others.safetensors") == "unknown"


FULL_DISK = """
    import resource, sys, torch
    from pathlib import Path
    from hpelib.training.checkpoints import save_checkpoint, save_weights
    path, write = Path(sys.argv[1]), {"checkpoint": save_checkpoint, "weights": save_weights}[sys.argv[2]]
    model = torch.nn.Linear(100, 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    write(path, {"model": model.state_dict()}) if write is save_checkpoint else write(model, path, "fp32")
"""


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
def test_on_a_full_disk_the_old_file_stays_and_the_error_says_so(tmp_path, kind):
    path = tmp_path / "run.pt"
    path.write_text("old")
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path), kind]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert "OSError" in outcome.stderr.splitlines()[-1]
    assert "run.pt could not be written" in outcome.stderr.splitlines()[-1]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
