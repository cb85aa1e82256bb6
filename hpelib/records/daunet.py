"""DAUNet: the record of the network in `hpelib/models/daunet.py`."""

from hpelib.records import RESNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="daunet",
    title="DAUNet",
    short="da",
    order=7,
    cls="DAUNet",
    presets={"daunet_resnet50": Preset({}, RESNETS[50])},
    full_size="daunet_resnet50",
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
            "Strip pooling gates features by means along rows and columns. Bars and crosses are its trace.",
            r"stage\d_block\d+_strip",
        ),
        Story(
            "rebuild",
            "SRU parts channels into informative and redundant ones, here the share of informative ones per "
            "position; CRU weighs a rich against a cheap transform of them.",
            r"up\d_[sc]ru",
        ),
        Story(
            "parts",
            "What SRU takes for informative, and what for redundant: two pictures of the same say that the "
            "parting is none.",
            r"up\d_sru_(informative|redundant)",
        ),
        Story(
            "sge",
            "SGE lifts positions that resemble their group's mean.",
            r"up\d_sge",
        ),
    ),
)
