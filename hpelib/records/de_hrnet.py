"""DE-HRNet: the record of the network in `hpelib/models/de_hrnet.py`."""

from hpelib.records import HRNETS, Preset, Quantity, Record, Story

PLACE = r"stage(\d)\.(\d+)\."  # stage and module

RECORD = Record(
    name="de_hrnet",
    cls="DEHRNet",
    presets={f"de_hrnet_w{width}": Preset({"width": width}, HRNETS[width]) for width in HRNETS},
    title="DE-HRNet",
    short="de",
    order=3,
    baseline="hrnet",
    color="#0072B2",  # blue
    marker="D",
    quantities={
        PLACE + r"dem(\d)": Quantity(r"DEM gate, stage \1.\2, branch \3", "DE-HRNet, Sec. 3.2", "detail_gate"),
        PLACE + r"gate(\d)": Quantity(r"plain gate, stage \1.\2, branch \3", "DE-HRNet, Table 5", "gate"),
        PLACE + r"dysample(\d)to(\d)": Quantity(
            r"DySample offsets, stage \1.\2, branch \3 to \4", "DE-HRNet, Sec. 3; DySample, Sec. 3", "offsets"
        ),
        PLACE + r"dysample(\d)to(\d)\.(\d)": Quantity(
            r"DySample offsets, stage \1.\2, branch \3 to \4, doubling \5", "DySample, Sec. 3, in steps", "offsets"
        ),
    },
    stories=(
        Story(
            "dem_gates",
            r"stage\d\.0\.dem\d",
            "The detail enhancement module gives each lower branch details of the branch above and weighs them channel "
            "by channel. The first third of a curve belongs to these details, the rest to the branch itself. A curve "
            "near 1/2 that is equal for everybody means that the gate has not learned to choose.",
        ),
        Story(
            "dysample_offsets",
            r"stage[34]\.0\.dysample\dto0",
            "DySample learns where to sample when a lower branch is enlarged. The paper promises arrows that follow "
            "the outline of the body. Lengths near zero are plain bilinear upsampling.",
        ),
        Story("branches", r"stage[23]\.branch\d", "What the branches hold at the end of each stage."),
    ),
)
