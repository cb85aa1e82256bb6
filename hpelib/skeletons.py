"""Keypoint sets of the annotation formats: names, mirror pairs, bones, reported joint groups.

The sets of COCO, MPII and LSP are in skeletons.yaml beside this file, which says what an entry holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

REQUIRED, OPTIONAL = {"keypoints", "skeleton"}, {"groups", "upper_body", "sigmas", "unscored"}


@dataclass(frozen=True)
class Skeleton:
    """One keypoint set. Indices everywhere are positions in `keypoints`."""

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]  # one joint on both sides, the lower index first
    bones: tuple[tuple[int, int], ...]
    groups: dict[str, tuple[int, ...]]  # the joint groups that a results table prints
    upper_body: tuple[int, ...]  # for half-body augmentation
    sigmas: tuple[float, ...] = ()  # OKS fall-off of each keypoint, where the format defines it
    unscored: tuple[int, ...] = ()  # keypoints that the format's mean leaves out

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Index of each keypoint's mirror image: `mirrored = keypoints[permutation]`."""
        swapped = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return tuple(swapped.get(k, k) for k in range(self.num_keypoints))

    def index(self, keypoint: str) -> int:
        return self.keypoints.index(keypoint)


def read_skeletons(path: str | Path) -> dict[str, Skeleton]:
    """The keypoint sets of a YAML file by name. The file is written as skeletons.yaml beside this module.

    Raises:
        ValueError: an entry lacks something or has too much, names a keypoint that it does not list, or lists a left
            keypoint without its right one. The message names the entry.
    """
    return {name: make_skeleton(name, entry, path) for name, entry in yaml.safe_load(Path(path).read_text()).items()}


def make_skeleton(name: str, entry: dict, path: str | Path) -> Skeleton:
    """The keypoint set of one entry, as skeletons.yaml describes it; `path` is named in errors.

    Raises:
        ValueError: as for `read_skeletons`.
    """
    if not isinstance(entry, dict) or not REQUIRED <= set(entry) <= REQUIRED | OPTIONAL:
        raise ValueError(f"{path}: {name} needs {sorted(REQUIRED)}, may have {sorted(OPTIONAL)}, has {entry!r:.200}")
    sigmas = entry.get("sigmas", [])
    if not isinstance(sigmas, list) or not all(isinstance(sigma, float) and 0 < sigma < 1 for sigma in sigmas):
        raise ValueError(
            f"{path}: {name}: sigmas must be a list of shares of a person's size, between 0 and 1: {sigmas}"
        )
    position = {keypoint: k for k, keypoint in enumerate(entry["keypoints"])}
    bones, sigmas = np.array(entry["skeleton"]) - 1, tuple(sigmas)
    if not (np.isin(bones, range(len(position))).all() and len(entry["keypoints"]) == len(position)):
        raise ValueError(f"{path}: {name} repeats a keypoint, or its skeleton is not of numbers 1 to {len(position)}")
    if len(sigmas) not in (0, len(position)):
        raise ValueError(f"{path}: {name} has {len(sigmas)} sigmas for {len(position)} keypoints")
    groups = entry.get("groups") or _groups_by_name(position)
    try:
        lefts = [keypoint for keypoint in position if keypoint.startswith("left_")]
        lefts += ["left_" + right.removeprefix("right_") for right in position if right.startswith("right_")]
        pairs = {(position[left], position["right_" + left.removeprefix("left_")]) for left in lefts}
        return Skeleton(
            name,
            tuple(position),
            flip_pairs=tuple(sorted((min(pair), max(pair)) for pair in pairs)),
            bones=tuple((a, b) for a, b in bones.tolist()),
            groups={group: tuple(position[member] for member in of) for group, of in groups.items()},
            upper_body=tuple(position[keypoint] for keypoint in entry.get("upper_body", ())),
            sigmas=sigmas,
            unscored=tuple(position[keypoint] for keypoint in entry.get("unscored", ())),
        )
    except KeyError as error:
        raise ValueError(f"{path}: {name} has no keypoint {error}; it has {', '.join(position)}") from error


def _groups_by_name(keypoints: Iterable[str]) -> dict[str, list[str]]:
    """A group for each keypoint; left and right share one, which is called by what is left of their names."""
    groups: dict[str, list[str]] = {}
    for keypoint in keypoints:
        group = keypoint.removeprefix("left_").removeprefix("right_").replace("_", " ").capitalize()
        groups.setdefault(group, []).append(keypoint)
    return groups


SKELETONS = read_skeletons(Path(__file__).with_suffix(".yaml"))
COCO17, MPII16, LSP14 = (SKELETONS[name] for name in ("coco17", "mpii16", "lsp14"))
