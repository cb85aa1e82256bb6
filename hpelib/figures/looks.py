"""What networks show of themselves, drawn over the crops that they saw: maps, offsets and channel weights."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from hpelib.figures import style
from hpelib.figures.heatmaps import Prediction, add_color_bar, common_limits, draw_heatmap
from hpelib.figures.skeletons import draw_person, show_image
from hpelib.records import Quantity
from hpelib.skeletons import Skeleton

ARROWS = 12  # across a map
MAX_PANEL_IN = 1.7  # width of a panel where there are few
CHANGE_COLORS = "PuOr_r"  # orange more, purple less: apart for colour-blind eyes


def panels_of(quantity: Quantity, look: np.ndarray, keypoint: int | None = None) -> dict[str, np.ndarray]:
    """What is drawn of one person's look, without its axis N, by title.

    Maps (h, w); channel weights (C,), from high to low; offsets (2, h, w), their mean over the groups. Of heatmaps
    that of `keypoint` or, as of bones, the maximum over all; other maps with channels become their mean. Shares are
    given times the number of those that share, so that 1 is an even share; of weights that part informative from
    redundant features the share of informative ones is drawn, of kernels the norm, of deviations in x and y the
    geometric mean. Means have no panel: heatmaps peak there.
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
        case "competition" if look.ndim == 4:  # between two branches, per channel
            return {f"{title}: share of the first": _descending(look[0])}
        case "competition":
            return {f"{title}, scale {i}": share * len(look) for i, share in enumerate(look, start=1)}
        case "offsets":
            return {f"{title}, px": look.mean(axis=1)}
        case "parting":
            return {f"{title}: informative": (look > 0.5).mean(axis=0)}
        case "detail_gate":
            above = len(look) // 3
            return {title: np.concatenate([_descending(look[:above]), _descending(look[above:])])}
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


