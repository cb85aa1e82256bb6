"""Kinds of keypoint errors: how frequent each is, and what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hpelib.figures import style
from hpelib.figures.skeletons import draw_person
from hpelib.metrics.errors import KINDS
from hpelib.skeletons import Skeleton

KIND_STYLES = dict(
    zip(
        KINDS,
        (
            ("#DDDDDD", None),
            (style.SKY, "////"),
            (style.ORANGE, "...."),
            (style.PURPLE, "xxxx"),
            (style.VERMILION, None),
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class ErrorExample:
    """One wrong keypoint on the crop that the network got; all in crop px."""

    kind: str
    joint: int
    crop: np.ndarray  # (H, W, 3) uint8
    keypoints: np.ndarray  # (K, 2) the annotation
    visibility: np.ndarray  # (K,)
    predicted: np.ndarray  # (2,)


def share_bars(table: pd.DataFrame, columns: int = 4) -> Figure:
    """One panel per joint group, in it one stacked bar per network: the kinds' shares, which add up to 100 %.

    `table` has one row per `joint`, `name` and `kind` and the column `share` (percent); panels and bars keep the
    order of their first appearance.
    """
    joints, names = table["joint"].unique(), table["name"].unique()
    with style.apply():
        figure, grid = style.panels(len(joints), columns, 0.25 + 0.08 * len(names))
        for i, (axes, joint) in enumerate(zip(grid, joints, strict=True)):
            shares = table[table["joint"] == joint].pivot(index="name", columns="kind", values="share").loc[names]
            left = np.zeros(len(names))
            for kind, (color, hatch) in KIND_STYLES.items():
                axes.barh(
                    names, shares[kind], left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=kind
                )
                left += shares[kind].to_numpy()
            axes.set(title=joint, xlim=(0, 100))
            axes.invert_yaxis()  # the first network on top
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0, labelleft=i % columns == 0)
        for axes in grid[-columns:]:
            axes.set_xlabel("keypoints (%)")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(KINDS))
    return figure


def error_sheet(examples: Sequence[ErrorExample], skeleton: Skeleton, columns: int = 4) -> Figure:
    """Every example on its crop: the annotated skeleton, and the predicted keypoint tied to where it should be."""
    if not examples:
        raise ValueError("no examples to draw: the networks make no errors here")
    height, width = examples[0].crop.shape[:2]
    with style.apply():
        figure, grid = style.panels(len(examples), columns, height / width)
        for axes, example in zip(grid, examples, strict=True):
            draw_person(axes, example.crop, example.keypoints, example.visibility, skeleton)
            way = np.stack((example.keypoints[example.joint], example.predicted))
            rim = [withStroke(linewidth=3, foreground="white")]
            axes.plot(*way.T, color=style.VERMILION, linewidth=1.4, path_effects=rim, zorder=4)
            axes.plot(*way[1], "X", color=style.VERMILION, markersize=7, markeredgecolor="white", zorder=5)
            axes.set_title(f"{example.kind}: {skeleton.keypoints[example.joint].replace('_', ' ')}")
    return figure
