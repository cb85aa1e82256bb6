"""A person's skeleton drawn over an image."""

from functools import partial

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from hpelib.data.crops import Picture
from hpelib.figures.style import SIDE_COLORS, SIDE_RIMS
from hpelib.skeletons import Skeleton


def keypoint_side(skeleton: Skeleton, keypoint: int) -> str:
    """The person's own side of a keypoint: "left", "right" or "centre"."""
    prefix = skeleton.keypoints[keypoint].partition("_")[0]
    return prefix if prefix in ("left", "right") else "centre"


def bone_side(skeleton: Skeleton, bone: tuple[int, int]) -> str:
    """The side of a bone: that of its ends, where a central end counts as either side; "centre" if the ends differ."""
    sides = {keypoint_side(skeleton, end) for end in bone} - {"centre"}
    return sides.pop() if len(sides) == 1 else "centre"


def show_image(axes: Axes, image: np.ndarray | Picture, grey: bool = False) -> Rectangle | None:
    """Show an image (H, W, 3), 8 bit, without ticks, in its colours or in grey. The axes end at its borders.

    Of a `Picture` the axes are in px of the crop, whose border is drawn and returned.
    """
    pixels = image.pixels if isinstance(image, Picture) else image
    shown = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if grey else pixels
    (height, width), zoom, margin_px, border = pixels.shape[:2], 1, 0, None
    if isinstance(image, Picture):
        zoom, margin_px = image.zoom, image.margin_px
        border = Rectangle((-0.5, -0.5), *image.crop_size, fill=False, edgecolor="white", linewidth=0.5)
    start = -margin_px - 0.5
    left_right, bottom_top = (start, start + width / zoom), (start + height / zoom, start)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=(*left_right, *bottom_top))
    axes.set(xticks=[], yticks=[], xlim=left_right, ylim=bottom_top)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.autoscale(False)
    return axes.add_patch(border) if border else None


def draw_person(
    axes: Axes,
    image: np.ndarray | Picture | None,
    keypoints: np.ndarray,
    visibility: np.ndarray | None,
    skeleton: Skeleton,
    line_width_pt: float = 1.0,
) -> None:
    """Draw a skeleton on `axes`, over `image` (H, W, 3) uint8 if there is one.

    `keypoints` (K, 2) are px of the image, or of the crop of a `Picture`.
    `visibility` (K,) says how a keypoint is drawn: 2 (visible) as a filled
    dot, 1 (occluded) as a hollow dot, 0 (not labelled) not at all, and its bones neither. So is NaN. A prediction has
    no visibility: with None all keypoints are filled. Bones have the colour of their side.

    Raises:
        ValueError: the arrays do not have as many keypoints as the skeleton.
    """
    count = skeleton.num_keypoints
    visibility = np.full(count, 2) if visibility is None else visibility
    if keypoints.shape != (count, 2) or visibility.shape != (count,):
        raise ValueError(f"{skeleton.name} has {count} keypoints, got {keypoints.shape}, visibility {visibility.shape}")
    if image is not None:
        show_image(axes, image)
    sides = np.array([keypoint_side(skeleton, keypoint) for keypoint in range(count)])
    for side, color in SIDE_COLORS.items():
        rim = SIDE_RIMS[side]
        bones = [bone for bone in skeleton.bones if visibility[list(bone)].all() and bone_side(skeleton, bone) == side]
        outline = withStroke(linewidth=2 * line_width_pt, foreground=rim)
        look = {"colors": color, "linewidths": line_width_pt, "path_effects": [outline], "zorder": 2}
        axes.add_collection(LineCollection(keypoints[bones], **look))
        for face, shown in ((color, visibility == 2), ("white", visibility == 1)):
            axes.scatter(
                *keypoints[shown & (sides == side)].T,  # matplotlib leaves out NaN
                s=(3 * line_width_pt) ** 2,
                facecolors=face,
                edgecolors=color,
                linewidths=line_width_pt / 2,
                path_effects=[withStroke(linewidth=line_width_pt, foreground=rim)],
                zorder=3,
            )


def add_legend(figure: Figure) -> None:
    """Say above `figure`, closely, what the colours of skeletons mean. Nothing may be added to the figure after it."""
    dot = partial(Line2D, [], [], linestyle="", marker="o", markersize=4)
    marks = {f"the person's {side}": dot(color=SIDE_COLORS[side]) for side in ("left", "right")}
    marks |= {"neither": dot(color=SIDE_COLORS["centre"]), "occluded": dot(color="black", markerfacecolor="white")}
    columns = len(marks) if figure.get_figwidth() > 4 else 2  # inches: a narrow sheet would cut a long line off
    lines = -(-len(marks) // columns)
    figure.draw_without_rendering()
    used_in = figure.get_tightbbox().height  # rows of fixed shape leave some of the figure's height free
    figure.set_figheight(used_in + 0.2 * (lines + 1))
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=columns)
