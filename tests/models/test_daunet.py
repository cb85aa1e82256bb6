"""DAUNet against its wiring written out, the specified sizes of its ablations, and ResNet-50 and SimpleBaseline."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet50

from hpelib.metrics.cost import complexity
from hpelib.models.daunet import (
    ChannelRebuildUnit,
    DAUNet,
    PartialConv2d,
    SpatialGroupEnhance,
    SpatialRebuildUnit,
    StripPooling,
)
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.models.weights import load_trunk, load_weights, trunk_entries

NARROW = {"width": 8, "depths": (2, 1, 1, 1), "decoder_widths": (16, 16, 16), "tail_blocks": 1}
LITERAL = {"skip": "none", "tail_blocks": 0, "head_kernel": 1}
R1 = {"partial": "stride1", "strip_placement": "spnet", "pooled_shortcut": True, "head_kernel": 1}
R2 = LITERAL | {"level_block": "basic", "strip_form": "conv3x3"}
R3 = LITERAL | {
    "decoder_widths": (512, 512, 256, 128, 64),
    "head_kernel": 3,
    "strip_form": "pointwise",
    "strip_placement": "spnet",
}
R4 = LITERAL | {"strip_form": "pointwise"}  # the text word by word
R5 = LITERAL | {
    "skip": "concat1x1",
    "level_block": "bottleneck",
    "partial": "added",
    "partial_ratio": 2,
    "strip_form": "pointwise",
}
R6 = LITERAL | {
    "decoder_widths": (256, 256, 256, 256),
    "level_block": "bottleneck",
    "partial": "stride1",
    "partial_ratio": 2,
}
OFF = {"ibn": False, "scru": False, "sge": False}
WIRING = {*OFF, "partial", "partial_ratio", "strip_placement", "skip", "pooled_shortcut"}  # others size modules
BN = (1 + 1e-5) ** -0.5  # a batch norm at its start, in eval mode


def narrow(**options):
    """A quick network whose layers that start near zero have left their start, so that all parts matter."""
    torch.manual_seed(0)
    model = DAUNet(num_keypoints=5, **(NARROW | options))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4 and name.startswith(("deconv_layers", "final_layer")):
            torch.nn.init.kaiming_normal_(parameter)
        elif name.startswith("sges"):
            torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_size_is_the_papers():
    with torch.device("meta"):
        model = DAUNet()
    assert complexity(model).params == pytest.approx(38.6e6, rel=0.01)
    assert complexity(model).macs == pytest.approx(10.8e9, rel=0.015)


@pytest.mark.parametrize(
    ("options", "params_m", "macs_g"),
    [
        (OFF | R1, 40.11, 11.62),
        (R1 | OFF | {"ibn": True}, 38.52, 10.36),
        (R1 | OFF | {"scru": True}, 40.47, 12.10),
        (R1 | {"ibn": False}, 40.47, 12.10),
        (R1, 38.88, 10.83),
        (R1 | {"tail_blocks": 0}, 38.67, 10.19),
        ({}, 38.72, 10.79),
        (OFF, 40.15, 11.72),
        (R2, 38.62, 10.77),
        (R2 | OFF, 37.54, 10.18),
        (R3, 38.62, 10.86),
        (R4 | {"partial": "stride1"}, 27.92, 4.73),
        (R5, 38.55, 7.37),
        (R6, 38.47, 10.94),
        (R6 | OFF, 35.33, 9.82),
    ],
)
def test_variants_have_the_specified_size(options, params_m, macs_g):
    with torch.device("meta"):
        size = complexity(DAUNet(**options))
    assert (size.params / 1e6, size.macs / 1e9) == pytest.approx((params_m, macs_g), rel=1e-3)


def test_without_all_additions_it_is_simple_baseline(images):
    torch.manual_seed(0)
    baseline = SimpleBaseline(5, "resnet50", width=8, depths=(2, 1, 1, 1), deconv_widths=(16, 16, 16)).eval()
    model = narrow(**OFF, **LITERAL).eval()
    load_weights(model, baseline.state_dict())
    assert torch.equal(model(images), baseline(images))


def bottleneck(w, x, stride, gate, ibn, partial="all", partial_ratio=4, pooled_shortcut=False):
    """ResNet's bottleneck from its weights `w`, or with `ibn` the improved one."""
    y = torch.relu(F.conv2d(x, w["conv1.weight"]) * BN)
    if ibn and (partial == "all" or (partial == "stride1" and stride == 1)):
        y = partially_convolved(y, w["conv2.weight"], partial_ratio, stride)
    else:
        y = F.conv2d(y, w["conv2.weight"], stride=stride, padding=1)
    if ibn and partial == "added" and stride == 1:
        y = partially_convolved(y, w["partial.weight"], partial_ratio)
    y = torch.relu(y * BN)
    if gate:
        y, _ = gate(y)
    y = F.conv2d(y, w["conv3.weight"]) * BN
    if "downsample.0.weight" in w:
        x = F.avg_pool2d(x, stride) if pooled_shortcut else x[:, :, ::stride, ::stride]
        x = F.conv2d(x, w["downsample.0.weight"]) * BN
    return torch.relu(y + x)


