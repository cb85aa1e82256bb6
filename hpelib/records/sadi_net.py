"""SADI-Net: the record of the network in `hpelib/models/sadi_net.py`."""

from hpelib.records import Preset, Quantity, Record, Story

RECORD = Record(
    name="sadi_net",
    cls="SADINet",
    presets={"sadi_net": Preset()},
    title="SADI-Net",
    short="sa",
    order=4,
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
            r"rfm\d_se",
            "The blocks of the receptive fortified module weigh the channels of their two paths together. A curve that "
            "is flat or equal for everybody means that squeeze and excitation has not learned to choose.",
        ),
        Story(
            "global_weights",
            "sfm_global",
            "In the spatial fusion module the scales compete at every position; 1 is an even share.",
        ),
        Story("local_weights", r"sfm_local\d", "Its local attention weighs positions along each column; 1 is even."),
        Story(
            "learned_heatmaps",
            "target|dlm_heatmaps|heatmaps",
            "The distribution learning module gives each joint a heatmap with a shape of its own. Beside it stand the "
            "Gaussians that all other networks learn, and the heatmaps of the backbone. (Maximum over all joints.)",
        ),
    ),
)
