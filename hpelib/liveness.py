"""Does a mechanism act? A gate that gives every person the same factors was trained, but it decides nothing.

A record (`hpelib.records`) names the mechanisms of a network, and the looks that show each. A *unit* is one channel of
such a look. Over many persons two shares are measured:

    alive_share   the share of units that are not constant: their standard deviation over persons and positions exceeds
                  `TOLERANCE`. A gate with dead hidden units has none.
    person_share  the variance over persons (mean over units and positions) as a share of the variance over persons,
                  units and positions. 0: every person gets the same. A gate that weighs channels nearly alike for
                  everybody has many alive units if the weighing moves at all, and a person_share near 0.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hpelib.capture import capture
from hpelib.records import Kind, quantity

ACTS, CONSTANT, OFF = "acts", "constant", "off at this input"
LEAST_ALIVE, LEAST_PERSON_SHARE = 0.1, 0.01  # a tenth of the units; a tenth of the standard deviation over all
# offsets, means and deviations in px: less moves nothing; kernels in units of the features that they weigh
TOLERANCE: Mapping[Kind, float] = {"offsets": 0.02, "means": 0.25, "deviations": 0.25, "kernels": 1e-4}
OTHERWISE = 0.002  # of gates and shares from 0 to 1, and of features after a norm
COLUMNS = ["mechanism", "units", "alive_share", "person_share", "state"]


def liveness(network: nn.Module, batches: Iterable[Tensor], mechanisms: Mapping[str, str]) -> pd.DataFrame:
    """One row for each mechanism that the network has switched on: the columns `COLUMNS`.

    The state is "acts" if at least `LEAST_ALIVE` of the units are alive and the person_share is at least
    `LEAST_PERSON_SHARE`, "off at this input" if its dynamic kernels have 1x1 px, which move nothing in space, and else
    "constant".

    Args:
        batches: images (N, 3, H, W), normalised; 100 persons or more.
        mechanisms: for each name a pattern of the looks that show it, as in a record.
    """
    sums = _sums(network, batches, mechanisms)
    rows = []
    for mechanism, pattern in mechanisms.items():
        names = [name for name in sums if re.fullmatch(pattern, name)]
        if names:
            rows.append((mechanism, *_judge([sums[name] for name in names], [quantity(name).kind for name in names])))
    return pd.DataFrame(rows, columns=COLUMNS)


Sums = tuple[int, np.ndarray, np.ndarray]  # persons; sum, and sum of squares, over persons (units, positions)


def _sums(network: nn.Module, batches: Iterable[Tensor], mechanisms: Mapping[str, str]) -> dict[str, Sums]:
    shows = re.compile("|".join(f"(?:{pattern})" for pattern in mechanisms.values()))
    sums: dict[str, Sums] = {}
    for images in batches:
        for name, look in capture(network, images).items():
            if shows.fullmatch(name):
                values = _units(look.double(), quantity(name).kind).cpu().numpy()
                count, total, squares = sums.get(name, (0, 0.0, 0.0))
                sums[name] = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    return sums


def _units(look: Tensor, kind: Kind) -> Tensor:
    """A look as (N, units, positions). Kernels that are switched off become NaN, which `_judge` knows."""
    match kind:
        case "kernels" if look.shape[-2:] == (1, 1):
            return torch.full_like(look, torch.nan).flatten(2)
        case "competition" if look.ndim == 5:  # of two branches, (N, 2, C, 1, 1): the share of the first says it all
            return look[:, 0].flatten(2)
        case "means" | "deviations":  # x and y of each keypoint
            return look.flatten(1)[..., None]
        case "attention":  # 1 is an even share
            return look.flatten(2) * look[0, 0].numel()
        case "columns":
            return look.flatten(2) * look.shape[2]
    return look.flatten(2)


def _judge(sums: list[Sums], kinds: list[Kind]) -> tuple[int, float, float, str]:
    units, alive, over_persons, over_all = 0, 0, 0.0, 0.0
    for (count, total, squares), kind in zip(sums, kinds, strict=True):
        mean = total / count
        spread = squares.mean(axis=1) / count - mean.mean(axis=1) ** 2  # of each unit, over persons and positions
        alive += int((np.sqrt(spread.clip(0)) > TOLERANCE.get(kind, OTHERWISE)).sum())
        units += len(mean)
        over_persons += len(mean) * (squares / count - mean**2).mean()
        over_all += len(mean) * (squares.mean() / count - mean.mean() ** 2)
    if np.isnan(over_all):
        return units, 0.0, 0.0, OFF
    share = float(over_persons / over_all) if over_all > 0 else 0.0
    acts = alive >= LEAST_ALIVE * units and share >= LEAST_PERSON_SHARE
    return units, alive / units, share, ACTS if acts else CONSTANT
