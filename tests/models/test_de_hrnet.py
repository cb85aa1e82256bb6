"""DE-HRNet: printed sizes, the ablation's corners, and what it owes to HRNet."""

import pytest
import torch

from hpelib.layers.dysample import DySample
from hpelib.metrics.complexity import complexity
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


def test_module_fuses_what_the_dems_give():
    """Each lower branch takes up the unenhanced one above, branch 0 passes, and the fusion sums."""
    torch.manual_seed(0)
    module = DEHRNet(**NARROW).eval().stage3[0]
    x = [torch.randn(1, 8 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(3)]
    b = [branch(x_i) for branch, x_i in zip(module.branches, x, strict=True)]
    y = [b[0], module.dem[0](b[0], b[1])[0], module.dem[1](b[1], b[2])[0]]
    for i, output in enumerate(module(x)):
        expected = sum(y[j] if i == j else module.fuse_layers[i][j](y[j]) for j in range(3)).relu()
        torch.testing.assert_close(output, expected)


def test_branch_gates_weigh_every_branch():
    torch.manual_seed(0)
    module = DEHRNet(dem="off", branch_gate="se", upsample="nearest", **NARROW).eval().stage2[0]
    x = [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    b = [branch(x_i) for branch, x_i in zip(module.branches, x, strict=True)]
    y = [gate(b_i) * b_i for gate, b_i in zip(module.gates, b, strict=True)]
    looks = {}
    output = module(x, looks)[0]
    torch.testing.assert_close(output, (y[0] + module.fuse_layers[0][1](y[1])).relu())
    assert {name: tuple(look.shape) for name, look in looks.items()} == {"gate0": (1, 8, 1, 1), "gate1": (1, 16, 1, 1)}


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
    with pytest.raises(ValueError, match="give it with dem='off'"):
        DEHRNet(branch_gate="se")
