"""One thread a process, as in the study: results then equal to the bit, and processes side by side do not get in each
other's way. No window is opened for a figure."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports numpy or torch; child processes inherit it
os.environ["MPLBACKEND"] = "Agg"

import cv2
import numpy as np
import pytest
import torch

from hpelib.data.people import People
from hpelib.skeletons import LSP14

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bright_spots(tmp_path_factory):
    """Makes `count` persons side by side; in each, every keypoint is one bright spot."""

    def make(count: int, spacing_px: int) -> People:
        path = str(tmp_path_factory.mktemp("images") / "image.png")
        random = np.random.default_rng(0)
        spots = np.stack(((np.arange(count) + 0.5) * spacing_px, random.integers(80, 120, count)), -1)
        image = np.zeros((200, count * spacing_px, 3), np.uint8)
        for spot in spots.astype(int).tolist():
            cv2.circle(image, spot, 4, (255, 255, 255), -1)
        cv2.imwrite(path, cv2.GaussianBlur(image, (0, 0), 3))
        sizes_px = np.full((count, 2), (60, 80))
        return People.build(
            LSP14,
            image_paths=np.full(count, path, object),
            image_ids=np.zeros(count),
            ids=np.arange(count) + 30,
            keypoints=np.repeat(spots[:, None], 14, 1),
            visibility=np.full((count, 14), 2),
            boxes=np.concatenate((spots + random.uniform(-15, 15, (count, 2)) - sizes_px / 2, sizes_px), 1),
        )

    return make
