"""DITN: the record of the network in `hpelib/models/ditn.py`."""

from hpelib.records import HRNETS, RESNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="ditn",
    title="DITN",
    short="di",
    order=6,
    cls="DITN",
    presets={"ditn_w32": Preset({"backbone": "hrnet"}, {"hrnet": HRNETS[32], "resnet50": RESNETS[50]})},
    full_size="ditn_w32",
    baseline="hrnet",
    color="#009E73",  # green
    marker="X",
    quantities={
        "bones": Quantity("bone maps", "DITN, Sec. 3.2", "bones"),
        "kernels": Quantity("dynamic kernels", "DITN, Sec. 3.2, Eq. 2", "kernels"),
        "cab": Quantity("channel attention (CAB)", "DITN, Sec. 3.4, Eq. 4", "gate"),
        "sab": Quantity("spatial attention (SAB)", "DITN, Sec. 3.4, Eq. 5", "gate"),
    },
    stories=(
        Story(
            "bones",
            "Bones, learned beside the joints. (Maximum over all.)",
            "bones|heatmaps",
        ),
        Story(
            "transfer",
            "Each bone's features become kernels for its two joints; CAB weighs the result per joint and bone, "
            "SAB per position. CAB and SAB lie between a half and one: a half means that the paper's ReLU has "
            "closed them.",
            "kernels|cab|sab",
        ),
    ),
)
