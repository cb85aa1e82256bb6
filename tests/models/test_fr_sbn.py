"""FR-SBN against its wiring written out, the rows of the paper's Table 1, and SimpleBaseline."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import GlobalContext

from hpelib.metrics.cost import complexity
from hpelib.models.fr_sbn import FRSBN, SAMFCD, GlobalContextBlock
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.models.weights import load_trunk, load_weights

NARROW = {"width": 8, "depths": (1, 1, 1, 1), "decoder_widths": (16, 16, 16, 8, 4), "fused_width": 12}
SBN = {"full_resolution": False, "gcb": False, "sa_mfcd": False}
FRSBN_ALONE = {"gcb": False, "sa_mfcd": False}
TABLE_1 = [SBN, FRSBN_ALONE, {"sa_mfcd": False}, {"sa_mfcd": False, "skip": True}, {}]
READINGS = [
    {"distribution": "plain"},
    {"distribution": "convolved"},
    {"distribution": "plain", "full_resolution": False},
    {"gate": "sigmoid"},
    {"gcb_ratio": 1},
    FRSBN_ALONE | {"skip": True},
]
BN = (1 + 1e-5) ** -0.5  # a batch norm at its start, in eval mode


def narrow(**options):
    """A quick network whose layers that start at or near zero have left their start, so that all parts matter."""
    torch.manual_seed(0)
    model = FRSBN(num_keypoints=5, **(NARROW | options))
    for name, parameter in model.named_parameters():
        if "mlp_add.fc2" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif parameter.ndim == 4 and name.startswith(("deconv_layers", "final_layer")):
            torch.nn.init.kaiming_normal_(parameter)
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_size_is_the_papers():
    with torch.device("meta"):
        model = FRSBN()
    assert complexity(model).params == pytest.approx(33e6, rel=0.06)
    assert complexity(model).macs == pytest.approx(21.3e9, rel=0.01)
    assert complexity(model, (288, 384)).macs == pytest.approx(48.0e9, rel=0.01)


@pytest.mark.parametrize(
    ("options", "params_m", "macs_g"),
    [
        (SBN, 25.49, (4.71, 10.60)),
        (FRSBN_ALONE, 26.07, (7.14, 16.06)),
        ({"sa_mfcd": False}, 26.35, (7.14, 16.07)),
        ({"sa_mfcd": False, "gcb_ratio": 1}, 27.17, (7.14, 16.07)),
        ({"sa_mfcd": False, "skip": True}, 29.15, (10.31, 23.20)),
        ({}, 31.19, (21.34, 48.00)),
        ({"gcb_ratio": 1}, 32.01, (21.34, 48.00)),
        ({"gcb_ratio": 16}, 30.99, (21.34, 48.00)),
        ({"distribution": "plain", "fused_width": 288}, 30.50, (21.41, 48.17)),
        ({"distribution": "convolved", "fused_width": 256}, 31.51, (21.64, 48.68)),
        ({"distribution": "plain", "fused_width": 384}, 31.43, (24.81, 55.82)),
        ({"encoder": "resnet50", "gcb_ratio": 1}, 55.6, (36.3, 81.7)),
    ],
)
def test_variants_have_the_specified_size(options, params_m, macs_g):
    with torch.device("meta"):
        model = FRSBN(**options)
    assert complexity(model).params / 1e6 == pytest.approx(params_m, rel=1e-3)
    for size, macs in zip(((192, 256), (288, 384)), macs_g, strict=True):
        assert complexity(model, size).macs / 1e9 == pytest.approx(macs, rel=1e-3)


def test_all_off_is_simple_baseline_and_loads_its_checkpoint(images):
    torch.manual_seed(0)
    options = {"encoder": "resnet34", "width": 8, "depths": (1, 1, 1, 1)}
    baseline = SimpleBaseline(5, **options, deconv_widths=(16, 16, 16)).eval()
    model = narrow(**SBN).eval()
    load_weights(model, baseline.state_dict())
    assert torch.equal(model(images), baseline(images))


def test_full_network_starts_from_simple_baselines_weights(images):
    baseline = SimpleBaseline(5, "resnet34", width=8, depths=(1, 1, 1, 1), deconv_widths=(16, 16, 16)).eval()
    model = FRSBN(num_keypoints=5, **NARROW).eval()
    shared = ("conv1", "bn1", "layer", "deconv_layers.0", "deconv_layers.6")
    trunk = [name for name in model.state_dict() if name.startswith(shared)]
    load_trunk(model, baseline.state_dict(), trunk, "simple_baseline", "fr_sbn")
    for ours, theirs in zip(model.encode_with_context(images)[0], baseline.encode(images), strict=True):
        assert torch.equal(ours, theirs)


def written_out(
    model, images, full_resolution=True, gcb=True, skip=False, sa_mfcd=True, distribution="reduced", gate="relu"
):
    """The heatmaps of `model`, which has these options, in eval mode and with batch norms at their start."""
    x = model.maxpool(F.relu(model.bn1(model.conv1(images))))
    stages, sahs = [], []
    for i, stage in enumerate((model.layer1, model.layer2, model.layer3, model.layer4)):
        x = stage(x)
        if gcb:
            x, sah = model.stage_gcbs[i](x)
            sahs.append(sah)
        stages.append(x)
    side = {1: stages[2], 2: stages[1], 3: stages[0]} if skip else {}
    if sa_mfcd:
        side = distributed(model.sa_mfcd, stages[:3], sahs[:3], distribution, gate)
    assert len(model.deconv_layers) == 3 * (5 if full_resolution else 3)
    for i, deconvolution in enumerate(model.deconv_layers[::3], start=1):
        x = torch.relu(F.conv_transpose2d(x, deconvolution.weight, stride=2, padding=1) * BN)
        if i in side:
            x = convolved(torch.cat([x, side[i]], dim=1), model.fusions[f"decoder{i}"])
        if gcb and i <= 3:
            x, _ = model.decoder_gcbs[i - 1](x)
    return F.conv2d(x, model.final_layer.weight, model.final_layer.bias)


def distributed(module, stages, sahs, distribution, gate):
    """What SA-MFCD hands to the decoders, by their numbers."""
    size, opening = stages[0].shape[2:], {"relu": torch.relu, "sigmoid": torch.sigmoid}[gate]
    features, heatmaps = (
        torch.cat([F.interpolate(x, size, mode="bilinear") for x in maps], dim=1) for maps in (stages, sahs)
    )
    gates = opening(F.conv2d(heatmaps, module.gate.conv.weight, padding=1) * BN + 1)
    refined = convolved(features, module.collect) * gates
    sent = {2: F.interpolate(refined, scale_factor=0.5, mode="bilinear"), 3: refined, 4: refined}
    for decoder in {"plain": (), "reduced": (4,), "convolved": (2, 3, 4)}[distribution]:
        sent[decoder] = convolved(sent[decoder], module.ways[decoder - 2])
    return sent | {4: F.interpolate(sent[4], scale_factor=2, mode="bilinear")}


def convolved(x, layer):
    """ReLU(BN(conv(x))) of a layer's weights."""
    return torch.relu(F.conv2d(x, layer.conv.weight, padding="same") * BN)


