"""What networks show of themselves, drawn over the people whom they saw: maps, offsets and channel weights.

A panel is what is drawn of one person in one picture. The shape of its values says how it is drawn: a map (h, w) in
colour, channel weights (C,) as a curve in the order of the channels, offsets (2, h, w) in colour with arrows.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from hpelib.data.crops import Picture
from hpelib.figures import style
from hpelib.figures.heatmaps import View, add_color_bar, crop_size, draw_heatmap
from hpelib.figures.skeletons import show_image
from hpelib.records import Quantity, quantity

ARROWS = 8  # across a map
ARROWS_IN = 1.7  # width of a panel with arrows
LETTERS_PER_IN = 14  # of titles
CHANGE_COLORS = "PuOr_r"  # orange for more, purple for less: colour-blind readers can tell them apart
PART_COLORS = (style.ORANGE, style.BLUE)
SHARE = 0.0, 1.0  # the scale of gates: stretched to their own range, 0.71 and 0.75 would look far apart


@dataclass(frozen=True)
class Panel:
    """What is drawn of one person in one picture."""

    values: np.ndarray  # (h, w), (C,) or (2, h, w)
    unit: str
    limits: tuple[float, float] | None = None  # of colours or of a curve; by default the range over all persons
    scale: str = ""  # panels of one name share the range; by default a panel has its own
    reach: float | None = None  # the map is no place in the picture: its axes go from -reach to reach
    parts: Mapping[str, int] = field(default_factory=dict)  # what consecutive channels belong to, and how many
    signed: bool = False  # a map about its mean: purple below, orange above, transparent at 0

    @property
    def axis(self) -> str:
        """What a curve runs over."""
        return "keypoints" if self.unit == CROP_PX else "channels"


CROP_PX, EVEN, MEAN = "px of the crop", "times an even share", "factor, mean over channels"


def panels_of(quantity: Quantity, look: np.ndarray, keypoint: int | None = None) -> dict[str, Panel]:
    """The panels that are drawn of a look, by their titles.

    `look` is one person's, as `capture` returns it but without its axis N. What is drawn depends on the kind:

    - heatmaps: the one of `keypoint`; without `keypoint`, and of bones always, the maximum over all;
    - attention and other shares: times the number of positions or scales that share, so that 1 is an even share;
    - a partition into informative and redundant channels: the share of informative ones;
    - gates, kernels and deviations: one number for each channel or keypoint, in their order (of a kernel its norm, of a
      kernel of 1x1 px the number itself, of a deviation the geometric mean of x and y);
    - gates of groups: one map for each group; of other maps of factors the mean over their channels;
    - offsets: their mean over the groups;
    - a density of deviations from the mean: itself, on axes of its own;
    - means: nothing, because heatmaps peak there;
    - any other map: the mean over its channels, of features the mean of absolute values.
    """
    title, weights = quantity.title, look.shape[1:] == (1, 1)
    match quantity.kind:
        case "heatmaps":
            return {title: Panel(look.max(axis=0) if keypoint is None else look[keypoint], "heatmap value")}
        case "bones":
            return {title: Panel(look.max(axis=0), "bone map value", scale="bones")}
        case "attention":
            return {title: Panel(look[0] * look[0].size, EVEN)}
        case "columns":
            return {title: Panel(look.mean(axis=0) * look.shape[1], EVEN)}
        case "competition" if look.ndim == 4:  # of two branches for each channel
            return {f"{title}: share of the rich transform": Panel(look[0].ravel(), "share", SHARE)}
        case "competition":
            even = {"unit": EVEN, "limits": (0.0, float(len(look)))}
            return {f"{title}, scale {i}": Panel(share * len(look), **even) for i, share in enumerate(look, start=1)}
        case "offsets":
            return {title: Panel(look.mean(axis=1), "px of the lower branch's map")}
        case "parting":
            return {f"{title}: informative": Panel((look > 0.5).mean(axis=0), "share of channels", SHARE)}
        case "parts":
            return {title: Panel(np.abs(look).mean(axis=0), "mean of absolute values", scale=str(look.shape))}
        case "detail_gate":
            parts = {"details from the branch above": len(look) // 3, "the branch itself": len(look) - len(look) // 3}
            return {title: Panel(look.ravel(), "factor", SHARE, parts=parts)}
        case "group_gate":
            return {f"{title}, group {i}": Panel(gate, "factor", SHARE) for i, gate in enumerate(look, start=1)}
        case "density":
            return {title: Panel(look[0], "density", reach=6.0)}
        case "means":
            return {}
        case "deviations":
            return {title: Panel(np.sqrt(look.prod(axis=1)), CROP_PX)}
        case "kernels":
            kernels = look.ravel() if weights else np.linalg.norm(look, axis=(1, 2))
            return {f"{title}: {'1x1' if weights else 'norm'}": Panel(kernels, "weight")}
        case "gate":
            return {title: Panel(look.ravel() if weights else look.mean(axis=0), "factor" if weights else MEAN, SHARE)}
        case "scale":
            return {title: Panel(look.mean(axis=0), MEAN)}
    if len(look) == 1:
        return {title: Panel(look[0], "value")}
    return {title: Panel(np.abs(look).mean(axis=0), "mean of absolute values")}


def common_part(values: np.ndarray, period: int = 1) -> np.ndarray:
    """What positions of `values` (..., h, w) have in common: their mean over positions, in the same shape.

    With a `period` above 1 it is a mean over those positions that lie whole periods apart on both axes. A map that was
    enlarged by pixel shuffle has such parts: each of the new pixels within an old one has weights of its own.
    """
    common = np.empty_like(values)
    for row, column in np.ndindex(period, period):
        own = (..., slice(row, None, period), slice(column, None, period))
        common[own] = values[own].mean(axis=(-2, -1), keepdims=True)
    return common


def centred(panel: Panel, period: int = 1) -> Panel:
    """A map (h, w) or offsets (2, h, w) less their `common_part`; the sign of a map is then drawn.

    A curve stays as it is.
    """
    if panel.values.ndim == 1:
        return panel
    values = panel.values - common_part(panel.values, period)
    return replace(panel, values=values, limits=None, signed=values.ndim == 2, unit=f"{panel.unit}, less the mean")


def look_sheet(
    views: Mapping[str, View],
    pattern: str | Sequence[str],
    limits: Mapping[str, tuple[float, float]] | None = None,
    percentile: float = 100,
    period: int = 0,
) -> Figure:
    """One row for each person: the person, then every panel of the looks whose whole name matches `pattern`.

    `views` are one network's, by the persons' names. A column has the same colour scale, or axis, for all persons. It
    ends at the `percentile` of their values; what lies above has the last colour. `limits` replaces the scale of the
    panels of a look, by its name. With a `period`, maps and offsets are drawn less what positions so far apart have in
    common (`centred`); 1 is their plain mean. Panels stand in the network's order; of several patterns, those of the
    first come first.

    Raises:
        ValueError: the network shows nothing of that name; the message lists what it shows.
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern
    names = list(dict.fromkeys(name for each in patterns for name in matching(views, each)))
    # one dict of panels for each person
    rows = [
        {
            title: replace(panel, limits=(limits or {}).get(name, panel.limits))
            for name in names
            for title, panel in panels_of(quantity(name), view.looks[name]).items()
        }
        for view in views.values()
    ]
    if period:
        rows = [{title: centred(panel, period) for title, panel in row.items()} for row in rows]
    ranges = _ranges(rows, percentile)
    pictures = [view.crop.picture for view in views.values()]
    columns = 1 + len(rows[0])
    with style.apply():
        arrows = any(panel.values.ndim == 3 for panel in rows[0].values())
        width_in = min(style.WIDTH_IN, columns * (ARROWS_IN if arrows else style.PANEL_IN))
        letters = int(LETTERS_PER_IN * width_in / columns)
        aspect = next(iter(views.values())).aspect
        figure, grid = style.panels(columns * len(rows), columns, 1.1 * aspect, width_in)
        grid = grid.reshape(len(rows), -1)
        for axes, picture, name in zip(grid[:, 0], pictures, views, strict=True):
            show_image(axes, picture)
            axes.set_ylabel(name)
        for column, title in zip(grid[:, 1:].T, rows[0], strict=True):
            panel = rows[0][title]
            column[0].set_title(textwrap.fill(title, letters))
            for axes, picture, row in zip(column, pictures, rows, strict=True):
                drawn = draw_panel(axes, picture, row[title], ranges[panel.scale or title])
            if drawn is None:
                column[-1].set_xlabel(panel.axis)
                column[-1].set_ylabel(panel.unit)
            else:
                unit = textwrap.fill(panel.unit, letters)
                bar = add_color_bar(figure, drawn, column, label=unit, shrink=0.9, aspect=15)
                _number(bar)
        if parts := next((panel.parts for panel in rows[0].values() if panel.parts), None):
            patches = [Patch(color=color, alpha=0.6) for color in PART_COLORS]
            figure.legend(patches, parts, loc="outside upper center", ncols=2)
    return figure


