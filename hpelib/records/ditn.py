"""DITN: the record of the network in `hpelib/models/ditn.py`."""

from hpelib.records import HRNETS, RESNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="ditn",
    cls="DITN",
    presets={"ditn_w32": Preset({"backbone": "hrnet"}, {"hrnet": HRNETS[32], "resnet50": RESNETS[50]})},
    title="DITN",
    short="di",
    order=6,
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
        Story("bones", "bones|heatmaps", "Bones, learned beside the joints. (Maximum over all.)"),
        Story(
            "transfer",
            "kernels|cab|sab",
            "The features of each bone become kernels for its two joints. CAB weighs the result for each joint and "
            "bone, SAB for each position. Both lie between 1/2 and 1; at 1/2 the paper's ReLU has closed them.",
        ),
    ),
)
