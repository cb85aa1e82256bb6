"""A person's skeleton drawn over an image."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

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


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Show an image (H, W, 3) or (H, W), 8 bit, without ticks. The axes end at its borders."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.autoscale(False)


def draw_person(
    axes: Axes,
    image: np.ndarray | None,
    keypoints: np.ndarray,
    visibility: np.ndarray | None,
    skeleton: Skeleton,
    line_width_pt: float = 1.0,
) -> None:
    """Draw a skeleton on `axes`, over `image` (H, W, 3) uint8 if there is one.

    `keypoints` (K, 2) are px of the image. `visibility` (K,) says how a keypoint is drawn: 2 (visible) as a filled
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
