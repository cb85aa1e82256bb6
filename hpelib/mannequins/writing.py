"""The people and the stress set on disk, in the formats of COCO, MPII and LSP. The readers of real data read them.

`write_mannequins` writes

    root/coco/annotations/person_keypoints_{split}.json, detections_{val,test}.json
    root/coco/images/{split}/000000000001.jpg
    root/mpii/{train,valid,test}.json, gt_{train,valid,test}.mat   for the pictures in root/coco/images/{split}
    root/lsp/{split}/joints.mat, images/im00001.jpg                one person each, cut out of those pictures
    root/summary.json                                              counts and digests

`write_stress` writes, picture by picture in the order of `stress.pictures()`,

    root/images/00000_easy.jpg, 00000_occlusion_0.15.jpg, ...
    root/coco.json            boxes and areas of what is seen, visibility of every keypoint
    root/mpii.json, mpii.mat  the region that a network is shown, keypoints, head sizes
    root/summary.json         counts and digests
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from hpelib.data.coco import write_coco
from hpelib.data.files import write_json
from hpelib.data.folders import MARK, require_own, seal
from hpelib.data.lsp import write_lsp
from hpelib.data.mpii import write_mpii
from hpelib.layers.choices import require_choice
from hpelib.mannequins.detections import detect
from hpelib.mannequins.render import PersonTruth, extent, render
from hpelib.mannequins.scenes import SPLITS, sample_scene
from hpelib.mannequins.stress import EASY, JPEG_QUALITY, STATURE_PX, Subject, photograph, pictures, recruit
from hpelib.parents import die_with_caller
from hpelib.skeletons import COCO17, LSP14, MPII16

MPII_NAMES = {"train": "train", "val": "valid", "test": "test"}
MIN_SEEN_PX = 60  # somebody of whom fewer pixels, or a smaller share, are seen gets a box but no keypoints, as in COCO
MIN_SEEN_SHARE = 0.12
LSP_MARGIN = 0.12  # around the joints, as a share of their extent


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `root` when the block ends; if it fails, `root` stays as it was.

    Raises:
        FileExistsError: something that was not rendered would be lost.
    """
    unfinished = root.with_name(f"{root.name}.unfinished")
    if not (unfinished / MARK).is_file():
        require_own(unfinished)
    require_own(root)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    seal(unfinished)
    yield unfinished
    seal(unfinished)
    require_own(root)
    shutil.rmtree(root, ignore_errors=True)
    unfinished.replace(root)


