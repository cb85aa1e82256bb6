"""MPII Human Pose in the json of the official HRNet code (train.json, valid.json), and a writer of it.

On disk coordinates count from 1 (Matlab) and a person is a centre and a scale, body height / 200 px.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.files import (
    column,
    factor_table,
    find_images,
    read_json,
    read_mat,
    reject,
    text_column,
    write_json,
    write_mat,
)
from hpelib.data.people import People
from hpelib.skeletons import MPII16

SCALE_UNIT_PX = 200
CENTER_DROP_PX = 15  # per unit of scale: the annotated centre sits high on the body
HEAD_SIZE_FACTOR = 0.6  # of the head box's diagonal: SC_BIAS of the official evaluation
K = MPII16.num_keypoints


def read_mpii(annotation_json: str | Path, image_dir: str | Path, ground_truth_mat: str | Path | None = None) -> People:
    """All persons of an MPII json, in the order of the file; ids are the positions in it.

    Centre and size follow `lib/dataset/mpii.py` of the official HRNet code. The centre is lowered by 15 px per unit of
    scale (unless its x is -1), and the person's size is a square of 200 px per unit. After that, centre and keypoints
    are moved to pixels that count from 0. The format does not tell occluded from visible keypoints: a labelled one has
    visibility 2. In a file without joints (test.json) no keypoint is labelled.

    `ground_truth_mat` is a file such as gt_valid.mat (jnt_missing, pos_gt_src, headboxes_src). If it is given, the
    keypoints come from there, as in the official evaluation, and `head_sizes_px` is filled in.

    Raises:
        FileNotFoundError: a file or an image is missing.
        ValueError: something cannot be used as it stands, or the mat file belongs to another json.
    """
    entries = read_json(annotation_json)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{annotation_json}: must be a list of persons with image, joints, joints_vis, center, scale")
    source = str(annotation_json)
    names = text_column(entries, "image", source)
    ids = np.arange(len(entries))
    for_prediction = not any("joints" in entry for entry in entries)
    if for_prediction:
        keypoints, labelled = np.zeros((len(entries), K, 2)), np.zeros((len(entries), K))
    else:
        keypoints = column(entries, "joints", source, (K, 2)) - 1
        labelled = column(entries, "joints_vis", source, (K,))
    reject(~np.isin(labelled, (0, 1)).all(1), source, "entries with joints_vis other than 0 or 1, by position", ids)
    scales = column(entries, "scale", source)
    reject(scales <= 0, source, "entries whose scale is not positive, by position", ids)
    centers = column(entries, "center", source, (2,))
    centers[:, 1] += np.where(centers[:, 0] != -1, CENTER_DROP_PX * scales, 0)
    centers -= 1

    head_sizes = None
    if ground_truth_mat is not None:
        keypoints, labelled, head_sizes = _read_ground_truth(ground_truth_mat, source, keypoints, labelled > 0)
    if not for_prediction and not labelled.any():
        raise ValueError(f"{annotation_json}: no keypoint of its {len(entries)} persons is labelled")

    sizes = np.repeat(scales[:, None] * SCALE_UNIT_PX, 2, axis=1)
    return People(
        MPII16,
        image_paths=find_images(image_dir, names, source),
        image_ids=pd.factorize(np.array(names, dtype=object))[0],
        ids=ids,
        keypoints=keypoints,
        visibility=np.where(labelled, 2, 0),
        boxes=np.concatenate([centers - sizes / 2, sizes], 1),
        centers=centers,
        head_sizes_px=head_sizes,
        factors=factor_table(entries, source),
    )


def write_mpii(
    annotation_json: str | Path,
    image_names: list[str],
    keypoints: np.ndarray,
    visibility: np.ndarray,
    centers: np.ndarray,
    sizes_px: np.ndarray,
    head_boxes: np.ndarray,
    ground_truth_mat: str | Path,
    factors: list[dict] | None = None,
) -> None:
    """Write the json and the ground-truth mat from which `read_mpii` gives the same persons back.

    All px count from 0 here; the writer turns them into what the format has on disk (counted from 1, the centre raised,
    missing keypoints as -1).

    Shapes: keypoints (N, 16, 2), visibility (N, 16), centers (N, 2) of the crop, sizes_px (N,) the side of the square
    to crop, head_boxes (N, 4) as x1, y1, x2, y2.
    """
    labelled = visibility > 0
    joints = np.where(labelled[..., None], keypoints + 1, -1).astype(np.float64)
    scales = np.asarray(sizes_px, np.float64) / SCALE_UNIT_PX
    centers = centers + 1 - np.stack([np.zeros_like(scales), CENTER_DROP_PX * scales], 1)
    columns = {"image": image_names, "joints": joints, "joints_vis": labelled.astype(int), "center": centers}
    columns |= {"scale": scales} | ({} if factors is None else {"factors": factors})
    write_json(annotation_json, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    arrays = {
        "jnt_missing": (~labelled).T.astype(np.uint8),  # (16, N)
        "pos_gt_src": joints.transpose(1, 2, 0),  # (16, 2, N)
        "headboxes_src": (np.asarray(head_boxes, np.float64) + 1).reshape(-1, 2, 2).transpose(1, 2, 0),  # (2, 2, N)
    }
    write_mat(ground_truth_mat, arrays)


def _read_ground_truth(
    path: str | Path, annotation_json: str, json_keypoints: np.ndarray, json_labelled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints (N, 16, 2) from 0, labelled (N, 16), head sizes (N,) px."""
    missing, keypoints, head_boxes = read_mat(path, "jnt_missing", "pos_gt_src", "headboxes_src")
    n = len(json_keypoints)
    found, needed = (missing.shape, keypoints.shape, head_boxes.shape), ((K, n), (K, 2, n), (2, 2, n))
    if found != needed:
        what = f"jnt_missing, pos_gt_src and headboxes_src have shapes {found}, and need {needed}"
        raise ValueError(f"{path}: {what}; give the mat file that was made for {annotation_json}")
    ids = np.arange(n)
    reject(~np.isin(missing, (0, 1)).all(0), str(path), "persons with jnt_missing other than 0 or 1, by position", ids)
    labelled = missing.T == 0
    keypoints = keypoints.transpose(2, 0, 1).astype(np.float64) - 1
    broken = (labelled & ~np.isfinite(keypoints).all(2)).any(1)
    reject(broken, str(path), "persons whose pos_gt_src is NaN where jnt_missing is 0, by position", ids)

    x1y1, x2y2 = head_boxes.astype(np.float64)  # each (2, N)
    head_sizes = HEAD_SIZE_FACTOR * np.hypot(*(x2y2 - x1y1))
    reject(~(head_sizes > 0), str(path), "persons without a head box in headboxes_src, by position", ids)

    both = labelled & json_labelled
    apart = np.linalg.norm(keypoints - json_keypoints, axis=2)  # (N, 16)
    if both.any() and np.median((apart / head_sizes[:, None])[both]) > 1:
        raise ValueError(f"{path}: most keypoints are not those of {annotation_json}: not in the order of the json")
    return keypoints, labelled, head_sizes
