"""The pictures that the input pipelines read: rendered mannequins, and photographs if a folder is given."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpelib.data.coco import read_coco
from hpelib.data.people import People
from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.writing import write_mannequins

STUDY = Path("work/mannequins/coco")
SCRATCH = Path("work/benchmarks/mannequins")
RECIPE = Path("data/mannequins.yaml")
PERSONS = 192  # of a set, at most


@dataclass(frozen=True)
class Photographs:
    """Annotated persons in COCO's format."""

    name: str
    annotations: Path
    images: Path

    def people(self) -> People:
        people = read_coco(self.annotations, self.images)
        return people.take(np.random.default_rng(0).permutation(len(people))[:PERSONS])


def mannequins() -> Photographs:
    """Those of the study, or some rendered here where it has not been run."""
    if STUDY.is_dir():
        return in_folder(STUDY, "rendered mannequins")
    if not SCRATCH.is_dir():
        write_mannequins(SCRATCH, read_recipe(RECIPE), {"val": PERSONS}, seed=0, processes=os.cpu_count() or 1)
    return in_folder(SCRATCH / "coco", "rendered mannequins")


def in_folder(root: Path, name: str) -> Photographs:
    """The set in COCO's layout at `root`: its val split, or the first that it has.

    Raises FileNotFoundError where there is no person_keypoints file, or none of its images' folders.
    """
    files = {path.stem.rpartition("_")[2]: path for path in sorted(root.glob("annotations/person_keypoints_*.json"))}
    if not files:
        raise FileNotFoundError(f"{root}: no annotations/person_keypoints_*.json; give a folder in COCO's layout")
    split = "val" if "val" in files else next(iter(files))
    folders = [folder for folder in (root / split, root / "images" / split) if folder.is_dir()]
    if not folders:
        raise FileNotFoundError(f"{root}: no folder {split}/ or images/{split}/ for {files[split].name}")
    return Photographs(name, files[split], folders[0])
