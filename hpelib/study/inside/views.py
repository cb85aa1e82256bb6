"""Chosen people as trained networks see them: for the notebooks heatmaps and networks, and for the explorer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from hpelib.capture import capture
from hpelib.data.crops import crop_person
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, make_loader
from hpelib.data.people import People
from hpelib.figures.heatmaps import View
from hpelib.inference import predict
from hpelib.layers.choices import require_choice
from hpelib.losses import bone_heatmaps
from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.writing import write_mannequins
from hpelib.study.config import (
    RECIPE,
    Run,
    load_params,
    networks_on,
    profile_changes,
    profile_params,
    study_runs,
    work_folder,
)
from hpelib.study.evaluation import load
from hpelib.study.steps.evaluate import load_network, test_people
from hpelib.study.steps.weights import SHIPPED

ORDERS = {  # the numbers (N,) by which the people of a gallery are sorted, lowest first
    "in the order of the file": lambda gallery: np.zeros(len(gallery.people)),
    "easiest": lambda gallery: -gallery.scores.mean(axis=0),
    "hardest": lambda gallery: gallery.scores.mean(axis=0),
    "most occluded": lambda gallery: -(gallery.people.visibility == 1).sum(axis=1),
    "most disputed": lambda gallery: -np.ptp(gallery.scores, axis=0),
}
NOTHING = np.zeros((1, 1), bool)  # a mask that hides nothing of a crop of any size
FEW = 60  # persons to look at where no study was run
PERSONS = 200  # of the test split, the first ones, whom quick scores are taken of
GREY = 128  # what is hidden, 8 bit


class Gallery:
    """Trained runs of one dataset, by name, and the people of its test split. A network is loaded at its first look."""

    def __init__(self, runs: Mapping[str, Run]):
        self.runs = runs
        self.people = people_to_look_at(next(iter(runs.values())))
        self._networks: dict[str, nn.Module] = {}

    @cached_property
    def scores(self) -> np.ndarray:
        """(networks, N) of the networks that were evaluated: mean over their seeds here and over keypoints, 0 to 1.

        Where none was, the networks look at everybody now.
        """
        evaluated = [run for run in self.runs.values() if (run.evaluation / "summary.json").is_file()]
        if not evaluated:
            return np.array([np.nan_to_num(self._found(name, len(self.people))).mean(axis=1) for name in self.runs])
        networks = groupby(evaluated, lambda run: run.evaluation)  # its seeds stand side by side
        found = [load(folder).of_seeds([run.seed for run in runs]).keypoint_scores for folder, runs in networks]
        return np.array([np.nan_to_num(scores).mean(axis=(0, 2)) for scores in found])

    def persons(self, order: str) -> list[int]:
        """Positions of all test people in one of `ORDERS`. Disputed are those on whom the networks' scores differ.

        Raises:
            ValueError: the order is unknown.
        """
        require_choice("order", order, ORDERS)
        return np.argsort(ORDERS[order](self), kind="stable").tolist()

    def network(self, name: str) -> nn.Module:
        """The trained network of the run `name`, in eval mode.

        Raises:
            ValueError: the run is unknown.
            FileNotFoundError: the run was not trained.
        """
        require_choice("run", name, self.runs)
        if name not in self._networks:
            self._networks[name] = load_network(self.runs[name], self.people)
        return self._networks[name]

    def mean_score(self, name: str) -> float:
        """The mean keypoint score of the first `PERSONS` in percent, as in the tables, but without flip test."""
        return 100 * float(np.nanmean(self._found(name, PERSONS)))

    def scores_by_visibility(self, name: str) -> dict[str, tuple[float, int]]:
        """The mean keypoint score in percent of visible and of hidden joints of the first `PERSONS`, and their number.

        As in `mean_score`. A joint is hidden where its annotation says so (visibility 1).
        """
        found, visibility = self._found(name, PERSONS), self.people.visibility[:PERSONS]
        shown = {
            "visible": found[(visibility == 2) & ~np.isnan(found)],
            "hidden": found[(visibility == 1) & ~np.isnan(found)],
        }
        return {
            kind: (100 * float(np.mean(scores)) if len(scores) else np.nan, len(scores))
            for kind, scores in shown.items()
        }

    def _found(self, name: str, count: int) -> np.ndarray:
        """Keypoint scores (count, K) of the first persons, 0 to 1, NaN where not labelled; without flip test."""
        people, run = self.people.take(slice(count)), self.runs[name]
        loader = make_loader(people, run, train=False, device=run.recipe.device)
        predictions = predict(self.network(name), loader, loader.codec, flip_test=False)
        return run.dataset.form.keypoint_scores(people, predictions.keypoints)

    def images(self, name: str, person: int, masks: Sequence[np.ndarray] = (NOTHING,)) -> Tensor:
        """What the network of the run `name` is fed of a person, once for each of `masks`: (n, 3, H, W), normalised."""
        run = self.runs[name]
        (batch,) = make_loader(self.people.take([person]), run, train=False, device=run.recipe.device)
        return torch.cat([_hide(batch["images"], mask) for mask in masks])

    def look(self, name: str, person: int, masks: Sequence[np.ndarray] = (NOTHING,)) -> list[View]:
        """Person number `person` as the run `name` sees it, once for each of `masks`.

        A mask (H, W) is true where a pixel of the crop is hidden behind grey. There is no flip test: a heatmap is what
        the network said. The looks also hold `target`, the heatmaps of the annotation, and for a network
        that learns bones `bone_target`, their maps.

        Raises:
            ValueError: the run is unknown.
            FileNotFoundError: the run was not trained.
        """
        network, run = self.network(name), self.runs[name]
        crop, codec = crop_person(self.people, person, run.inputs), run.inputs.make_codec()
        looks = capture(network, self.images(name, person, masks))
        found, _ = codec.decode(looks["heatmaps"])
        target, _ = codec.encode(crop.keypoints[None], crop.visibility[None])
        looks["target"] = target.expand_as(looks["heatmaps"])
        if "bones" in looks:
            size, joints = looks["bones"].shape[-2:], torch.from_numpy(crop.keypoints[None] / np.float32(codec.stride))
            bones = bone_heatmaps(joints.to(target.device), network.bone_joints, size, codec.sigma)
            looks["bone_target"] = bones.expand_as(looks["bones"])
        return [
            View(
                crop=replace(
                    crop,
                    pixels=np.where(mask[..., None], np.uint8(GREY), crop.pixels),
                    picture=crop.picture.hidden(mask, GREY),
                ),
                skeleton=self.people.skeleton,
                found=found[i].cpu().numpy(),
                looks={key: look[i].float().cpu().numpy() for key, look in looks.items()},
                stride_px=codec.stride,
            )
            for i, mask in enumerate(masks)
        ]

    def look_by_all(self, person: int) -> dict[str, View]:
        """Person number `person` as every run sees it, by the runs' names."""
        return {name: self.look(name, person)[0] for name in self.runs}


