import errno
import os
import pickle
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hpelib.training.checkpoints import NEEDED, load_checkpoint, read_header, save_checkpoint, save_weights, write_whole

STATE = dict.fromkeys(NEEDED, 0) | {"model": {}, "history": []}


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
    for missing in NEEDED:
        save_checkpoint(path, dict.fromkeys(NEEDED - {missing}, 0))
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


def test_weights_are_plain_safetensors_with_a_header(tmp_path):
    model, path = nn.Conv2d(1, 2, 3).to(memory_format=torch.channels_last), tmp_path / "run" / "weights.safetensors"
    header = {"settings": {"inputs": {"codec": "dark"}, "seed": 0}, "precision": "fp32"}
    save_weights(model, path, header)
    stored = load_file(path)
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())
    assert read_header(path) == header
    first = path.read_bytes()
    save_weights(model, path, dict(reversed(header.items())))
    assert path.read_bytes() == first, "the same bytes each time"


def test_weights_from_elsewhere_have_an_empty_header(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "others.safetensors")
    assert read_header(tmp_path / "others.safetensors") == {}
    (tmp_path / "broken.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"broken\.safetensors is broken"):
        read_header(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
def test_on_a_full_disk_the_old_file_stays_and_the_error_says_so(tmp_path, kind):
    path, model = tmp_path / "run.pt", nn.Linear(100, 100)
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"run\.pt could not be written"):
            save_weights(model, path, {}) if kind == "weights" else save_checkpoint(path, {"model": model.state_dict()})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
