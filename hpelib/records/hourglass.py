"""Stacked hourglass: the record of the network in `hpelib/models/hourglass.py`."""

from hpelib.records import Preset, Quantity, Record, Story

RECORD = Record(
    name="hourglass",
    cls="StackedHourglass",
    presets={"hourglass": Preset()},
    title="Stacked hourglass",
    short="hg",
    order=1,
    color="#56B4E9",  # sky blue
    marker="v",
    quantities={r"stack(\d+)": Quantity(r"heatmaps of stack \1", "stacked hourglass, Sec. 3.3", "heatmaps")},
    stories=(Story("stacks", r"stack\d", "Each stack refines the heatmaps of the one before it."),),
)