def people_to_look_at(run: Run) -> People:
    """The test split. Where no mannequins were rendered yet, a few of that split are, in `work/PROFILE/look`."""
    drawn = run.dataset.work / "mannequins"
    if run.dataset.manifest.is_file() or not run.dataset.root.is_relative_to(drawn):
        return test_people(run)
    few, place = run.dataset.work / "look", run.dataset.root.relative_to(drawn)
    level = place.parts[0]
    if not (few / level).is_dir():
        asked = profile_params(load_params() | {"profile": run.profile})["mannequins"][level]
        write_mannequins(few / level, read_recipe(RECIPE, level, asked["scale"]), {"test": FEW}, asked["seed"])
    dataset = replace(run.dataset, root=few / place)
    form = dataset.form
    return form.scored(form.read(dataset, "test"))


def params_to_look_at() -> dict:
    """The parameters in params.yaml. Where its profile has no weights, those of the profile that the repository brings.

    A profile has weights where it was trained, or where the repository brings those of all its networks.
    """
    params = load_params()
    if any(work_folder(params).glob("runs/*/*/*/weights.safetensors")):
        return params
    for profile in (params["profile"], *params["profiles"]):
        chosen = params | profile_changes(params, profile)
        if all((SHIPPED / profile / "coco" / f"{network}.safetensors").is_file() for network in chosen["networks"]):
            return chosen
    return params


def first_seeds(params: dict, dataset: str, networks: Sequence[str] = ()) -> Gallery:
    """The gallery of `networks`, by default of all that the study trains on `dataset`, each with its first seed."""
    return Gallery({name: study_runs(params, name, dataset)[0] for name in networks or networks_on(params, dataset)})


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


def ranked_people(gallery: Gallery) -> dict[str, int]:
    """Positions of the easiest, the median and the hardest person by the mean score of the gallery's networks.

    Only persons with the most labelled keypoints are considered.
    """
    labelled = (gallery.people.visibility > 0).sum(axis=1)
    ranks = [person for person in gallery.persons("easiest") if labelled[person] == labelled.max()]
    return {"easiest": ranks[0], "median": ranks[len(ranks) // 2], "hardest": ranks[-1]}


def _hide(images: Tensor, mask: np.ndarray) -> Tensor:
    """Normalised images (N, 3, H, W) that are grey where `mask` (H, W) is true."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.where(torch.from_numpy(mask).to(images.device), (GREY / 255 - mean) / std, images)
