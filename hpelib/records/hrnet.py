"""HRNet: the record of the network in `hpelib/models/hrnet.py`."""

from hpelib.records import HRNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="hrnet",
    cls="HRNet",
    presets={f"hrnet_w{width}": Preset({"width": width}, HRNETS[width]) for width in HRNETS},
    title="HRNet",
    short="hr",
    order=2,
    color="#000000",  # black
    marker="o",
    quantities={r"stage(\d)\.branch(\d)": Quantity(r"stage \1, branch \2", "HRNet, Sec. 3", "features")},
    stories=(
        Story(
            "branches",
            r"stage[23]\.branch\d|stage4\.branch0",
            "The branches at the end of each stage, from high to low resolution. The fine one keeps the exact place, "
            "the coarse ones see the context.",
        ),
    ),
)
