"""DE-HRNet: printed sizes, the ablation's corners, and what it owes to HRNet."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from hpelib.layers.detail_enhancement import ECAGate, SEGate
from hpelib.layers.dysample import DySample
from hpelib.metrics.cost import complexity
from hpelib.models import create_model, load_weights
from hpelib.models.de_hrnet import DEHRNet
from hpelib.models.hrnet import HRNet
from hpelib.models.weights import load_matching

NARROW = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 16}
READINGS = {
    "R1": {},
    "R2": {"gate_on": "output", "dysample_scope": True},
    "R3": {"gate_on": "output", "dysample_groups": 8},
    "R4": {"dysample_scope": True, "dysample_chained": True},
    "R5": {"gate_on": "concat_to_output", "dysample_scope": True},
}
DEFAULTS = {
    "dem": "se",
    "branch_gate": "none",
    "upsample": "dysample",
    "gate_on": "concat",
    "dropout": 0.1,
    "dysample_groups": 4,
    "dysample_scope": False,
    "dysample_chained": False,
}
GATES = {"conv": type(None), "se": SEGate, "eca": ECAGate}
BN = (1 + 1e-5) ** -0.5  # a batch norm at its start, in eval mode
# parameters of W32 in millions, row by row of the ablation
ABLATION = {
    "a": ({"dem": "off", "upsample": "nearest"}, 28.536),
    "b": ({"dem": "off"}, 28.662),
    "c": ({"dem": "conv", "upsample": "nearest"}, 33.185),
    "e": ({"upsample": "nearest"}, 33.443),
    "f": ({"dem": "eca"}, 33.311),
    "g": ({}, 33.569),
    "se alone": ({"dem": "off", "branch_gate": "se", "upsample": "nearest"}, 28.712),
    "eca alone": ({"dem": "off", "branch_gate": "eca", "upsample": "nearest"}, 28.536),
}


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def millions(name, **options):
    return sum(p.numel() for p in on_meta(name, **options).parameters()) / 1e6


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_has_the_printed_size(reading):
    """4.1.5: 33.6 M and 74.8 M."""
    assert millions("de_hrnet_w32", **READINGS[reading]) == pytest.approx(33.6, abs=0.05)
    assert millions("de_hrnet_w48", **READINGS[reading]) == pytest.approx(74.8, abs=0.05)


@pytest.mark.parametrize("reading", ["R1", "R4"])
def test_readings_have_the_printed_cost(reading):
    """4.4: 17.7 GFLOPs at 384x288; the others lie between these two."""
    cost = complexity(on_meta("de_hrnet_w32", **READINGS[reading]), (288, 384))
    assert cost.legacy_gflops == pytest.approx(17.7, rel=0.01)


@pytest.mark.parametrize("row", ABLATION)
def test_rows_of_the_ablation(row):
    options, expected = ABLATION[row]
    assert millions("de_hrnet_w32", **options) == pytest.approx(expected, abs=0.001)


def test_counts_of_the_added_modules():
    model = on_meta("de_hrnet_w32")
    dems = [len(module.dem) for stage in (2, 3, 4) for module in getattr(model, f"stage{stage}")]
    samplers = [(m.offset.in_channels, m.scale) for m in model.modules() if isinstance(m, DySample)]
    assert sum(dems) == 18
    counts = {(32, 2): 8, (32, 4): 7, (32, 8): 3, (64, 2): 6, (64, 4): 2, (128, 2): 2}
    assert {key: samplers.count(key) for key in counts} == counts
    assert len(samplers) == sum(counts.values())


def test_all_off_is_hrnet():
    torch.manual_seed(0)
    hrnet, model = HRNet(**NARROW).eval(), DEHRNet(dem="off", upsample="nearest", **NARROW).eval()
    load_weights(model, hrnet.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(images), hrnet(images))


def test_starts_from_hrnets_weights_wherever_it_has_them():
    kept = load_matching(DEHRNet(**NARROW), HRNet(**NARROW).state_dict())
    assert kept
    assert all(".dem." in name or name.split(".")[-2] == "offset" for name in kept)


def enhanced(dem, higher, lower, gate_on):
    """What a DEM gives, from its weights and its gate, batch norms being at their start."""
    u = torch.cat([F.avg_pool2d(higher, 2), lower], dim=1)
    weigh = dem.gate or (lambda _: 1.0)
    if gate_on == "concat":
        return torch.relu(F.conv2d(weigh(u) * u, dem.conv.weight, padding=1) * BN)
    y = torch.relu(F.conv2d(u, dem.conv.weight, padding=1) * BN)
    return weigh(y if gate_on == "output" else u) * y


def raised(layer, x, factor, upsample, groups, scope, chained):
    """A lower branch as the fusion adds it to one `factor` times as large."""
    y = F.conv2d(x, layer[0].weight) * BN
    if upsample == "nearest":
        return F.interpolate(y, scale_factor=factor, mode="nearest")
    samplers = [module for module in layer[2].modules() if isinstance(module, DySample)]
    steps = {2: [2], 4: [2, 2]}[factor] if chained else [factor]
    assert [(s.scale, s.groups, s.scope is not None) for s in samplers] == [(step, groups, scope) for step in steps]
    for sampler in samplers:
        y = sampler(y)
    return y


@pytest.mark.parametrize(
    "options", [*(options for options, _ in ABLATION.values()), *READINGS.values(), {"dropout": 0.5}]
)
def test_options_are_wired_as_specified(options):
    """Each lower branch takes up the unenhanced one above, branch 0 passes, and the fusion sums."""
    o = DEFAULTS | options
    torch.manual_seed(0)
    module = DEHRNet(**NARROW, **options).eval().stage3[0]
    for parameter in module.parameters():
        if parameter.ndim == 4:  # convolutions start so near zero that nothing of them would be seen
            torch.nn.init.kaiming_normal_(parameter)
    x = [torch.randn(1, 8 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(3)]
    y = b = [branch(x_i) for branch, x_i in zip(module.branches, x, strict=True)]
    if o["dem"] != "off":
        assert {(type(dem.gate), dem.dropout.p) for dem in module.dem} == {(GATES[o["dem"]], o["dropout"])}
        y = [b[0], *(enhanced(dem, *pair, o["gate_on"]) for dem, pair in zip(module.dem, pairwise(b), strict=True))]
    elif o["branch_gate"] != "none":
        assert {type(gate) for gate in module.gates} == {GATES[o["branch_gate"]]}
        y = [gate(b_i) * b_i for gate, b_i in zip(module.gates, b, strict=True)]
    sampling = o["upsample"], o["dysample_groups"], o["dysample_scope"], o["dysample_chained"]
    for i, output in enumerate(module(x)):
        lower = sum(raised(module.fuse_layers[i][j], y[j], 2 ** (j - i), *sampling) for j in range(i + 1, 3))
        higher = sum(module.fuse_layers[i][j](y[j]) for j in range(i))
        torch.testing.assert_close(output, torch.relu(higher + y[i] + lower))


BRANCHES = ((32, 8), (64, 8), (128, 7), (256, 3))  # width, modules that have such a branch
LOWER = BRANCHES[1:]
RAISED = ((32, 2, 8), (32, 4, 7), (32, 8, 3), (64, 2, 6), (64, 4, 2), (128, 2, 2))  # width, factor, how often in W32


def eca(width):
    """Taps of an ECA gate: |log2(C) / 2 + 1 / 2|, made odd (Wang et al., CVPR 2020, Eq. 12)."""
    return int((math.log2(width) + 1) / 2) // 2 * 2 + 1


def dysample(width, factor, groups=4, offsets=1):
    """Parameters of a DySample; the dynamic scope is a second convolution, without a bias."""
    return 2 * groups * factor**2 * (width * offsets + 1)


@pytest.mark.parametrize(
    ("options", "without", "params"),
    [
        ({"dem": "conv"}, {"dem": "off"}, sum(n * (9 * 1.5 * c * c + 2 * c) for c, n in LOWER)),
        ({"dem": "se"}, {"dem": "conv"}, sum(n * 2 * (1.5 * c) * (c / 4) for c, n in LOWER)),
        ({"dem": "eca"}, {"dem": "conv"}, sum(n * eca(1.5 * c) for c, n in LOWER)),
        ({"gate_on": "output"}, {"dem": "conv"}, sum(n * 2 * c * (c / 4) for c, n in LOWER)),
        ({"gate_on": "output", "dem": "eca"}, {"dem": "conv"}, sum(n * eca(c) for c, n in LOWER)),
        ({"gate_on": "concat_to_output"}, {"dem": "conv"}, sum(n * (1.5 * c + c) * (1.5 * c / 8) for c, n in LOWER)),
        ({"dem": "off", "branch_gate": "se"}, {"dem": "off"}, sum(n * 2 * c * (c / 4) for c, n in BRANCHES)),
        ({"dem": "off", "branch_gate": "eca"}, {"dem": "off"}, sum(n * eca(c) for c, n in BRANCHES)),
        ({}, {"upsample": "nearest"}, sum(n * dysample(c, s) for c, s, n in RAISED)),
        ({"dysample_groups": 8}, {"upsample": "nearest"}, sum(n * dysample(c, s, 8) for c, s, n in RAISED)),
        ({"dysample_scope": True}, {"upsample": "nearest"}, sum(n * dysample(c, s, 4, 2) for c, s, n in RAISED)),
        (
            {"dysample_chained": True},
            {"upsample": "nearest"},
            sum(n * math.log2(s) * dysample(c, 2) for c, s, n in RAISED),
        ),
    ],
)
def test_an_option_adds_the_parameters_counted_by_hand(options, without, params):
    counts = [sum(p.numel() for p in on_meta("de_hrnet_w32", **given).parameters()) for given in (options, without)]
    assert counts[0] - counts[1] == params


def test_looks_show_branch_gates():
    module = DEHRNet(dem="off", branch_gate="se", **NARROW).eval().stage2[0]
    looks = {}
    module([torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)], looks)
    gates = {name: tuple(look.shape) for name, look in looks.items() if name.startswith("gate")}
    assert gates == {"gate0": (1, 8, 1, 1), "gate1": (1, 16, 1, 1)}


def test_looks_show_gates_and_offsets():
    _, looks = DEHRNet(**NARROW).eval()(torch.randn(1, 3, 64, 64), look=True)
    assert looks["stage3.0.dem2"].shape == (1, 48, 1, 1)
    assert looks["stage4.0.dysample3to0"].shape == (1, 2, 4, 16, 16)
    assert looks["stage2.branch1"].shape == (1, 16, 8, 8)


def test_new_layers_start_as_intended():
    model = DEHRNet(width=16, **{key: value for key, value in NARROW.items() if key != "width"})
    module = model.stage4[0]
    assert module.dem[2].gate[1].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert module.dem[2].conv.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert all(not m.offset.bias.any() for m in model.modules() if isinstance(m, DySample))


def test_options_are_checked():
    with pytest.raises(ValueError, match="dem='cbam' is none of 'off', 'conv', 'se', 'eca'"):
        DEHRNet(dem="cbam")
    with pytest.raises(ValueError, match="upsample='bilinear'"):
        DEHRNet(upsample="bilinear")
    with pytest.raises(ValueError, match="branch_gate='cbam' is none of 'none', 'se', 'eca'"):
        DEHRNet(dem="off", branch_gate="cbam")
    with pytest.raises(ValueError, match="give it with dem='off'"):
        DEHRNet(branch_gate="se")