@contextmanager
def spread_over(processes: int, chunksize: int = 1) -> Iterator[Callable[..., Iterable]]:
    """A function like `map`, whose calls run in so many processes; with 1 it is `map` itself."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin_worker) as pool:
        yield partial(pool.map, chunksize=chunksize)


def _begin_worker() -> None:
    die_with_caller()
    cv2.setNumThreads(1)


def write_mannequins(
    root: str | Path, recipe: dict, counts: Mapping[str, int], seed: int, processes: int = 2
) -> dict[str, dict]:
    """Render scenes until each split has at least `counts[split]` persons with keypoints, and write everything.

    `root` appears when all of it is there, and then replaces what was there before. The files depend on the recipe,
    the seed and the counts, but not on the number of `processes`.

    Returns:
        For each split: images, persons, lsp_persons, detections, annotation_digest and pixel_digest (SHA-256).

    Raises:
        ValueError: there is no such split, or fewer than one person is asked for.
        FileExistsError: `root` holds files that were not rendered, or that were changed since.
    """
    for split, count in counts.items():
        require_choice("split", split, SPLITS)
        if count < 1:
            raise ValueError(f"mannequins need at least 1 person in each split, got {count} for {split}")
    with new_folder(Path(root)) as folder, spread_over(processes, chunksize=4) as spread:
        summary = {split: _write_split(folder, recipe, count, seed, split, spread) for split, count in counts.items()}
        write_json(folder / "summary.json", {"version": recipe["version"], "seed": seed, "splits": summary})
    return summary


def _write_split(root: Path, recipe: dict, count: int, seed: int, split: str, spread: Callable) -> dict:
    image_dir, lsp_dir = root / "coco" / "images" / split, root / "lsp" / split
    for folder in (image_dir, lsp_dir / "images"):
        folder.mkdir(parents=True)
    scenes: list[dict] = []
    persons = 0
    while persons < count:
        batch = range(len(scenes), len(scenes) + max(1, round((count - persons) / 2.6)))  # 2.6 persons a scene
        scenes.extend(spread(partial(_write_scene, image_dir, lsp_dir / "images", recipe, seed, split), batch))
        persons = sum(annotation["num_keypoints"] > 0 for scene in scenes for annotation in scene["annotations"])
    images, annotations, detections, mpii, crops = (
        [record for scene in scenes for record in scene[field]]
        for field in ("images", "annotations", "detections", "mpii", "crops")
    )
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    annotation_dir = root / "coco" / "annotations"
    write_coco(annotation_dir / f"person_keypoints_{split}.json", images, annotations)
    if split != "train":
        write_json(annotation_dir / f"detections_{split}.json", detections)
    boxes = np.array([person["box"] for person in mpii]).reshape(-1, 4)
    centers, sizes_px = boxes[:, :2] + (boxes[:, 2:] - 1) / 2, boxes[:, 2:].max(axis=1)
    write_mpii_records(root / "mpii", MPII_NAMES[split], f"gt_{MPII_NAMES[split]}", mpii, centers, sizes_px)
    for number, crop in enumerate(crops, start=1):
        (lsp_dir / "images" / crop["file"]).rename(lsp_dir / "images" / f"im{number:05d}.jpg")
    points = np.array([crop["keypoints"] for crop in crops]).reshape(-1, LSP14.num_keypoints, 2)
    write_lsp(lsp_dir, points, np.array([crop["visibility"] for crop in crops]).reshape(points.shape[:2]))
    return {
        "images": len(images),
        "persons": persons,
        "lsp_persons": len(crops),
        "detections": len(detections),
        "annotation_digest": digest(json.dumps([images, annotations, detections, mpii, crops]).encode()),
        "pixel_digest": digest("".join(scene["pixel_digest"] for scene in scenes).encode()),
    }


def _write_scene(image_dir: Path, lsp_dir: Path, recipe: dict, seed: int, split: str, index: int) -> dict:
    """Render one scene, write its pictures, and return what the annotation files need in plain numbers."""
    spec = sample_scene(recipe, seed, split, index)
    scene, quality = render(spec), spec.exposure.jpeg_quality
    image_id, name = index + 1, f"{index + 1:012d}.jpg"
    write_jpeg(image_dir / name, scene.image, quality)
    height, width = scene.image.shape[:2]
    annotations = [_annotate(person, image_id) for person in scene.persons]
    usable = [person for person, a in zip(scene.persons, annotations, strict=True) if a["num_keypoints"]]
    crops = []
    for person in usable:
        if (window := _lsp_window(person, (width, height))) is not None:
            left, top, right, bottom = window
            crop = f"{image_id:06d}_{len(crops)}.jpg"
            write_jpeg(lsp_dir / crop, scene.image[top:bottom, left:right], quality)
            points, visibility = person.of(LSP14)
            points = (points - (left, top)).round(2)
            crops.append({"file": crop, "keypoints": points.tolist(), "visibility": visibility.tolist()})
    detections = []
    if split != "train":
        rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index, 1]))
        detections = detect(rng, recipe["detector"], annotations, image_id, (width, height))
    mpii = [
        {
            "image": name,
            "keypoints": triplets(*person.of(MPII16)),
            "box": person.box.tolist(),
            "head_box": person.head_box.round(2).tolist(),
            "factors": person.factors,
        }
        for person in usable
        if person.of(MPII16)[1].any()
    ]
    if scene.crowd_mask is not None:
        annotations.append(_annotation(image_id, scene.crowd_mask, [0] * (3 * COCO17.num_keypoints), iscrowd=1))
    return {
        "images": [{"id": image_id, "file_name": name, "width": width, "height": height}],
        "annotations": annotations,
        "detections": detections,
        "mpii": mpii,
        "crops": crops,
        "pixel_digest": digest(scene.image),
    }


def _annotate(person: PersonTruth, image_id: int) -> dict:
    share = (1 - person.factors["occluded_fraction"]) * (1 - person.factors["truncation"])
    points, visibility = person.of(COCO17)
    if person.mask.sum() < MIN_SEEN_PX or share < MIN_SEEN_SHARE:
        visibility = np.zeros_like(visibility)
    return _annotation(image_id, person.mask, triplets(points, visibility), iscrowd=0) | {"factors": person.factors}


def _annotation(image_id: int, mask: np.ndarray, keypoints: list[float], iscrowd: int) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": 0,  # numbered once all scenes are there
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": iscrowd,
        "bbox": extent(mask).tolist(),
        "area": int(mask.sum()),
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
    }


def _lsp_window(person: PersonTruth, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 around all joints; None if a joint is outside the image or the person mostly hidden."""
    points, visibility = person.of(LSP14)
    if (visibility == 0).any() or (visibility == 2).sum() < LSP14.num_keypoints // 2:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    margin = LSP_MARGIN * (high - low).max() + 4
    start, end = np.floor(np.maximum(low - margin, 0)), np.ceil(np.minimum(high + margin + 1, size))
    return (*start.astype(int).tolist(), *end.astype(int).tolist())


