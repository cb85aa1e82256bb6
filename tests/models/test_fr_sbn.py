"""FR-SBN against its wiring written out, the rows of the paper's Table 1, and SimpleBaseline."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.metrics.complexity import complexity
from hpelib.models.fr_sbn import FRSBN, SAMFCD
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.models.weights import load_matching, load_weights

NARROW = {"width": 8, "depths": (1, 1, 1, 1), "decoder_widths": (16, 16, 16, 8, 4), "fused_width": 12}
SBN = {"full_resolution": False, "gcb": False, "sa_mfcd": False}


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
    assert complexity(model).params == pytest.approx(33e6, rel=0.035)
    assert complexity(model).macs == pytest.approx(21.3e9, rel=0.01)
    assert complexity(model, (288, 384)).macs == pytest.approx(48.0e9, rel=0.01)


@pytest.mark.parametrize(
    ("options", "params_m", "macs_g"),
    [
        (SBN, 25.49, (4.71, 10.60)),
        ({"gcb": False, "sa_mfcd": False}, 26.07, (7.14, 16.06)),
        ({"sa_mfcd": False}, 27.17, (7.14, 16.07)),
        ({"sa_mfcd": False, "gcb_ratio": 4}, 26.35, (7.14, 16.07)),
        ({"sa_mfcd": False, "skip": True}, 29.97, (10.31, 23.20)),
        ({}, 32.01, (21.34, 48.00)),
        ({"gcb_ratio": 4}, 31.19, (21.34, 48.00)),
        ({"distribution": "plain", "fused_width": 288}, 31.32, (21.41, 48.17)),
        ({"distribution": "convolved", "fused_width": 256}, 32.33, (21.64, 48.68)),
        ({"distribution": "plain", "fused_width": 384}, 32.26, (24.81, 55.82)),
        ({"encoder": "resnet50"}, 55.6, (36.3, 81.7)),
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
    new = load_matching(model, baseline.state_dict())
    assert not [
        name for name in new if name.startswith(("conv1", "bn1", "layer", "deconv_layers.0", "deconv_layers.6"))
    ]
    for ours, theirs in zip(model.encode_with_context(images)[0], baseline.encode(images), strict=True):
        assert torch.equal(ours, theirs)


def test_full_network_is_wired_as_specified(images):
    model = narrow().eval()
    up = {"mode": "bilinear", "align_corners": False}
    stages, x = [], model.maxpool(F.relu(model.bn1(model.conv1(images))))
    for layer, gcb in zip((model.layer1, model.layer2, model.layer3, model.layer4), model.stage_gcbs, strict=True):
        x, sah = gcb(layer(x))
        stages.append((x, sah))
    (s1, m1), (s2, m2), (s3, m3), (s4, _) = stages
    fuse = model.sa_mfcd
    collected = fuse.collect(
        torch.cat([s1, F.interpolate(s2, scale_factor=2, **up), F.interpolate(s3, scale_factor=4, **up)], 1)
    )
    gate = fuse.gate(
        torch.cat([m1, F.interpolate(m2, scale_factor=2, **up), F.interpolate(m3, scale_factor=4, **up)], 1)
    )
    r = collected * gate
    deconv = [model.deconv_layers[i : i + 3] for i in range(0, 15, 3)]
    d1, _ = model.decoder_gcbs[0](deconv[0](s4))
    half = F.interpolate(r, scale_factor=0.5, **up)
    d2, _ = model.decoder_gcbs[1](model.fusions["decoder2"](torch.cat([deconv[1](d1), half], 1)))
    d3, _ = model.decoder_gcbs[2](model.fusions["decoder3"](torch.cat([deconv[2](d2), r], 1)))
    double = F.interpolate(fuse.ways[2](r), scale_factor=2, **up)
    d4 = model.fusions["decoder4"](torch.cat([deconv[3](d3), double], 1))
    torch.testing.assert_close(model(images), model.final_layer(deconv[4](d4)))


def test_skip_row_joins_stages_of_equal_resolution(images):
    model = narrow(sa_mfcd=False, skip=True).eval()
    stages, _ = model.encode_with_context(images)
    x = stages[3]
    for i, stage in enumerate((stages[2], stages[1], stages[0])):
        x = model.fusions[f"decoder{i + 1}"](torch.cat([model.deconv_layers[3 * i : 3 * i + 3](x), stage], 1))
        x, _ = model.decoder_gcbs[i](x)
    torch.testing.assert_close(model(images), model.final_layer(model.deconv_layers[9:](x)))


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
