"""The check of a dataset that comes before any training: `python -m hpelib.study.steps.prepare coco`.

It reads every split, decodes every picture, and leaves a manifest with counts and hashes of annotations and pictures.
"""

import json
import logging
from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree

from hpelib.data.files import check_images, digest_files, enumerate_first, write_whole
from hpelib.data.people import People
from hpelib.formats import FORMATS, MAY_SHARE, SPLITS, Format
from hpelib.layers.choices import require_choice
from hpelib.study.ablations import require_persons
from hpelib.study.command import call
from hpelib.study.config import Dataset, load_params, make_dataset

ALIKE = 3.0  # grey levels between thumbnails: copies differ by up to 2, in LSPET the next pictures by 14
FEW = 0.01  # of a split


def read_split(dataset: Dataset, split: str) -> People:
    """The persons of one split, in the order of the annotation file.

    Raises:
        FileNotFoundError: a file or an image is missing.
        ValueError: the format or the split is unknown, or an annotation cannot be used as it stands.
    """
    return _format(dataset).read(dataset, split)


def _format(dataset: Dataset) -> Format:
    require_choice(f"dataset {dataset.name}: format", dataset.format, FORMATS)
    return dataset.form


def annotation_digest(dataset: Dataset) -> str:
    """SHA-256 over the contents of all annotation files.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    paths = _format(dataset).annotation_files(dataset)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found; docs/photographs.md says where the files of {dataset.name} go")
    return digest_files(paths)


def prepare(dataset: Dataset) -> dict:
    """Read and check every split, every image included, and return the dataset's manifest.

    Raises:
        ValueError: splits share a picture, a picture is corrupt or not of its annotated size, or the reader or the
            metric refuses an annotation.
    """
    form, log = _format(dataset), logging.getLogger(__name__)
    manifest = {"dataset": dataset.name, "source": dataset.source, "annotations_sha256": annotation_digest(dataset)}
    pictures: dict[str, dict[str, bytes]] = {}
    for split in sorted(dataset.splits, key=SPLITS.index):  # test may be the same as val
        boxes = {"detections": None}  # are another matter: a set may keep its test annotations to itself
        same = split == "test" and {**dataset.splits[split], **boxes} == {**dataset.splits["val"], **boxes}
        people, detections = form.read(dataset, split), form.read_detections(dataset, split)
        pictures[split] = {} if same else check_images(people)
        if detections is not None:  # may be of pictures in which nobody is annotated
            known = [*pictures[split], *(pictures["val"] if same else ())]
            pictures[split] |= check_images(detections.take(~np.isin(detections.image_paths.astype(str), known)))
        form.check(dataset, split, people)
        found = {}
        if detections is not None:
            log.info("%s %s, detections: %s", dataset.name, split, detections.summary())
            found["detections"] = {"boxes": len(detections), "left_out": detections.left_out}
        if same:
            manifest["test"] = manifest["val"] | found
            continue
        if split != "train":
            form.check_truth(dataset, split, people)
            people = form.scored(people)
        log.info("%s %s: %s", dataset.name, split, people.summary())
        manifest[split] = {
            "persons": len(people),
            "images": len(np.unique(people.image_paths)),
            "labelled_keypoints": int((people.visibility > 0).sum()),
            "left_out": people.left_out,
            "pictures_sha256": digest_files(pictures[split]),
        } | found
    _require_apart(dataset, pictures)
    return manifest


def _require_apart(dataset: Dataset, pictures: dict[str, dict[str, bytes]]) -> None:
    """Refuse pictures that are in two splits, encoded anew or not; `pictures` has thumbnails by split and path.

    Splits of large sets of photographs share a few pictures that look alike: up to a hundredth is named in the log.
    """
    for other, split in combinations([split for split, found in pictures.items() if found], 2):
        alike = find_alike(pictures[split], pictures[other])
        if not alike:
            continue
        shared = [f"{path} is {known} of {other}" for path, (known, _) in alike.items()]
        message = f"{dataset.name}: {len(shared)} pictures of {split} are in another split: {enumerate_first(shared)}"
        few = len(shared) <= FEW * len(pictures[split]) and min(apart for _, apart in alike.values()) > 0
        if not few and not dataset.splits[split].get(MAY_SHARE):
            raise ValueError(f"{message}; remove them from one, or accept them by `{MAY_SHARE}: true` in its entry")
        logging.getLogger(__name__).warning(message)


def find_alike(pictures: dict[str, bytes], others: dict[str, bytes]) -> dict[str, tuple[str, float]]:
    """The `pictures` that are also among `others`, encoded or scaled anew or not: with which, and how far apart.

    Both have thumbnails by path, as `check_images` returns them. Distances are root mean squares in grey levels.
    """
    known, paths = list(others), list(pictures)
    table, other_table = (
        np.array([np.frombuffer(pixels, np.uint8) for pixels in found.values()], np.float32)
        for found in (pictures, others)
    )
    root_length = np.sqrt(table.shape[1])
    apart, nearest = cKDTree(other_table / root_length).query(table / root_length)
    return {paths[i]: (known[nearest[i]], float(apart[i])) for i in np.flatnonzero(apart < ALIKE)}


def require_prepared(dataset: Dataset) -> dict:
    """The manifest, after a check that the annotations are still those that were checked.

    Raises:
        FileNotFoundError: the dataset was not prepared.
        ValueError: an annotation file changed since.
    """
    path = dataset.manifest
    command = f"dvc repro --force --single-item prepare@{dataset.name}"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run: {command}")
    manifest = json.loads(path.read_text())
    if manifest["annotations_sha256"] != annotation_digest(dataset):
        raise ValueError(f"the annotations of {dataset.name} changed since they were checked; run: {command}")
    return manifest


def main(dataset: str) -> None:
    params = load_params()
    chosen = make_dataset(params, dataset)
    manifest = prepare(chosen)
    require_persons(params, dataset, manifest["train"]["persons"])
    checked = json.dumps(manifest, indent=2) + "\n"
    write_whole(chosen.manifest, lambda temporary: temporary.write_text(checked))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    call(main)
