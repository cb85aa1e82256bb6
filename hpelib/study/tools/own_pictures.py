"""Pictures of one's own through a trained run: people found or given as boxes, their keypoints as JSON and drawn."""

import io
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from hpelib.data.coco import write_coco
from hpelib.data.crops import read_image
from hpelib.data.files import (
    ORIENTATION,
    UPRIGHT,
    check_coordinates,
    check_images,
    enumerate_first,
    image_size,
    read_json,
)
from hpelib.data.folders import require_own, seal
from hpelib.data.people import People
from hpelib.figures import style
from hpelib.figures.skeletons import draw_person, show_image
from hpelib.skeletons import Skeleton
from hpelib.study.config import Run
from hpelib.study.steps.predictions import make_predictor
from hpelib.study.steps.weights import load_network
from hpelib.study.tools.arguments import require_apart

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SURE = 0.2  # heatmap maximum above which a keypoint counts in a person's score, as in the official rescoring
DETECTOR_PERSON, DETECTOR_SURE = 1, 0.5  # torchvision's label, and the score from which a person counts

Boxes = Mapping[str, np.ndarray]  # by path of the picture: (M, 5) x, y, w, h in px and the score


def results_folder(out: str | Path, pictures: str | Path, boxes: str) -> Path:
    """Make the folder `out` and return it, after a check that no file of the user's can be written over in it.

    `out` may be new, empty, or as this tool has left it before. `pictures` is a picture or a folder; `boxes` is as in
    `find_boxes`.

    Raises:
        ValueError: the pictures or the boxes lie in `out`.
        FileExistsError: `out` is a file, or holds files that were not written here or were changed since.
    """
    out, pictures = Path(out), Path(pictures)
    inside = pictures.iterdir() if pictures.is_dir() else []  # some may be links
    require_apart(out, [pictures, *inside, *([Path(boxes)] if Path(boxes).is_file() else [])])
    require_own(out)
    out.mkdir(parents=True, exist_ok=True)
    return out


