"""Pictures of the stress tests: a person at every level of every factor, and the networks' fall."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpelib.data.crops import Picture
from hpelib.figures import style
from hpelib.figures.curves import FLOOR
from hpelib.figures.skeletons import show_image

STRIPS, CURVES = 2, 5  # factors side by side on a sheet of pictures, and of curves


def level_sheet(crops: Mapping[str, Mapping[float, Picture]]) -> Figure:
    """One person by factor and level: a strip for each factor, with its name at the left."""
    longest = max(len(strip) for strip in crops.values())
    rows = -(-len(crops) // STRIPS)
    with style.apply():
        figure, grid = style.panels(rows * STRIPS * longest, STRIPS * longest, 1.0)
        strips = grid.reshape(-1, longest)
        for axes in grid:
            axes.set_axis_off()
        for axes_of_strip, (factor, strip) in zip(strips, crops.items(), strict=False):
            for axes, (level, crop) in zip(axes_of_strip, strip.items(), strict=False):
                axes.set_axis_on()
                show_image(axes, crop)
                axes.set_title(f"{level:g}", pad=2)
            axes_of_strip[0].set_ylabel(factor)
    return figure


def level_curves(
    table: pd.DataFrame, units: Mapping[str, str], label: str, floor: pd.DataFrame | None = None
) -> Figure:
    """One panel for each factor: the figure of each network from the easy level on the left to the hardest one.

    Bands are the intervals. Steps between levels are drawn equally wide, in the order of `table`.

    Args:
        table: columns network, factor, level, value, low and high.
        units: of the levels of each factor, for the axes; panels are in this order.
        label: what value, low and high are, with the unit.
        floor: columns factor, level and value of what needs no learning from pictures, as a dashed line.

    Raises:
        ValueError: the table is empty.
    """
    if table.empty:
        raise ValueError("no network to draw the curves of")
    top = min(10 * np.ceil(table["high"].max() / 10) + 1, 100)
    with style.apply():
        figure, grid = style.panels(len(units), CURVES, 1.0)
        for panel, (axes, (factor, unit)) in enumerate(zip(grid, units.items(), strict=True)):
            rows = table[table["factor"] == factor]
            levels = rows["level"].unique()
            steps = range(len(levels))
            for name, look in style.series_styles(table["network"].unique()).items():
                curve = rows[rows["network"] == name].set_index("level").loc[levels]
                axes.plot(steps, curve["value"], label=name, **look | {"markersize": 3.5, "linewidth": 1.1})
                axes.fill_between(steps, curve["low"], curve["high"], color=look["color"], alpha=0.15, lw=0)
            if floor is not None:
                axes.plot(steps, floor[floor["factor"] == factor].set_index("level").loc[levels, "value"], **FLOOR)
            axes.set_xticks(steps, [f"{level:g}" for level in levels])
            axes.set(title=factor, xlabel=unit, ylim=(0, top))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            if panel % CURVES:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel(label)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    return figure
