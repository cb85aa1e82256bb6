"""DE-HRNet: the record of the network in `hpelib/models/de_hrnet.py`."""

from hpelib.records import HRNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="de_hrnet",
    title="DE-HRNet",
    short="de",
    order=3,
    cls="DEHRNet",
    presets={f"de_hrnet_w{width}": Preset({"width": width}, HRNETS[width]) for width in HRNETS},
    full_size="de_hrnet_w32",
    baseline="hrnet",
    color="#0072B2",  # blue
    marker="D",
    quantities={
        r"stage(\d)\.(\d+)\.dem(\d)": Quantity(
            r"DEM gate, stage \1.\2, branch \3", "DE-HRNet, Sec. 3.2", "detail_gate"
        ),
        r"stage(\d)\.(\d+)\.gate(\d)": Quantity(r"plain gate, stage \1.\2, branch \3", "DE-HRNet, Table 5", "gate"),
        r"stage(\d)\.(\d+)\.dysample(\d)to(\d)": Quantity(
            r"DySample offsets, stage \1.\2, branch \3 to \4", "DE-HRNet, Sec. 3; DySample, Sec. 3", "offsets"
        ),
        r"stage(\d)\.(\d+)\.dysample(\d)to(\d)\.(\d)": Quantity(
            r"DySample offsets, stage \1.\2, branch \3 to \4, doubling \5", "DySample, Sec. 3, in steps", "offsets"
        ),
    },
    stories=(
        Story(
            "dem_gates",
            "The detail enhancement module hands each lower branch details from above and weighs them channel "
            "by channel: the first third of a curve is for the details, the rest for the branch itself. Weights"
            " that are near one half and the same for everybody: a gate that has not learnt to choose.",
            r"stage\d\.0\.dem\d",
        ),
        Story(
            "dysample_offsets",
            "DySample learns where to sample when a lower branch is brought up. Arrows that follow the body's "
            "outline are what the paper promises; lengths near zero are plain bilinear upsampling.",
            r"stage[34]\.0\.dysample\dto0",
        ),
        Story(
            "branches",
            "What the branches hold at the end of each stage.",
            r"stage[23]\.branch\d",
        ),
    ),
)
