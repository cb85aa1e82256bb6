"""Sentences on what is seen in a picture, computed from what was drawn, so that they hold for any weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hpelib.figures.heatmaps import View

MARGIN = 0.1  # of a body box on each side, as a share of its longer side
LEAST_SD = 0.01  # over persons, below which a gate gives everybody nearly the same
LEAST_POINTS = 0.5  # by which a part that is needed changes the score when absent


def hidden(view: View) -> str:
    """How many of the person's labelled keypoints are hidden, and which can be seen."""
    labelled, visible = view.crop.visibility > 0, np.flatnonzero(view.crop.visibility == 2)
    names = ", ".join(view.skeleton.keypoints[k].replace("_", " ") for k in visible)
    return f"{labelled.sum() - len(visible)} of {labelled.sum()} joints are hidden; to be seen: {names or 'none'}."


def sureness(people: Mapping[str, Mapping[str, View]]) -> str:
    """How high the heatmaps' highest pixels are, mean over keypoints, for each person as each network sees them.

    `people["easiest"]["hrnet"]` is the person "easiest" as HRNet sees it.
    """
    heights = {
        person: ", ".join(f"{name} {view.heatmaps.max(axis=(1, 2)).mean():.2f}" for name, view in views.items())
        for person, views in people.items()
    }
    told = "; ".join(f"{person}: {height}" for person, height in heights.items())
    return f"highest value of a heatmap, mean over joints: {told}."


def body_box(view: View, shape: tuple[int, int]) -> np.ndarray:
    """True (h, w) where a map of `shape` lies in the box of the annotated keypoints, with a margin, within the crop.

    The map covers the whole crop.
    """
    points = view.crop.keypoints[view.crop.visibility > 0]
    low, high = points.min(axis=0), points.max(axis=0)
    margin_px = MARGIN * (high - low).max()
    (h, w), (height, width) = shape, view.crop.pixels.shape[:2]
    y, x = (np.mgrid[:h, :w] + 0.5) * np.array([height / h, width / w]).reshape(2, 1, 1) - 0.5
    (left, top), (right, bottom) = low - margin_px, high + margin_px
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)


def on_body(view: View, values: np.ndarray) -> tuple[float, float]:
    """The share of `values` (h, w), none below 0, that lies in `body_box`, and the share of the crop that this box has.

    Equal shares are a map that does not know the person.
    """
    inside = body_box(view, values.shape)
    return float(values[inside].sum() / max(values.sum(), 1e-12)), float(inside.mean())


def strongest_on_body(view: View, values: np.ndarray) -> tuple[float, float]:
    """As `on_body`, of the positions of the highest tenth of `values` (h, w)."""
    return on_body(view, (values >= np.quantile(values, 0.9)).astype(float))


def part_of(view: View, change: np.ndarray) -> str:
    """The part of the body, a joint group of the skeleton, whose joint is nearest to the largest |`change`| (h, w).

    The map covers the whole crop.
    """
    peak = np.array(np.unravel_index(np.abs(change).argmax(), change.shape))[::-1]  # x, y
    height, width = view.crop.pixels.shape[:2]
    place = (peak + 0.5) * (width, height) / np.array(change.shape[::-1]) - 0.5
    distance_px = np.where(view.crop.visibility > 0, np.linalg.norm(view.crop.keypoints - place, axis=-1), np.inf)
    nearest = int(distance_px.argmin())
    return next((part for part, joints in view.skeleton.groups.items() if nearest in joints), "another joint").lower()


def bars(gate: np.ndarray) -> float:
    """The share of the variance of a map (h, w) that its row and column means explain: 1 for bars and crosses."""
    rows, columns = gate.mean(axis=1, keepdims=True), gate.mean(axis=0, keepdims=True)
    return float(np.var(rows + columns - gate.mean()) / max(np.var(gate), 1e-12))


def widths(density: np.ndarray, axis: np.ndarray) -> tuple[float, float]:
    """Standard deviations in x and y of a density (n, n), rows y and columns x, at the nodes `axis` (n,)."""
    found = []
    for weights in (density.sum(axis=0), density.sum(axis=1)):
        mean = np.average(axis, weights=weights)
        found.append(float(np.sqrt(np.average((axis - mean) ** 2, weights=weights))))
    return found[0], found[1]


def same_for_all(gates: Mapping[str, np.ndarray]) -> str:
    """The mean standard deviation over persons of each of `gates` (persons, channels), and which are constant."""
    moves = {name: values.std(axis=0).mean() for name, values in gates.items()}
    judged = (f"{name} {sd:.3f}{'' if sd >= LEAST_SD else ', the same for everybody'}" for name, sd in moves.items())
    return f"sd over persons, mean over channels: {'; '.join(judged)}."


def hardly_missed(table: pd.DataFrame, parts: Sequence[str]) -> str:
    """Which of `parts` change the score by less than `LEAST_POINTS` when absent, after `Lesson.switched_off`.

    The table's first row is the network as trained.
    """
    scores = table.iloc[:, 0]
    small = [part for part in parts if abs(scores[part] - scores.iloc[0]) < LEAST_POINTS]
    if not small:
        return f"every change costs or gains at least {LEAST_POINTS} points."
    changes = ", ".join(f"{part} ({scores[part] - scores.iloc[0]:+.1f})" for part in small)
    return (
        f"less than {LEAST_POINTS} points of difference: {changes}. The trained network does not need what is changed "
        "there."
    )
