"""One network, one person, one keypoint at a time, with something held in front of the person: the explore notebook."""

import textwrap
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from hpelib.capture import capture
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, make_loader
from hpelib.figures import style
from hpelib.figures.heatmaps import common_limits, draw_heatmap
from hpelib.figures.looks import draw_change, draw_panel, panels_of
from hpelib.figures.skeletons import draw_person
from hpelib.records import quantity
from hpelib.skeletons import Skeleton
from hpelib.study.config import networks_on, study_runs
from hpelib.study.evaluation import load
from hpelib.study.steps.evaluate import load_network, test_people

ORDERS = ("in the order of the file", "hardest", "most occluded", "most disputed")
GREY = 128  # of the occluder, 8 bit
MAX_PANELS = 4  # of one layer
TITLE_WIDTH = 26  # characters above a panel


@dataclass(frozen=True)
class Occluder:
    """A grey square in front of the picture; all in crop px, the centre being (x, y). Of size 0 there is none."""

    x_px: float = 0.0
    y_px: float = 0.0
    size_px: float = 0.0

    def mask(self, height: int, width: int) -> np.ndarray:
        """Where a crop is hidden, (H, W)."""
        y, x = np.mgrid[:height, :width]
        return np.maximum(np.abs(x - self.x_px), np.abs(y - self.y_px)) < self.size_px / 2


@dataclass(frozen=True)
class State:
    """What is looked at: a trained run, a person of the test split, a keypoint and one of the network's looks."""

    run: str
    person: int
    keypoint: str
    layer: str = "heatmaps"
    occluder: Occluder = Occluder()


@dataclass(frozen=True)
class Answer:
    """What a network says of one person, with and without the occluder."""

    crop: np.ndarray  # (H, W, 3) uint8, behind the occluder
    keypoints: np.ndarray  # (K, 2) crop px, the annotation, NaN where not labelled
    visibility: np.ndarray  # (K,)
    found: np.ndarray  # (K, 2) crop px, decoded from behind the occluder
    stride_px: tuple[float, float]
    free: np.ndarray  # (K, h, w) heatmaps without the occluder
    looks: dict[str, np.ndarray]  # as from `capture` but for its axis N, behind the occluder

    @property
    def distances_px(self) -> np.ndarray:
        """How far each decoded keypoint lies from the annotation, (K,) crop px."""
        return np.linalg.norm(self.found - self.keypoints, axis=1)