def partially_convolved(x, weight, ratio, stride=1):
    d = x.shape[1] // ratio
    return torch.cat([F.conv2d(x[:, :d], weight, stride=stride, padding=1), x[:, d:, ::stride, ::stride]], dim=1)


def written_out(model, images, ibn=True, scru=True, sge=True, strip_placement="all", skip="concat", **block_options):
    """The heatmaps of `model`, which has these options, in eval mode and with batch norms at their start."""
    x = model.maxpool(F.relu(model.bn1(model.conv1(images))))
    encoded = []
    for s, stage in enumerate((model.layer1, model.layer2, model.layer3, model.layer4)):
        for i, block in enumerate(stage):
            gated = ibn and (strip_placement == "all" or s == 3 or i == len(stage) - 1)
            x = bottleneck(
                block.state_dict(), x, 2 if s and not i else 1, block.strip if gated else None, ibn, **block_options
            )
        encoded.append(x)
    for i, deconvolution in enumerate(model.deconv_layers[::3]):
        x = torch.relu(F.conv_transpose2d(x, deconvolution.weight, stride=2, padding=1) * BN)
        if skip != "none" and i < 3:
            x = torch.cat([x, encoded[2 - i]], dim=1)
            x = torch.relu(F.conv2d(x, model.fusions[i].conv.weight, padding=0 if skip == "concat1x1" else 1) * BN)
        if model.level_blocks:
            x = model.level_blocks[i](x)
        if scru:
            x = model.crus[i](model.srus[i](x)[0])[0]
        if sge:
            x = model.sges[i](x)[0]
    head = model.final_layer
    return F.conv2d(model.tail(x), head.weight, head.bias, padding="same")


SWITCHES = [dict(zip(OFF, on, strict=True)) for on in itertools.product((False, True), repeat=3)]
NARROW_R3 = R3 | {"decoder_widths": (32, 32, 16, 16, 16)}


@pytest.mark.parametrize("options", [*SWITCHES, R1, R1 | OFF, R2, NARROW_R3, R4, R5, {"partial_ratio": 2}])
def test_options_are_wired_as_specified(options, images):
    """Table 4 with its three switches, and the readings of the notebook."""
    model = narrow(**options).eval()
    wiring = {name: options[name] for name in options.keys() & WIRING}
    torch.testing.assert_close(model(images), written_out(model, images, **wiring))


def conv(inputs, outputs, kernel=1):
    """Parameters of a convolution and its batch norm."""
    return inputs * outputs * kernel**2 + 2 * outputs


def strip(width, form="spnet"):
    """Parameters of a strip gate."""
    if form == "spnet":
        return 2 * (3 * width**2 + 2 * width) + width**2 + width
    return conv(width, width, 1 if form == "pointwise" else 3)


