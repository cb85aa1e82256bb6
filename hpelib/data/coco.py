"""COCO keypoints: annotations, detector boxes, and a writer that pycocotools accepts.

Filters and boxes are those of the official HRNet code (`lib/dataset/coco.py`).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.files import (
    column,
    enumerate_first,
    find_images,
    image_size,
    log_left_out,
    read_json,
    reject,
    text_column,
    write_json,
)
from hpelib.data.people import People
from hpelib.skeletons import COCO17


def read_coco(annotation_json: str | Path, image_dir: str | Path) -> People:
    """Persons with at least one labelled keypoint; crowds, empty areas and degenerate boxes are left out
    (and counted in the log, at level INFO).

    Boxes are clipped to the image and lose one px in width and height (x2 = x1 + w - 1), as in the
    official code. An annotation's "factors" become columns of `People.factors`.

    Raises FileNotFoundError for a missing file or image, ValueError for anything in the file that
    cannot be used as it stands.
    """
    document = read_document(annotation_json, "images", "annotations", "categories")
    category_id = _person_category(document["categories"], annotation_json)
    _require_keypoints(document["categories"], annotation_json)
    images = _image_table(document["images"], annotation_json)

    source = f"{annotation_json}: annotations"
    unique_ids(document["annotations"], source)
    of_persons = column(document["annotations"], "category_id", source, dtype=np.int64) == category_id
    persons = [document["annotations"][i] for i in np.flatnonzero(of_persons)]
    crowds = sum(bool(annotation.get("iscrowd", 0)) for annotation in persons)
    persons = [annotation for annotation in persons if not annotation.get("iscrowd", 0)]
    ids = column(persons, "id", source, dtype=np.int64)
    image_ids = column(persons, "image_id", source, dtype=np.int64)
    boxes = column(persons, "bbox", source, (4,))
    areas = column(persons, "area", source)
    keypoints = column(persons, "keypoints", source, (COCO17.num_keypoints * 3,)).reshape(len(persons), -1, 3)
    visibility = keypoints[..., 2]
    reject(~np.isin(visibility, (0, 1, 2)).all(1), source, "with a visibility other than 0, 1, 2, by id", ids)

    sizes = _image_sizes(images, image_ids, source)
    labelled = (visibility > 0).any(1)
    filled = labelled & (areas > 0)
    reject(filled & _outside(boxes, sizes), source, "whose box lies outside the image, by id", ids)
    boxes = _clip(boxes, sizes)
    used = filled & (boxes[:, 2:] >= 0).all(1) & (boxes[:, 2:] > 0).any(1)
    left_out = {
        "crowds": crowds,
        "persons without a labelled keypoint": (~labelled).sum(),
        "labelled persons without an area": (labelled & ~filled).sum(),
        "labelled persons without a box": (filled & ~used).sum(),
    }
    log_left_out(annotation_json, left_out)
    if not used.any():
        raise ValueError(
            f"{annotation_json}: none of its {len(document['annotations'])} annotations is a person "
            "with labelled keypoints, a positive area and a box"
        )

    kept = np.flatnonzero(used)
    return People.build(
        COCO17,
        image_paths=_image_paths(images, image_ids[kept], image_dir, annotation_json),
        ids=ids[kept],
        image_ids=image_ids[kept],
        boxes=boxes[kept],
        keypoints=keypoints[kept, :, :2],
        visibility=visibility[kept],
        areas=areas[kept],
        factors=pd.DataFrame([persons[i].get("factors", {}) for i in kept]),
    )


def check_image_sizes(annotation_json: str | Path, people: People) -> None:
    """ValueError naming the images of `people` that are stored in another size than `annotation_json` says.

    Annotations are of the pixels as stored: of a picture that an EXIF tag turns by 90 degrees, a tool that obeys the
    tag annotates other ones. Only the headers of the images are read.
    """
    images = _image_table(read_document(annotation_json, "images")["images"], annotation_json)
    sizes = images.loc[people.image_ids, ["width", "height"]].to_numpy()
    annotated = dict(zip(people.image_paths, map(tuple, sizes.tolist()), strict=True))
    stored = {path: image_size(path) for path in annotated}
    differing = [f"{path} {stored[path]} for {size}" for path, size in annotated.items() if stored[path] != size]
    if differing:
        raise ValueError(
            f"{annotation_json}: {len(differing)} images are stored in another (width, height) than it says: "
            f"{enumerate_first(differing)}; turn or scale them, or correct the annotations"
        )


def read_detections(detections_json: str | Path, annotation_json: str | Path, image_dir: str | Path) -> People:
    """A detector's person boxes, as they stand, with its scores; no keypoint is labelled.

    `detections_json` is a COCO result file (image_id, category_id, bbox, score); ids count from 1 in
    file order. Boxes without extent or outside their image are left out (and counted in the log).
    `annotation_json` may list images alone, without annotations and names of keypoints, as
    image_info_test-dev2017.json does. Errors as for `read_coco`.
    """
    document = read_document(annotation_json, "images", "categories")
    category_id = _person_category(document["categories"], annotation_json)
    images = _image_table(document["images"], annotation_json)

    detections = read_json(detections_json)
    if not isinstance(detections, list):
        raise ValueError(f"{detections_json}: must be a list of detections, got {type(detections).__name__}")
    of_persons = column(detections, "category_id", detections_json, dtype=np.int64) == category_id
    persons = [detections[i] for i in np.flatnonzero(of_persons)]
    ids = np.arange(1, len(persons) + 1)
    image_ids = column(persons, "image_id", detections_json, dtype=np.int64)
    boxes = column(persons, "bbox", detections_json, (4,))
    scores = column(persons, "score", detections_json)
    sizes = _image_sizes(images, image_ids, detections_json)
    filled, outside = (boxes[:, 2:] > 0).all(1), _outside(boxes, sizes)
    kept = np.flatnonzero(filled & ~outside)
    log_left_out(detections_json, {"boxes without extent": (~filled).sum(), "boxes outside their image": outside.sum()})
    if not len(kept):
        raise ValueError(
            f"{detections_json}: no box of category {category_id} (person) inside its image among {len(detections)}"
        )

    K = COCO17.num_keypoints
    return People.build(
        COCO17,
        image_paths=_image_paths(images, image_ids[kept], image_dir, annotation_json),
        ids=ids[kept],
        image_ids=image_ids[kept],
        boxes=boxes[kept],
        keypoints=np.zeros((len(kept), K, 2)),
        visibility=np.zeros((len(kept), K)),
        scores=scores[kept],
    )


def write_coco(path: str | Path, images: list[dict], annotations: list[dict]) -> None:
    """Write an annotation file for `read_coco` and pycocotools.

    images: id, file_name, width, height. annotations: id (from 1: pycocotools takes 0 for "no match"),
    image_id, bbox (x, y, w, h), area, keypoints (17 times x, y, v, flat; 0, 0, 0 where not labelled),
    and optionally factors; iscrowd, category_id and num_keypoints are filled in.
    """
    source = str(path)
    unique_ids(images, f"{source}: images")
    ids = unique_ids(annotations, f"{source}: annotations")
    reject(ids < 1, source, "annotation ids below 1", ids)
    keypoints = column(annotations, "keypoints", source, (COCO17.num_keypoints * 3,))
    labelled = (keypoints[:, 2::3] > 0).sum(1)
    person = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": COCO17.keypoints,
        "skeleton": [(a + 1, b + 1) for a, b in COCO17.bones],  # COCO counts keypoints from 1 here
    }
    completed = [
        {"iscrowd": 0, "category_id": 1, "num_keypoints": int(count)} | annotation
        for annotation, count in zip(annotations, labelled, strict=True)
    ]
    write_json(path, {"info": {}, "images": images, "annotations": completed, "categories": [person]})


def read_document(path: str | Path, *sections: str) -> dict:
    """A COCO file with these lists; FileNotFoundError where there is none, ValueError where one is missing."""
    document = read_json(path)
    for section in sections:
        if not isinstance(document, dict) or not isinstance(document.get(section), list):
            raise ValueError(f"{path}: no list '{section}'; a COCO keypoint file (person_keypoints_*.json) has one")
    return document


def _person_category(categories: list[dict], source: str | Path) -> int:
    names = text_column(categories, "name", f"{source}: categories")
    if "person" not in names:
        raise ValueError(f"{source}: no category 'person' among {enumerate_first(names)}")
    person = categories[names.index("person")]
    return int(column([person], "id", f"{source}: categories", dtype=np.int64)[0])


def _require_keypoints(categories: list[dict], source: str | Path) -> None:
    names = next(category for category in categories if category["name"] == "person").get("keypoints")
    if names != list(COCO17.keypoints):
        raise ValueError(
            f"{source}: category 'person' must list the {COCO17.num_keypoints} COCO keypoints in their order "
            f"({', '.join(COCO17.keypoints)}), got {names!r:.120}; "
            "instances_*.json has none, take person_keypoints_*.json"
        )


def _image_table(images: list[dict], source: str | Path) -> pd.DataFrame:
    """file_name, width and height by image id."""
    source = f"{source}: images"
    ids = unique_ids(images, source)
    sizes = np.stack([column(images, side, source, dtype=np.int64) for side in ("width", "height")], 1)
    reject((sizes < 1).any(1), source, "without width or height, by id", ids)
    names = text_column(images, "file_name", source)
    return pd.DataFrame({"file_name": names, "width": sizes[:, 0], "height": sizes[:, 1]}, index=ids)


def unique_ids(records: list[dict], source: str) -> np.ndarray:
    """The ids of `records` (N,); ValueError naming those that are used more than once."""
    ids = column(records, "id", source, dtype=np.int64)
    values, counts = np.unique(ids, return_counts=True)
    reject(counts > 1, source, "ids used more than once", values)
    return ids


def _image_sizes(images: pd.DataFrame, image_ids: np.ndarray, source: str | Path) -> np.ndarray:
    """(N, 2) width and height of the image of each person."""
    unknown = ~np.isin(image_ids, images.index)
    reject(unknown, str(source), "of images that the annotation file does not list, by image_id", image_ids)
    return images.loc[image_ids, ["width", "height"]].to_numpy()


def _image_paths(images: pd.DataFrame, image_ids: np.ndarray, image_dir: str | Path, source: str | Path) -> np.ndarray:
    return find_images(image_dir, images.loc[image_ids, "file_name"].tolist(), source)


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    start, extent = boxes[:, :2], boxes[:, 2:]
    return (extent > 0).all(1) & ((start >= sizes) | (start + extent <= 0)).any(1)


def _clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes inside the image by the official rule; a negative extent marks a degenerate box."""
    start = np.maximum(boxes[:, :2], 0)
    end = np.minimum(sizes - 1, start + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([start, end - start], 1)