def write_stress(root: str | Path, recipe: dict, persons: int, seed: int, processes: int = 2) -> dict:
    """Render `pictures()` of each of `persons` people, and write them for the readers of COCO and MPII.

    `root` and `processes` are as for `write_mannequins`.

    Returns:
        persons, pictures, annotation_digest and pixel_digest (SHA-256).

    Raises:
        ValueError: fewer than one person is asked for.
        FileExistsError: as for `write_mannequins`.
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
        images = [{"id": number} | record["image"] for number, record in enumerate(records, start=1)]
        annotations = [
            {"id": number, "image_id": number, "keypoints": record["coco"]}
            | {field: record[field] for field in ("bbox", "area", "factors")}
            for number, record in enumerate(records, start=1)
        ]
        write_coco(folder / "coco.json", images, annotations)
        centers, sizes_px = (np.array([record[field] for record in records]) for field in ("center", "size_px"))
        in_mpii = [record | {"image": record["image"]["file_name"], "keypoints": record["mpii"]} for record in records]
        write_mpii_records(folder, "mpii", "mpii", in_mpii, centers, sizes_px)
        write_json(folder / "summary.json", summary)
    return summary


def _photograph_all(folder: Path, number: int, subject: Subject) -> list[dict]:
    """Write all pictures of one subject, and return what the annotation files need in plain numbers."""
    records = []
    for factor, level in pictures():
        shot = photograph(subject, factor, level)
        name = f"{number:05d}_{factor}.jpg" if factor == EASY else f"{number:05d}_{factor}_{level:g}.jpg"
        write_jpeg(folder / name, shot.image, JPEG_QUALITY)
        height, width = shot.image.shape[:2]
        ratio = level / STATURE_PX if factor == "height" else 1.0
        record = {
            "image": {"file_name": name, "width": width, "height": height},
            "bbox": extent(shot.mask).tolist(),
            "area": int(shot.mask.sum()),
            "coco": triplets(*shot.of(COCO17)),
            "mpii": triplets(*shot.of(MPII16)),
            "center": [(width - 1) / 2] * 2,  # a truncated picture is as wide as before
            "size_px": ratio * float(subject.truth.box[2:].max()) * (level if factor == "scale" else 1.0),
            "head_box": (ratio * subject.truth.head_box).round(4).tolist(),  # of the easy picture: one yardstick
            "factors": {"person": number, "factor": factor, "level": level} | shot.factors,
            "pixels": digest(shot.image.tobytes()),
        }
        records.append(record)
    return records


def triplets(points: np.ndarray, visibility: np.ndarray) -> list[float]:
    """x, y, v of every keypoint in one flat list, to a hundredth of a px; 0, 0, 0 for what is not in the image."""
    labelled = (visibility > 0)[:, None]
    return np.where(labelled, np.concatenate([points.round(2), visibility[:, None]], axis=1), 0).reshape(-1).tolist()


def write_mpii_records(
    folder: Path, name: str, mat_name: str, records: list[dict], centers: np.ndarray, sizes_px: np.ndarray
) -> None:
    """Write folder/name.json and folder/mat_name.mat from records with image, keypoints, head_box and factors."""
    keypoints = np.array([record["keypoints"] for record in records]).reshape(len(records), MPII16.num_keypoints, 3)
    write_mpii(
        folder / f"{name}.json",
        [record["image"] for record in records],
        keypoints[..., :2],
        keypoints[..., 2],
        centers=centers,
        sizes_px=sizes_px,
        head_boxes=np.array([record["head_box"] for record in records]).reshape(-1, 4),
        ground_truth_mat=folder / f"{mat_name}.mat",
        factors=[record["factors"] for record in records],
    )


def write_jpeg(path: Path, image: np.ndarray, quality: int) -> None:
    """Write an RGB image (H, W, 3) uint8.

    Raises:
        OSError: the file could not be written, for example because the disk is full.
    """
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"{path}: could not be written; is the disk full?")


def digest(contents: bytes | np.ndarray) -> str:
    """SHA-256 of some bytes, or of the bytes of an array."""
    return hashlib.sha256(contents).hexdigest()
