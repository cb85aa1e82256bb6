"""One thread a process, as in the study: results then equal to the bit, and processes side by side do not get in each
other's way. No window is opened for a figure."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports numpy or torch; child processes inherit it
os.environ["MPLBACKEND"] = "Agg"

import cv2
import numpy as np
import pytest
import torch

from hpelib.data.people import People
from hpelib.models import list_models
from hpelib.skeletons import LSP14

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]

RESNET = {"width": 8, "depths": (1, 1, 1, 1)}
HRNET = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 16}
NARROW = {
    "simple_baseline": RESNET | {"deconv_widths": (8, 8, 8)},
    "hourglass": {"stacks": 2, "widths": (16, 16, 16, 16), "blocks": (1, 1, 1, 1)},
    "hrnet": HRNET,
    "de_hrnet": HRNET,
    "sadi_net": {
        "stacks": 2,
        "widths": (8, 8, 8),
        "blocks": (1, 1, 1),
        "stem_width": 8,
        "sfm_width": 8,
        "head_widths": (8, 8, 8),
        "vector_width": 8,
    },
    "fr_sbn": RESNET | {"decoder_widths": (8, 8, 8, 8, 4), "fused_width": 8},
    "ditn": {"bones": ((0, 1), (1, 2), (1, 3)), "backbone_options": HRNET},
    "daunet": RESNET | {"decoder_widths": (16, 16, 16), "tail_blocks": 1},
}


LONG = (  # files of few tests that take or wait for minutes: begun last, they would keep the whole suite waiting
    "test_whole_pipeline.py",
    "test_explorer.py",
    "test_notebooks.py",
    "test_train_processes.py",
    "test_dry_run.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def copy_working_tree() -> Callable[[Path], None]:
    """Copies the working tree as it is, uncommitted changes included and results left out, to a folder."""

    def copy(target: Path) -> None:
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in listed.splitlines():
            if (ROOT / name).is_file() and not name.startswith("reports/") and name != "dvc.lock":
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target / name)

    return copy


@pytest.fixture(scope="session")
def narrow_options() -> dict[str, dict]:
    """Of every network in `list_models()`, options with which it has all its parts and is quick."""
    return {name: NARROW[re.sub(r"_(resnet|w)?\d+$", "", name)] for name in list_models()}


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
        return People(
            LSP14,
            image_paths=np.full(count, path, object),
            image_ids=np.zeros(count),
            ids=np.arange(count) + 30,
            keypoints=np.repeat(spots[:, None], 14, 1),
            visibility=np.full((count, 14), 2),
            boxes=np.concatenate((spots + random.uniform(-15, 15, (count, 2)) - sizes_px / 2, sizes_px), 1),
        )

    return make
