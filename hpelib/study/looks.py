"""Chosen people through the eyes of every network: what the heatmaps notebook calls."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from hpelib.data.crops import read_image
from hpelib.data.loader import make_loader
from hpelib.data.people import People
from hpelib.figures.heatmaps import Prediction, heatmap_grid, network_comparison
from hpelib.skeletons import Skeleton
from hpelib.study.config import Run, study_runs
from hpelib.study.evaluate import load, load_network, test_people


@dataclass(frozen=True)
class View:
    """One person, the crop that all networks get, and what each makes of it."""

    crop: np.ndarray  # (H, W, 3) uint8
    keypoints: np.ndarray  # (K, 2) crop px, the annotation
    visibility: np.ndarray  # (K,)
    predictions: dict[str, Prediction]
    scene: np.ndarray  # the full picture
    matrix: np.ndarray  # (2, 3) image px to crop px


@dataclass(frozen=True)
class Gallery:
    """The test people of one dataset and every network of the study, each with its first seed."""

    run: Run
    people: People
    networks: dict[str, nn.Module]
    scores: np.ndarray  # (networks, N) mean over keypoints, 0 to 1

    @staticmethod
    def of(params: dict, dataset: str) -> "Gallery":
        """The gallery of the current profile; every network must have been trained and evaluated."""
        runs = {network: study_runs(params, network, dataset)[0] for network in params["networks"]}
        first = next(iter(runs.values()))
        people = test_people(first)
        networks = {name: load_network(run, people) for name, run in runs.items()}
        scores = [np.nan_to_num(load(run.evaluation).keypoint_scores[0]).mean(axis=1) for run in runs.values()]
        return Gallery(first, people, networks, np.stack(scores))

    def easiest(self) -> int:
        return int(self.scores.mean(axis=0).argmax())

    def hardest(self) -> int:
        return int(self.scores.mean(axis=0).argmin())

    def most_disputed(self) -> int:
        return int(np.ptp(self.scores, axis=0).argmax())

    @torch.no_grad()
    def view(self, person: int) -> View:
        """Person number `person`, without flip test, so that a heatmap is what the network said."""
        one = self.people.take([person])
        loader = make_loader(one, self.run, train=False)
        (batch,) = loader
        predictions = {}
        for name, network in self.networks.items():
            heatmaps = network(batch["images"])
            keypoints, _ = loader.codec.decode(heatmaps)
            predictions[name] = Prediction(keypoints[0].numpy(), heatmaps[0].numpy(), loader.codec.stride)
        drawn = loader.crops[0, np.array([0])]
        return View(
            crop=drawn["images"][0],
            keypoints=drawn["keypoints"][0],
            visibility=drawn["visible"][0],
            predictions=predictions,
            scene=read_image(one.image_paths[0]),
            matrix=drawn["matrices"][0],
        )


def comparison(view: View, skeleton: Skeleton) -> Figure:
    """Every network on a viewed person."""
    return network_comparison(view.crop, view.keypoints, view.visibility, view.predictions, skeleton)


def joint_maps(view: View, network: str, skeleton: Skeleton) -> Figure:
    """Every heatmap of one network on a viewed person, with the decoded points."""
    prediction = view.predictions[network]
    return heatmap_grid(view.crop, prediction.heatmaps, skeleton.keypoints, prediction.stride_px, prediction.keypoints)
