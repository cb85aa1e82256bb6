"""Leeds Sports Pose: PCK, whose unit is the length of the person's torso."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from hpelib.data.files import check_coordinates
from hpelib.data.lsp import mpii_as_lsp, read_lsp, read_lspet
from hpelib.data.mpii import read_mpii
from hpelib.data.people import People
from hpelib.formats import Dataset, PckFormat
from hpelib.formats.mpii import FORMAT as MPII
from hpelib.metrics.accuracy import pck, torso_size
from hpelib.skeletons import LSP14

LSPET_PERSONS = 10_000


class Leeds(PckFormat):
    """What both Leeds sets have in common: their joints and their metric."""

    skeleton = LSP14
    columns = ("PCK@0.2",)
    main_metric = keypoint_metric = "PCK@0.2"
    threshold = 0.2
    threshold_label = "threshold / torso size"

    def scored(self, people: People) -> People:
        """The persons whose torso, from left shoulder to right hip, is labelled and has a length."""
        return people.keep(torso_size(people.keypoints) > 0, "persons without a labelled torso")

    def lengths_px(self, people: People) -> np.ndarray:
        return torso_size(people.keypoints)

    def figures(
        self, dataset: Dataset, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard"
    ) -> dict[str, float]:
        by_group = pck(keypoints, people.keypoints, people.visibility, torso_size(people.keypoints))
        return {"PCK@0.2": by_group.pop("Mean")} | by_group


class Lsp(Leeds):
    """Entries: `folder` (joints.mat and images), `numbers` (first and last image), `merged` (sets that join the split).

    `merged` has an entry for each set that joins the split, with its `root` and, for MPII, its files:
    `{lspet: {root: datasets/lspet}, mpii: {root: datasets/mpii, annotations: annot/train.json, images: images}}`.
    """

    name = "lsp"
    required = ("folder",)
    optional = ("numbers", "merged")
    arguments: ClassVar = {"folder": "with joints.mat and images, the root itself unless told"}
    public_persons = (1_000, 1_000)

    def read(self, dataset: Dataset, split: str) -> People:
        return People.concatenate(list(self._parts(dataset, split).values()))

    def check(self, dataset: Dataset, split: str, people: People) -> None:
        """As `Format.check`, set by set of those that are merged."""
        for name, part in self._parts(dataset, split).items():
            check_coordinates(part, f"{dataset.name} {split}{name}", MPII.reach)

    def _parts(self, dataset: Dataset, split: str) -> dict[str, People]:
        """The persons of the set itself and of each set that joins the split, by what errors call them."""
        files = self.files(dataset, split)
        people = read_lsp(dataset.root / files["folder"])
        first, last = files.get("numbers", (1, len(people)))
        if not 1 <= first <= last <= len(people):
            raise ValueError(f"{dataset.name} {split}: numbers {first} to {last} are no part of 1 to {len(people)}")
        parts = {"": people.take((people.ids >= first) & (people.ids <= last))}
        for name, other in files.get("merged", {}).items():
            root = Path(other["root"])
            if ("annotations" in other) != ("images" in other):
                where = f"{dataset.name} {split}: merged {name}"
                raise ValueError(f"{where} has annotations or images alone: MPII needs both, LSPET none")
            parts[f", merged {name}"] = (
                mpii_as_lsp(read_mpii(root / other["annotations"], root / other["images"]))
                if "annotations" in other
                else read_lspet(root)
            )
        return parts

    def public_persons_to_train(self, files: Mapping) -> int:
        merged = files.get("merged", {}).values()
        joined = [MPII.public_persons[0] if "annotations" in other else LSPET_PERSONS for other in merged]
        return self.public_persons[0] + sum(joined)

    def annotation_files(self, dataset: Dataset) -> list[Path]:
        entries = [self.files(dataset, split) for split in dataset.splits]
        merged = [other for files in entries for other in files.get("merged", {}).values()]
        return sorted(
            {dataset.root / files["folder"] / "joints.mat" for files in entries}
            | {Path(files["root"]) / files.get("annotations", "joints.mat") for files in merged}
        )


FORMAT = Lsp()