class Explorer:
    """The trained runs of one dataset, and the test people to try them on.

    `runs` maps a name such as "hrnet, seed 0" to every run of the current profile whose weights are there. A network is
    loaded when it is first asked for. Raises FileNotFoundError if nothing was trained.
    """

    def __init__(self, params: dict, dataset: str):
        runs = [run for network in networks_on(params, dataset) for run in study_runs(params, network, dataset)]
        self.runs = {
            f"{run.network}, seed {run.seed}": run for run in runs if (run.folder / "weights.safetensors").is_file()
        }
        if not self.runs:
            raise FileNotFoundError(f"no network was trained on {dataset}; run: dvc repro train")
        self.people = test_people(runs[0])
        self._networks: dict[str, nn.Module] = {}

    @property
    def skeleton(self) -> Skeleton:
        return self.people.skeleton

    @cached_property
    def scores(self) -> np.ndarray:
        """(networks, N) mean over seeds and keypoints, 0 to 1, of the networks that were evaluated."""
        folders = dict.fromkeys(run.evaluation for run in self.runs.values())
        evaluations = [load(folder) for folder in folders if (folder / "summary.json").is_file()]
        return np.array([np.nan_to_num(evaluation.keypoint_scores).mean(axis=(0, 2)) for evaluation in evaluations])

    def persons(self, order: str) -> list[int]:
        """All test people in one of `ORDERS`.

        Raises:
            ValueError: an unknown order, or one by scores where no network was evaluated.
        """
        if order not in ORDERS:
            raise ValueError(f"unknown order {order!r}; choose from {', '.join(ORDERS)}")
        if order in ("hardest", "most disputed") and not len(self.scores):
            raise ValueError(f"{order!r} needs scores, but no network was evaluated; run: dvc repro evaluate")
        match order:
            case "hardest":
                ranks = self.scores.mean(axis=0)
            case "most occluded":
                ranks = -(self.people.visibility == 1).sum(axis=1)
            case "most disputed":
                ranks = -np.ptp(self.scores, axis=0)
            case _:
                ranks = np.zeros(len(self.people))
        return np.argsort(ranks, kind="stable").tolist()

    def layers(self, run: str) -> list[str]:
        """Names of everything that the run's network shows of itself and that can be drawn."""
        looks = self.answer(State(run, 0, self.skeleton.keypoints[0])).looks
        return [name for name, look in looks.items() if panels_of(quantity(name), look)]

    def answer(self, state: State) -> Answer:
        """What the state's network says of its person.

        Raises:
            ValueError: a run that was not trained.
        """
        if state.run not in self.runs:
            raise ValueError(f"unknown run {state.run!r}; choose from {', '.join(self.runs)}")
        run = self.runs[state.run]
        if state.run not in self._networks:
            self._networks[state.run] = load_network(run, self.people)
        loader = make_loader(self.people.take([state.person]), run, train=False, device=run.recipe.device)
        (batch,) = loader
        drawn = loader.crops[0, np.array([0])]
        mask = state.occluder.mask(*drawn["images"].shape[1:3])
        both = torch.cat([batch["images"], _cover(batch["images"], mask)])
        free, covered = (
            {name: look[i] for name, look in capture(self._networks[state.run], both).items()} for i in (0, 1)
        )
        found, _ = loader.codec.decode(covered["heatmaps"][None])
        return Answer(
            crop=np.where(mask[..., None], np.uint8(GREY), drawn["images"][0]),
            keypoints=drawn["keypoints"][0],
            visibility=drawn["visible"][0],
            found=found[0].cpu().numpy(),
            stride_px=loader.codec.stride,
            free=free["heatmaps"].float().cpu().numpy(),
            looks={name: look.float().cpu().numpy() for name, look in covered.items()},
        )

    def clearest(self, run: str, person: int) -> str:
        """The visible keypoint of which the run's network is surest, or of all if none is visible."""
        answer = self.answer(State(run, person, self.skeleton.keypoints[0]))
        peaks = answer.free.max(axis=(1, 2))
        visible = answer.visibility == 2
        return self.skeleton.keypoints[np.where(visible | ~visible.any(), peaks, -np.inf).argmax()]

    def occluder_on(self, run: str, person: int, keypoint: str, share: float) -> Occluder:
        """A square on the point that is decoded without it, its side being `share` of the crop's width."""
        answer = self.answer(State(run, person, keypoint))
        return Occluder(*answer.found[self.skeleton.index(keypoint)].tolist(), share * answer.crop.shape[1])

    def figure(self, state: State) -> Figure:
        """The picture with its annotation, the keypoint's heatmap, how the occluder changed it, and the layer.

        In the first three a circle marks the annotated point and a cross the decoded one.
        """
        answer = self.answer(state)
        keypoint = self.skeleton.index(state.keypoint)
        heatmap = answer.looks["heatmaps"][keypoint]
        limits = common_limits(answer.free[keypoint], heatmap)
        layer = panels_of(quantity(state.layer), answer.looks[state.layer], keypoint)
        shown = list(layer.items())[:MAX_PANELS]
        with style.apply():
            aspect = answer.crop.shape[0] / answer.crop.shape[1]
            figure, (picture, now, change, *others) = style.panels(3 + len(shown), 4, 1.05 * aspect)
            draw_person(picture, answer.crop, answer.keypoints, answer.visibility, self.skeleton)
            picture.set_title(f"{state.run}: person {state.person}")
            draw_heatmap(now, answer.crop, heatmap, answer.stride_px, limits)
            distance_px = answer.distances_px[keypoint]
            found = "not labelled" if np.isnan(distance_px) else f"{distance_px:.1f} px off"
            now.set_title(f"{state.keypoint.replace('_', ' ')}: {found}")
            draw_change(change, answer.crop, heatmap - answer.free[keypoint], max(limits[1], 1e-6))
            change.set_title("changed by the occluder")
            for axes in (picture, now, change):
                _mark(axes, answer.keypoints[keypoint], answer.found[keypoint])
            for axes, (title, panel) in zip(others, shown, strict=True):
                draw_panel(axes, answer.crop, panel)
                axes.set_title(textwrap.fill(title, TITLE_WIDTH))
        return figure


def _cover(images: Tensor, mask: np.ndarray) -> Tensor:
    """Normalised images (N, 3, H, W) with grey where `mask` (H, W) hides them."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.where(torch.from_numpy(mask).to(images.device), (GREY / 255 - mean) / std, images)


def _mark(axes: Axes, truth: np.ndarray, found: np.ndarray) -> None:
    axes.plot(*truth, "o", color="white", markersize=8, fillstyle="none", markeredgewidth=1.5)
    axes.plot(*found, "x", color=style.SKY, markersize=7, markeredgewidth=2)