def _number(bar: Colorbar) -> None:
    """Give a short colour bar at most three numbers, small and without zeros at the end: they must not run together."""
    bar.ax.tick_params(labelsize=6)
    bar.locator, bar.formatter = MaxNLocator(2), StrMethodFormatter("{x:g}")


def matching(views: Mapping[str, View], pattern: str) -> list[str]:
    """Names of the looks in `views` whose whole name matches `pattern`.

    Raises:
        ValueError: there are none; the message lists what the network shows.
    """
    shown = next(iter(views.values())).looks
    names = [name for name in shown if re.fullmatch(pattern, name)]
    if not names:
        raise ValueError(f"the network shows nothing that matches {pattern!r}; it shows {', '.join(shown)}")
    return names


def _ranges(rows: Sequence[Mapping[str, Panel]], percentile: float) -> dict[str, tuple[float, float]]:
    """The limits of every scale over all persons; a panel without a scale's name goes by its title."""
    together: dict[str, list[Panel]] = {}
    for title, panel in (item for row in rows for item in row.items()):
        together.setdefault(panel.scale or title, []).append(panel)
    return {scale: common_range(panels, percentile) for scale, panels in together.items()}


def draw_panel(
    axes: Axes, image: np.ndarray | Picture, panel: Panel, limits: tuple[float, float] | None = None
) -> AxesImage | None:
    """Draw a panel of `panels_of` over `image` (H, W, 3) uint8, or over a `Picture`.

    `limits` are the values of the lowest and the highest colour, by default those of the panel. The result can carry
    a colour bar; channel weights, which have no colours, return None.

    The arrows of offsets lead to where a value is taken from. An offset as long as the upper limit is drawn as long as
    the arrows' spacing, so that directions can be seen however short all offsets are.
    """
    limits, values = limits or common_range([panel]), panel.values
    if values.ndim == 1:
        _draw_curve(axes, panel, limits)
        return None
    if panel.reach:
        extent = (-panel.reach, panel.reach, panel.reach, -panel.reach)
        axes.set(xlabel="x / deviation", ylabel="y / deviation")
        axes.grid(False)
        return axes.imshow(values, cmap="inferno", extent=extent, vmin=limits[0], vmax=limits[1])
    if panel.signed:
        return draw_change(axes, image, values, max(np.abs(limits).max(), 1e-12))
    if values.ndim == 2:
        return draw_heatmap(axes, image, values, limits)
    mappable = draw_heatmap(axes, image, np.hypot(*values), limits)
    width, height = crop_size(image)
    _, h, w = values.shape
    step = max(1, w // ARROWS)
    rows, columns = np.mgrid[step // 2 : h : step, step // 2 : w : step]
    x_px, y_px = width / w, height / h
    dx, dy = values[:, rows, columns] * step * x_px / max(limits[1], 1e-12)
    look = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006, "minlength": 0, "color": "white"}
    axes.quiver(columns * x_px, rows * y_px, dx, dy, **look)
    return mappable


def _draw_curve(axes: Axes, panel: Panel, limits: tuple[float, float]) -> None:
    first, last = 1, len(panel.values)
    for color, count in zip(
        PART_COLORS if panel.parts else PART_COLORS[1:], panel.parts.values() or [last], strict=True
    ):
        channels, values = np.arange(first, first + count), panel.values[first - 1 : first - 1 + count]
        axes.fill_between(channels, values, color=color, alpha=0.3, step="mid", linewidth=0)
        axes.plot(channels, values, color=color, drawstyle="steps-mid", linewidth=1)
        first += count
    low, high = min(0.0, limits[0]), max(0.0, limits[1])
    room = 0.05 * max(high - low, 1e-12)
    axes.set(ylim=(low - room if low else 0, high + room), xlim=(0.5, last + 0.5), xticks=sorted({1, last}))


def common_range(panels: Sequence[Panel], percentile: float = 100) -> tuple[float, float]:
    """The panels' fixed limits, else their lowest value, or 0 if none is below, and the `percentile` of all values."""
    if panels[0].limits:
        return panels[0].limits
    values = [np.hypot(*panel.values) if panel.values.ndim == 3 else panel.values for panel in panels]
    together = np.concatenate([value.ravel() for value in values])
    return min(0.0, float(together.min())), float(np.percentile(together, percentile))


def draw_change(axes: Axes, image: np.ndarray | Picture, change: np.ndarray, limit: float) -> AxesImage:
    """Draw a signed map (h, w) over its person: strongest at -`limit` and `limit`, transparent at 0.

    The result can carry a colour bar.
    """
    mappable = draw_heatmap(axes, image, change, (-limit, limit))
    strength = np.sqrt(np.clip(np.abs(mappable.get_array()) / limit, 0, 1))
    mappable.set(cmap=CHANGE_COLORS, alpha=0.9 * strength.filled(0))
    return mappable


@dataclass(frozen=True)
class Step:
    """One panel of `step_sheet`."""

    values: np.ndarray  # (h, w)
    kind: str  # "answer", from 0 up over the person; "signed", about 0 over the person; "kernel", about 0, with its px
    scale: str = ""  # steps of one name share a scale; by default a step has its own


def step_sheet(picture: np.ndarray | Picture, steps: Mapping[str, Step], columns: int, aspect: float = 1.0) -> Figure:
    """What becomes of a map, step by step, by the panels' titles. Every panel has its colour bar."""
    most: dict[str, float] = {}
    for title, step in steps.items():
        name = step.scale or title
        most[name] = max(most.get(name, 1e-12), float(np.abs(step.values).max()))
    with style.apply():
        figure, grid = style.panels(len(steps), columns, aspect + 0.6)
        figure.get_layout_engine().set(h_pad=0.1)  # inches: numbers below a bar stay apart from titles of the next row
        for axes, (title, step) in zip(grid, steps.items(), strict=True):
            limit = most[step.scale or title]
            drawn = _draw_step(axes, picture, step, limit)
            axes.set_title(title, fontsize=7)
            bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.9, aspect=12, pad=0.03)
            bar.ax.set_facecolor(style.GREY)
            bar.ax.grid(False)
            _number(bar)
    return figure


def _draw_step(axes: Axes, picture: np.ndarray | Picture, step: Step, limit: float) -> AxesImage:
    if step.kind == "kernel":
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        return axes.imshow(step.values, cmap=CHANGE_COLORS, vmin=-limit, vmax=limit)
    if step.kind == "signed":
        return draw_change(axes, picture, step.values, limit)
    return draw_heatmap(axes, picture, step.values, (0, limit))
