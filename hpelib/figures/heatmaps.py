"""Heatmaps and attention maps, placed where they belong on the crop and on the full image.

Index i of a map lies at crop pixel i * stride, with no half-pixel shift, where stride is input size over
heatmap size for the `msra` and `dark` codecs and (input size - 1) over (heatmap size - 1) for `udp`.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from hpelib.data.crops import to_image
from hpelib.figures import style
from hpelib.figures.skeletons import draw_person, show_image
from hpelib.skeletons import Skeleton


@dataclass(frozen=True)
class Prediction:
    """What one network says about one crop."""

    keypoints: np.ndarray  # (K, 2) crop px
    heatmaps: np.ndarray  # (K, h, w)
    stride_px: tuple[float, float]  # crop px per heatmap px, (x, y)


def heatmap_to_image(
    heatmap: np.ndarray,
    crop_matrix: np.ndarray,
    stride_px: tuple[float, float],
    image_size: tuple[int, int],
) -> np.ndarray:
    """A map (h, w) of a crop, carried back to the image it was cut from: (H, W) float32, 0 outside the crop.

    `crop_matrix` (2, 3) leads from image px to crop px, as `Codec.crop_matrix` gives it; `image_size` is
    (width, height). Values between the map's pixels are interpolated linearly.
    """
    image_to_heatmap = np.diag(1 / np.asarray(stride_px, dtype=np.float64)) @ crop_matrix
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(heatmap.astype(np.float32), image_to_heatmap, image_size, flags=flags)


def draw_heatmap(
    axes: Axes,
    image: np.ndarray,
    heatmap: np.ndarray,
    stride_px: tuple[float, float] = (1.0, 1.0),
    limits: tuple[float, float] = (0.0, 1.0),
) -> AxesImage:
    """Draw a map (h, w) in colour over `image` (H, W, 3) uint8 in grey; what comes back can carry a colour bar."""
    show_image(axes, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    (h, w), (x, y) = heatmap.shape, stride_px
    extent = (-x / 2, (w - 0.5) * x, (h - 0.5) * y, -y / 2)  # the outer borders of the outermost pixels
    return axes.imshow(heatmap, cmap=style.HEATMAP_COLORS, extent=extent, vmin=limits[0], vmax=limits[1])


def heatmap_grid(
    image: np.ndarray,
    heatmaps: np.ndarray,
    titles: Sequence[str],
    stride_px: tuple[float, float],
    keypoints: np.ndarray | None = None,
    columns: int = 6,
    label: str = "heatmap value",
) -> Figure:
    """One panel per map (K, h, w), heatmap or attention, over the same crop `image`, all with the same limits.

    `keypoints` (K, 2), in crop px, are marked by crosses, each in the panel of its own map; `label` names what the
    colours mean.
    """
    if len(heatmaps) != len(titles) or len(heatmaps) == 0:
        raise ValueError(
            f"a grid needs one title per map and at least one map, got {len(heatmaps)} maps and {len(titles)} titles"
        )
    limits = common_limits(heatmaps)
    with style.apply():
        figure, grid = style.panels(len(heatmaps), columns, image.shape[0] / image.shape[1])
        for k, (axes, heatmap, title) in enumerate(zip(grid, heatmaps, titles, strict=True)):
            mappable = draw_heatmap(axes, image, heatmap, stride_px, limits)
            axes.set_title(title.replace("_", " "))
            if keypoints is not None:
                axes.plot(*keypoints[k], "+", color="white", markersize=5, markeredgewidth=0.8)
        add_color_bar(figure, mappable, grid, label)
    return figure


def network_comparison(
    image: np.ndarray,
    keypoints: np.ndarray,
    visibility: np.ndarray,
    predictions: Mapping[str, Prediction],
    skeleton: Skeleton,
) -> Figure:
    """One row per network on the same crop: image, annotated skeleton, predicted skeleton, maximum over heatmaps.

    All rows share colour map and limits. `keypoints` (K, 2) are the annotation in crop px.
    """
    if not predictions:
        raise ValueError("predictions is empty: a comparison needs at least one network")
    limits = common_limits(*(prediction.heatmaps for prediction in predictions.values()))
    everywhere = np.full(skeleton.num_keypoints, 2)
    with style.apply():
        figure, grid = style.panels(4 * len(predictions), 4, image.shape[0] / image.shape[1], width_in=4.5)
        rows = grid.reshape(-1, 4)
        for axes, title in zip(rows[0], ("crop", "annotation", "prediction", "heatmaps"), strict=True):
            axes.set_title(title)
        for row, (name, prediction) in zip(rows, predictions.items(), strict=True):
            show_image(row[0], image)
            row[0].set_ylabel(textwrap.fill(name.replace("_", " "), 16))
            draw_person(row[1], image, keypoints, visibility, skeleton)
            draw_person(row[2], image, prediction.keypoints, everywhere, skeleton)
            mappable = draw_heatmap(row[3], image, prediction.heatmaps.max(axis=0), prediction.stride_px, limits)
        add_color_bar(figure, mappable, grid)
    return figure


def scene_heatmaps(image: np.ndarray, prediction: Prediction, crop_matrix: np.ndarray, skeleton: Skeleton) -> Figure:
    """A crop's prediction on the full `image` (H, W, 3): skeleton, and maximum over the heatmaps, side by side."""
    keypoints = to_image(prediction.keypoints[None], crop_matrix[None])[0]
    strongest = heatmap_to_image(prediction.heatmaps.max(axis=0), crop_matrix, prediction.stride_px, image.shape[1::-1])
    with style.apply():
        figure, grid = style.panels(2, 2, image.shape[0] / image.shape[1])
        draw_person(grid[0], image, keypoints, np.full(skeleton.num_keypoints, 2), skeleton)
        mappable = draw_heatmap(grid[1], image, strongest, limits=common_limits(prediction.heatmaps))
        add_color_bar(figure, mappable, grid)
    return figure


def common_limits(*heatmaps: np.ndarray) -> tuple[float, float]:
    """From 0 (a map below it has nothing to say) to the highest value of all."""
    return 0.0, max(0.0, *(float(maps.max()) for maps in heatmaps))


def add_color_bar(
    figure: Figure,
    mappable: AxesImage,
    grid: np.ndarray,
    label: str = "heatmap value",
    shrink: float = 0.5,
    aspect: float = 40,
) -> Colorbar:
    """One colour bar below all axes of `grid`, which is `shrink` times as long as they are wide."""
    bar = figure.colorbar(
        mappable, ax=list(grid), location="bottom", shrink=shrink, aspect=aspect, pad=0.01, label=label
    )
    bar.ax.set_facecolor(style.GREY)  # the map is translucent: show it on the grey that it lies on elsewhere
    bar.ax.grid(False)
    return bar
