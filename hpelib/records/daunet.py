"""DAUNet: the record of the network in `hpelib/models/daunet.py`."""

from hpelib.records import RESNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="daunet",
    cls="DAUNet",
    presets={"daunet_resnet50": Preset({}, RESNETS[50])},
    title="DAUNet",
    short="da",
    order=7,
    baseline="simple_baseline",
    color="#CC79A7",  # purple
    marker="*",
    quantities={
        r"stage(\d)_block(\d+)_strip": Quantity(r"strip gate, stage \1, block \2", "DAUNet, Eqs. 4-7", "gate"),
        r"up(\d)_sru": Quantity(r"SRU weights, U\1", "DAUNet, Eqs. 8-10", "parting"),
        r"up(\d)_sru_(informative|redundant)": Quantity(r"\2 part, U\1", "DAUNet, Eq. 10", "features"),
        r"up(\d)_cru": Quantity(r"CRU weights, U\1", "DAUNet, Eqs. 12-16", "competition"),
        r"up(\d)_sge": Quantity(r"SGE attention, U\1", "DAUNet, Eqs. 17-21", "gate"),
    },
    stories=(
        Story(
            "strips",
            r"stage\d_block\d+_strip",
            "Strip pooling gates features by means along rows and columns. It leaves bars and crosses in the picture.",
        ),
        Story(
            "rebuild",
            r"up\d_[sc]ru",
            "SRU parts channels into informative and redundant ones; shown is the share of informative ones at each "
            "position. CRU weighs a rich transform of the channels against a cheap one.",
        ),
        Story(
            "parts",
            r"up\d_sru_(informative|redundant)",
            "What SRU takes for informative, and what for redundant. Two equal pictures mean that nothing is parted.",
        ),
        Story("sge", r"up\d_sge", "SGE raises positions that resemble the mean of their group."),
    ),
)