def look_sheet(crops: Sequence[np.ndarray], rows: Sequence[Mapping[str, np.ndarray]], names: Sequence[str]) -> Figure:
    """One row per person, named by `names`: the crop, then every panel, as from `panels_of`, over it.

    A column has one colour scale, or one axis, for all persons. Raises ValueError where there is nothing to draw or
    persons differ in what is drawn of them.
    """
    if not rows or not rows[0] or any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"need the same panels for every person, got {[list(row) for row in rows]}")
    titles = list(rows[0])
    with style.apply():
        aspect = crops[0].shape[0] / crops[0].shape[1]
        columns = 1 + len(titles)
        width_in = min(style.WIDTH_IN, columns * MAX_PANEL_IN)
        figure, grid = style.panels(columns * len(rows), columns, 1.1 * aspect, width_in)
        grid = grid.reshape(len(rows), -1)
        for axes, crop, name in zip(grid[:, 0], crops, names, strict=True):
            show_image(axes, crop)
            axes.set_ylabel(name)
        for column, title in zip(grid[:, 1:].T, titles, strict=True):
            panels = [row[title] for row in rows]
            column[0].set_title(textwrap.fill(title, max(12, 96 // columns)))
            limits = common_range(panels)
            for axes, crop, panel in zip(column, crops, panels, strict=True):
                drawn = draw_panel(axes, crop, panel, limits)
            if drawn is None:
                column[-1].set_xlabel("channels")
            else:
                bar = add_color_bar(figure, drawn, column, label="", shrink=0.9, aspect=15)
                bar.locator = MaxNLocator(2)  # three numbers at most: with more, long ones would run together
    return figure


def draw_panel(
    axes: Axes, crop: np.ndarray, panel: np.ndarray, limits: tuple[float, float] | None = None
) -> AxesImage | None:
    """One panel of `panels_of` over its crop; what comes back can carry a colour bar, unless it is channel weights."""
    limits = limits or common_range([panel])
    if panel.ndim == 1:
        return draw_weights(axes, panel, limits)
    if panel.ndim == 3:
        return draw_offsets(axes, crop, panel, limits)
    return draw_map(axes, crop, panel, limits)


def draw_map(axes: Axes, crop: np.ndarray, values: np.ndarray, limits: tuple[float, float]) -> AxesImage:
    """A map (h, w) of any stride over its crop."""
    stride_px = crop.shape[1] / values.shape[1], crop.shape[0] / values.shape[0]
    return draw_heatmap(axes, crop, values, stride_px, limits)


def draw_weights(axes: Axes, weights: np.ndarray, limits: tuple[float, float]) -> None:
    """Channel weights (C,) as steps above their channels."""
    channels = np.arange(1, len(weights) + 1)
    axes.fill_between(channels, weights, color=style.BLUE, alpha=0.3, step="mid", linewidth=0)
    axes.plot(channels, weights, color=style.BLUE, drawstyle="steps-mid", linewidth=1)
    ends = sorted({1, len(weights)})
    axes.set(ylim=(min(0.0, limits[0]), 1.05 * max(limits[1], 1e-12)), xlim=(0.5, len(weights) + 0.5), xticks=ends)


def draw_offsets(axes: Axes, crop: np.ndarray, offsets: np.ndarray, limits: tuple[float, float]) -> AxesImage:
    """Offsets (2, h, w): colour for their length, arrows for the direction in which a point is taken from.

    The longest of `limits` is drawn as long as the arrows' spacing, so that directions are seen however short it is.
    """
    _, h, w = offsets.shape
    mappable = draw_map(axes, crop, np.hypot(*offsets), limits)
    step = max(1, w // ARROWS)
    rows, columns = np.mgrid[step // 2 : h : step, step // 2 : w : step]
    x_px, y_px = crop.shape[1] / w, crop.shape[0] / h
    dx, dy = offsets[:, rows, columns] * step * x_px / max(limits[1], 1e-12)
    look = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.01, "color": "white"}
    axes.quiver(columns * x_px, rows * y_px, dx, dy, **look)
    return mappable


def common_range(panels: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest and highest value of maps (h, w); of offsets (2, h, w) from 0 to the longest."""
    if panels[0].ndim == 3:
        return 0.0, max(float(np.hypot(*panel).max()) for panel in panels)
    return min(float(panel.min()) for panel in panels), max(float(panel.max()) for panel in panels)


def draw_change(axes: Axes, crop: np.ndarray, change: np.ndarray, limit: float) -> None:
    """A signed map (h, w) over its crop, the strongest colours at -`limit` and `limit`."""
    mappable = draw_map(axes, crop, change, (-limit, limit))
    mappable.set(cmap=CHANGE_COLORS, alpha=0.9 * np.sqrt(np.clip(np.abs(change) / limit, 0, 1)))


def before_after(
    crops: Sequence[np.ndarray],
    keypoints: Sequence[np.ndarray],
    visibility: Sequence[np.ndarray],
    predictions: Mapping[str, Sequence[Prediction]],
    names: Sequence[str],
    skeleton: Skeleton,
) -> Figure:
    """One row per person: the annotation, then for each network its skeleton and the maximum over its heatmaps.

    `predictions` maps a network, the baseline first, to its prediction for every person. One colour scale for all.
    """
    limits = common_limits(*(prediction.heatmaps for column in predictions.values() for prediction in column))
    everywhere = np.full(skeleton.num_keypoints, 2)
    columns = 1 + 2 * len(predictions)
    with style.apply():
        figure, grid = style.panels(columns * len(crops), columns, crops[0].shape[0] / crops[0].shape[1])
        rows = grid.reshape(len(crops), columns)
        rows[0, 0].set_title("annotation")
        for i, row in enumerate(rows):
            draw_person(row[0], crops[i], keypoints[i], visibility[i], skeleton)
            row[0].set_ylabel(names[i])
            for (network, column), found, seen in zip(predictions.items(), row[1::2], row[2::2], strict=True):
                draw_person(found, crops[i], column[i].keypoints, everywhere, skeleton)
                mappable = draw_heatmap(seen, crops[i], column[i].heatmaps.max(axis=0), column[i].stride_px, limits)
                if i == 0:
                    found.set_title(network.replace("_", " "))
                    seen.set_title("heatmaps")
        add_color_bar(figure, mappable, grid)
    return figure


def _descending(weights: np.ndarray) -> np.ndarray:
    return np.sort(weights.ravel())[::-1]
