"""What a network attends to, by the names of its paper, and what each of these quantities means."""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal[
    "features",
    "heatmaps",
    "bones",
    "attention",
    "columns",
    "competition",
    "gate",
    "detail_gate",
    "parting",
    "scale",
    "offsets",
    "kernels",
    "means",
    "deviations",
]


@dataclass(frozen=True)
class Quantity:
    """One thing that a network shows of itself.

    `kind` says what its values are:
    "features": any number, (N, C, h, w); "heatmaps" and "bones": the same with one map per keypoint or bone;
    "attention": a share, the map's positions summing to 1; "columns": the same down each column of each channel;
    "competition": shares that sum to 1 over axis 1;
    "gate": factors from 0 to 1; "detail_gate": the same, the first third for what comes from the branch above (in the
    DEM's default reading, `gate_on="concat"`); "parting": the same, informative features being those above 1/2;
    "scale": factors from 0, without an upper bound;
    "offsets": (x, y) in px of the sampled map, (N, 2, groups, h, w); "kernels": weights of a convolution;
    "means" and "deviations": where keypoints are expected and how far about that, (x, y) in crop px, (N, K, 2).
    """

    title: str
    source: str  # where the paper describes it
    kind: Kind


_QUANTITIES = {  # names as patterns; titles may refer to their groups
    r"target": Quantity("Gaussians about the annotation", "the codec, not the network", "heatmaps"),
    r"heatmaps": Quantity("heatmaps", "the network's answer", "heatmaps"),
    r"stack(\d+)": Quantity(r"heatmaps of stack \1", "stacked hourglass, Sec. 3.3", "heatmaps"),
    r"stage(\d)": Quantity(r"Res-stage \1", "SimpleBaseline, Sec. 2", "features"),
    r"stage(\d)\.branch(\d)": Quantity(r"stage \1, branch \2", "HRNet, Sec. 3", "features"),
    r"stage(\d)\.(\d+)\.dem(\d)": Quantity(r"DEM gate, stage \1.\2, branch \3", "DE-HRNet, Sec. 3.2", "detail_gate"),
    r"stage(\d)\.(\d+)\.gate(\d)": Quantity(r"plain gate, stage \1.\2, branch \3", "DE-HRNet, Table 5", "gate"),
    r"stage(\d)\.(\d+)\.dysample(\d)to(\d)": Quantity(
        r"DySample offsets, stage \1.\2, branch \3 to \4", "DE-HRNet, Sec. 3; DySample, Sec. 3", "offsets"
    ),
    r"stage(\d)\.(\d+)\.dysample(\d)to(\d)\.(\d)": Quantity(
        r"DySample offsets, stage \1.\2, branch \3 to \4, doubling \5", "DySample, Sec. 3, in steps", "offsets"
    ),
    r"(stage|decoder)(\d)_sah": Quantity(r"spatial attention heatmap, \1 \2", "FR-SBN, Sec. 3.2", "features"),
    r"(stage|decoder)(\d)_attention": Quantity(r"GCB attention, \1 \2", "FR-SBN, Sec. 3.2", "attention"),
    r"sa_mfcd_gate": Quantity("SA-MFCD gate", "FR-SBN, Sec. 3.3", "scale"),
    r"rfm(\d+)_se": Quantity(r"SE gate, block \1", "SADI-Net, Sec. III-B, Eq. 1", "gate"),
    r"sfm_global": Quantity("SFM global weights", "SADI-Net, Sec. III-C, Eqs. 2, 3", "competition"),
    r"sfm_local(\d)": Quantity(r"SFM local weights \1", "SADI-Net, Sec. III-C", "columns"),
    r"dlm_mu": Quantity("learned means", "SADI-Net, Sec. III-D", "means"),
    r"dlm_sigma": Quantity("learned deviations", "SADI-Net, Sec. III-D", "deviations"),
    r"dlm_heatmaps": Quantity("learned heatmaps", "SADI-Net, Sec. III-D, Eqs. 4, 5", "heatmaps"),
    r"bones": Quantity("bone maps", "DITN, Sec. 3.2", "bones"),
    r"kernels": Quantity("dynamic kernels", "DITN, Sec. 3.2, Eq. 2", "kernels"),
    r"cab": Quantity("channel attention (CAB)", "DITN, Sec. 3.4, Eq. 4", "gate"),
    r"sab": Quantity("spatial attention (SAB)", "DITN, Sec. 3.4, Eq. 5", "gate"),
    r"stage(\d)_block(\d+)_strip": Quantity(r"strip gate, stage \1, block \2", "DAUNet, Eqs. 4-7", "gate"),
    r"up(\d)_sru": Quantity(r"SRU weights, U\1", "DAUNet, Eqs. 8-10", "parting"),
    r"up(\d)_sru_(informative|redundant)": Quantity(r"\2 part, U\1", "DAUNet, Eq. 10", "features"),
    r"up(\d)_cru": Quantity(r"CRU weights, U\1", "DAUNet, Eqs. 12-16", "competition"),
    r"up(\d)_sge": Quantity(r"SGE attention, U\1", "DAUNet, Eqs. 17-21", "gate"),
}


@torch.no_grad()
def capture(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Everything that `model` shows of itself on `images` (N, 3, H, W), and its `heatmaps` (N, K, h, w).

    The docstring of each network lists its names and shapes; `quantity` says what a name means. The model runs in eval
    mode, as at test time; its mode is restored, and its outputs are those of a run without looking.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        heatmaps, looks = model(images, look=True)
    finally:
        for module, training in modes.items():
            module.training = training
    return {"heatmaps": heatmaps, **looks}


def quantity(name: str) -> Quantity:
    """What a name that `capture` returned means; a name unknown here, as a network of one's own has, means features."""
    for pattern, known in _QUANTITIES.items():
        if match := re.fullmatch(pattern, name):
            return Quantity(match.expand(known.title), known.source, known.kind)
    return Quantity(name, "", "features")
