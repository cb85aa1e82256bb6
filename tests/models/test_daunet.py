"""DAUNet against its wiring written out, the specified sizes of its ablations, and ResNet-50 and SimpleBaseline."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet50

from hpelib.metrics.complexity import complexity
from hpelib.models.daunet import DAUNet
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.models.weights import load_matching, load_weights

NARROW = {"width": 8, "depths": (2, 1, 1, 1), "decoder_widths": (16, 16, 16), "tail_blocks": 1}
LITERAL = {"skip": "none", "tail_blocks": 0}
R2 = LITERAL | {"level_block": "basic", "partial": "all", "strip_form": "conv3x3", "strip_placement": "all"}
R3 = LITERAL | {
    "decoder_widths": (512, 512, 256, 128, 64),
    "head_kernel": 3,
    "partial": "all",
    "strip_form": "pointwise",
}
R5 = {
    "skip": "concat1x1",
    "level_block": "bottleneck",
    "tail_blocks": 0,
    "partial": "added",
    "partial_ratio": 2,
    "strip_form": "pointwise",
    "strip_placement": "all",
}
OFF = {"ibn": False, "scru": False, "sge": False}


def narrow(**options):
    """A quick network whose layers that start near zero have left their start, so that all parts matter."""
    torch.manual_seed(0)
    model = DAUNet(num_keypoints=5, **(NARROW | options))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4 and name.startswith(("deconv_layers", "final_layer")):
            torch.nn.init.kaiming_normal_(parameter)
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
        (OFF, 40.11, 11.62),
        (OFF | {"ibn": True}, 38.52, 10.36),
        (OFF | {"scru": True}, 40.47, 12.10),
        (OFF | {"sge": True}, 40.11, 11.62),
        ({"sge": False}, 38.88, 10.83),
        ({"scru": False}, 38.52, 10.36),
        ({"ibn": False}, 40.47, 12.10),
        ({}, 38.88, 10.83),
        ({"tail_blocks": 0}, 38.67, 10.19),
        ({"partial": "all", "strip_placement": "all", "head_kernel": 3}, 38.72, 10.79),  # R1b
        (R2, 38.62, 10.77),
        (R3, 38.62, 10.86),
        (R5, 38.55, 7.37),
        # the text word by word: no skips, no residual blocks, one 1x1 gate in every block
        ({"skip": "none", "tail_blocks": 0, "strip_form": "pointwise", "strip_placement": "all"}, 27.92, 4.73),
    ],
)
def test_variants_have_the_specified_size(options, params_m, macs_g):
    with torch.device("meta"):
        size = complexity(DAUNet(**options))
    assert (size.params / 1e6, size.macs / 1e9) == pytest.approx((params_m, macs_g), rel=1e-3)


def test_without_all_additions_it_is_simple_baseline(images):
    torch.manual_seed(0)
    baseline = SimpleBaseline(5, "resnet50", width=8, depths=(2, 1, 1, 1), deconv_widths=(16, 16, 16)).eval()
    model = narrow(**OFF, skip="none", tail_blocks=0).eval()
    load_weights(model, baseline.state_dict())
    assert torch.equal(model(images), baseline(images))


def bottleneck(w, x, stride, ratio, gate):
    """An improved bottleneck from its weights `w`, batch norms at their start and in eval mode."""
    bn = (1 + 1e-5) ** -0.5
    y = torch.relu(F.conv2d(x, w["conv1.weight"]) * bn)
    if stride == 2:
        y = F.conv2d(y, w["conv2.weight"], stride=2, padding=1)
    else:
        d = y.shape[1] // ratio
        y = torch.cat([F.conv2d(y[:, :d], w["conv2.weight"], padding=1), y[:, d:]], dim=1)
    y = torch.relu(y * bn)
    if gate:
        y, _ = gate(y)
    y = F.conv2d(y, w["conv3.weight"]) * bn
    if "downsample.0.weight" in w:
        x = F.conv2d(F.avg_pool2d(x, stride), w["downsample.0.weight"]) * bn
    return torch.relu(y + x)


@pytest.mark.parametrize("placement", ["spnet", "all"])
def test_network_is_wired_as_specified(placement, images):
    model = narrow(strip_placement=placement).eval()
    x = model.maxpool(F.relu(model.bn1(model.conv1(images))))
    encoded = []
    for s, stage in enumerate((model.layer1, model.layer2, model.layer3, model.layer4)):
        for i, block in enumerate(stage):
            gated = placement == "all" or s == 3 or i == len(stage) - 1
            assert (block.strip is not None) == gated
            x = bottleneck(block.state_dict(), x, 2 if s and not i else 1, 4, block.strip)
        encoded.append(x)
    for i, skipped in enumerate((encoded[2], encoded[1], encoded[0])):
        x = model.deconv_layers[3 * i : 3 * i + 3](x)
        x = model.fusions[i](torch.cat([x, skipped], dim=1))
        x = model.sges[i](model.crus[i](model.srus[i](x)[0])[0])[0]
    torch.testing.assert_close(model(images), model.final_layer(model.tail(x)))


def test_imagenet_weights_are_cut_to_the_convolved_channels():
    torch.manual_seed(0)
    model = DAUNet(strip_form="pointwise")
    source = resnet50().state_dict()
    new = load_matching(model, source)
    own = model.state_dict()
    assert torch.equal(own["layer2.1.conv2.weight"], source["layer2.1.conv2.weight"][:32, :32])
    assert torch.equal(own["layer2.0.conv2.weight"], source["layer2.0.conv2.weight"])
    assert torch.equal(own["layer4.0.downsample.0.weight"], source["layer4.0.downsample.0.weight"])
    assert all(".strip." in name for name in new if name.startswith(("conv1", "bn1", "layer")))


def test_every_parameter_learns(images):
    model = narrow()
    model(images)["heatmaps"].square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_looks_show_gates_rebuilding_and_attention(images):
    model = narrow().eval()
    heatmaps, looks = model(images, look=True)
    assert torch.equal(heatmaps, model(images))
    strips = {name for name in looks if name.endswith("_strip")}
    assert strips == {"stage1_block2_strip", "stage2_block1_strip", "stage3_block1_strip", "stage4_block1_strip"}
    assert looks["up2_sru"].shape == (2, 16, 8, 12)
    assert looks["up3_sge"].shape == (2, 8, 16, 24)
    torch.testing.assert_close(looks["up1_cru"].sum(dim=1), torch.ones(2, 16, 1, 1))


def test_impossible_requests_are_explained():
    with pytest.raises(ValueError, match=r"100x60 px.*try 96x64"):
        narrow()(torch.zeros(1, 3, 60, 100))
    with pytest.raises(ValueError, match=r"skip='add'.*'concat', 'concat1x1', 'none'"):
        narrow(skip="add")
    with pytest.raises(ValueError, match=r"strip_placement='first'.*'spnet', 'all'"):
        narrow(strip_placement="first")
    with pytest.raises(ValueError, match=r"form='none'.*'spnet', 'pointwise', 'conv3x3'"):
        narrow(strip_form="none")
