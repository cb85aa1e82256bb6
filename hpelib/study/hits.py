"""What the networks found on the stress tests, as one file. A step writes it, and a page of results reads it.

This module needs no torch, so that a page of results starts fast.
"""

from pathlib import Path

import numpy as np

from hpelib.mannequins.stress import pictures

DATASET = "mpii"  # the stress tests are for networks that were trained on this dataset of the study

# By network: (seeds, persons, pictures, 16), 1 for a keypoint within PCKh@0.5 and 0 for any other. NaN where a keypoint
# is cut off or never scored. Pictures are in the order of `hpelib.mannequins.stress.pictures`.
Hits = dict[str, np.ndarray]


def by_person(rows: np.ndarray) -> np.ndarray:
    """Rows of a stress test's table, (N, ...), as (persons, pictures, ...)."""
    return rows.reshape(-1, len(pictures()), *rows.shape[1:])


def save_hits(hits: Hits, path: Path) -> None:
    """Write hits, for `load_hits`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **hits)


def load_hits(path: Path) -> Hits:
    """Read the hits of every network that was trained with all its seeds, in the order of the study.

    Raises:
        FileNotFoundError: no network was tested yet.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} not found; run: dvc repro stress_predict")
    with np.load(path) as file:
        return dict(file)
