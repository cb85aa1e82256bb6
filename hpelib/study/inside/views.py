"""Chosen people through the eyes of the networks: what the heatmaps and paper_figures notebooks call."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from hpelib.capture import capture
from hpelib.data.crops import read_image
from hpelib.data.loader import PeopleLoader, make_loader
from hpelib.data.people import People
from hpelib.figures.heatmaps import Prediction, heatmap_grid, network_comparison
from hpelib.figures.looks import before_after, look_sheet, panels_of
from hpelib.records import quantity
from hpelib.skeletons import Skeleton
from hpelib.study.config import Run, networks_on, study_runs
from hpelib.study.evaluation import load
from hpelib.study.steps.evaluate import load_network, test_people


@dataclass(frozen=True)
class View:
    """One person, the crop that all networks get, and what each makes of it."""

    crop: np.ndarray  # (H, W, 3) uint8
    keypoints: np.ndarray  # (K, 2) crop px, the annotation
    visibility: np.ndarray  # (K,)
    predictions: dict[str, Prediction]
    looks: dict[str, dict[str, np.ndarray]]  # of each network, as from `capture` but for its axis N, and `target`
    scene: np.ndarray  # the full picture
    matrix: np.ndarray  # (2, 3) image px to crop px


@dataclass(frozen=True)
class Gallery:
    """The test people of one dataset and trained networks, each with its first seed."""

    runs: dict[str, Run]
    people: People
    networks: dict[str, nn.Module]

    @staticmethod
    def of(params: dict, dataset: str, networks: Sequence[str] | None = None) -> "Gallery":
        """The gallery of `networks`, by default all of the study; each must have been trained."""
        runs = {name: study_runs(params, name, dataset)[0] for name in networks or networks_on(params, dataset)}
        people = test_people(next(iter(runs.values())))
        trained = {name: load_network(run, people) for name, run in runs.items()}
        return Gallery(runs, people, trained)

    @cached_property
    def scores(self) -> np.ndarray:
        """(networks, N) mean over keypoints, 0 to 1, from the evaluations."""
        scores = [load(run.evaluation).keypoint_scores[0] for run in self.runs.values()]
        return np.nan_to_num(np.stack(scores)).mean(axis=2)

    def easiest(self) -> int:
        return int(self.scores.mean(axis=0).argmax())

    def hardest(self) -> int:
        return int(self.scores.mean(axis=0).argmin())

    def most_disputed(self) -> int:
        return int(np.ptp(self.scores, axis=0).argmax())

    def view(self, person: int) -> View:
        """Person number `person`, without flip test, so that a heatmap is what the network said."""
        one = self.people.take([person])
        predictions, looks = {}, {}
        for name, run in self.runs.items():
            loader = make_loader(one, run, train=False, device=run.recipe.device)
            predictions[name], looks[name] = _look(self.networks[name], loader)
        drawn = loader.crops[0, np.array([0])]
        return View(
            crop=drawn["images"][0],
            keypoints=drawn["keypoints"][0],
            visibility=drawn["visible"][0],
            predictions=predictions,
            looks=looks,
            scene=read_image(one.image_paths[0]),
            matrix=drawn["matrices"][0],
        )


def _look(network: nn.Module, loader: PeopleLoader) -> tuple[Prediction, dict[str, np.ndarray]]:
    """What `network` says of the one person of `loader`, and how it came to it."""
    (batch,) = loader
    seen = capture(network, batch["images"])
    keypoints, _ = loader.codec.decode(seen["heatmaps"])
    seen["target"], _ = loader.codec.encode(batch["keypoints"], batch["visible"])
    looks = {name: look[0].float().cpu().numpy() for name, look in seen.items()}
    return Prediction(keypoints[0].cpu().numpy(), looks["heatmaps"], loader.codec.stride), looks


def comparison(view: View, skeleton: Skeleton) -> Figure:
    """Every network on a viewed person."""
    return network_comparison(view.crop, view.keypoints, view.visibility, view.predictions, skeleton)


def joint_maps(view: View, network: str, skeleton: Skeleton) -> Figure:
    """Every heatmap of one network on a viewed person, with the decoded points."""
    prediction = view.predictions[network]
    return heatmap_grid(view.crop, prediction.heatmaps, skeleton.keypoints, prediction.stride_px, prediction.keypoints)


def not_run(params: dict, dataset: str, networks: Sequence[str]) -> str:
    """A sentence about those of `networks` that the study does not train on `dataset`; empty where it trains all."""
    missing = [network for network in networks if network not in networks_on(params, dataset)]
    if not missing:
        return ""
    return (
        f"*Not run*: {' and '.join(missing)} on {dataset}, so there are no pictures here of "
        f"{' beside '.join(reversed(networks))}. They come with all of these among `networks` in `params.yaml`."
    )


def fixed_views(params: dict, dataset: str, networks: Sequence[str]) -> tuple[dict[str, View], Skeleton | None]:
    """The `fixed_people` as `networks` see them, and their skeleton; nobody where some are `not_run`."""
    if not_run(params, dataset, networks):
        return {}, None
    gallery = Gallery.of(params, dataset, networks)
    people = fixed_people(gallery.people)
    return {name: gallery.view(person) for name, person in people.items()}, gallery.people.skeleton


def fixed_people(people: People) -> dict[str, int]:
    """An easy, an occluded and a small person, chosen by the annotation alone: the same for every network.

    All have every keypoint that anybody has labelled. Easy: none occluded, or as few as there are, and the largest of
    these; occluded: the most occluded keypoints, and the largest of these; small: the smallest with as few occluded
    keypoints as the median.
    """
    labelled, hidden = (people.visibility > 0).sum(axis=1), (people.visibility == 1).sum(axis=1)
    size_px = people.sizes_px.max(axis=1)
    complete = np.flatnonzero(labelled == labelled.max())
    hidden, size_px = hidden[complete], size_px[complete]
    few = hidden <= np.median(hidden)
    chosen = {
        "easy": np.lexsort((-size_px, hidden))[0],
        "occluded": np.lexsort((-size_px, -hidden))[0],
        "small": np.where(few, size_px, np.inf).argmin(),
    }
    return {name: int(complete[place]) for name, place in chosen.items()}


def before_and_after(views: dict[str, View], skeleton: Skeleton) -> Figure:
    """The networks of named views side by side, the first being what the others are compared with."""
    networks = next(iter(views.values())).predictions
    return before_after(
        [view.crop for view in views.values()],
        [view.keypoints for view in views.values()],
        [view.visibility for view in views.values()],
        {name: [view.predictions[name] for view in views.values()] for name in networks},
        list(views),
        skeleton,
    )


def looks_of(views: dict[str, View], network: str, pattern: str) -> Figure:
    """Everything of `network` whose name matches `pattern` as a whole, on the people of `views`.

    Raises:
        ValueError: the network shows nothing of that name.
    """
    shown = next(iter(views.values())).looks[network]
    names = [name for name in shown if re.fullmatch(pattern, name)]
    if not names:
        raise ValueError(f"{network} shows nothing that matches {pattern!r}; it shows {', '.join(shown)}")
    rows = []
    for view in views.values():
        panels = [panels_of(quantity(name), view.looks[network][name]) for name in names]
        rows.append({title: panel for part in panels for title, panel in part.items()})
    return look_sheet([view.crop for view in views.values()], rows, list(views))
