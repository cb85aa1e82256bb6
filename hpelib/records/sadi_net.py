"""SADI-Net: the record of the network in `hpelib/models/sadi_net.py`."""

from hpelib.records import Preset, Quantity, Record, Story

RECORD = Record(
    name="sadi_net",
    title="SADI-Net",
    short="sa",
    order=4,
    cls="SADINet",
    presets={"sadi_net": Preset()},
    full_size="sadi_net",
    baseline="hourglass",
    color="#E69F00",  # orange
    marker="^",
    quantities={
        r"rfm(\d+)_se": Quantity(r"SE gate, block \1", "SADI-Net, Sec. III-B, Eq. 1", "gate"),
        "sfm_global": Quantity("SFM global weights", "SADI-Net, Sec. III-C, Eqs. 2, 3", "competition"),
        r"sfm_local(\d)": Quantity(r"SFM local weights \1", "SADI-Net, Sec. III-C", "columns"),
        "dlm_mu": Quantity("learned means", "SADI-Net, Sec. III-D", "means"),
        "dlm_sigma": Quantity("learned deviations", "SADI-Net, Sec. III-D", "deviations"),
        "dlm_heatmaps": Quantity("learned heatmaps", "SADI-Net, Sec. III-D, Eqs. 4, 5", "heatmaps"),
    },
    stories=(
        Story(
            "rfm_gates",
            "The blocks of the receptive fortified module weigh the channels of their two ways together. Curves"
            " that are flat or the same for everybody: squeeze and excitation that has not learnt to choose.",
            r"rfm\d_se",
        ),
        Story(
            "global_weights",
            "The spatial fusion module lets the scales compete at every position; 1 is an even share.",
            "sfm_global",
        ),
        Story(
            "local_weights",
            "Its local attention weighs positions along each column; 1 is even.",
            r"sfm_local\d",
        ),
        Story(
            "learned_heatmaps",
            "The distribution learning module gives each joint a heatmap of a shape of its own. Beside it the "
            "Gaussians that all other networks learn, and what the backbone answers. (Maximum over all joints.)",
            "target|dlm_heatmaps|heatmaps",
        ),
    ),
)
