"""What networks show of themselves, drawn over the crops that they saw: maps, offsets and channel weights.

A panel is what is drawn of one person in one picture. Its shape says how it is drawn: a map (h, w) in colour,
channel weights (C,) as a curve, offsets (2, h, w) in colour with arrows.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from hpelib.figures import style
from hpelib.figures.heatmaps import View, add_color_bar, draw_heatmap
from hpelib.figures.skeletons import show_image
from hpelib.records import Quantity, quantity

ARROWS = 12  # across a map
MAX_PANEL_IN = 1.7  # width of a panel where there are few
CHANGE_COLORS = "PuOr_r"  # orange for more, purple for less: colour-blind readers can tell them apart


def panels_of(quantity: Quantity, look: np.ndarray, keypoint: int | None = None) -> dict[str, np.ndarray]:
    """The panels that are drawn of a look, by their titles.

    `look` is one person's, as `capture` returns it but without its axis N. What is drawn depends on the kind:

    - heatmaps: the one of `keypoint`; without `keypoint`, and of bones always, the maximum over all;
    - attention and other shares: times the number of positions or scales that share, so that 1 is an even share;
    - a partition into informative and redundant channels: the share of informative ones;
    - gates, kernels and deviations: one number for each channel or keypoint, from high to low (of a kernel its norm,
      of a deviation the geometric mean of x and y);
    - offsets: their mean over the groups;
    - means: nothing, because heatmaps peak there;
    - any other map: the mean over its channels, of features the mean of absolute values.
    """
    title = quantity.title
    match quantity.kind:
        case "heatmaps" if keypoint is not None:
            return {title: look[keypoint]}
        case "heatmaps" | "bones":
            return {title: look.max(axis=0)}
        case "attention":
            return {title: look[0] * look[0].size}
        case "columns":
            return {title: look.mean(axis=0) * look.shape[1]}
        case "competition" if look.ndim == 4:  # of two branches for each channel
            return {f"{title}: share of the first": _descending(look[0])}
        case "competition":
            return {f"{title}, scale {i}": share * len(look) for i, share in enumerate(look, start=1)}
        case "offsets":
            return {f"{title}, px": look.mean(axis=1)}
        case "parting":
            return {f"{title}: informative": (look > 0.5).mean(axis=0)}
        case "detail_gate":
            return {title: np.concatenate([_descending(part) for part in np.split(look, [len(look) // 3])])}
        case "means":
            return {}
        case "deviations":
            return {f"{title}, px": _descending(np.sqrt(look.prod(axis=1)))}
        case "kernels":
            return {f"{title}: size": _descending(np.linalg.norm(look, axis=(1, 2)))}
    if look.shape[1:] == (1, 1):
        return {title: _descending(look)}
    if quantity.kind == "features" and len(look) > 1:
        return {title: np.abs(look).mean(axis=0)}
    return {title: look.mean(axis=0)}


def look_sheet(views: Mapping[str, View], pattern: str) -> Figure:
    """One row for each person: the crop, then every panel of the looks whose whole name matches `pattern`.

    `views` are one network's, by the persons' names. A column has the same colour scale, or axis, for all persons.

    Raises:
        ValueError: the network shows nothing of that name; the message lists what it shows.
    """
    shown = next(iter(views.values())).looks
    names = [name for name in shown if re.fullmatch(pattern, name)]
    if not names:
        raise ValueError(f"the network shows nothing that matches {pattern!r}; it shows {', '.join(shown)}")
    # one dict of panels for each person
    rows = [
        {title: panel for name in names for title, panel in panels_of(quantity(name), view.looks[name]).items()}
        for view in views.values()
    ]
    crops = [view.crop.pixels for view in views.values()]
    columns = 1 + len(rows[0])
    with style.apply():
        width_in = min(style.WIDTH_IN, columns * MAX_PANEL_IN)
        aspect = next(iter(views.values())).aspect
        figure, grid = style.panels(columns * len(rows), columns, 1.1 * aspect, width_in)
        grid = grid.reshape(len(rows), -1)
        for axes, crop, name in zip(grid[:, 0], crops, views, strict=True):
            show_image(axes, crop)
            axes.set_ylabel(name)
        for column, title in zip(grid[:, 1:].T, rows[0], strict=True):
            panels = [row[title] for row in rows]
            column[0].set_title(textwrap.fill(title, max(12, 96 // columns)))
            limits = common_range(panels)
            for axes, crop, panel in zip(column, crops, panels, strict=True):
                drawn = draw_panel(axes, crop, panel, limits)
            if drawn is None:
                column[-1].set_xlabel("channels")
            else:
                bar = add_color_bar(figure, drawn, column, label="", shrink=0.9, aspect=15)
                bar.locator = MaxNLocator(2)  # at most three numbers: more would run together
    return figure


def draw_panel(
    axes: Axes, crop: np.ndarray, panel: np.ndarray, limits: tuple[float, float] | None = None
) -> AxesImage | None:
    """Draw a panel of `panels_of` over its crop (H, W, 3) uint8.

    `limits` are the values of the lowest and the highest colour, by default those of the panel. The result can carry
    a colour bar; channel weights, which have no colours, return None.

    The arrows of offsets lead to where a value is taken from. An offset as long as the upper limit is drawn as long as
    the arrows' spacing, so that directions can be seen however short all offsets are.
    """
    limits = limits or common_range([panel])
    top = max(limits[1], 1e-12)
    if panel.ndim == 1:
        channels, last = np.arange(1, len(panel) + 1), len(panel)
        axes.fill_between(channels, panel, color=style.BLUE, alpha=0.3, step="mid", linewidth=0)
        axes.plot(channels, panel, color=style.BLUE, drawstyle="steps-mid", linewidth=1)
        axes.set(ylim=(min(0.0, limits[0]), 1.05 * top), xlim=(0.5, last + 0.5), xticks=sorted({1, last}))
        return None
    if panel.ndim == 2:
        return draw_heatmap(axes, crop, panel, limits)
    mappable = draw_heatmap(axes, crop, np.hypot(*panel), limits)
    _, h, w = panel.shape
    step = max(1, w // ARROWS)
    rows, columns = np.mgrid[step // 2 : h : step, step // 2 : w : step]
    x_px, y_px = crop.shape[1] / w, crop.shape[0] / h
    dx, dy = panel[:, rows, columns] * step * x_px / top
    look = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.01, "color": "white"}
    axes.quiver(columns * x_px, rows * y_px, dx, dy, **look)
    return mappable


def common_range(panels: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest and highest value of all panels; of offsets (2, h, w) from 0 to the longest."""
    if panels[0].ndim == 3:
        return 0.0, max(float(np.hypot(*panel).max()) for panel in panels)
    return min(float(panel.min()) for panel in panels), max(float(panel.max()) for panel in panels)


def draw_change(axes: Axes, crop: np.ndarray, change: np.ndarray, limit: float) -> None:
    """Draw a signed map (h, w) over its crop: strongest at -`limit` and `limit`, transparent at 0."""
    mappable = draw_heatmap(axes, crop, change, (-limit, limit))
    mappable.set(cmap=CHANGE_COLORS, alpha=0.9 * np.sqrt(np.clip(np.abs(change) / limit, 0, 1)))


def _descending(weights: np.ndarray) -> np.ndarray:
    return np.sort(weights.ravel())[::-1]
