"""MMPose's side of the comparison, run by the Python of its own environment: one task per line, answered when done.

A task is a JSON list: the name of a function below and its arguments. MMPose's compiled operators are not installed;
datasets and codecs import them without using them.
"""

import functools
import json
import os
import sys
from unittest.mock import MagicMock

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope

sys.modules["mmcv.ops"] = MagicMock(__spec__=None, __path__=[])  # before MMPose looks for them
from mmpose.codecs import MSRAHeatmap  # noqa: E402
from mmpose.datasets import CocoDataset  # noqa: E402

GEOMETRY = {"input_size": (192, 256), "heatmap_size": (48, 64), "sigma": 2}


@functools.cache
def dataset(annotations: str, images: str) -> CocoDataset:
    """The training pipeline of the model zoo's HRNet, with the augmentation of the official HRNet code."""
    pipeline = [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale"},
        {"type": "RandomFlip", "direction": "horizontal"},
        {"type": "RandomHalfBody"},
        {
            "type": "RandomBBoxTransform",
            "shift_prob": 0.0,
            "scale_factor": (0.65, 1.35),
            "scale_prob": 1.0,
            "rotate_factor": 90.0,
            "rotate_prob": 0.6,
        },
        {"type": "TopdownAffine", "input_size": GEOMETRY["input_size"]},
        {"type": "GenerateTarget", "encoder": {"type": "MSRAHeatmap", **GEOMETRY}},
        {"type": "PackPoseInputs"},
    ]
    return CocoDataset(ann_file=annotations, data_prefix={"img": images}, data_mode="topdown", pipeline=pipeline)


@functools.cache
def positions(annotations: str, images: str, ids: tuple[int, ...]) -> list[int]:
    persons = dataset(annotations, images)
    position = {persons.get_data_info(i)["raw_ann_info"]["id"]: i for i in range(len(persons))}
    return [position[i] for i in ids]


@functools.cache
def arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def crops(annotations: str, images: str, ids: list[int]) -> None:
    """Every person through the training pipeline."""
    persons = dataset(annotations, images)
    for i in positions(annotations, images, tuple(ids)):
        persons[i]


def encode(path: str) -> None:
    """Targets of every person in the file, one by one as in the pipeline."""
    codec, persons = MSRAHeatmap(**GEOMETRY), arrays(path)
    for keypoints, visible in zip(persons["keypoints"], persons["visible"], strict=True):
        codec.encode(keypoints[None], visible[None])


def decode(path: str, unbiased: bool) -> None:
    """Keypoints of every person in the file, one by one as its head does; `unbiased` is DARK."""
    codec = MSRAHeatmap(**GEOMETRY, unbiased=unbiased)
    for heatmaps in arrays(path)["heatmaps"]:
        codec.decode(heatmaps)


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr  # MMPose prints what it loads
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope("mmpose")
    tasks = {"crops": crops, "encode": encode, "decode": decode}
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        tasks[name](*arguments)
        print("done", file=replies, flush=True)


if __name__ == "__main__":
    main()
