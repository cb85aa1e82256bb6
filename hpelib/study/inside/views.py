"""Chosen people as trained networks see them: for the notebooks heatmaps and paper_figures, and for the explorer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from hpelib.capture import capture
from hpelib.data.crops import crop_person
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, make_loader
from hpelib.data.people import People
from hpelib.figures.heatmaps import View
from hpelib.layers.choices import require_choice
from hpelib.study.config import Run, networks_on, study_runs
from hpelib.study.evaluation import load
from hpelib.study.steps.evaluate import load_network, test_people

ORDERS = ("in the order of the file", "easiest", "hardest", "most occluded", "most disputed")
GREY = 128  # of the occluder, 8 bit


@dataclass(frozen=True)
class Occluder:
    """A grey square that hides a part of the crop. Its centre is (x, y); with size 0 it hides nothing."""

    x_px: float = 0.0
    y_px: float = 0.0
    size_px: float = 0.0

    def mask(self, height: int, width: int) -> np.ndarray:
        """True where a crop is hidden, (height, width)."""
        y, x = np.mgrid[:height, :width]
        return np.maximum(np.abs(x - self.x_px), np.abs(y - self.y_px)) < self.size_px / 2


NOTHING = Occluder()


class Gallery:
    """Trained runs of one dataset, by name, and the people of its test split. A network is loaded at its first look."""

    def __init__(self, runs: Mapping[str, Run]):
        self.runs = runs
        self.people = test_people(next(iter(runs.values())))
        self._networks: dict[str, nn.Module] = {}

    @cached_property
    def scores(self) -> np.ndarray:
        """(networks, N) of the networks that were evaluated: mean over their seeds here and over keypoints, 0 to 1."""
        found: dict[str, list[np.ndarray]] = {}
        for run in self.runs.values():
            if (run.evaluation / "summary.json").is_file():
                evaluation = load(run.evaluation)
                seed = evaluation.summary["seeds"].index(run.seed)
                found.setdefault(run.network, []).append(evaluation.keypoint_scores[seed])
        return np.array([np.nan_to_num(seeds).mean(axis=(0, 2)) for seeds in found.values()])

    def persons(self, order: str) -> list[int]:
        """Positions of all test people in one of `ORDERS`; disputed are those on whom the networks' scores differ.

        Raises:
            ValueError: the order is unknown, or it needs scores and no network was evaluated.
        """
        require_choice("order", order, ORDERS)
        if order in ("easiest", "hardest", "most disputed") and not len(self.scores):
            raise ValueError(f"{order!r} needs scores, but no network was evaluated; run: dvc repro evaluate")
        match order:
            case "easiest":
                ranks = -self.scores.mean(axis=0)
            case "hardest":
                ranks = self.scores.mean(axis=0)
            case "most occluded":
                ranks = -(self.people.visibility == 1).sum(axis=1)
            case "most disputed":
                ranks = -np.ptp(self.scores, axis=0)
            case _:
                ranks = np.zeros(len(self.people))
        return np.argsort(ranks, kind="stable").tolist()

    def look(self, name: str, person: int, occluders: Sequence[Occluder] = (NOTHING,)) -> list[View]:
        """Person number `person` as the run `name` sees it, once behind each of `occluders`.

        There is no flip test: a heatmap is what the network said. Beside what the network shows, the looks hold the
        heatmaps of the annotation as `target`.

        Raises:
            ValueError: the run is unknown.
            FileNotFoundError: the run was not trained.
        """
        require_choice("run", name, self.runs)
        run = self.runs[name]
        if name not in self._networks:
            self._networks[name] = load_network(run, self.people)
        crop = crop_person(self.people, person, run.inputs)
        loader = make_loader(self.people.take([person]), run, train=False, device=run.recipe.device)
        (batch,) = loader
        masks = [occluder.mask(*crop.pixels.shape[:2]) for occluder in occluders]
        looks = capture(self._networks[name], torch.cat([_cover(batch["images"], mask) for mask in masks]))
        found, _ = loader.codec.decode(looks["heatmaps"])
        target, _ = loader.codec.encode(batch["keypoints"], batch["visible"])
        looks["target"] = target.expand_as(looks["heatmaps"])
        return [
            View(
                crop=replace(crop, pixels=np.where(mask[..., None], np.uint8(GREY), crop.pixels)),
                skeleton=self.people.skeleton,
                found=found[i].cpu().numpy(),
                looks={key: look[i].float().cpu().numpy() for key, look in looks.items()},
                stride_px=loader.codec.stride,
            )
            for i, mask in enumerate(masks)
        ]

    def look_by_all(self, person: int) -> dict[str, View]:
        """Person number `person` as every run sees it, by the runs' names."""
        return {name: self.look(name, person)[0] for name in self.runs}


def first_seeds(params: dict, dataset: str, networks: Sequence[str] = ()) -> Gallery:
    """The gallery of `networks`, by default of all that the study trains on `dataset`, each with its first seed."""
    return Gallery({name: study_runs(params, name, dataset)[0] for name in networks or networks_on(params, dataset)})


def fixed_views(params: dict, dataset: str, networks: Sequence[str]) -> dict[str, dict[str, View]]:
    """The `fixed_people` as each of `networks` sees them; nobody if the study does not train all of these."""
    if not_run(params, dataset, networks):
        return {}
    gallery = first_seeds(params, dataset, networks)
    return {name: gallery.look_by_all(person) for name, person in fixed_people(gallery.people).items()}


def not_run(params: dict, dataset: str, networks: Sequence[str]) -> str:
    """A sentence about those of `networks` that the study does not train on `dataset`, or "" if it trains all."""
    missing = [network for network in networks if network not in networks_on(params, dataset)]
    if not missing:
        return ""
    return (
        f"*Not run*: {' and '.join(missing)} on {dataset}, so there are no pictures here of "
        f"{' beside '.join(reversed(networks))}. They come with all of these among `networks` in `params.yaml`."
    )


def fixed_people(people: People) -> dict[str, int]:
    """Positions of an easy, an occluded and a small person, chosen by the annotation alone: the same for all networks.

    Only persons with the most labelled keypoints are considered.

    - easy: the fewest occluded keypoints, of several such persons the largest;
    - occluded: the most occluded keypoints, of several such persons the largest;
    - small: the smallest person that has no more occluded keypoints than the median.
    """
    labelled, hidden = (people.visibility > 0).sum(axis=1), (people.visibility == 1).sum(axis=1)
    complete = np.flatnonzero(labelled == labelled.max())
    hidden, size_px = hidden[complete], people.sizes_px.max(axis=1)[complete]
    chosen = {
        "easy": np.lexsort((-size_px, hidden))[0],
        "occluded": np.lexsort((-size_px, -hidden))[0],
        "small": np.where(hidden <= np.median(hidden), size_px, np.inf).argmin(),
    }
    return {name: int(complete[place]) for name, place in chosen.items()}


def _cover(images: Tensor, mask: np.ndarray) -> Tensor:
    """Normalised images (N, 3, H, W) that are grey where `mask` (H, W) is true."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.where(torch.from_numpy(mask).to(images.device), (GREY / 255 - mean) / std, images)