@pytest.mark.parametrize("options", [*TABLE_1, *READINGS])
def test_options_are_wired_as_specified(options, images):
    """The rows of Table 1, and the readings of the notebook."""
    model = narrow(**options).eval()
    wiring = {name: value for name, value in options.items() if name != "gcb_ratio"}
    torch.testing.assert_close(model(images), written_out(model, images, **wiring))


def conv(inputs, outputs, kernel=1):
    """Parameters of a convolution and its batch norm."""
    return inputs * outputs * kernel**2 + 2 * outputs


def context_blocks(ratio=4):
    """Parameters of the GCBs of all stages and of Decoders 1 to 3: attention, reduction, layer norm, expansion."""
    widths = (64, 128, 256, 512, 256, 256, 256)
    return sum((c + 1) + (c + 1) * (c // ratio) + 2 * (c // ratio) + (c // ratio + 1) * c for c in widths)


def fusion(fused, to_decoders, ways):
    """Parameters of SA-MFCD, which hands these widths to Decoders 2 to 4 over these kernels, and of what takes them."""
    taken = sum(conv(own + side, own, 3) for own, side in zip((256, 256, 128), to_decoders, strict=True))
    handed = sum(conv(fused, side, kernel) for side, kernel in zip(to_decoders, ways, strict=True) if kernel)
    return conv(64 + 128 + 256, fused, 3) + conv(3, 1, 3) + handed + taken


@pytest.mark.parametrize(
    ("options", "without", "params"),
    [
        (FRSBN_ALONE, SBN, conv(256, 128, 4) + conv(128, 32, 4) + 17 * (32 - 256)),
        ({"sa_mfcd": False}, FRSBN_ALONE, context_blocks()),
        ({"sa_mfcd": False, "gcb_ratio": 1}, FRSBN_ALONE, context_blocks(1)),
        ({"sa_mfcd": False, "skip": True}, {"sa_mfcd": False}, sum(conv(256 + c, 256, 3) for c in (256, 128, 64))),
        ({}, {"sa_mfcd": False}, fusion(384, (384, 384, 128), (0, 0, 1))),
        ({"gate": "sigmoid"}, {}, 0),
        ({"fused_width": 96}, {"sa_mfcd": False}, fusion(96, (96, 96, 128), (0, 0, 1))),
        ({"distribution": "plain"}, {"sa_mfcd": False}, fusion(384, (384, 384, 384), (0, 0, 0))),
        ({"distribution": "convolved"}, {"sa_mfcd": False}, fusion(384, (256, 256, 128), (3, 3, 3))),
    ],
)
def test_an_option_adds_the_parameters_counted_by_hand(options, without, params):
    with torch.device("meta"):
        counts = [sum(p.numel() for p in FRSBN(**given).parameters()) for given in (options, without)]
    assert counts[0] - counts[1] == params


@pytest.mark.parametrize("gate", ["relu", "sigmoid"])
def test_gate_is_a_batch_normed_convolution_of_the_heatmaps_that_starts_open(gate):
    torch.manual_seed(0)
    module = SAMFCD((4, 4, 4), 6, (8, 8, 8), distribution="plain", gate=gate).eval()
    maps = [torch.randn(2, 1, 16 // 2**i, 12 // 2**i) for i in range(3)]
    features = [torch.randn(2, 4, 16 // 2**i, 12 // 2**i) for i in range(3)]
    (half, equal, double), opened = module(features, maps)
    assert [t.shape[2:] for t in (half, equal, double)] == [(8, 6), (16, 12), (32, 24)]
    fused = torch.cat([F.interpolate(m, (16, 12), mode="bilinear") for m in maps], dim=1)
    expected = F.conv2d(fused, module.gate.conv.weight, padding=1) / (1 + 1e-5) ** 0.5 + 1
    torch.testing.assert_close(opened, expected.relu() if gate == "relu" else expected.sigmoid())


def test_every_parameter_learns(images):
    model = narrow()
    model(images)["heatmaps"].square().sum().backward()
    still = {name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0}
    # the softmax of the SAH does not change with its bias, and only those of stages 1-3 are read elsewhere
    softmaxed = {"stage_gcbs.3", "decoder_gcbs.0", "decoder_gcbs.1", "decoder_gcbs.2"}
    assert still <= {f"{block}.conv_attn.bias" for block in softmaxed}


def test_looks_are_the_heatmaps_and_their_softmax(images):
    model = narrow().eval()
    heatmaps, looks = model(images, look=True)
    assert torch.equal(heatmaps, model(images))
    assert looks["sa_mfcd_gate"].shape == (2, 1, 16, 24)
    assert looks["stage1_sah"].shape == looks["stage1_attention"].shape == (2, 1, 16, 24)
    assert looks["decoder2_sah"].shape == (2, 1, 8, 12)
    torch.testing.assert_close(looks["decoder3_attention"].sum(dim=(1, 2, 3)), torch.ones(2))
    logits = looks["stage2_sah"] - looks["stage2_attention"].log()
    torch.testing.assert_close(logits, logits.amax(dim=(2, 3), keepdim=True).expand_as(logits))


def test_impossible_requests_are_explained(images):
    with pytest.raises(ValueError, match=r"100x60 px.*try 96x64"):
        narrow()(torch.zeros(1, 3, 60, 100))
    with pytest.raises(ValueError, match="SA-MFCD replaces `skip`"):
        narrow(skip=True)
    with pytest.raises(ValueError, match="reads the GCBs"):
        narrow(gcb=False)
    with pytest.raises(ValueError, match=r"gate='tanh'.*'relu', 'sigmoid'"):
        narrow(gate="tanh")
    for widths in ((16, 16), (16, 16, 16)):
        with pytest.raises(ValueError, match=r"decoder_widths .* must be five with full_resolution=True"):
            narrow(decoder_widths=widths)
    with pytest.raises(ValueError, match=r"decoder_widths .* must be three or five with full_resolution=False"):
        narrow(decoder_widths=(16, 16), full_resolution=False)


def test_the_head_sees_the_features(images):
    model = narrow().eval()
    assert torch.equal(model.final_layer(model.features(images)), model(images))


@pytest.fixture
def block():
    torch.manual_seed(0)
    block = GlobalContextBlock(8, ratio=4)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block


@pytest.fixture
def x():
    return torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(1))


def test_gcb_equals_the_formula(block, x):
    y, heatmap = block(x)
    w = {name: p.detach().numpy().squeeze() for name, p in block.named_parameters()}
    for features, result, sah in zip(x.numpy(), y.detach().numpy(), heatmap.detach().numpy(), strict=True):
        positions = [features[:, i, j] for i in range(3) for j in range(4)]
        logits = np.array([w["conv_attn.weight"] @ p + w["conv_attn.bias"] for p in positions])
        np.testing.assert_allclose(sah.ravel(), logits, rtol=1e-5)
        attention = np.exp(logits) / np.exp(logits).sum()
        context = sum(a * p for a, p in zip(attention, positions, strict=True))
        t = w["mlp_add.fc1.weight"] @ context + w["mlp_add.fc1.bias"]
        t = (t - t.mean()) / np.sqrt(t.var() + 1e-6) * w["mlp_add.norm.weight"] + w["mlp_add.norm.bias"]
        t = w["mlp_add.fc2.weight"] @ np.maximum(t, 0) + w["mlp_add.fc2.bias"]
        np.testing.assert_allclose(result, features + t[:, None, None], rtol=1e-4, atol=1e-5)


def test_gcb_is_timms(block, x):
    reference = GlobalContext(8, fuse_add=True, fuse_scale=False, rd_channels=2)
    reference.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x)[0], reference(x))


def test_gcb_starts_as_the_identity(x):
    assert torch.equal(GlobalContextBlock(8)(x)[0], x)
