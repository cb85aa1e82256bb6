"""Two processes against one: the same losses, the same figures, and a checkpoint for either."""

import json
import os
import shutil
import signal
import socket
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from hpelib.data.augment import Augmentation
from hpelib.data.loader import InputSettings, make_loader
from hpelib.data.people import People
from hpelib.inference import predict
from hpelib.skeletons import LSP14
from hpelib.training.fit import fit
from hpelib.training.objectives import make_objective
from hpelib.training.processes import make_accelerator
from hpelib.training.recipe import Recipe

INPUTS = InputSettings("dark", (32, 32), (8, 8), sigma=1.0, batch_size=2, seed=3, augmentation=Augmentation())
PERSONS = 43  # 21 batches of one process, 10 steps of two


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 14, 1)

    def forward(self, images):
        heatmaps = self.head(self.body(images))
        return {"heatmaps": heatmaps} if self.training else heatmaps


def read_noise(folder: Path) -> People:
    """Persons in the pictures of `folder`."""
    paths, random = sorted(map(str, folder.glob("*.png"))), np.random.default_rng(0)
    n = len(paths)
    return People(
        LSP14,
        image_paths=np.array(paths, object),
        image_ids=np.arange(n),
        ids=np.arange(n),
        keypoints=random.uniform(5, 35, (n, 14, 2)),
        visibility=np.full((n, 14), 2),
        boxes=np.tile([5.0, 5, 30, 30], (n, 1)),
    )


def run_training(images: Path, folder: Path, recipe: dict, dies_after: int = 0) -> None:
    """Train, and leave in `folder` each process's losses, figures and predictions; one may be killed on the way."""
    recipe = Recipe(epochs=2, learning_rate=0.01, checkpoint_steps=1, **recipe)
    accelerator, people = make_accelerator(recipe), read_noise(images)
    rank = accelerator.process_index
    share = {"rank": rank, "world_size": accelerator.num_processes}
    loader, val = make_loader(people, INPUTS, True, **share), make_loader(people, INPUTS, False, **share)
    objective, losses, found = make_objective("mse", loader.codec), [], []

    def watched(output, batch):
        losses.append(objective(output, batch))
        if rank == share["world_size"] - 1 and len(losses) == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return losses[-1]

    def validate(network):
        found.append(predict(network, val, val.codec))
        return {"mean_x_px": float(found[-1].keypoints[..., 0].mean())}

    torch.manual_seed(0)
    history = fit(Tiny(), loader, watched, recipe, folder / "run.pt", folder / "log.json", validate)
    record = {"losses": [loss.item() for loss in losses], "history": history, "index": found[-1].index.tolist()}
    np.save(folder / f"keypoints{rank}.npy", found[-1].keypoints)
    (folder / f"rank{rank}.json").write_text(json.dumps(record))


def run_together(processes: int, *arguments) -> list[int]:
    """`run_training` in new processes, with the variables that a launcher sets; their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    of_all = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    # from a server: autograd's threads do not survive a fork of a process that has trained
    server = get_context("forkserver")
    started = [
        server.Process(target=run_launched, args=(of_all | {"RANK": rank, "LOCAL_RANK": rank}, arguments))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]


def run_launched(variables: dict, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in variables.items()})
    run_training(*arguments)
    make_accelerator(Recipe(1, 0.1)).end_training()


def results(folder: Path, processes: int) -> list[dict]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(PERSONS):
        cv2.imwrite(str(folder / f"{i:02d}.png"), random.integers(0, 255, (40, 40, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def pair(images, tmp_path_factory) -> Path:
    """Folder of a training by two processes, one of which was killed in the seventh step, and which then went on."""
    folder = tmp_path_factory.mktemp("pair")
    assert run_together(2, images, folder, {}, 7) == [1, -signal.SIGKILL], "the first fails without the second"
    assert not (folder / "rank0.json").exists()
    shutil.copy(folder / "run.pt", folder / "killed.pt")
    assert run_together(2, images, folder, {}) == [0, 0]
    return folder


def test_losses_of_two_processes_are_those_of_one_that_accumulates_two_batches(images, pair, tmp_path):
    run_training(images, tmp_path, {"accumulation": 2})
    (alone,) = results(tmp_path, 1)
    expected = np.array(alone["losses"][:20]).reshape(10, 2).mean(1)
    step = torch.load(pair / "killed.pt", weights_only=True)["step"]
    first, second = results(pair, 2)
    together = np.mean([first["losses"], second["losses"]], axis=0)[: 10 - step]
    np.testing.assert_allclose(together, expected[step:], rtol=1e-5)
    assert first["history"] == second["history"]
    assert first["history"][0]["loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert expected[0] > 2 * expected[-1], "it learns"


def test_both_have_every_prediction_in_order(pair):
    first, second = results(pair, 2)
    assert first["index"] == second["index"] == list(range(PERSONS))
    np.testing.assert_array_equal(*(np.load(pair / f"keypoints{rank}.npy") for rank in (0, 1)))


def test_one_process_predicts_the_same_to_the_bit_from_their_weights(images, pair):
    network = Tiny()
    network.load_state_dict(torch.load(pair / "run.pt", weights_only=True)["model"])
    loader = make_loader(read_noise(images), INPUTS, train=False)
    np.testing.assert_array_equal(predict(network, loader, loader.codec).keypoints, np.load(pair / "keypoints1.npy"))


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_one_process_goes_on_from_the_checkpoint_of_two(images, pair, tmp_path, accumulation):
    shutil.copy(pair / "killed.pt", tmp_path / "run.pt")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    step = state["step"]
    assert step in (5, 6)
    run_training(images, tmp_path, {"accumulation": accumulation})
    (alone,) = results(tmp_path, 1)
    over = 2 * step // accumulation * accumulation  # batches of one process, in whole optimizer steps
    assert len(alone["losses"]) == 2 * 21 - over, "persons whom the two had seen are not seen again"
    assert [record["epoch"] for record in alone["history"]] == [1, 2]
    first, second = np.split(alone["losses"], [21 - over])
    of_pair = state["loss_sum"] / step  # its mean stands for the batches that were not repeated
    expected = [(of_pair * over + first.sum()) / 21, second.mean()]
    assert [record["loss"] for record in alone["history"]] == pytest.approx(expected, rel=1e-5)


def test_a_loader_of_another_process_is_refused(images, tmp_path):
    loader = make_loader(read_noise(images), INPUTS, True, rank=1, world_size=2)
    objective = make_objective("mse", loader.codec)
    with pytest.raises(ValueError, match=r"loader gives .*\(1, 2\) .* this process is \(0, 1\)"):
        fit(Tiny(), loader, objective, Recipe(epochs=1, learning_rate=0.01), tmp_path / "run.pt", tmp_path / "log")