def partial(width, ratio=4):
    return 9 * (width // ratio) ** 2


STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width in the middle of a block, blocks
STRIDE_1 = ((64, 3), (128, 3), (256, 5), (512, 2))
GATED_BY_SPNET = ((64, 1), (128, 1), (256, 1), (512, 3))
HALVING = ((128, 1), (256, 1), (512, 1))
TAIL_BLOCK = conv(256, 64) + conv(64, 64, 3) + conv(64, 256)
SRU = 2 * 256
CRU = 2 * 128 * 64 + (9 * 32 * 256 + 256) + 64 * 256 + 64 * 192


@pytest.mark.parametrize(
    ("options", "without", "params"),
    [
        ({"sge": True}, {"sge": False}, 3 * 2 * 8),
        ({"sge_groups": 64}, {"sge": False}, 3 * 2 * 64),
        ({"scru": True}, {"scru": False}, 3 * (SRU + CRU)),
        (
            {"ibn": True},
            {"ibn": False},
            sum(n * (strip(w) - 9 * w**2 + partial(w)) for w, n in STAGES),
        ),
        ({"partial_ratio": 2}, {}, sum(n * (partial(w, 2) - partial(w)) for w, n in STAGES)),
        ({"partial": "stride1"}, {}, sum(n * (9 * w**2 - partial(w)) for w, n in HALVING)),
        ({"partial": "added"}, {"partial": "stride1"}, sum(n * 9 * w**2 for w, n in STRIDE_1)),
        ({"strip_form": "pointwise"}, {}, sum(n * (strip(w, "pointwise") - strip(w)) for w, n in STAGES)),
        ({"strip_form": "conv3x3"}, {}, sum(n * (strip(w, "conv3x3") - strip(w)) for w, n in STAGES)),
        (
            {"strip_placement": "all"},
            {"strip_placement": "spnet"},
            sum(n * strip(w) for w, n in STAGES) - sum(n * strip(w) for w, n in GATED_BY_SPNET),
        ),
        ({"pooled_shortcut": True}, {}, 0),
        ({"hard_split": True}, {}, 0),
        ({"skip": "concat"}, {"skip": "none"}, sum(conv(256 + side, 256, 3) for side in (1024, 512, 256))),
        ({"skip": "concat1x1"}, {"skip": "none"}, sum(conv(256 + side, 256) for side in (1024, 512, 256))),
        ({"level_block": "basic"}, {}, 3 * 2 * conv(256, 256, 3)),
        ({"level_block": "bottleneck"}, {}, 3 * TAIL_BLOCK),
        ({"tail_blocks": 3}, {"tail_blocks": 0}, 3 * TAIL_BLOCK),
        ({"head_kernel": 3}, {"head_kernel": 1}, 17 * 256 * 8),
    ],
)
def test_an_option_adds_the_parameters_counted_by_hand(options, without, params):
    with torch.device("meta"):
        counts = [sum(p.numel() for p in DAUNet(**given).parameters()) for given in (options, without)]
    assert counts[0] - counts[1] == params


def test_imagenet_weights_are_cut_to_the_convolved_channels():
    torch.manual_seed(0)
    model = DAUNet(strip_form="pointwise")
    source = resnet50().state_dict()
    trunk = trunk_entries(model, source)
    load_trunk(model, source, trunk, "resnet50", "daunet")
    own = model.state_dict()
    assert torch.equal(own["layer2.1.conv2.weight"], source["layer2.1.conv2.weight"][:32, :32])
    assert torch.equal(own["layer2.0.conv2.weight"], source["layer2.0.conv2.weight"][:32, :32])
    assert torch.equal(own["layer4.0.downsample.0.weight"], source["layer4.0.downsample.0.weight"])
    assert all(".strip." in name for name in own.keys() - set(trunk) if name.startswith(("conv1", "bn1", "layer")))


def test_the_hard_split_reaches_every_level(images):
    _, looks = narrow(hard_split=True).eval()(images, look=True)
    for i in (1, 2, 3):
        assert not (looks[f"up{i}_sru_informative"] * looks[f"up{i}_sru_redundant"]).any()


def test_every_parameter_learns(images):
    model = narrow()
    model(images)["heatmaps"].square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_looks_show_gates_rebuilding_and_attention(images):
    model = narrow().eval()
    heatmaps, looks = model(images, look=True)
    assert torch.equal(heatmaps, model(images))
    strips = [name.removesuffix("_strip") for name in looks if name.endswith("_strip")]
    assert strips == ["stage1_block1", "stage1_block2", "stage2_block1", "stage3_block1", "stage4_block1"]
    assert looks["up2_sru"].shape == (2, 16, 8, 12)
    assert looks["up3_sge"].shape == (2, 8, 16, 24)
    torch.testing.assert_close(looks["up1_cru"].sum(dim=1), torch.ones(2, 16, 1, 1))


def test_impossible_requests_are_explained():
    with pytest.raises(ValueError, match=r"100x60 px.*try 96x64"):
        narrow()(torch.zeros(1, 3, 60, 100))
    with pytest.raises(ValueError, match=r"skip='add'.*'concat', 'concat1x1', 'none'"):
        narrow(skip="add")
    with pytest.raises(ValueError, match=r"strip_placement='first'.*'all', 'spnet'"):
        narrow(strip_placement="first")
    with pytest.raises(ValueError, match=r"strip_form='none'.*'spnet', 'pointwise', 'conv3x3'"):
        narrow(strip_form="none")
    with pytest.raises(ValueError, match=r"decoder_widths \(16, 16\) names 2 levels instead of 3 to 5"):
        narrow(decoder_widths=(16, 16))


def test_convolves_the_first_channels_and_passes_the_rest():
    torch.manual_seed(0)
    conv, x = PartialConv2d(8, ratio=4), torch.randn(2, 8, 5, 6)
    y = conv(x)
    torch.testing.assert_close(y[:, :2], F.conv2d(x[:, :2], conv.weight, padding=1))
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert {name: tuple(p.shape) for name, p in conv.named_parameters()} == {"weight": (2, 2, 3, 3)}


def test_with_a_stride_the_rest_is_taken_at_every_second_position():
    torch.manual_seed(0)
    conv, x = PartialConv2d(8, ratio=4, stride=2), torch.randn(2, 8, 6, 7)
    y = conv(x)
    torch.testing.assert_close(y[:, :2], F.conv2d(x[:, :2], conv.weight, stride=2, padding=1))
    assert torch.equal(y[:, 2:], x[:, 2:, ::2, ::2])


@pytest.mark.parametrize("pooled", [False, True])
def test_the_improved_bottleneck_has_the_shortcut_of_the_plain_one(pooled):
    """Else the rows `ibn` and `baseline` would differ in more than the IBN."""
    plain, improved = (DAUNet(5, **NARROW, ibn=ibn, pooled_shortcut=pooled) for ibn in (False, True))
    x = torch.randn(1, plain.stage_widths[0], 8, 8)
    shortcuts = plain.layer2[0].downsample, improved.layer2[0].downsample
    shortcuts[1].load_state_dict(shortcuts[0].state_dict())
    assert torch.equal(*(shortcut.eval()(x) for shortcut in shortcuts))


def test_a_ratio_of_one_is_an_ordinary_convolution():
    conv, x = PartialConv2d(4, ratio=1), torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, padding=1))


