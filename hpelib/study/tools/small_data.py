"""Trainings beside the study's own, such as those of the notebook `small_data` on few photographs."""

import copy
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn, set_num_threads

from hpelib.data.files import write_arrays
from hpelib.data.image_cache import ImageCache
from hpelib.data.loader import make_loader
from hpelib.data.people import People
from hpelib.study.config import Run, lay_over, make_run, profile_params
from hpelib.study.steps.evaluate import test_people
from hpelib.study.steps.predictions import make_predictor
from hpelib.study.steps.prepare import require_prepared
from hpelib.study.steps.train import build_network, make_validation, training_people
from hpelib.training.fit import fit
from hpelib.training.objectives import make_objective

LOOKS = 4  # at the figure on val, in a training


def make_case(params: dict, network: str, dataset: str, changes: dict, persons: int, seed: int) -> Run:
    """The run with `changes` laid over the network's entry, on `persons` of the training split, drawn by its seed.

    Raises:
        FileNotFoundError: the dataset was not prepared.
        ValueError: they are more than the split has, fewer than a batch, or too few for the warmup.
    """
    profile = lay_over(profile_params(params), {"networks": {network: changes}})
    drawn = {"splits": {"train": {"persons": persons, "draw": seed}}}
    sets = lay_over(params["sets"], {profile["datasets"][dataset]["set"]: drawn})
    run = make_run(params | {"sets": sets, "profiles": {params["profile"]: profile}}, network, dataset, seed)
    run.require_persons(require_prepared(run.dataset)["train"]["persons"])
    return run


def train_apart(
    run: Run, people: People, validate: Callable[[nn.Module], dict[str, float]], images: ImageCache | None = None
) -> tuple[nn.Module, list[dict]]:
    """A network that is trained in this process and leaves no files, and the records of its epochs, as `fit` does."""
    set_num_threads(run.threads)
    network, loader = build_network(run, people), make_loader(people, run, train=True, images=images)
    objective = make_objective(run.recipe.loss, loader.codec, run.recipe.loss_options)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "checkpoint.pt", Path(folder) / "log.json"
        return network, fit(network, loader, objective, run.recipe, *files, validate)


class Trial:
    """Trains and tests runs; what it found is kept in a folder, so that an interrupted experiment goes on.

    The runs differ from the first in anything but the dataset's test split and how persons are cut out and tested.
    """

    def __init__(self, first: Run, kept: Path):
        self.form, self.people, self.kept = first.dataset.form, test_people(first), kept
        self.annotations = require_prepared(first.dataset)["annotations_sha256"]
        self.images = ImageCache(training_people(first).image_paths, first.inputs.image_cache_mb)
        self.predict = make_predictor(first, self.people)
        self.validate = make_validation(first, first.recipe.device, rank=0, world_size=1)

    def __call__(self, run: Run) -> dict[str, np.ndarray]:
        """`last` and `best`: scores (N, K) on test after the last epoch and after the best one by val.

        `looks` (L, 2): the epochs after which val was measured, about `LOOKS` of them, and the figure there.
        """
        made_of = json.dumps([run.digest, self.annotations, dataclasses.asdict(run.test), LOOKS])
        path = self.kept / f"{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.npz"
        looks, best, epochs = [], {}, iter(range(1, run.recipe.epochs + 1))

        def look(network: nn.Module) -> dict[str, float]:
            epoch = next(epochs)
            if epoch % max(1, run.recipe.epochs // LOOKS) and epoch < run.recipe.epochs:
                return {}
            looks.append((epoch, *self.validate(network).values()))
            if looks[-1] == max(looks, key=lambda look: look[1]):
                best.update(copy.deepcopy(network.state_dict()))
            return {"val": looks[-1][1]}

        if not path.is_file():
            network, _ = train_apart(run, training_people(run), look, self.images)
            last = self._test(network)
            network.load_state_dict(best)
            write_arrays(path, {"last": last, "best": self._test(network), "looks": np.array(looks)})
        with np.load(path) as file:
            return dict(file)

    def _test(self, network: nn.Module) -> np.ndarray:
        return self.form.keypoint_scores(self.people, self.predict(network).keypoints)
