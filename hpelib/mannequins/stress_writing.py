"""The stress tests on disk, in the formats of COCO and MPII, so that the readers of real data read them.

root/images/00000_easy.jpg, 00000_occlusion_0.15.jpg, ...
root/coco.json            boxes and areas of what is seen, visibility of every keypoint
root/mpii.json, mpii.mat  the region that a network is shown, keypoints, head sizes
root/summary.json

Both annotation files list, person by person, the pictures in the order of `stress.pictures()`.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from hpelib.data.coco import read_coco, write_coco
from hpelib.data.files import write_json
from hpelib.data.mpii import read_mpii, write_mpii
from hpelib.data.people import People
from hpelib.mannequins.render import extent
from hpelib.mannequins.stress import EASY, JPEG_QUALITY, LIMBS, STATURE_PX, Subject, photograph, pictures, recruit
from hpelib.mannequins.writing import triplets, write_jpeg
from hpelib.skeletons import COCO17, MPII16


def write_stress(root: str | Path, recipe: dict, persons: int, seed: int, processes: int = 2) -> dict:
    """Render `pictures()` of each of `persons` people, and write them for the readers of COCO and MPII.

    Nothing appears at `root` before all of it is there; what was there is replaced. Returns persons, pictures,
    annotation_digest and pixel_digest (SHA-256), which do not depend on `processes`. ValueError if nobody is asked for.
    """
    if persons < 1:
        raise ValueError(f"a stress test needs at least 1 person, got {persons}")
    root = Path(root)
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "images").mkdir(parents=True)
    with ProcessPoolExecutor(processes, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        spread = pool.map if processes > 1 else map
        subjects = _recruit_all(recipe, persons, seed, spread)
        records = [
            record
            for of_subject in spread(partial(_photograph_all, unfinished / "images"), range(persons), subjects)
            for record in of_subject
        ]
    digests = {
        "annotation_digest": hashlib.sha256(json.dumps(records).encode()).hexdigest(),
        "pixel_digest": hashlib.sha256("".join(record.pop("pixels") for record in records).encode()).hexdigest(),
    }
    _write_annotations(unfinished, records)
    summary = {"persons": persons, "pictures": len(records)} | digests
    write_json(unfinished / "summary.json", summary)
    shutil.rmtree(root, ignore_errors=True)
    unfinished.replace(root)
    return summary


def read_stress(root: str | Path) -> tuple[People, np.ndarray]:
    """What `write_stress` wrote: the MPII people and which of their keypoints are hidden, (N, 16) bool.

    `factors` has person, factor, level, and what was measured in each picture. The hidden keypoints come from the
    COCO file: shoulders to ankles, as the rest of the two keypoint sets differ. Errors as the readers raise them.
    """
    root = Path(root)
    people = read_mpii(root / "mpii.json", root / "images", root / "mpii.mat")
    coco = read_coco(root / "coco.json", root / "images")
    if len(coco) != len(people):
        raise ValueError(f"{root}: coco.json has {len(coco)} persons and mpii.json {len(people)}; render them again")
    hidden = np.zeros((len(people), MPII16.num_keypoints), bool)
    for name in LIMBS:
        hidden[:, MPII16.index(name)] = coco.visibility[:, COCO17.index(name)] == 1
    return people, hidden


def _recruit_all(recipe: dict, count: int, seed: int, spread: Callable) -> list[Subject]:
    found: list[Subject] = []
    tried = 0
    while len(found) < count:
        batch = range(tried, tried + 2 * (count - len(found)))
        found += [subject for subject in spread(partial(recruit, recipe, seed), batch) if subject is not None]
        tried = batch.stop
    return found[:count]


def _photograph_all(folder: Path, number: int, subject: Subject) -> list[dict]:
    """Write all pictures of one subject; return what the annotation files need in plain numbers."""
    return [_record(folder, number, subject, factor, level) for factor, level in pictures()]


def _record(folder: Path, number: int, subject: Subject, factor: str, level: float) -> dict:
    shot = photograph(subject, factor, level)
    name = f"{number:05d}_{factor}.jpg" if factor == EASY else f"{number:05d}_{factor}_{level:g}.jpg"
    write_jpeg(folder / name, shot.image, JPEG_QUALITY)
    height, width = shot.image.shape[:2]
    ratio = level / STATURE_PX if factor == "height" else 1.0
    head_box = ratio * subject.truth.head_box  # of the easy picture, lest the yardstick change with the view
    return {
        "image": {"file_name": name, "width": width, "height": height},
        "bbox": extent(shot.mask).tolist(),
        "area": int(shot.mask.sum()),
        "coco": triplets(*shot.of(COCO17)),
        "mpii": triplets(*shot.of(MPII16)),
        "center": [(width - 1) / 2] * 2,  # a truncated picture is as wide as before
        "size_px": ratio * subject.side_px * (level if factor == "scale" else 1.0),
        "head_box": head_box.round(4).tolist(),
        "factors": {"person": number, "factor": factor, "level": level} | shot.factors,
        "pixels": hashlib.sha256(shot.image.tobytes()).hexdigest(),
    }


def _write_annotations(root: Path, records: list[dict]) -> None:
    images = [{"id": number} | record["image"] for number, record in enumerate(records, start=1)]
    annotations = [
        {"id": number, "image_id": number, "keypoints": record["coco"]}
        | {field: record[field] for field in ("bbox", "area", "factors")}
        for number, record in enumerate(records, start=1)
    ]
    write_coco(root / "coco.json", images, annotations)
    columns = {field: np.array([record[field] for record in records]) for field in ("center", "size_px", "head_box")}
    keypoints = np.array([record["mpii"] for record in records]).reshape(-1, MPII16.num_keypoints, 3)
    write_mpii(
        root / "mpii.json",
        [record["image"]["file_name"] for record in records],
        keypoints[..., :2],
        keypoints[..., 2],
        centers=columns["center"],
        sizes_px=columns["size_px"],
        head_boxes=columns["head_box"],
        ground_truth_mat=root / "mpii.mat",
        factors=[record["factors"] for record in records],
    )
