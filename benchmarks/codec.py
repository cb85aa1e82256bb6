"""Targets and decoding of a batch, on one thread, against loops over joints and MMPose's codec."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import plain
from benchmarks.mmpose_client import NAME, MMPose, case
from benchmarks.timing import Comparison, compare
from hpelib.codecs import make_codec

ROUNDS = 15
LOOP = "a loop over joints"
PERSONS, KEYPOINTS = 64, 17
INPUT_SIZE, HEATMAP_SIZE, SIGMA = (192, 256), (48, 64), 2.0


def measure(mmpose: MMPose | str) -> list[Comparison]:
    """Targets as `msra` draws them; decoding of these targets under noise by `msra` and by `dark`."""
    random = np.random.default_rng(0)
    keypoints = random.uniform(0, INPUT_SIZE, (PERSONS, KEYPOINTS, 2)).astype(np.float32)
    visible = np.ones((PERSONS, KEYPOINTS), np.uint8)
    msra, dark = (make_codec(name, INPUT_SIZE, HEATMAP_SIZE, SIGMA) for name in ("msra", "dark"))
    heatmaps = msra.encode(keypoints, visible)[0]
    heatmaps += 0.1 * torch.from_numpy(random.random(heatmaps.shape, np.float32))
    arrays = heatmaps.numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "samples.npz")
        np.savez(file, keypoints=keypoints, visible=visible.astype(np.float32), heatmaps=arrays)
        return [
            *compare(
                "targets, msra",
                lambda: msra.encode(keypoints, visible),
                {
                    LOOP: lambda: plain.targets(keypoints, visible, HEATMAP_SIZE, msra.stride, SIGMA),
                    NAME: case(mmpose, "encode", file),
                },
                PERSONS,
                ROUNDS,
            ),
            *compare(
                "decoding, msra",
                lambda: msra.decode(heatmaps),
                {LOOP: lambda: plain.peaks(arrays, msra.stride), NAME: case(mmpose, "decode", file, False)},
                PERSONS,
                ROUNDS,
            ),
            *compare(
                "decoding, dark",
                lambda: dark.decode(heatmaps),
                {NAME: case(mmpose, "decode", file, True)},
                PERSONS,
                ROUNDS,
            ),
        ]
