"""Heatmaps drawn where they belong: over the crop that a network saw, or over the full image.

Index i of a map lies at crop pixel i * stride, without a half-pixel shift. The stride is input size / heatmap size
for the codecs `msra` and `dark`, and (input size - 1) / (heatmap size - 1) for `udp`.
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
from matplotlib.lines import Line2D

from hpelib.data.crops import Crop, Picture, to_image
from hpelib.figures import style
from hpelib.figures.skeletons import add_legend, draw_person, show_image
from hpelib.skeletons import Skeleton

TRUE_MARK = {
    "marker": "o",
    "fillstyle": "none",
    "color": "white",
    "linestyle": "",
    "markersize": 6,
    "markeredgewidth": 0.9,
}
FOUND_MARK = {"marker": "x", "color": style.SKY, "linestyle": "", "markersize": 5, "markeredgewidth": 1.2}


@dataclass(frozen=True)
class View:
    """One person as one network sees it."""

    crop: Crop
    skeleton: Skeleton
    found: np.ndarray  # (K, 2) crop px, the keypoints that the network finds
    looks: Mapping[str, np.ndarray]  # "heatmaps" (K, h, w) and everything else that the network shows, by name
    stride_px: tuple[float, float]  # crop px per heatmap px, (x, y)

    @property
    def heatmaps(self) -> np.ndarray:
        return self.looks["heatmaps"]

    @property
    def aspect(self) -> float:
        """Height of the picture over its width."""
        return self.crop.picture.aspect


def heatmap_to_image(
    heatmap: np.ndarray, crop_matrix: np.ndarray, stride_px: tuple[float, float], image_size: tuple[int, int]
) -> np.ndarray:
    """Carry a map (h, w) of a crop back to the image that the crop was cut from.

    `crop_matrix` (2, 3) leads from image px to crop px, as `Codec.crop_matrix` gives it. `image_size` is
    (width, height). The result is (height, width) float32, interpolated linearly, and 0 outside the crop.
    """
    image_to_heatmap = np.diag(1 / np.asarray(stride_px, dtype=np.float64)) @ crop_matrix
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(heatmap.astype(np.float32), image_to_heatmap, image_size, flags=flags)


def draw_heatmap(
    axes: Axes,
    image: np.ndarray | Picture,
    heatmap: np.ndarray,
    limits: tuple[float, float] = (0.0, 1.0),
    stride_px: tuple[float, float] | None = None,
) -> AxesImage:
    """Draw a map (h, w) in colour over `image` (H, W, 3) uint8 or a `Picture`, which is shown in grey.

    `limits` are the values of the lowest and the highest colour. Without `stride_px` (x, y) the map covers the whole
    image or crop. Beyond the outermost pixels of a map its border goes on to the end of the crop. The result can carry
    a colour bar.
    """
    border = show_image(axes, image, grey=True)
    (h, w), (width, height) = heatmap.shape, crop_size(image)
    x, y = stride_px or (width / w, height / h)
    # one row and one column more on each side: maps that begin at pixel 0 of the crop end before its border
    extent = (-1.5 * x, (w + 0.5) * x, (h + 0.5) * y, -1.5 * y)
    look = {"cmap": style.HEATMAP_COLORS, "vmin": limits[0], "vmax": limits[1], "interpolation": "bilinear"}
    drawn = axes.imshow(np.pad(heatmap, 1, mode="edge"), extent=extent, **look)
    if border:
        drawn.set_clip_path(border)
    return drawn


def crop_size(image: np.ndarray | Picture) -> tuple[int, int]:
    """(width, height) in px of an image (H, W, 3), or of the crop of a `Picture`."""
    return image.crop_size if isinstance(image, Picture) else (image.shape[1], image.shape[0])


def joint_maps(view: View, keypoints: Sequence[int] = ()) -> Figure:
    """One panel for each keypoint: its heatmap with a circle at the true joint and a cross where it is decoded.

    All have the same colour scale. `keypoints` are the ones to show; all, where none is given.
    """
    limits, crop = common_limits(view.heatmaps), view.crop
    shown = [*keypoints] or range(len(view.heatmaps))
    with style.apply():
        figure, grid = style.panels(len(shown), 6, view.aspect, 6 * style.PANEL_IN)
        for axes, k in zip(grid, shown, strict=True):
            mappable = draw_heatmap(axes, crop.picture, view.heatmaps[k], limits, view.stride_px)
            axes.set_title(view.skeleton.keypoints[k].replace("_", " "))
            axes.plot(*crop.keypoints[k], **TRUE_MARK)
            axes.plot(*view.found[k], **FOUND_MARK)
        add_color_bar(figure, mappable, grid)
        marks = {"the true joint": TRUE_MARK, "found by the network": FOUND_MARK}
        handles = [Line2D([], [], **mark | {"color": style.GREY}) for mark in marks.values()]
        figure.legend(handles, marks, loc="outside upper center", ncols=2)
    return figure


def network_comparison(views: Mapping[str, View]) -> Figure:
    """One row for each network on the same person: annotation, prediction, maximum over the heatmaps.

    `views` has the networks' names. All rows have the same colour scale.
    """
    rows = {textwrap.fill(name.replace("_", " "), 16): [view] for name, view in views.items()}
    return _answer_sheet(rows, ("annotation", "prediction", "heatmaps"), width_in=3.0)


def before_after(people: Mapping[str, Mapping[str, View]]) -> Figure:
    """One row for each person: the annotation, then for each network its skeleton and the maximum over its heatmaps.

    `people["easy"]["hrnet"]` is the person "easy" as HRNet sees it. The baseline comes first. All rows have the same
    colour scale.
    """
    networks = next(iter(people.values()))
    names = [textwrap.fill(name.replace("_", " "), 16) for name in networks]
    titles = ("annotation", *(title for name in names for title in (name, f"{name}:\nheatmaps")))
    rows = {person: list(views.values()) for person, views in people.items()}
    return _answer_sheet(rows, titles, min(style.WIDTH_IN, len(titles) * style.PANEL_IN))


def _answer_sheet(rows: Mapping[str, Sequence[View]], titles: Sequence[str], width_in: float) -> Figure:
    """Rows of one person's annotation and every network's answer to it, below `titles`.

    The annotation takes the first column, every answer two.
    """
    limits = common_limits(*(view.heatmaps for views in rows.values() for view in views))
    columns = len(titles)
    with style.apply():
        aspect = next(iter(rows.values()))[0].aspect
        figure, grid = style.panels(columns * len(rows), columns, aspect, width_in)
        for axes, title in zip(grid, titles, strict=False):
            axes.set_title(title)
        for row, (name, views) in zip(grid.reshape(-1, columns), rows.items(), strict=True):
            row[0].set_ylabel(name)
            crop = views[0].crop
            draw_person(row[0], crop.picture, crop.keypoints, crop.visibility, views[0].skeleton)
            for view, found, heatmap in zip(views, row[1::2], row[2::2], strict=True):
                draw_person(found, crop.picture, view.found, None, view.skeleton)
                strongest = view.heatmaps.max(axis=0)
                mappable = draw_heatmap(heatmap, crop.picture, strongest, limits, view.stride_px)
        add_color_bar(figure, mappable, grid)
        add_legend(figure)
    return figure


def scene_heatmaps(image: np.ndarray, view: View) -> Figure:
    """A prediction on the full `image` (H, W, 3) uint8: the skeleton, and beside it the maximum over the heatmaps."""
    matrix = view.crop.matrix
    strongest = heatmap_to_image(view.heatmaps.max(axis=0), matrix, view.stride_px, image.shape[1::-1])
    with style.apply():
        figure, grid = style.panels(2, 2, image.shape[0] / image.shape[1])
        draw_person(grid[0], image, to_image(view.found, matrix), None, view.skeleton)
        mappable = draw_heatmap(grid[1], image, strongest, common_limits(view.heatmaps))
        add_color_bar(figure, mappable, grid)
    return figure


def common_limits(*heatmaps: np.ndarray) -> tuple[float, float]:
    """A colour scale for all of `heatmaps`: from 0, below which a heatmap says nothing, to the highest value."""
    return 0.0, max(0.0, *(float(maps.max()) for maps in heatmaps))


def add_color_bar(
    figure: Figure,
    mappable: AxesImage,
    grid: np.ndarray,
    label: str = "heatmap value",
    shrink: float = 0.5,
    aspect: float = 40,
) -> Colorbar:
    """Add one colour bar below all axes of `grid`. It is `shrink` times as long as they are wide."""
    bar = figure.colorbar(
        mappable, ax=list(grid), location="bottom", shrink=shrink, aspect=aspect, pad=0.01, label=label
    )
    bar.ax.set_facecolor(style.GREY)  # the colours are translucent: show them on grey, as over a crop
    bar.ax.grid(False)
    return bar
