"""Leeds Sports Pose (LSP) and its extended training set (LSPET): one person per image, 14 joints.

Sources: Johnson and Everingham, BMVC 2010 and CVPR 2011. Left and right are the person's own, as shipped. The two sets
store the axes of `joints` in another order, and the third value of a joint means "occluded" in LSP and "labelled" in
LSPET. Coordinates reach down to 0 and are taken as they stand.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from hpelib.data.files import find_images, image_size, read_mat, reject, write_mat
from hpelib.data.people import People
from hpelib.skeletons import LSP14, MPII16

CROP_MARGIN = 1.15  # with the crop's padding of 1.25 this is the 1.4375 that is usual for LSP
K = LSP14.num_keypoints
OF_MPII = [MPII16.index("upper_neck" if name == "neck" else name) for name in LSP14.keypoints]


def read_lsp(root: str | Path) -> People:
    """LSP from `root`/joints.mat (3, 14, N) and `root`/images; ids are the image numbers from 1.

    The training set is `people.take(people.ids <= 1000)`, the test set the other thousand. A third value of 1 means
    occluded; occluded joints count. Centre and size of the crop are those of the image (size x 1.15).

    Raises:
        FileNotFoundError: the file or an image is missing.
        ValueError: something in the file cannot be used as it stands.
    """
    joints = _read_joints(root, (3, K), other_reader="read_lspet").transpose(2, 1, 0)  # (N, 14, 3)
    numbers = np.arange(1, len(joints) + 1)
    image_paths = _image_paths(root, numbers, digits=(4, 5))
    image_sizes = np.array([image_size(path) for path in image_paths], np.float64)
    boxes = _joint_boxes(joints[..., :2], np.ones(joints.shape[:2], bool))
    outside = (boxes[:, :2] >= image_sizes).any(1) | (boxes[:, :2] + boxes[:, 2:] < 0).any(1)
    reject(outside, str(root), "persons whose joints all lie outside the image, by image number", numbers)
    return People(
        LSP14,
        image_paths=image_paths,
        image_ids=numbers,
        ids=numbers,
        keypoints=joints[..., :2],
        visibility=np.where(joints[..., 2] == 1, 1, 2),
        boxes=boxes,
        centers=(image_sizes - 1) / 2,
        sizes_px=image_sizes * CROP_MARGIN,
    )


def read_lspet(root: str | Path) -> People:
    """LSPET from `root`/joints.mat (14, 3, N) and `root`/images; ids are the image numbers from 1.

    A joint is labelled where its third value is 1 and its coordinates are not negative. Centre and size of the crop are
    those of the labelled joints' box (size x 1.15). Persons whose box has no extent are left out, and counted in
    `People.left_out`.

    Raises:
        FileNotFoundError, ValueError: as for `read_lsp`.
    """
    joints = _read_joints(root, (K, 3), other_reader="read_lsp").transpose(2, 0, 1)  # (N, 14, 3)
    labelled = (joints[..., 2] == 1) & (joints[..., :2] >= 0).all(2)
    boxes = _joint_boxes(joints[..., :2], labelled)
    kept = np.flatnonzero((boxes[:, 2:] > 0).any(1))
    if not len(kept):
        raise ValueError(f"{root}: none of the {len(joints)} persons in joints.mat has two labelled joints")
    numbers = kept + 1
    return People(
        LSP14,
        image_paths=_image_paths(root, numbers, digits=(5, 4)),
        image_ids=numbers,
        ids=numbers,
        keypoints=joints[kept, :, :2],
        visibility=np.where(labelled[kept], 2, 0),
        boxes=boxes[kept],
        sizes_px=boxes[kept, 2:] * CROP_MARGIN,
        left_out={"persons with fewer than two labelled joints": len(joints) - len(kept)},
    )


def mpii_as_lsp(people: People) -> People:
    """MPII's persons with the 14 joints of LSP, without pelvis and thorax, so that they can join LSP's training."""
    return replace(
        people, skeleton=LSP14, keypoints=people.keypoints[:, OF_MPII], visibility=people.visibility[:, OF_MPII]
    )


def write_lsp(root: str | Path, keypoints: np.ndarray, visibility: np.ndarray) -> None:
    """Write `root`/joints.mat for `read_lsp`; the images go to `root`/images/im0001.jpg and so on.

    Shapes: keypoints (N, 14, 2) px, visibility (N, 14), 1 occluded or 2 visible.

    Raises:
        ValueError: a person lacks a joint (visibility 0), for which the format has no value.
    """
    incomplete = (visibility == 0).any(1)
    reject(incomplete, str(root), "persons lack joints, LSP needs all 14, by position", np.arange(len(visibility)))
    joints = np.concatenate([keypoints, (visibility == 1)[..., None]], 2)  # (N, 14, 3)
    write_mat(Path(root) / "joints.mat", {"joints": joints.transpose(2, 1, 0).astype(np.float64)})


def _read_joints(root: str | Path, leading: tuple[int, int], other_reader: str) -> np.ndarray:
    """`joints` with its axes as on disk; `leading` says how long the first two must be."""
    path = Path(root) / "joints.mat"
    (joints,) = read_mat(path, "joints")
    if joints.shape[:2] == leading[::-1]:
        raise ValueError(f"{path}: 'joints' of shape {joints.shape} is the other Leeds set; read it by {other_reader}")
    if joints.ndim != 3 or joints.shape[:2] != leading or not joints.size:
        raise ValueError(f"{path}: 'joints' must have shape ({leading[0]}, {leading[1]}, N), got {joints.shape}")
    persons = np.moveaxis(joints, 2, 0).reshape(joints.shape[2], -1)
    flags = np.moveaxis(joints.take(2, axis=leading.index(3)), -1, 0)  # (N, 14)
    numbers = np.arange(1, len(persons) + 1)
    reject(~np.isfinite(persons).all(1), str(path), "persons with NaN or infinity in 'joints', by number", numbers)
    reject(~np.isin(flags, (0, 1)).all(1), str(path), "persons with a flag other than 0 or 1, by number", numbers)
    return joints.astype(np.float64)


def _image_paths(root: str | Path, numbers: np.ndarray, digits: tuple[int, int]) -> np.ndarray:
    """Paths of im0001.jpg or im00001.jpg, whichever names the folder has. Where it has both, `digits[0]` is taken."""
    folder = Path(root) / "images"
    lengths = {len(entry.name) - len("im.jpg") for entry in os.scandir(folder)} if folder.is_dir() else set()
    width = next((width for width in digits if width in lengths), digits[0])
    return find_images(folder, [f"im{number:0{width}d}.jpg" for number in numbers], Path(root) / "joints.mat")


def _joint_boxes(keypoints: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(N, 4) x, y, w, h about each person's labelled joints. With fewer than two of them the box has no extent."""
    low = np.where(labelled[..., None], keypoints, np.inf).min(1)
    high = np.where(labelled[..., None], keypoints, -np.inf).max(1)
    return np.where(labelled.any(1)[:, None], np.concatenate([low, high - low], 1), 0)
