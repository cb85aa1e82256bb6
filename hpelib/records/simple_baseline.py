"""SimpleBaseline: the record of the network in `hpelib/models/simple_baseline.py`."""

from hpelib.records import RESNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="simple_baseline",
    cls="SimpleBaseline",
    presets={
        f"simple_baseline_resnet{depth}": Preset({"encoder": f"resnet{depth}"}, RESNETS[depth]) for depth in RESNETS
    },
    title="SimpleBaseline",
    short="sb",
    order=0,
    full_size="simple_baseline_resnet50",
    color="#7F7F7F",  # grey
    marker="s",
    quantities={r"stage(\d)": Quantity(r"Res-stage \1", "SimpleBaseline, Sec. 2", "features")},
    stories=(Story("stages", r"stage\d", "Maps get coarser from stage to stage. The deconvolutions must undo this."),),
)
