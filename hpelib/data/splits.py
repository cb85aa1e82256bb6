"""Splits in which near-duplicate photographs stay together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.files import reject, require_file


def grouped_split(n: int, groups: Sequence[Sequence[int]], fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Divide positions 0 to n - 1 at random into len(fractions) sorted parts; no group is in two of them.

    `groups` lists positions that belong together; a position that is in no group stands alone. `fractions` is the share
    of each part. Groups are dealt out from the largest to the smallest, each to the part that lacks most persons, so
    that parts come as near to their shares as the groups allow. The same arguments give the same parts.

    Raises:
        ValueError: fractions are not positive or do not sum to 1, or a position is unknown or in two groups.
    """
    if abs(sum(fractions) - 1) > 1e-9 or min(fractions) <= 0:
        raise ValueError(f"fractions must be positive and sum to 1, got {list(fractions)}")
    grouped = np.array([member for group in groups for member in group], dtype=np.int64)
    if len(np.unique(grouped)) != len(grouped) or np.any((grouped < 0) | (grouped >= n)):
        raise ValueError(f"groups must hold positions 0 to {n - 1}, each at most once")
    units = [*map(list, groups), *([single] for single in np.setdiff1d(np.arange(n), grouped))]
    order = np.random.default_rng(seed).permutation(len(units))
    lacking = n * np.array(fractions, dtype=np.float64)
    parts = [[] for _ in fractions]
    for unit in sorted((units[i] for i in order), key=len, reverse=True):
        part = int(lacking.argmax())
        parts[part] += unit
        lacking[part] -= len(unit)
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def read_groups(csv: str | Path, image_numbers: np.ndarray) -> list[np.ndarray]:
    """Groups of near-duplicates as positions in `image_numbers`.

    The file has the columns group and image_number. Images that are not among `image_numbers` are passed over.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or holds anything but whole numbers, or an image is in two groups.
    """
    try:
        table = pd.read_csv(require_file(csv))
    except ValueError as error:  # pandas names no file
        raise ValueError(f"{csv}: not readable as a table ({error})") from error
    if not {"group", "image_number"} <= set(table.columns):
        raise ValueError(f"{csv}: needs columns group and image_number, has {', '.join(table.columns)}")
    if not all(pd.api.types.is_integer_dtype(table[name]) for name in ("group", "image_number")):
        raise ValueError(f"{csv}: columns group and image_number must be whole numbers")
    twice = table["image_number"][table["image_number"].duplicated()]
    reject(np.ones(len(twice), bool), str(csv), "images in more than one row, by number", twice)
    position = pd.Series(np.arange(len(image_numbers)), index=image_numbers)
    table = table[table["image_number"].isin(position.index)]
    return [position[members].to_numpy() for _, members in table.groupby("group")["image_number"]]