def test_indivisible_channels_are_named():
    with pytest.raises(ValueError, match=r"10 channels.*ratio 4"):
        PartialConv2d(10)


@pytest.fixture
def x():
    return torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def gated(features, pre_sigmoid):
    return features * (1 / (1 + np.exp(-pre_sigmoid)))


def test_pointwise_form_is_equations_4_to_7(x):
    torch.manual_seed(0)
    gate = StripPooling(3, form="pointwise").eval()
    weight = gate.fuse[0].weight.detach().numpy()[:, :, 0, 0]
    features = x[0].numpy()
    expected = np.empty_like(features)
    for i in range(4):
        for j in range(5):
            y = features[:, i, :].mean(axis=1) + features[:, :, j].mean(axis=1)
            expected[:, i, j] = gated(features[:, i, j], weight @ y * BN)
    np.testing.assert_allclose(gate(x)[0][0].detach().numpy(), expected, rtol=1e-5)


def test_spnet_form_convolves_the_strips(x):
    torch.manual_seed(0)
    gate = StripPooling(3, form="spnet").eval()
    rows_weight = gate.rows[0].weight.detach().numpy()[:, :, :, 0]  # (out, in, tap)
    columns_weight = gate.columns[0].weight.detach().numpy()[:, :, 0, :]
    last = gate.fuse[1]
    weight, bias = last.weight.detach().numpy()[:, :, 0, 0], last.bias.detach().numpy()
    features = x[0].numpy()
    rows = np.pad(features.mean(axis=2), ((0, 0), (1, 1)))
    columns = np.pad(features.mean(axis=1), ((0, 0), (1, 1)))
    expected = np.empty_like(features)
    for i in range(4):
        for j in range(5):
            h = sum(rows_weight[:, :, tap] @ rows[:, i + tap] for tap in range(3)) * BN
            v = sum(columns_weight[:, :, tap] @ columns[:, j + tap] for tap in range(3)) * BN
            expected[:, i, j] = gated(features[:, i, j], weight @ np.maximum(h + v, 0) + bias)
    np.testing.assert_allclose(gate(x)[0][0].detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("hard", [False, True])
def test_spatial_unit_equals_the_formula(hard):
    torch.manual_seed(0)
    unit, x = SpatialRebuildUnit(8, groups=4, hard=hard), torch.randn(1, 8, 3, 4)
    torch.nn.init.uniform_(unit.norm.weight, 0.5, 2)
    torch.nn.init.normal_(unit.norm.bias)
    y, reweights, *parts = unit(x)
    phi, mu = unit.norm.weight.detach().numpy(), unit.norm.bias.detach().numpy()
    features = x[0].numpy()
    informative, redundant = np.empty_like(features), np.empty_like(features)
    for c in range(8):
        group = features[c // 2 * 2 : c // 2 * 2 + 2]
        normalised = phi[c] * (features[c] - group.mean()) / np.sqrt(group.var() + 1e-5) + mu[c]
        r = 1 / (1 + np.exp(-phi[c] / phi.sum() * normalised))
        np.testing.assert_allclose(reweights[0, c].detach().numpy(), r, rtol=1e-5)
        informative[c] = np.where(r > 0.5, 1, 0 if hard else r) * features[c]
        redundant[c] = np.where(r > 0.5, 0, r) * features[c]
    for part, expected in zip(parts, (informative, redundant), strict=True):
        np.testing.assert_allclose(part[0].detach().numpy(), expected, rtol=1e-5)
    a, b, c, d = informative[:4], informative[4:], redundant[:4], redundant[4:]
    np.testing.assert_allclose(y[0].detach().numpy(), np.concatenate([a + d, b + c]), rtol=1e-5, atol=1e-6)


def test_channel_unit_equals_the_formula():
    torch.manual_seed(0)
    unit, x = ChannelRebuildUnit(16), torch.randn(2, 16, 3, 4)
    y, betas = unit(x)
    up = F.conv2d(x[:, :8], unit.squeeze_up.weight)
    low = F.conv2d(x[:, 8:], unit.squeeze_low.weight)
    groups = [F.conv2d(up[:, 2 * g : 2 * g + 2], unit.groupwise.weight[8 * g : 8 * g + 8], padding=1) for g in range(2)]
    y1 = torch.cat(groups, dim=1) + unit.groupwise.bias[:, None, None] + F.conv2d(up, unit.pointwise_up.weight)
    y2 = torch.cat([F.conv2d(low, unit.pointwise_low.weight), low], dim=1)
    for n in range(2):
        for c in range(16):
            s1, s2 = y1[n, c].mean(), y2[n, c].mean()
            beta1 = s1.exp() / (s1.exp() + s2.exp())
            torch.testing.assert_close(betas[n, 0, c, 0, 0], beta1)
            torch.testing.assert_close(y[n, c], beta1 * y1[n, c] + (1 - beta1) * y2[n, c])


def test_channel_unit_has_the_stated_size():
    with torch.device("meta"):
        assert sum(p.numel() for p in ChannelRebuildUnit(256).parameters()) == 119_040


def test_sge_equals_the_formula():
    torch.manual_seed(0)
    layer, x = SpatialGroupEnhance(6, groups=2), torch.randn(1, 6, 3, 4)
    torch.nn.init.normal_(layer.gamma)
    torch.nn.init.normal_(layer.beta)
    y, attention = layer(x)
    for group in range(2):
        features = x[0, 3 * group : 3 * group + 3].numpy()
        g = features.mean(axis=(1, 2))
        c = np.array([[g @ features[:, i, j] for j in range(4)] for i in range(3)])
        a = layer.gamma[0, group].item() * (c - c.mean()) / (c.std() + 1e-5) + layer.beta[0, group].item()
        weight = 1 / (1 + np.exp(-a))
        np.testing.assert_allclose(attention[0, group].detach().numpy(), weight, rtol=1e-4)
        np.testing.assert_allclose(y[0, 3 * group : 3 * group + 3].detach().numpy(), features * weight, rtol=1e-4)


def test_sge_of_flat_features_has_finite_gradients():
    layer, x = SpatialGroupEnhance(4, groups=2), torch.ones(1, 4, 3, 3, requires_grad=True)
    torch.nn.init.ones_(layer.gamma)
    layer(x)[0].sum().backward()
    assert x.grad.isfinite().all()


def test_sge_names_indivisible_channels():
    with pytest.raises(ValueError, match=r"12 channels.*8 groups"):
        SpatialGroupEnhance(12)
