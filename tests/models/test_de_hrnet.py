"""DE-HRNet: printed sizes, the ablation's corners, and what it owes to HRNet."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from timm.layers import EcaModule, SEModule

from hpelib.metrics.cost import complexity
from hpelib.models import create_model, load_weights
from hpelib.models.de_hrnet import DEHRNet, DetailEnhancement, DySample, ECAGate, SEGate
from hpelib.models.hrnet import HRNet
from hpelib.models.weights import load_trunk, trunk_entries

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
    "dem_residual": False,
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
    "e": ({"upsample": "nearest"}, 33.448),
    "f": ({"dem": "eca"}, 33.311),
    "g": ({}, 33.574),
    "se alone": ({"dem": "off", "branch_gate": "se", "upsample": "nearest"}, 28.716),
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
    model, hrnet = DEHRNet(**NARROW), HRNet(**NARROW).state_dict()
    added = model.state_dict().keys() - hrnet.keys()
    assert added
    assert all(".dem." in name or name.split(".")[-2] == "offset" for name in added)
    load_trunk(model, hrnet, trunk_entries(model, hrnet), "hrnet", "de_hrnet")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in hrnet.items())


def enhanced(dem, higher, lower, gate_on, residual):
    """What a DEM gives, from its weights and its gate, batch norms being at their start."""
    return residual * lower + replaced(dem, higher, lower, gate_on)


def replaced(dem, higher, lower, gate_on):
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
        y, _ = sampler(y)
    return y


@pytest.mark.parametrize(
    "options",
    [*(options for options, _ in ABLATION.values()), *READINGS.values(), {"dropout": 0.5}, {"dem_residual": True}],
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
        how = o["gate_on"], o["dem_residual"]
        y = [b[0], *(enhanced(dem, *pair, *how) for dem, pair in zip(module.dem, pairwise(b), strict=True))]
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


def se(seen, hidden, weighed, norm=True):
    """Parameters of an SE gate: two layers, the second with a bias, and a norm, or a bias, of the first."""
    return seen * hidden + hidden * weighed + weighed + hidden * (2 if norm else 1)


def dysample(width, factor, groups=4, offsets=1):
    """Parameters of a DySample; the dynamic scope is a second convolution, without a bias."""
    return 2 * groups * factor**2 * (width * offsets + 1)


@pytest.mark.parametrize(
    ("options", "without", "params"),
    [
        ({"dem": "conv"}, {"dem": "off"}, sum(n * (9 * 1.5 * c * c + 2 * c) for c, n in LOWER)),
        ({"dem": "se"}, {"dem": "conv"}, sum(n * se(1.5 * c, c / 4, 1.5 * c) for c, n in LOWER)),
        ({"gate_norm": False}, {"dem": "conv"}, sum(n * se(1.5 * c, c / 4, 1.5 * c, norm=False) for c, n in LOWER)),
        ({"dem_residual": True}, {}, 0),
        ({"dem": "eca"}, {"dem": "conv"}, sum(n * eca(1.5 * c) for c, n in LOWER)),
        ({"gate_on": "output"}, {"dem": "conv"}, sum(n * se(c, c / 4, c) for c, n in LOWER)),
        ({"gate_on": "output", "dem": "eca"}, {"dem": "conv"}, sum(n * eca(c) for c, n in LOWER)),
        ({"gate_on": "concat_to_output"}, {"dem": "conv"}, sum(n * se(1.5 * c, 1.5 * c / 8, c) for c, n in LOWER)),
        ({"dem": "off", "branch_gate": "se"}, {"dem": "off"}, sum(n * se(c, c / 4, c) for c, n in BRANCHES)),
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
    module([torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)], looks, "here.")
    gates = {name: tuple(look.shape) for name, look in looks.items() if "gate" in name}
    assert gates == {"here.gate0": (1, 8, 1, 1), "here.gate1": (1, 16, 1, 1)}


def test_looks_show_gates_and_offsets():
    _, looks = DEHRNet(**NARROW).eval()(torch.randn(1, 3, 64, 64), look=True)
    assert looks["stage3.0.dem2"].shape == (1, 48, 1, 1)
    assert looks["stage4.0.dysample3to0"].shape == (1, 2, 4, 16, 16)
    assert looks["stage2.branch1"].shape == (1, 16, 8, 8)


def test_new_layers_start_as_intended():
    model = DEHRNet(width=16, **{key: value for key, value in NARROW.items() if key != "width"})
    module = model.stage4[0]
    fc = module.dem[2].gate[1]  # torch's start: uniform up to 1 / sqrt(inputs)
    assert fc.weight.abs().max().item() == pytest.approx(fc.in_channels**-0.5, rel=0.05)
    assert module.dem[2].conv.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert all(not m.offset.bias.any() for m in model.modules() if isinstance(m, DySample))


def test_options_are_checked():
    with pytest.raises(ValueError, match="dem='cbam' is none of 'off', 'conv', 'se', 'eca'"):
        DEHRNet(dem="cbam")
    with pytest.raises(ValueError, match="upsample='bilinear'"):
        DEHRNet(upsample="bilinear")
    with pytest.raises(ValueError, match="branch_gate='cbam' is none of 'none', 'se', 'eca'"):
        DEHRNet(dem="off", branch_gate="cbam")
    with pytest.raises(ValueError, match="dem_residual is about the DEM"):
        DEHRNet(dem="off", dem_residual=True)
    for option in ("dysample_scope", "dysample_chained"):
        with pytest.raises(ValueError, match="are about DySample"):
            DEHRNet(upsample="nearest", **{option: True})
    with pytest.raises(ValueError, match="give it with dem='off'"):
        DEHRNet(branch_gate="se")


@pytest.fixture
def branch_pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 8, 8, 6, generator=generator), torch.randn(2, 16, 4, 3, generator=generator)


def convolved(dem, u):
    """ReLU(BN(conv)) in eval mode with the running statistics at their start."""
    return torch.relu(F.conv2d(u, dem.conv.weight, padding=1) / (1 + 1e-5) ** 0.5)


def test_dem_follows_its_formula(branch_pair):
    torch.manual_seed(0)
    higher, lower = branch_pair
    dem = DetailEnhancement(16).eval()
    pooled = torch.zeros(2, 8, 4, 3)
    for row in range(4):
        for column in range(3):
            pooled[:, :, row, column] = higher[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((2, 3))
    u = torch.cat([pooled, lower], 1)
    hidden = torch.relu(u.mean((2, 3)) @ dem.gate[1].weight[:, :, 0, 0].T * BN)
    w = torch.sigmoid(hidden @ dem.gate[4].weight[:, :, 0, 0].T + dem.gate[4].bias)
    y, weights = dem(higher, lower)
    torch.testing.assert_close(weights[:, :, 0, 0], w)
    torch.testing.assert_close(y, convolved(dem, w[:, :, None, None] * u))
    assert dem.gate[1].weight.shape == (4, 24, 1, 1)


def test_gate_may_weigh_the_output(branch_pair):
    higher, lower = branch_pair
    u = torch.cat([F.avg_pool2d(higher, 2), lower], 1)
    for place in ("output", "concat_to_output"):
        dem = DetailEnhancement(16, gate_on=place).eval()
        raw = convolved(dem, u)
        y, weights = dem(higher, lower)
        torch.testing.assert_close(weights, dem.gate(raw if place == "output" else u))
        torch.testing.assert_close(y, weights * raw)


def test_without_a_gate_there_is_only_the_convolution(branch_pair):
    dem = DetailEnhancement(16, gate="none").eval()
    y, weights = dem(*branch_pair)
    assert weights is None
    torch.testing.assert_close(y, convolved(dem, torch.cat([F.avg_pool2d(branch_pair[0], 2), branch_pair[1]], 1)))


def test_dropout_is_before_the_convolution_and_only_in_training(branch_pair):
    dem = DetailEnhancement(16, dropout=1.0).train()
    y, _ = dem(*branch_pair)
    assert not y.any()
    assert dem.eval()(*branch_pair)[0].any()


@pytest.mark.parametrize("channels", [24, 128, 200])
@pytest.mark.parametrize("norm", [True, False])
def test_gates_are_timms(channels, norm):
    x = torch.randn(2, channels, 4, 3)
    se = SEModule(channels, rd_channels=6, norm_layer=torch.nn.BatchNorm2d if norm else None)
    ours = SEGate(channels, 6, channels, norm)
    se.fc1.weight, se.fc2.weight, se.fc2.bias = ours[1].weight, ours[4].weight, ours[4].bias
    se.fc1.bias = torch.nn.Parameter(torch.zeros(6)) if norm else ours[1].bias  # a norm takes a bias away
    torch.testing.assert_close(ours(x) * x, se(x))
    eca = EcaModule(channels)
    ours = ECAGate(channels)
    ours.load_state_dict(eca.state_dict())
    torch.testing.assert_close(ours(x) * x, eca(x))
    assert eca.conv.weight.shape[-1] == (3 if channels < 128 else 5)


def test_gates_live_through_the_steps_of_the_quick_profile():
    """Means of rectified features hardly differ between samples; steps of 0.006 close most units of a plain gate."""
    open_shares = {}
    for norm in (True, False):
        torch.manual_seed(0)
        gate = SEGate(36, 24, 36, norm)
        optimizer = torch.optim.Adam(gate.parameters(), lr=0.006)
        level = torch.rand(1, 36, 1, 1)
        for _ in range(200):
            x = (level + 0.1 * torch.randn(32, 36, 1, 1)).relu()
            loss = (torch.randn(36, 1, 1) * gate(x)).mean()  # noise, as gradients are beside a main task
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x = (level + 0.1 * torch.randn(256, 36, 1, 1)).relu()
        hidden = torch.nn.Sequential(*list(gate.eval())[:4])(x)
        open_shares[norm] = ((hidden > 0).any(dim=0).float().mean().item(), gate(x).std(dim=0).mean().item())
    (alive, spread), (plain_alive, plain_spread) = open_shares[True], open_shares[False]
    assert alive == 1
    assert spread > 0.02
    assert plain_alive < 0.75
    assert plain_spread < spread / 2


def test_impossible_gates_are_refused():
    with pytest.raises(ValueError, match=r"gate='cbam' is none of 'none', 'se', 'eca'"):
        DetailEnhancement(16, gate="cbam")
    with pytest.raises(ValueError, match="gate_on='input'"):
        DetailEnhancement(16, gate_on="input")
    with pytest.raises(ValueError, match="eca weighs the channels that it sees"):
        DetailEnhancement(16, gate="eca", gate_on="concat_to_output")


def layer(channels=8, scale=2, groups=4, dynamic_scope=False, std=1.0):
    torch.manual_seed(0)
    sampler = DySample(channels, scale, groups, dynamic_scope)
    for parameter in sampler.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return sampler


def published(sampler, x):
    """As the paper's code goes about it: low resolution positions plus sub-pixel starts, then pixel shuffle."""
    N, _, H, W = x.shape
    s, g = sampler.scale, sampler.groups
    h = torch.arange((-s + 1) / 2, (s - 1) / 2 + 1) / s
    start = torch.stack(torch.meshgrid(h, h, indexing="ij")).transpose(1, 2).repeat(1, g, 1).reshape(1, -1, 1, 1)
    if sampler.scope is None:
        offset = sampler.offset(x) * 0.25 + start
    else:
        offset = sampler.offset(x) * sampler.scope(x).sigmoid() * 0.5 + start
    offset = offset.view(N, 2, -1, H, W)
    coords = torch.stack(torch.meshgrid(torch.arange(W) + 0.5, torch.arange(H) + 0.5, indexing="ij"))
    coords = coords.transpose(1, 2)[None, :, None]
    coords = 2 * (coords + offset) / torch.tensor([W, H]).view(1, 2, 1, 1, 1) - 1
    coords = F.pixel_shuffle(coords.view(N, -1, H, W), s).view(N, 2, -1, s * H, s * W)
    coords = coords.permute(0, 2, 3, 4, 1).flatten(0, 1)
    out = F.grid_sample(x.reshape(N * g, -1, H, W), coords, align_corners=False, padding_mode="border")
    return out.view(N, -1, s * H, s * W)


