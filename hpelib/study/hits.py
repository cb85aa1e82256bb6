"""What the networks found on the stress tests, as one file. A step writes it, and a page of results reads it.

This module needs no torch, so that a page of results starts fast.
"""

from pathlib import Path

import numpy as np

DATASET = "mpii"  # the stress tests are for networks that were trained on this dataset of the study

# By network: (seeds, persons, pictures, 16), 1 for a keypoint within PCKh@0.5 and 0 for any other. NaN where a keypoint
# is cut off or never scored. Pictures are in the order of `hpelib.mannequins.stress.pictures`.
Hits = dict[str, np.ndarray]


def load_hits(folder: Path) -> Hits:
    """Read the hits of every network that was trained with all its seeds, in the order of the study.

    Raises:
        FileNotFoundError: the networks were not tested yet.
    """
    path = folder / "hits.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run: dvc repro stress_hits")
    with np.load(path) as file:
        return dict(file)
