"""Pictures of one's own through a trained run: people found or given as boxes, their keypoints as JSON and drawn."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from hpelib.data.crops import read_image
from hpelib.data.files import check_images, enumerate_first, image_size, read_json
from hpelib.data.people import People
from hpelib.figures import style
from hpelib.figures.skeletons import draw_person, show_image
from hpelib.skeletons import Skeleton
from hpelib.study.config import Run
from hpelib.study.steps.evaluate import load_network
from hpelib.study.steps.predictions import predict_people

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
ORIENTATION = 0x0112  # the EXIF tag
SURE = 0.2  # heatmap maximum above which a keypoint counts in a person's score, as in the official rescoring
DETECTOR_PERSON = 1  # torchvision's label


Boxes = Mapping[str, np.ndarray]  # by path of the picture: (M, 5) x, y, w, h in px and the score


def find_pictures(source: Path, upright_folder: Path) -> list[Path]:
    """The picture at `source`, or all in that folder by name; where an EXIF tag turns one, copies of all, upright.

    The study reads pixels as stored, as COCO annotates them, which would show a network people lying on their sides.
    The copies go to `upright_folder`, all of them, so that one folder has what `to_coco` names. Raises
    FileNotFoundError where there is no picture, ValueError for two of a name.
    """
    source = Path(source)
    found = (
        sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES) if source.is_dir() else [source]
    )
    if not found or not found[0].is_file():
        raise FileNotFoundError(f"{source}: no picture ({', '.join(SUFFIXES)}) there")
    names = [path.stem for path in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{source}: pictures that differ in their suffix only: {enumerate_first(twice)}; rename them")
    turned = [_is_turned(path) for path in found]
    if not any(turned):
        return found
    folder = Path(upright_folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _turn(path, folder) if is_turned else Path(shutil.copy(path, folder))
        for path, is_turned in zip(found, turned, strict=True)
    ]


def _is_turned(path: Path) -> bool:
    image_size(path)  # names what is no picture
    with Image.open(path) as image:
        return image.getexif().get(ORIENTATION, 1) != 1


def _turn(path: Path, folder: Path) -> Path:
    copy = folder / f"{path.stem}.png"
    with Image.open(path) as image:
        ImageOps.exif_transpose(image).convert("RGB").save(copy)
    return copy


def whole_pictures(paths: list[Path]) -> Boxes:
    """One person a picture, who fills it."""
    return {str(path): np.array([[0, 0, *image_size(path), 1]], np.float64) for path in paths}


def read_boxes(path: Path, pictures: list[Path]) -> Boxes:
    """Boxes from a JSON object of lists by picture name without suffix: {"name": [[x, y, w, h], ...]}, in px.

    A picture without an entry has nobody. Raises ValueError naming an entry that is of no picture or no list of boxes.
    """
    entries = read_json(path)
    by_name = {picture.stem: str(picture) for picture in pictures}
    if not isinstance(entries, dict) or entries.keys() - by_name.keys():
        raise ValueError(f"{path}: must be boxes by picture name, one of {enumerate_first(list(by_name))}")
    boxes = {}
    for name, values in entries.items():
        try:
            table = np.array(values, np.float64).reshape(-1, 4)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name!r} must be a list of boxes x, y, w, h, got {values!r:.120}") from error
        if not (np.isfinite(table).all() and (table[:, 2:] > 0).all()):
            raise ValueError(f"{path}: {name!r} has a box without extent: {values!r:.120}")
        boxes[by_name[name]] = np.concatenate([table, np.ones((len(table), 1))], axis=1)
    return boxes


def find_boxes(boxes: str, pictures: list[Path]) -> Boxes:
    """`whole_pictures` for "whole", `detect_people` for "detector", else `read_boxes` of that file."""
    match boxes:
        case "whole":
            return whole_pictures(pictures)
        case "detector":
            return detect_people(pictures)
    return read_boxes(Path(boxes), pictures)


@torch.no_grad()
def detect_people(paths: list[Path], min_score: float = 0.5) -> Boxes:
    """People whom torchvision's Faster R-CNN (MobileNetV3, trained on COCO) finds with at least `min_score`.

    Raises OSError where its weights (74 MB, fetched on first use) cannot be had.
    """
    from torchvision.models import detection

    try:
        detector = detection.fasterrcnn_mobilenet_v3_large_fpn(weights="DEFAULT").eval()
    except Exception as error:  # the hub raises many kinds: offline, refused, broken file
        raise OSError(
            f"the detector's weights cannot be fetched ({error}); give boxes, or take whole pictures"
        ) from error
    boxes = {}
    for path in paths:
        pixels = torch.from_numpy(read_image(path)).permute(2, 0, 1) / 255  # (3, H, W)
        found = detector([pixels])[0]
        chosen = (found["labels"] == DETECTOR_PERSON) & (found["scores"] >= min_score)
        low, high = found["boxes"][chosen].split(2, dim=1)
        boxes[str(path)] = torch.cat([low, high - low, found["scores"][chosen, None]], 1).double().numpy()
    return boxes


def to_people(boxes: Boxes, skeleton: Skeleton) -> People:
    """Persons with these boxes, none of whose keypoints is labelled. Raises ValueError where there is nobody."""
    paths = [path for path, table in boxes.items() for _ in table]
    if not paths:
        raise ValueError(f"nobody in the {len(boxes)} pictures; give boxes, or take whole pictures")
    table, n = np.concatenate(list(boxes.values())), len(paths)
    people = People(
        skeleton,
        image_paths=np.array(paths, object),
        image_ids=1 + pd.factorize(np.array(paths, object))[0],
        ids=np.arange(1, n + 1),
        keypoints=np.zeros((n, skeleton.num_keypoints, 2)),
        visibility=np.zeros((n, skeleton.num_keypoints)),
        boxes=table[:, :4],
        scores=table[:, 4],
    )
    check_images(people)
    return people


def pose(run: Run, people: People) -> tuple[People, np.ndarray]:
    """`people` with the keypoints that the run's network gives, and their scores (N, K).

    A keypoint whose score is above `SURE` is visible (2), any other occluded (1).
    """
    torch.set_num_threads(run.threads)
    found = predict_people(run, load_network(run, people), people)
    visibility = np.where(found.scores > SURE, 2, 1).astype(np.uint8)
    return replace(people, keypoints=found.keypoints, visibility=visibility), found.scores


def to_coco(people: People, scores: np.ndarray) -> dict:
    """A COCO keypoint document of `pose`'s persons, for `write_json` and tools that show or correct annotations."""
    skeleton = people.skeleton
    files = dict(zip(people.image_ids.tolist(), people.image_paths, strict=True))
    sizes = {number: image_size(path) for number, path in files.items()}
    annotations = [
        {
            "id": int(people.ids[i]),
            "image_id": int(people.image_ids[i]),
            "category_id": 1,
            "iscrowd": 0,
            "bbox": people.boxes[i],
            "area": float(people.boxes[i, 2] * people.boxes[i, 3]),
            "num_keypoints": skeleton.num_keypoints,
            "keypoints": np.concatenate([people.keypoints[i], people.visibility[i, :, None]], axis=1).ravel(),
            "keypoint_scores": scores[i],
            "score": people.scores[i],  # of the box
        }
        for i in range(len(people))
    ]
    return {
        "images": [
            {"id": number, "file_name": Path(path).name, "width": sizes[number][0], "height": sizes[number][1]}
            for number, path in files.items()
        ],
        "annotations": annotations,
        "categories": [
            {
                "id": 1,
                "name": "person",
                "keypoints": skeleton.keypoints,
                "skeleton": [(a + 1, b + 1) for a, b in skeleton.bones],
            }
        ],
    }


def draw(people: People, path: str) -> Figure:
    """The picture at `path` with the skeletons of its people; a hollow dot is a keypoint that is less sure."""
    picture = read_image(path)
    with style.apply():
        figure, (axes,) = style.panels(1, 1, picture.shape[0] / picture.shape[1])
        show_image(axes, picture)
        for i in np.flatnonzero(people.image_paths == path):
            draw_person(axes, None, people.keypoints[i], people.visibility[i], people.skeleton, line_width_pt=1.5)
    return figure