@pytest.mark.parametrize(("scale", "groups", "scope"), [(2, 4, False), (8, 4, False), (4, 2, True), (2, 8, True)])
def test_equals_the_published_formulation(scale, groups, scope):
    sampler = layer(scale=scale, groups=groups, dynamic_scope=scope)
    x = torch.randn(2, 8, 5, 3)
    torch.testing.assert_close(sampler(x)[0], published(sampler, x), rtol=1e-4, atol=1e-4)


def test_offsets_are_input_pixels_x_first():
    """Each output pixel looked up by hand."""
    sampler = layer(channels=2, scale=2, groups=1, std=0.5)
    x = torch.randn(1, 2, 4, 6)
    out, offsets = sampler(x)
    offsets = offsets[0, :, 0]
    for row in range(8):
        for column in range(12):
            dx, dy = offsets[:, row, column].tolist()
            px = min(max((column + 0.5) / 2 - 0.5 + dx, 0), 5)
            py = min(max((row + 0.5) / 2 - 0.5 + dy, 0), 3)
            left, top = min(int(px), 4), min(int(py), 2)
            fx, fy = px - left, py - top
            patch = x[0, :, top : top + 2, left : left + 2]
            upper = (1 - fx) * patch[:, 0, 0] + fx * patch[:, 0, 1]
            lower = (1 - fx) * patch[:, 1, 0] + fx * patch[:, 1, 1]
            torch.testing.assert_close(out[0, :, row, column], (1 - fy) * upper + fy * lower, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scope", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_without_offsets_it_is_bilinear(scale, scope):
    sampler = DySample(8, scale, dynamic_scope=scope)
    torch.nn.init.zeros_(sampler.offset.weight)
    x = torch.randn(2, 8, 6, 4)
    torch.testing.assert_close(
        sampler(x)[0], F.interpolate(x, scale_factor=scale, mode="bilinear"), rtol=1e-4, atol=1e-5
    )


def test_groups_move_apart_and_channels_must_divide():
    sampler = layer(groups=2, std=0.0)
    sampler.offset.bias.data[:4] = 4.0  # x of the first group, by one input px
    x = torch.randn(1, 8, 4, 4)
    plain = F.interpolate(x, scale_factor=2, mode="bilinear")
    out = sampler(x)[0]
    torch.testing.assert_close(out[:, 4:], plain[:, 4:])
    torch.testing.assert_close(out[:, :4, :, 1:5], plain[:, :4, :, 3:7])
    with pytest.raises(ValueError, match="6 channels"):
        DySample(6, 2)


def test_half_precision_keeps_positions():
    sampler = layer(std=0.1).bfloat16()
    x = torch.linspace(0, 1, 64).expand(1, 8, 64, 64).bfloat16()
    assert sampler(x)[0].dtype == torch.bfloat16
    exact = F.interpolate(x.float(), scale_factor=2, mode="bilinear")
    assert (sampler(x)[0].float() - exact).abs().max() < 0.03
