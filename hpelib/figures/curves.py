"""Curves and charts of results, from tables in long form: one row for each measurement."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from hpelib.figures import style

COSTS = {"macs": (1e9, "GMACs"), "params": (1e6, "million parameters")}  # column: unit and its name
FLOOR = {"color": "black", "linestyle": "--", "linewidth": 0.8}
HATCHES = {"-": None, "--": "////", "-.": "....", ":": "xxxx"}


def learning_curves(history: pd.DataFrame, metrics: Mapping[str, str], floor: float | None = None) -> Figure:
    """One panel for each metric against the epoch: mean over seeds, with a band of one standard deviation.

    Args:
        history: columns name, seed, epoch and those of `metrics`; NaN where a metric was not measured.
        metrics: the axis label of each column to draw.
        floor: what needs no learning from pictures, of the last metric, as a dashed line.
    """
    figure = _seed_bands(history, "epoch", metrics, "epoch")
    for axes in figure.axes:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if floor is not None:
        figure.axes[-1].axhline(floor, **FLOOR)
    return figure


def pck_curves(
    table: pd.DataFrame, metrics: Mapping[str, str], threshold: str, floor: pd.DataFrame | None = None
) -> Figure:
    """PCK in percent against the threshold: mean over seeds, with a band of one standard deviation.

    Args:
        table: columns name, seed, threshold and those of `metrics`.
        metrics: the axis label of each column to draw.
        threshold: the label of the other axis, such as "threshold / head size".
        floor: the same without name and seed, of what needs no learning from pictures, as a dashed line.
    """
    figure = _seed_bands(table, "threshold", metrics, threshold)
    for axes, metric in zip(figure.axes, metrics, strict=True):
        if floor is not None:
            axes.plot(floor["threshold"], floor[metric], **FLOOR)
        highest = 10 * math.ceil(max(line.get_ydata().max() for line in axes.lines) / 10)  # percent, in full tens
        axes.set(xlim=(0, table["threshold"].max()), ylim=(0, max(10, highest)))
    return figure


def joint_bars(table: pd.DataFrame, label: str, floors: Mapping[str, float] = MappingProxyType({})) -> Figure:
    """Bars with intervals, one for each joint and network. Both keep the order of their first appearance.

    Args:
        table: columns name, joint, value, low, high; low and high may be NaN.
        label: name and unit of the value, such as "PCKh@0.5 (%)".
        floors: of joints, what needs no learning from pictures, as dashed lines.
    """
    _require(table, ("name", "joint", "value", "low", "high"))
    joints, names = table["joint"].unique(), table["name"].unique()
    width = 0.8 / len(names)
    with style.apply():
        figure, (axes,) = style.panels(1, 1, 0.3)
        for i, (name, look) in enumerate(style.series_styles(names).items()):
            rows = table[table["name"] == name].set_index("joint").reindex(joints)
            offset = np.arange(len(joints)) + (i - (len(names) - 1) / 2) * width
            spread = np.abs(rows[["low", "high"]].sub(rows["value"], axis=0)).to_numpy().T
            hatch = HATCHES[look["linestyle"]]
            face = 0.6 * np.array(to_rgb(look["color"])) + 0.4  # pale enough for intervals to show on black
            axes.bar(
                offset, rows["value"], width, color=face, hatch=hatch, edgecolor="white", linewidth=0.5, label=name
            )
            axes.errorbar(offset, rows["value"], spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
        for place, joint in enumerate(joints):
            if joint in floors:
                axes.hlines(floors[joint], place - 0.45, place + 0.45, **FLOOR)
        axes.set_xticks(range(len(joints)), [joint.replace("_", " ") for joint in joints])
        axes.set_ylabel(label)
        axes.grid(axis="x", visible=False)
        _add_legend(figure, axes)
    return figure


def row_intervals(
    table: pd.DataFrame, seeds: pd.DataFrame, labels: Mapping[str, str], floors: Mapping[str, float]
) -> Figure:
    """One panel for each dataset, with a line for each row of an ablation: its mean, its interval and its seeds.

    The first row of a dataset is what the others are compared with: the grey line goes on from its mean.

    Args:
        table: columns dataset, row, value, and low and high, the interval of the gain over the first row, laid about
            the value; NaN where there is none.
        seeds: columns dataset, row, value.
        labels: of each dataset, name and unit of the value; panels are in this order.
        floors: of datasets, what needs no learning from pictures, as a dashed line.
    """
    _require(table, ("dataset", "row", "value", "low", "high"))
    with style.apply():
        height_in = 0.22 * table.groupby("dataset").size().max() + 0.2
        figure, grid = style.panels(len(labels), len(labels), height_in * len(labels) / style.WIDTH_IN)
        for axes, (dataset, label) in zip(grid, labels.items(), strict=True):
            rows = table[table["dataset"] == dataset].reset_index(drop=True)
            spread = np.abs(rows[["low", "high"]].sub(rows["value"], axis=0)).to_numpy().T
            axes.axvline(rows["value"].iloc[0], color="#BBBBBB", linewidth=2, zorder=1)
            axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
            look = {"fmt": "none", "ecolor": style.BLUE, "elinewidth": 1.2, "capsize": 2}
            axes.errorbar(rows["value"], rows.index, xerr=spread, **look)
            axes.plot(rows["value"], rows.index, "D", color=style.BLUE, markersize=4)
            points = seeds[seeds["dataset"] == dataset]
            axes.plot(points["value"], points["row"].map(dict(zip(rows["row"], rows.index, strict=True))), "k.", ms=3)
            if dataset in floors:
                axes.axvline(floors[dataset], **FLOOR)
            axes.set_yticks(rows.index, rows["row"].str.replace("_", " "))
            axes.set(title=dataset, xlabel=label)
    return figure


def accuracy_against_cost(table: pd.DataFrame, label: str, floor: float | None = None) -> Figure:
    """Accuracy against multiply-accumulates and parameters (logarithmic), with the front that no network surpasses.

    Args:
        table: one row for each network; columns name, value, low, high (may be NaN), macs, params.
        label: name and unit of the value, such as "PCKh@0.5 (%)".
        floor: what needs no learning from pictures, as a dashed line.
    """
    _require(table, ("name", "value", "low", "high", "macs", "params"))
    with style.apply():
        figure, grid = style.panels(2, 2, 0.85)
        for axes, (cost, (unit, title)) in zip(grid, COSTS.items(), strict=True):
            _against(axes, table, cost, unit)
            axes.set(xlabel=title, ylabel=label)
            if floor is not None:
                axes.axhline(floor, **FLOOR)
        _add_legend(figure, grid[0])
    return figure


def accuracy_against_minutes(table: pd.DataFrame, label: str) -> Figure:
    """Accuracy against minutes (logarithmic), and the front that none surpasses; columns name, value and minutes."""
    _require(table, ("name", "value", "minutes"))
    with style.apply():
        figure, (axes,) = style.panels(1, 1, 0.85)
        _against(axes, table.assign(low=np.nan, high=np.nan), "minutes", 1)
        axes.set(xlabel="CPU minutes of a training", ylabel=label)
        _add_legend(figure, axes)
    return figure


def _against(axes: Axes, table: pd.DataFrame, cost: str, unit: float) -> None:
    """A point with its interval for each row at `cost` / `unit`, and the front."""
    front = pareto_front(table, cost)
    axes.plot(front[cost] / unit, front["value"], color="#BBBBBB", linewidth=2, drawstyle="steps-post", zorder=1)
    for row, look in zip(table.itertuples(), style.series_styles(table["name"]).values(), strict=True):
        spread = [[row.value - row.low], [row.high - row.value]]
        look |= {"linestyle": "none", "elinewidth": 0.8, "mec": "white", "mew": 0.4, "markersize": 8}
        axes.errorbar(getattr(row, cost) / unit, row.value, spread, label=row.name, **look)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def pareto_front(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that no other row beats, cheapest first.

    A row is beaten by one whose `cost` is no higher and whose `value` is no lower. Of equal rows the first stays.
    """
    ordered = table.sort_values([cost, "value"], ascending=[True, False], kind="stable")
    return ordered[ordered["value"] > ordered["value"].cummax().shift(fill_value=-np.inf)]


