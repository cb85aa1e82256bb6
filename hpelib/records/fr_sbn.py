"""FR-SBN: the record of the network in `hpelib/models/fr_sbn.py`."""

from hpelib.records import RESNETS, Preset, Quantity, Record, Story

RECORD = Record(
    name="fr_sbn",
    cls="FRSBN",
    presets={f"fr_sbn_resnet{depth}": Preset({"encoder": f"resnet{depth}"}, RESNETS[depth]) for depth in RESNETS},
    title="FR-SBN",
    short="fr",
    order=5,
    baseline="simple_baseline",
    color="#D55E00",  # vermilion
    marker="P",
    quantities={
        r"(stage|decoder)(\d)_sah": Quantity(r"spatial attention heatmap, \1 \2", "FR-SBN, Sec. 3.2", "features"),
        r"(stage|decoder)(\d)_attention": Quantity(r"GCB attention, \1 \2", "FR-SBN, Sec. 3.2", "attention"),
        "sa_mfcd_gate": Quantity("SA-MFCD gate", "FR-SBN, Sec. 3.3", "scale"),
    },
    stories=(
        Story(
            "context",
            r"(stage|decoder)\d_attention",
            "Where each stage gathers its global context; 1 is an even share. Attention that is even everywhere is "
            "average pooling.",
        ),
        Story(
            "sa_mfcd",
            "stage[123]_sah|sa_mfcd_gate",
            "SA-MFCD multiplies the collected features of Res-stages 1 to 3 with a gate that is made of the spatial "
            "attention heatmaps. Where the gate is zero, none of these features reach the decoders.",
        ),
    ),
)
