"""Bone by bone: the numbers by which DITN's transfer acts on the two joints of each bone, for several people."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hpelib.figures import style
from hpelib.figures.heatmaps import View
from hpelib.figures.looks import matching, panels_of
from hpelib.records import quantity

MARKERS = "osD^v"  # one for each person


def bone_sheet(views: Mapping[str, View], pattern: str) -> Figure:
    """One row for each bone with its two joints by name, one column for each look that matches `pattern`.

    `views` are one network's, by the persons' names. The looks have two channels for each bone of the skeleton, for the
    bone's first and second joint. Marks that lie on one another are numbers that do not depend on the person.

    Raises:
        ValueError: the network shows nothing of that name.
    """
    names = matching(views, pattern)
    skeleton = next(iter(views.values())).skeleton
    words = [name.replace("_", " ") for name in skeleton.keypoints]
    labels = [row for a, b in skeleton.bones for row in (f"{words[a]} - {words[b]}: {words[a]}", f"{words[b]}")]
    places = np.arange(len(labels)) + 0.5 * (np.arange(len(labels)) // 2)  # a gap after each bone
    with style.apply():
        figure, grid = style.panels(len(names), len(names), 0.115 * len(labels) * len(names) / style.WIDTH_IN)
        for axes, name in zip(grid, names, strict=True):
            for (person, view), marker in zip(views.items(), MARKERS, strict=False):
                ((title, panel),) = panels_of(quantity(name), view.looks[name]).items()
                look = {"linestyle": "", "marker": marker, "markersize": 3.5, "fillstyle": "none"}
                axes.plot(panel.values, places, label=person, **look)
            axes.set(title=title, xlabel=panel.unit, ylim=(places[-1] + 1, -1))
            axes.set_yticks(places, labels if axes is grid[0] else [])
            if panel.limits:
                axes.set_xlim(*panel.limits)
            else:
                axes.axvline(0, color=style.GREY, linewidth=0.7)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(views))
    return figure