def _seed_bands(table: pd.DataFrame, x: str, metrics: Mapping[str, str], x_label: str) -> Figure:
    _require(table, ("name", "seed", x, *metrics))
    with style.apply():
        figure, grid = style.panels(len(metrics), len(metrics), 0.75 if len(metrics) > 1 else 0.4)
        for axes, (metric, label) in zip(grid, metrics.items(), strict=True):
            looks = style.series_styles(table["name"].unique())
            for i, (name, look) in enumerate(looks.items()):
                over_seeds = table[table["name"] == name].dropna(subset=[metric]).groupby(x)[metric]
                mean, deviation = over_seeds.mean(), over_seeds.std().fillna(0.0)  # one seed: no band
                first_marker = 0.2 * i / len(looks)  # staggered, or curves that lie close would hide each other's
                axes.plot(mean, label=name, markevery=(first_marker, 0.2), **look)
                axes.fill_between(mean.index, mean - deviation, mean + deviation, color=look["color"], alpha=0.2, lw=0)
            axes.set(xlabel=x_label, ylabel=label)
            axes.ticklabel_format(axis="y", scilimits=(-2, 4), useMathText=True)
        _add_legend(figure, grid[0])
    return figure


def _add_legend(figure: Figure, axes: Axes) -> None:
    """One legend for the whole figure below it, where it hides no data."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _require(table: pd.DataFrame, columns: Sequence[str]) -> None:
    if table.empty or not set(columns) <= set(table):
        raise ValueError(f"need rows with {list(columns)}, got {len(table)} rows with {list(table)}")
