"""The mannequins on disk, in the native formats of COCO, MPII and LSP, so that the readers of real data read them.

root/coco/annotations/person_keypoints_{split}.json, detections_{val,test}.json
root/coco/images/{split}/000000000001.jpg
root/mpii/{train,valid,test}.json, gt_{train,valid,test}.mat (image_dir: coco/images/{split})
root/lsp/{split}/joints.mat, images/im00001.jpg
root/summary.json
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from hpelib.data.coco import write_coco
from hpelib.data.files import write_json
from hpelib.data.lsp import write_lsp
from hpelib.data.mpii import write_mpii
from hpelib.mannequins.detector import detect
from hpelib.mannequins.render import PersonTruth, Scene, extent, render_scene
from hpelib.mannequins.scenes import SPLITS
from hpelib.skeletons import COCO17, LSP14, MPII16

MPII_NAMES = {"train": "train", "val": "valid", "test": "test"}
MIN_SEEN_PX = 60  # fewer pixels of somebody, or a smaller share, and nobody would annotate keypoints
MIN_SEEN_SHARE = 0.12
LSP_MARGIN = 0.12  # around the joints, as a share of their extent


def write_mannequins(
    root: str | Path, recipe: dict, counts: Mapping[str, int], seed: int, processes: int = 2
) -> dict[str, dict]:
    """Render scenes until each split has at least `counts[split]` persons with keypoints, and write everything.

    Nothing appears at `root` before all of it is there; what was there is replaced. Returns, by split,
    images, persons, lsp_persons, detections, annotation_digest and pixel_digest (SHA-256); they depend on the
    recipe, the seed and the counts, not on `processes`. ValueError for a split that does not exist.
    """
    unknown = set(counts) - set(SPLITS)
    if unknown:
        raise ValueError(f"counts names {', '.join(sorted(unknown))}; splits are {', '.join(SPLITS)}")
    root = Path(root)
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with ProcessPoolExecutor(processes, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        spread = partial(pool.map, chunksize=4) if processes > 1 else map
        summary = {
            split: _write_split(unfinished, recipe, count, seed, split, spread) for split, count in counts.items()
        }
    write_json(unfinished / "summary.json", {"version": recipe["version"], "seed": seed, "splits": summary})
    shutil.rmtree(root, ignore_errors=True)
    unfinished.replace(root)
    return summary


def _write_split(root: Path, recipe: dict, count: int, seed: int, split: str, spread: Callable) -> dict:
    folders = {"coco": root / "coco" / "images" / split, "lsp": root / "lsp" / split / "images"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    work = partial(_write_scene, folders, recipe, seed, split)
    scenes: list[dict] = []
    persons = 0
    while persons < count:
        batch = range(len(scenes), len(scenes) + max(1, round((count - persons) / 2.6)))
        scenes.extend(spread(work, batch))
        persons = sum(sum(a["num_keypoints"] > 0 for a in scene["annotations"]) for scene in scenes)
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
    _write_mpii(root / "mpii", MPII_NAMES[split], mpii)
    for number, crop in enumerate(crops, start=1):
        (folders["lsp"] / crop["file"]).rename(folders["lsp"] / f"im{number:05d}.jpg")
    points, visibility = (np.array([crop[field] for crop in crops]) for field in ("keypoints", "visibility"))
    write_lsp(folders["lsp"].parent, points, visibility)
    annotation_digest = hashlib.sha256(json.dumps([images, annotations, detections, mpii, crops]).encode())
    pixel_digest = hashlib.sha256("".join(scene["pixel_digest"] for scene in scenes).encode())
    return {
        "images": len(images),
        "persons": persons,
        "lsp_persons": len(crops),
        "detections": len(detections),
        "annotation_digest": annotation_digest.hexdigest(),
        "pixel_digest": pixel_digest.hexdigest(),
    }


def _write_scene(folders: dict[str, Path], recipe: dict, seed: int, split: str, index: int) -> dict:
    """Render one scene, write its pictures, return what the annotation files need in plain numbers."""
    scene = render_scene(recipe, seed, split, index)
    image_id = index + 1
    name = f"{image_id:012d}.jpg"
    write_jpeg(folders["coco"] / name, scene.image, scene.jpeg_quality)
    height, width = scene.image.shape[:2]
    annotations = [_annotate(person, image_id) for person in scene.persons]
    crowd = [] if scene.crowd_mask is None else [_annotate_crowd(scene.crowd_mask, image_id)]
    usable = [person for person, a in zip(scene.persons, annotations, strict=True) if a["num_keypoints"]]
    crops = []
    for person in usable:
        window = _lsp_window(person, (width, height))
        if window is not None:
            crops.append(_write_crop(folders["lsp"] / f"{image_id:06d}_{len(crops)}.jpg", scene, person, window))
    detections = []
    if split != "train":
        rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index, 1]))
        detections = detect(rng, recipe["detector"], annotations, image_id, (width, height))
    return {
        "images": [{"id": image_id, "file_name": name, "width": width, "height": height}],
        "annotations": annotations + crowd,
        "detections": detections,
        "mpii": [_mpii_entry(person, name) for person in usable if person.of(MPII16)[1].any()],
        "crops": crops,
        "pixel_digest": hashlib.sha256(scene.image.tobytes()).hexdigest(),
    }


def write_jpeg(path: Path, image: np.ndarray, quality: int) -> None:
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"{path}: could not be written; is the disk full?")


def _annotate(person: PersonTruth, image_id: int) -> dict:
    """A COCO annotation; somebody of whom next to nothing is seen gets a box but no keypoints, as in COCO."""
    seen = int(person.mask.sum())
    share = (1 - person.factors["occluded_fraction"]) * (1 - person.factors["truncation"])
    points, visibility = person.of(COCO17)
    if seen < MIN_SEEN_PX or share < MIN_SEEN_SHARE:
        visibility = np.zeros_like(visibility)
    return {
        "id": 0,  # numbered once all scenes are there
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": person.box.tolist(),
        "area": seen,
        "segmentation": _encode(person.mask),
        "keypoints": triplets(points, visibility),
        "num_keypoints": int((visibility > 0).sum()),
        "factors": person.factors,
    }


def _mpii_entry(person: PersonTruth, image: str) -> dict:
    return {
        "image": image,
        "keypoints": triplets(*person.of(MPII16)),
        "box": person.box.tolist(),
        "head_box": person.head_box.round(2).tolist(),
        "factors": person.factors,
    }


def _annotate_crowd(mask: np.ndarray, image_id: int) -> dict:
    return {
        "id": 0,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 1,
        "bbox": extent(mask).tolist(),
        "area": int(mask.sum()),
        "segmentation": _encode(mask),
        "keypoints": [0] * (3 * COCO17.num_keypoints),
        "num_keypoints": 0,
    }


def _encode(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def triplets(points: np.ndarray, visibility: np.ndarray) -> list[float]:
    """x, y, v per keypoint, to a hundredth of a pixel; 0, 0, 0 for what is not in the image."""
    labelled = (visibility > 0)[:, None]
    return np.where(labelled, np.concatenate([points.round(2), visibility[:, None]], axis=1), 0).reshape(-1).tolist()


def _lsp_window(person: PersonTruth, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 around all joints, or None where a joint is outside the image or the person mostly hidden."""
    points, visibility = person.of(LSP14)
    if (visibility == 0).any() or (visibility == 2).sum() < LSP14.num_keypoints // 2:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    margin = LSP_MARGIN * (high - low).max() + 4
    start = np.floor(np.maximum(low - margin, 0)).astype(int)
    end = np.ceil(np.minimum(high + margin + 1, size)).astype(int)
    return (*start.tolist(), *end.tolist())


def _write_crop(path: Path, scene: Scene, person: PersonTruth, window: tuple[int, int, int, int]) -> dict:
    left, top, right, bottom = window
    write_jpeg(path, np.ascontiguousarray(scene.image[top:bottom, left:right]), scene.jpeg_quality)
    points, visibility = person.of(LSP14)
    return {"file": path.name, "keypoints": (points - (left, top)).round(2).tolist(), "visibility": visibility.tolist()}


def _write_mpii(folder: Path, name: str, people: list[dict]) -> None:
    """Centre and size are those of the box, as for COCO."""
    columns = {field: np.array([person[field] for person in people]) for field in ("keypoints", "box", "head_box")}
    keypoints = columns["keypoints"].reshape(len(people), MPII16.num_keypoints, 3)
    corners, extents = columns["box"][:, :2], columns["box"][:, 2:]
    write_mpii(
        folder / f"{name}.json",
        [person["image"] for person in people],
        keypoints[..., :2],
        keypoints[..., 2],
        centers=corners + (extents - 1) / 2,
        sizes_px=extents.max(axis=1),
        head_boxes=columns["head_box"],
        ground_truth_mat=folder / f"gt_{name}.mat",
        factors=[person["factors"] for person in people],
    )
