"""The study's datasets: which files make a split, and the check that comes before any training."""

import hashlib
import json
import logging
import sys
from pathlib import Path

import numpy as np

from hpelib.data.coco import check_image_sizes, read_coco, read_detections
from hpelib.data.files import check_images, write_whole
from hpelib.data.lsp import mpii_as_lsp, read_lsp, read_lspet
from hpelib.data.mpii import read_mpii
from hpelib.data.people import People
from hpelib.data.splits import grouped_split, read_groups
from hpelib.metrics.coco import coco_ap
from hpelib.study.config import Dataset, load_params, make_dataset

SPLITS = ("train", "val", "test")
# Our split of LSPET is one of the images that were searched for near-duplicates.
NEAR_DUPLICATES, LSPET_IMAGES = Path("data/lspet_near_duplicates.csv"), 7000


def read_split(dataset: Dataset, split: str) -> People:
    """The persons of one split, in the order of the annotation file.

    Raises:
        FileNotFoundError, ValueError: as the readers do, and for a format or split that is not there.
    """
    if split not in dataset.splits:
        raise ValueError(f"dataset {dataset.name} has no split {split!r}; it has {', '.join(dataset.splits)}")
    root, files = dataset.root, dataset.splits[split]
    match dataset.format:
        case "coco":
            return read_coco(root / files["annotations"], root / files["images"])
        case "mpii":
            truth = root / files["ground_truth"] if "ground_truth" in files else None
            return read_mpii(root / files["annotations"], root / files["images"], truth)
        case "lsp":
            people = read_lsp(root / files["folder"])
            first, last = files.get("numbers", (1, len(people)))
            own = people.take((people.ids >= first) & (people.ids <= last))
            others = [_read_merged(Path(place), theirs) for place, theirs in files.get("merged", {}).items()]
            return People.concatenate([own, *others])
        case "lspet":
            return _lspet_part(root, dataset.splits, split)
    raise ValueError(f"dataset {dataset.name}: unknown format {dataset.format!r}; known: coco, mpii, lsp, lspet")


def _read_merged(root: Path, files: dict) -> People:
    """A set whose persons join a split of LSP: LSPET, or MPII where it names files."""
    if not files:
        return read_lspet(root)
    return mpii_as_lsp(read_mpii(root / files["annotations"], root / files["images"]))


def read_split_detections(dataset: Dataset, split: str) -> People | None:
    """The detector's boxes on a split's images, or None where the dataset names no such file."""
    files = dataset.splits[split]
    if "detections" not in files:
        return None
    root = dataset.root
    return read_detections(root / files["detections"], root / files["annotations"], root / files["images"])


def _lspet_part(root: Path, splits: dict, split: str) -> People:
    """Our split of LSPET by fractions, with near-duplicate photographs kept on one side."""
    people = read_lspet(root)
    people = people.take(people.ids <= LSPET_IMAGES)
    groups = read_groups(NEAR_DUPLICATES, people.ids)
    fractions = [splits[name]["fraction"] for name in SPLITS]
    parts = grouped_split(len(people), groups, fractions, seed=0)
    return people.take(parts[SPLITS.index(split)])


def annotation_files(dataset: Dataset) -> list[Path]:
    """Every annotation file of the dataset, once."""
    if dataset.format == "lspet":
        return [dataset.root / "joints.mat", NEAR_DUPLICATES]
    if dataset.format == "lsp":
        splits = dataset.splits.values()
        merged = [other for split in splits for other in split.get("merged", {}).items()]
        return sorted(
            {dataset.root / files["folder"] / "joints.mat" for files in splits}
            | {Path(place) / theirs.get("annotations", "joints.mat") for place, theirs in merged}
        )
    kinds = ("annotations", "ground_truth", "detections")
    names = {files[kind] for files in dataset.splits.values() for kind in kinds if kind in files}
    return sorted(dataset.root / name for name in names)


def annotation_digest(dataset: Dataset) -> str:
    """SHA-256 over the contents of all annotation files."""
    digest = hashlib.sha256()
    for path in annotation_files(dataset):
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found; docs/photographs.md says where the files of {dataset.name} go")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def prepare(dataset: Dataset) -> dict:
    """Read and check every split, every image included, and return the dataset's manifest.

    Raises:
        ValueError: splits share an image, an image is corrupt or not of its annotated size, or a reader or the
            metric refuses an annotation.
    """
    manifest = {"dataset": dataset.name, "source": dataset.source, "annotations_sha256": annotation_digest(dataset)}
    images: dict[str, str] = {}
    for split in dataset.splits:
        if split == "test" and _same_people(dataset.splits["test"], dataset.splits["val"]):
            manifest["test"] = manifest["val"]
            read_split_detections(dataset, "test")
            continue
        people = read_split(dataset, split)
        check_images(people)
        if dataset.format == "coco":
            annotations = dataset.root / dataset.splits[split]["annotations"]
            check_image_sizes(annotations, people)
            if split != "train":  # what testing would refuse after the training, it refuses now
                coco_ap(annotations, [])
                read_split_detections(dataset, split)
        for path in np.unique(people.image_paths):
            if images.setdefault(path, split) != split:
                raise ValueError(f"{path} is in both {images[path]} and {split}: splits must share no image")
        manifest[split] = {
            "persons": len(people),
            "images": len(np.unique(people.image_paths)),
            "labelled_keypoints": int((people.visibility > 0).sum()),
        }
    return manifest


def _same_people(files: dict, others: dict) -> bool:
    """Whether two splits are the same annotations, as where a set keeps its test annotations to itself."""
    return {**files, "detections": None} == {**others, "detections": None}


def manifest_path(dataset: Dataset) -> Path:
    return Path("work/data") / f"{dataset.name}.json"


def require_prepared(dataset: Dataset) -> dict:
    """The manifest, after a check that the annotations are still those that were checked.

    Raises:
        FileNotFoundError: the dataset was not prepared.
        ValueError: an annotation file changed since.
    """
    path = manifest_path(dataset)
    command = (
        f"dvc repro --force --single-item prepare@{dataset.name}, "
        f"or prepare_extra@{dataset.name} if it is one of `extra` in params.yaml"
    )
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run: {command}")
    manifest = json.loads(path.read_text())
    if manifest["annotations_sha256"] != annotation_digest(dataset):
        raise ValueError(f"the annotations of {dataset.name} changed since they were checked; run: {command}")
    return manifest


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what readers leave out
    chosen = make_dataset(load_params(), sys.argv[1])
    checked = json.dumps(prepare(chosen), indent=2) + "\n"
    write_whole(manifest_path(chosen), lambda temporary: temporary.write_text(checked))
