"""COCO keypoints: annotations, detector boxes, and a writer that pycocotools accepts.

Filters and boxes are those of the official HRNet code (`lib/dataset/coco.py`). The functions take another skeleton than
COCO's, for sets of one's own in the same format.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.files import (
    check_coordinates,
    column,
    enumerate_first,
    factor_table,
    find_images,
    image_size,
    read_json,
    reject,
    text_column,
    write_json,
)
from hpelib.data.people import People
from hpelib.skeletons import COCO17, Skeleton


def read_coco(annotation_json: str | Path, image_dir: str | Path, skeleton: Skeleton = COCO17) -> People:
    """The persons with at least one labelled keypoint.

    Crowds, persons without a labelled keypoint, without an area or without a box are left out, and counted in
    `People.left_out`. Boxes are clipped to the image and lose one px in width and height (x2 = x1 + w - 1), as in the
    official code. What an annotation has in "factors" becomes columns of `People.factors`.

    Raises:
        FileNotFoundError: the file or an image is missing.
        ValueError: something in the file cannot be used as it stands; the message names the record and the field.
    """
    document = read_document(annotation_json, "images", "annotations", "categories")
    category = person_category(document, annotation_json, skeleton)
    if category.get("keypoints") != list(skeleton.keypoints):
        raise ValueError(
            f"{annotation_json}: category 'person' must list the {skeleton.num_keypoints} keypoints of {skeleton.name} "
            f"({', '.join(skeleton.keypoints)}), got {category.get('keypoints')!r:.120}; take person_keypoints_*.json"
        )
    images = _image_table(document["images"], annotation_json)

    source = f"{annotation_json}: annotations"
    unique_ids(document["annotations"], source)
    of_persons = column(document["annotations"], "category_id", source, dtype=np.int64) == category["id"]
    everybody = [document["annotations"][i] for i in np.flatnonzero(of_persons)]
    is_crowd = crowd_flags(everybody, source)
    persons = [everybody[i] for i in np.flatnonzero(~is_crowd)]
    ids = column(persons, "id", source, dtype=np.int64)
    image_ids = column(persons, "image_id", source, dtype=np.int64)
    boxes = column(persons, "bbox", source, (4,))
    areas = column(persons, "area", source)
    K = skeleton.num_keypoints
    keypoints = column(persons, "keypoints", source, (3 * K,)).reshape(-1, K, 3)
    visibility = keypoints[..., 2]
    reject(~np.isin(visibility, (0, 1, 2)).all(1), source, "with a visibility other than 0, 1, 2, by id", ids)

    sizes = _image_sizes(images, image_ids, source)
    labelled = (visibility > 0).any(1)
    filled = labelled & (areas > 0)
    reject(labelled & (boxes[:, 2:] < 0).any(1), source, "whose box has a negative width or height, by id", ids)
    reject(filled & _outside(boxes, sizes), source, "whose box lies outside the image, by id", ids)
    boxes = _clip(boxes, sizes)
    used = filled & (boxes[:, 2:] >= 0).all(1) & (boxes[:, 2:] > 0).any(1)
    if not used.any():
        raise ValueError(f"{source}: none is a person with labelled keypoints, a positive area and a box")
    kept = np.flatnonzero(used)
    return People(
        skeleton,
        image_paths=find_images(image_dir, images.loc[image_ids[kept], "file_name"].tolist(), annotation_json),
        ids=ids[kept],
        image_ids=image_ids[kept],
        boxes=boxes[kept],
        keypoints=keypoints[kept, :, :2],
        visibility=visibility[kept],
        areas=areas[kept],
        factors=factor_table([persons[i] for i in kept], source),
        left_out={
            "annotations of other categories": (~of_persons).sum(),
            "crowds": is_crowd.sum(),
            "persons without a labelled keypoint": (~labelled).sum(),
            "labelled persons without an area": (labelled & ~filled).sum(),
            "labelled persons without a box": (filled & ~used).sum(),
        },
    )


def check_coco(annotation_json: str | Path, people: People, source: str) -> None:
    """Check the annotated image sizes and coordinates of `people` against the stored images, whose headers are read.

    Annotations are of the pixels as stored. Where an EXIF tag turns an image by 90 degrees, a tool that obeys the tag
    annotates other pixels, and the sizes differ.

    Raises:
        ValueError: images are stored in another size than annotated, or coordinates are impossible, as
            `check_coordinates` says.
    """
    document = read_document(annotation_json, "images", "annotations")
    sizes = _image_sizes(_image_table(document["images"], annotation_json), people.image_ids, annotation_json)
    annotated = dict(zip(people.image_paths, map(tuple, sizes.tolist()), strict=True))
    stored = {path: image_size(path) for path in annotated}
    differing = [f"{path} {stored[path]} for {size}" for path, size in annotated.items() if stored[path] != size]
    what = "images are stored in another (width, height) than it says"
    reject(np.ones(len(differing), bool), str(annotation_json), what, differing)
    by_id = {annotation["id"]: annotation["bbox"] for annotation in document["annotations"]}
    boxes = np.array([by_id[number] for number in people.ids.tolist()], np.float64)  # not clipped
    check_coordinates(replace(people, boxes=boxes), source)


def read_detections(
    detections_json: str | Path, annotation_json: str | Path, image_dir: str | Path, skeleton: Skeleton = COCO17
) -> People:
    """A detector's person boxes, as they stand, with its scores; no keypoint is labelled.

    `detections_json` is a COCO result file (image_id, category_id, bbox, score). Ids count from 1 in the order of the
    file. Boxes without extent or outside their image are left out, and counted in `People.left_out`. `annotation_json`
    may list images alone, as image_info_test-dev2017.json does, without annotations and names of keypoints.

    Raises:
        FileNotFoundError, ValueError: as for `read_coco`.
    """
    document = read_document(annotation_json, "images", "categories")
    category_id = person_category(document, annotation_json, skeleton)["id"]
    images = _image_table(document["images"], annotation_json)

    detections = read_json(detections_json)
    if not isinstance(detections, list):
        raise ValueError(f"{detections_json}: must be a list of detections, got {type(detections).__name__}")
    of_persons = column(detections, "category_id", detections_json, dtype=np.int64) == category_id
    persons = [detections[i] for i in np.flatnonzero(of_persons)]
    image_ids = column(persons, "image_id", detections_json, dtype=np.int64)
    boxes = column(persons, "bbox", detections_json, (4,))
    scores = column(persons, "score", detections_json)
    reject(scores < 0, str(detections_json), "scores below 0, which would turn the order of persons round", scores)
    filled, outside = (boxes[:, 2:] > 0).all(1), _outside(boxes, _image_sizes(images, image_ids, detections_json))
    kept = np.flatnonzero(filled & ~outside)
    if not len(kept):
        raise ValueError(f"{detections_json}: no box of category {category_id} (person) lies inside its image")
    return People(
        skeleton,
        image_paths=find_images(image_dir, images.loc[image_ids[kept], "file_name"].tolist(), annotation_json),
        ids=kept + 1,
        image_ids=image_ids[kept],
        boxes=boxes[kept],
        keypoints=np.zeros((len(kept), skeleton.num_keypoints, 2)),
        visibility=np.zeros((len(kept), skeleton.num_keypoints)),
        scores=scores[kept],
        left_out={
            "boxes of other categories": (~of_persons).sum(),
            "boxes without extent": (~filled).sum(),
            "boxes outside their image": outside.sum(),
        },
    )


def write_coco(path: str | Path, images: list[dict], annotations: list[dict], skeleton: Skeleton = COCO17) -> None:
    """Write an annotation file for `read_coco` and pycocotools.

    images: id, file_name, width, height. annotations: id (from 1: pycocotools takes 0 for "no match"), image_id, bbox
    (x, y, w, h), area, keypoints (x, y, v for each keypoint, flat; 0, 0, 0 where not labelled), and optionally factors.
    iscrowd, category_id and num_keypoints are filled in.

    Raises:
        ValueError: ids below 1 or used twice, or keypoints of another number.
    """
    unique_ids(images, f"{path}: images")
    ids = unique_ids(annotations, f"{path}: annotations")
    reject(ids < 1, str(path), "annotation ids below 1", ids)
    keypoints = column(annotations, "keypoints", str(path), (skeleton.num_keypoints * 3,))
    labelled = (keypoints[:, 2::3] > 0).sum(1)
    person = {"id": 1, "name": "person", "supercategory": "person", "keypoints": skeleton.keypoints}
    person["skeleton"] = [(a + 1, b + 1) for a, b in skeleton.bones]  # COCO counts keypoints from 1 here
    completed = [
        {"iscrowd": 0, "category_id": 1, "num_keypoints": int(count)} | annotation
        for annotation, count in zip(annotations, labelled, strict=True)
    ]
    write_json(path, {"info": {}, "images": images, "annotations": completed, "categories": [person]})


def read_document(path: str | Path, *sections: str) -> dict:
    """A COCO file as it stands, checked to have these lists.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or a list is missing.
    """
    document = read_json(path)
    for section in sections:
        if not isinstance(document, dict) or not isinstance(document.get(section), list):
            raise ValueError(f"{path}: no list '{section}'; a COCO keypoint file (person_keypoints_*.json) has one")
    return document


def unique_ids(records: list[dict], source: str) -> np.ndarray:
    """The ids of `records` (N,).

    Raises:
        ValueError: an id is used more than once, or is no whole number.
    """
    ids = column(records, "id", source, dtype=np.int64)
    values, counts = np.unique(ids, return_counts=True)
    reject(counts > 1, source, "ids used more than once", values)
    return ids


def crowd_flags(persons: list[dict], source: str) -> np.ndarray:
    """Whether each annotation is of a crowd, (N,) bool; a person without "iscrowd" is none.

    Raises:
        ValueError: "iscrowd" is anything but 0 or 1. The text "0", for one, is true to pycocotools.
    """
    flags = [person.get("iscrowd", 0) for person in persons]
    wrong = np.array([flag not in (0, 1) for flag in flags], bool)
    reject(wrong, source, "whose 'iscrowd' is not 0 or 1, by id", [person.get("id") for person in persons])
    return np.array(flags, bool)


def person_category(document: dict, source: str | Path, skeleton: Skeleton) -> dict:
    """The category 'person'. Where two have that name, as in exports with a root category, the one with keypoints.

    Where none has, as in a set of hands or animals, the one that lists the keypoints of `skeleton`.

    Raises:
        ValueError: there is none, or it cannot be told which.
    """
    categories = document["categories"]
    names = text_column(categories, "name", f"{source}: categories")
    persons = [category for category in categories if category["name"] == "person"]
    if not persons and skeleton.keypoints != COCO17.keypoints:
        persons = [category for category in categories if category.get("keypoints") == [*skeleton.keypoints]]
    if not persons:
        raise ValueError(
            f"{source}: no category 'person', and none with the keypoints of {skeleton.name}, among "
            f"{enumerate_first(names)}"
        )
    with_keypoints = [category for category in persons if category.get("keypoints")]
    chosen = persons if len(persons) == 1 else with_keypoints
    ids = column(persons, "id", f"{source}: categories", dtype=np.int64)
    if len(chosen) != 1:
        raise ValueError(
            f"{source}: {len(persons)} categories are named 'person' (ids {enumerate_first(ids)}), and "
            f"{len(with_keypoints)} of them list keypoints: rename all but the one that annotations use"
        )
    return chosen[0]


def _image_table(images: list[dict], source: str | Path) -> pd.DataFrame:
    """file_name, width and height by image id."""
    source = f"{source}: images"
    ids = unique_ids(images, source)
    sizes = np.stack([column(images, side, source, dtype=np.int64) for side in ("width", "height")], 1)
    reject((sizes < 1).any(1), source, "without width or height, by id", ids)
    names = text_column(images, "file_name", source)
    return pd.DataFrame({"file_name": names, "width": sizes[:, 0], "height": sizes[:, 1]}, index=ids)


def _image_sizes(images: pd.DataFrame, image_ids: np.ndarray, source: str | Path) -> np.ndarray:
    """(N, 2) width and height of the image of each person."""
    unknown = ~np.isin(image_ids, images.index)
    reject(unknown, str(source), "of images that the annotation file does not list, by image_id", image_ids)
    return images.loc[image_ids, ["width", "height"]].to_numpy()


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    start, extent = boxes[:, :2], boxes[:, 2:]
    return (extent > 0).all(1) & ((start >= sizes) | (start + extent <= 0)).any(1)


def _clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes inside the image by the official rule; a negative extent marks a degenerate box."""
    start = np.maximum(boxes[:, :2], 0)
    end = np.minimum(sizes - 1, start + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([start, end - start], 1)