def find_pictures(source: str | Path, upright_folder: Path) -> list[Path]:
    """The picture at `source`, or all in that folder by name; if an EXIF tag turns one, upright copies of all.

    The study reads pixels as they are stored, as COCO annotates them. A network would then see people who lie on their
    sides. The copies go to `upright_folder`, all of them, so that the files in keypoints.json lie in one folder.

    Raises:
        FileNotFoundError: there is no picture.
        FileExistsError: `upright_folder` holds files that would be lost.
        ValueError: two pictures have the same name but for the suffix, or one cannot be read.
    """
    source = Path(source)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    found = [path for path in files if path.suffix.lower() in SUFFIXES or path == source]
    if not found or not found[0].is_file():
        raise FileNotFoundError(f"{source}: no picture ({', '.join(SUFFIXES)}) there")
    if others := [path.name for path in files if path not in found]:
        what = f"{source}: {len(others)} entries are not read, because they are no {', '.join(SUFFIXES)}"
        logging.getLogger(__name__).warning(f"{what}: {enumerate_first(others)}")
    names = [path.stem for path in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{source}: pictures that differ in their suffix only: {enumerate_first(twice)}; rename them")
    if not (turned := {path for path in found if _is_turned(path)}):
        return found
    require_own(upright_folder)
    upright_folder.mkdir(parents=True, exist_ok=True)
    copies = {path: upright_folder / (f"{path.stem}.png" if path in turned else path.name) for path in found}
    for path, copy in copies.items():
        if path in turned:
            _turn(path).save(copy)
        else:
            shutil.copy(path, copy)
    seal(upright_folder)
    return list(copies.values())


def _is_turned(path: Path) -> bool:
    image_size(path)  # names a file that is no picture
    with Image.open(path) as image:
        return image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT


def _turn(path: Path) -> Image.Image:
    """The picture upright, in RGB; of 16-bit grey the upper byte is kept, as `read_image` does."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:  # of a file, Pillow 13 scrambles grey TIFFs
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError) as error:  # what Pillow raises on a cut file
        raise ValueError(f"{path}: cannot be decoded ({error}); fetch it anew") from error
    if upright.mode.startswith("I"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return upright.convert("RGB")


def find_boxes(boxes: str, pictures: list[Path]) -> Boxes:
    """Boxes of people: whole pictures for "whole", `detect_people` for "detector", else `read_boxes` of a file."""
    if boxes == "whole":
        return {str(path): np.array([[0, 0, *image_size(path), 1]], np.float64) for path in pictures}
    return detect_people(pictures) if boxes == "detector" else read_boxes(Path(boxes), pictures)


def read_boxes(path: Path, pictures: list[Path]) -> Boxes:
    """Boxes from a JSON object of lists by picture name without suffix: {"name": [[x, y, w, h], ...]}, in px.

    A picture without an entry has nobody.

    Raises:
        ValueError: an entry belongs to no picture, or is no list of boxes with a width and a height that reach into it.
    """
    entries = read_json(path)
    by_name = {picture.stem: str(picture) for picture in pictures}
    must = f"{path}: must be boxes by picture name, one of {enumerate_first([*by_name])}"
    if not isinstance(entries, dict):
        raise ValueError(f"{must}, got {entries!r:.120}")
    if unknown := sorted(entries.keys() - by_name.keys()):
        raise ValueError(f"{must}; no picture is called {enumerate_first(unknown)}")
    boxes = {}
    for name, values in entries.items():
        try:
            table = np.array(np.empty((0, 4)) if values == [] else values, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name!r} must be a list of boxes x, y, w, h, got {values!r:.120}") from error
        if table.ndim != 2 or table.shape[1] != 4:
            raise ValueError(f"{path}: {name!r} must be a list of boxes x, y, w, h, got {values!r:.120}")
        if not (np.isfinite(table).all() and (table[:, 2:] > 0).all()):
            raise ValueError(f"{path}: {name!r} has a box without extent: {values!r:.120}")
        size_px = image_size(by_name[name])
        if ((table[:, :2] >= size_px) | (table[:, :2] + table[:, 2:] <= 0)).any():
            raise ValueError(f"{path}: {name!r} has a box outside the picture of {size_px} px: {values!r:.120}")
        boxes[by_name[name]] = np.concatenate([table, np.ones((len(table), 1))], axis=1)
    return boxes


@torch.no_grad()
def detect_people(paths: list[Path]) -> Boxes:
    """People whom torchvision's Faster R-CNN (MobileNetV3, trained on COCO) finds with a score of 0.5 or more.

    Raises:
        OSError: its weights (74 MB, fetched on first use) cannot be had.
    """
    from torchvision.models import detection

    try:
        detector = detection.fasterrcnn_mobilenet_v3_large_fpn(weights="DEFAULT").eval()
    except Exception as error:  # the hub raises many kinds: offline, refused, broken file
        raise OSError(f"no weights of the detector ({error}); give boxes, or take whole pictures") from error
    boxes = {}
    for path in paths:
        pixels = torch.from_numpy(read_image(path)).permute(2, 0, 1) / 255  # (3, H, W)
        found = detector([pixels])[0]
        chosen = (found["labels"] == DETECTOR_PERSON) & (found["scores"] >= DETECTOR_SURE)
        low, high = found["boxes"][chosen].split(2, dim=1)
        boxes[str(path)] = torch.cat([low, high - low, found["scores"][chosen, None]], 1).double().numpy()
    return boxes


def to_people(boxes: Boxes, skeleton: Skeleton) -> People:
    """Persons with these boxes, without labelled keypoints.

    Raises:
        ValueError: there is nobody, a picture cannot be decoded, or boxes are impossible.
    """
    paths = [path for path, table in boxes.items() for _ in table]
    if not paths:
        raise ValueError(f"nobody in the {len(boxes)} pictures; give boxes, or take whole pictures")
    table, shape = np.concatenate(list(boxes.values())), (len(paths), skeleton.num_keypoints)
    people = People(
        skeleton,
        image_paths=np.array(paths, object),
        image_ids=1 + pd.factorize(np.array(paths, object))[0],
        ids=np.arange(1, len(paths) + 1),
        keypoints=np.zeros((*shape, 2)),
        visibility=np.zeros(shape),
        boxes=table[:, :4],
        scores=table[:, 4],
    )
    check_images(people)
    check_coordinates(people, "the given boxes")
    return people


def summary(people: People, pictures: list[Path]) -> str:
    """How many people there are, and in which pictures nobody was found. Example: "3 people in 2 pictures"."""
    seen = set(people.image_paths)
    empty = [path.name for path in pictures if str(path) not in seen]
    text = f"{len(people)} people in {len(pictures) - len(empty)} pictures"
    return text + (f"; nobody in {len(empty)}: {enumerate_first(empty)}" if empty else "")


def pose(run: Run, people: People, force: bool = False) -> tuple[People, np.ndarray]:
    """`people` with the keypoints that the run's network gives, and the scores of these, (N, K).

    A keypoint with a score above `SURE` is visible (2), any other is occluded (1).

    Args:
        force: use the weights also where they were trained under other settings.

    Raises:
        FileNotFoundError: the run was not trained.
        ValueError: it was trained under other settings, which the message names.
    """
    torch.set_num_threads(run.threads)
    found = make_predictor(run, people)(load_network(run, people, force))
    visibility = np.where(found.scores > SURE, 2, 1).astype(np.uint8)
    return replace(people, keypoints=found.keypoints, visibility=visibility), found.scores


def write_results(posed: People, scores: np.ndarray, out: Path) -> list[Path]:
    """Write keypoints.json and each picture with its skeletons into `out`, a `results_folder`; return the pictures.

    The json is a COCO keypoint file of what `pose` returned, for tools that show or correct annotations.

    Raises:
        FileExistsError: as for `results_folder`; for example, keypoints.json was corrected by hand.
    """
    require_own(out)
    for earlier in (path for path in out.iterdir() if path.is_file()):  # drawings of pictures that are no longer there
        earlier.unlink()
    files = dict(zip(posed.image_ids.tolist(), posed.image_paths, strict=True))
    entries = [(number, Path(path).name, *image_size(path)) for number, path in files.items()]
    images = pd.DataFrame(entries, columns=["id", "file_name", "width", "height"]).to_dict("records")
    annotations = [
        {
            "id": posed.ids[i],
            "image_id": posed.image_ids[i],
            "bbox": posed.boxes[i],
            "area": np.prod(posed.boxes[i, 2:]),
            "keypoints": np.concatenate([posed.keypoints[i], posed.visibility[i, :, None]], axis=1).ravel(),
            "keypoint_scores": scores[i],
            "score": posed.scores[i],  # of the box
        }
        for i in range(len(posed))
    ]
    try:
        write_coco(out / "keypoints.json", images, annotations, posed.skeleton)
        return [style.save(draw(posed, path), out / f"{Path(path).stem}.png") for path in files.values()]
    finally:  # interrupted as well, so that the next call may write here
        seal(out)


def draw(people: People, path: str) -> Figure:
    """The picture at `path` with the skeletons of its people. A hollow dot is a keypoint that is less sure."""
    picture = read_image(path)
    with style.apply():
        figure, (axes,) = style.panels(1, 1, picture.shape[0] / picture.shape[1])
        show_image(axes, picture)
        for i in np.flatnonzero(people.image_paths == path):
            draw_person(axes, None, people.keypoints[i], people.visibility[i], people.skeleton, line_width_pt=1.5)
    return figure
