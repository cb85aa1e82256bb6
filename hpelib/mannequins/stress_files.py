"""The stress set on disk, in the formats of COCO and MPII, so that the readers of real data read it.

root/images/00000_easy.jpg, 00000_occlusion_0.15.jpg, ...
root/coco.json            boxes and areas of what is seen, visibility of every keypoint
root/mpii.json, mpii.mat  the region that a network is shown, keypoints, head sizes
root/summary.json         counts and digests

Both annotation files list the pictures person by person, in the order of `stress.pictures()`.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np

from hpelib.data.coco import read_coco, write_coco
from hpelib.data.files import write_json
from hpelib.data.mpii import read_mpii
from hpelib.data.people import People
from hpelib.mannequins.render import extent
from hpelib.mannequins.stress import EASY, JPEG_QUALITY, LIMBS, STATURE_PX, Subject, photograph, pictures, recruit
from hpelib.mannequins.writing import digest, new_folder, spread_over, triplets, write_jpeg, write_mpii_records
from hpelib.skeletons import COCO17, MPII16


def write_stress(root: str | Path, recipe: dict, persons: int, seed: int, processes: int = 2) -> dict:
    """Render `pictures()` of each of `persons` people, and write them for the readers of COCO and MPII.

    `root` appears when all of it is there, and then replaces what was there before. The files do not depend on the
    number of `processes`.

    Returns:
        persons, pictures, annotation_digest and pixel_digest (SHA-256).

    Raises:
        ValueError: fewer than one person is asked for.
    """
    if persons < 1:
        raise ValueError(f"a stress test needs at least 1 person, got {persons}")
    with new_folder(Path(root)) as folder, spread_over(processes) as spread:
        (folder / "images").mkdir()
        subjects: list[Subject] = []
        tried = 0
        while len(subjects) < persons:
            batch = range(tried, tried + 2 * (persons - len(subjects)))
            subjects += [subject for subject in spread(partial(recruit, recipe, seed), batch) if subject is not None]
            tried = batch.stop
        shots = spread(partial(_photograph_all, folder / "images"), range(persons), subjects)
        records = [record for of_subject in shots for record in of_subject]
        summary = {
            "persons": persons,
            "pictures": len(records),
            "annotation_digest": digest(json.dumps(records).encode()),
            "pixel_digest": digest("".join(record["pixels"] for record in records).encode()),
        }
        _write_annotations(folder, records)
        write_json(folder / "summary.json", summary)
    return summary


def read_stress(root: str | Path) -> tuple[People, np.ndarray]:
    """The persons that `write_stress` wrote, in MPII's format, and which of their keypoints are hidden, (N, 16) bool.

    `People.factors` has person, factor, level, and what was measured in each picture. The hidden keypoints are taken
    from the COCO file, for shoulders to ankles only: the other keypoints of the two formats differ.

    Raises:
        FileNotFoundError, ValueError: a file is missing or broken, or the two annotation files do not fit together.
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


def _photograph_all(folder: Path, number: int, subject: Subject) -> list[dict]:
    """Write all pictures of one subject, and return what the annotation files need in plain numbers."""
    return [_record(folder, number, subject, factor, level) for factor, level in pictures()]


def _record(folder: Path, number: int, subject: Subject, factor: str, level: float) -> dict:
    shot = photograph(subject, factor, level)
    name = f"{number:05d}_{factor}.jpg" if factor == EASY else f"{number:05d}_{factor}_{level:g}.jpg"
    write_jpeg(folder / name, shot.image, JPEG_QUALITY)
    height, width = shot.image.shape[:2]
    ratio = level / STATURE_PX if factor == "height" else 1.0
    return {
        "image": {"file_name": name, "width": width, "height": height},
        "bbox": extent(shot.mask).tolist(),
        "area": int(shot.mask.sum()),
        "coco": triplets(*shot.of(COCO17)),
        "mpii": triplets(*shot.of(MPII16)),
        "center": [(width - 1) / 2] * 2,  # a truncated picture is as wide as before
        "size_px": ratio * subject.side_px * (level if factor == "scale" else 1.0),
        "head_box": (ratio * subject.truth.head_box).round(4).tolist(),  # always of the easy picture: one yardstick
        "factors": {"person": number, "factor": factor, "level": level} | shot.factors,
        "pixels": digest(shot.image.tobytes()),
    }


def _write_annotations(root: Path, records: list[dict]) -> None:
    images = [{"id": number} | record["image"] for number, record in enumerate(records, start=1)]
    annotations = [
        {"id": number, "image_id": number, "keypoints": record["coco"]}
        | {field: record[field] for field in ("bbox", "area", "factors")}
        for number, record in enumerate(records, start=1)
    ]
    write_coco(root / "coco.json", images, annotations)
    centers, sizes_px = (np.array([record[field] for record in records]) for field in ("center", "size_px"))
    persons = [record | {"image": record["image"]["file_name"], "keypoints": record["mpii"]} for record in records]
    write_mpii_records(root, "mpii", "mpii", persons, centers, sizes_px)
