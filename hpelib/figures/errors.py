"""Kinds of keypoint errors: how frequent each is, and what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hpelib.data.crops import Crop
from hpelib.figures import style
from hpelib.figures.skeletons import draw_person
from hpelib.skeletons import Skeleton

KIND_STYLES = {  # colour and hatch, in the order of KINDS
    "good": ("#DDDDDD", None),
    "jitter": (style.SKY, "////"),
    "inversion": (style.ORANGE, "...."),
    "swap": (style.PURPLE, "xxxx"),
    "miss": (style.VERMILION, None),
}
COLUMNS = 4  # panels side by side


@dataclass(frozen=True)
class ErrorExample:
    """One wrong keypoint, on the crop that the network was given."""

    kind: str
    joint: int
    crop: Crop
    predicted: np.ndarray  # (2,) crop px


def share_bars(shares: pd.DataFrame) -> Figure:
    """One panel for each joint group, with a bar for each network: the shares of all kinds, stacked to 100 %.

    `shares` has the columns `joint`, `name`, `kind` and `share` (percent). Several rows of one kind, such as those of
    several seeds, are averaged. Panels and bars are in the order of their first appearance.
    """
    joints, names = shares["joint"].unique(), shares["name"].unique()
    means = shares.pivot_table(index=["joint", "name"], columns="kind", values="share")
    with style.apply():
        figure, grid = style.panels(len(joints), COLUMNS, 0.25 + 0.08 * len(names))
        for i, (axes, joint) in enumerate(zip(grid, joints, strict=True)):
            of_joint = means.loc[joint].loc[names]
            left = np.zeros(len(names))
            for kind, (color, hatch) in KIND_STYLES.items():
                look = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
                axes.barh(names, of_joint[kind], left=left, label=kind, **look)
                left += of_joint[kind].to_numpy()
            axes.set(title=joint, xlim=(0, 100))
            axes.invert_yaxis()  # the first network on top
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0, labelleft=i % COLUMNS == 0)
        for axes in grid[-COLUMNS:]:
            axes.set_xlabel("keypoints (%)")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(KIND_STYLES))
    return figure


def error_sheet(examples: Sequence[ErrorExample], skeleton: Skeleton) -> Figure:
    """Every example on its crop: the annotated skeleton, and the predicted keypoint tied to where it should be.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("no examples to draw: the networks make no errors here")
    with style.apply():
        figure, grid = style.panels(len(examples), COLUMNS, examples[0].crop.picture.aspect)
        for axes, example in zip(grid, examples, strict=True):
            crop = example.crop
            draw_person(axes, crop.picture, crop.keypoints, crop.visibility, skeleton)
            way = np.stack((crop.keypoints[example.joint], example.predicted))
            rim = [withStroke(linewidth=3, foreground="white")]
            axes.plot(*way.T, color=style.VERMILION, linewidth=1.4, path_effects=rim, zorder=4)
            axes.plot(*way[1], "X", color=style.VERMILION, markersize=7, markeredgecolor="white", zorder=5)
            axes.set_title(f"{example.kind}: {skeleton.keypoints[example.joint].replace('_', ' ')}")
    return figure
