"""DITN: Table 8 module by module, the ablation's corners, and the transfer joint by joint."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.metrics.cost import complexity
from hpelib.models import create_model, load_weights
from hpelib.models.ditn import DITN, ChannelAttention, ParameterAdapter, SpatialAttention, adaptive_convolution
from hpelib.models.hrnet import HRNet
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.skeletons import COCO17, MPII16

HRNET = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 16}
NARROW = {"num_keypoints": 5, "bones": ((0, 1), (1, 2), (1, 3)), "backbone_options": HRNET}  # joint 4 is in no bone

RESNET = {
    "backbone": "resnet50",
    "backbone_options": {"width": 8, "depths": (1, 1, 1, 1), "deconv_widths": (8, 8, 8)},
}
BN = (1 + 1e-5) ** -0.5  # a batch norm at its start, in eval mode


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return create_model("ditn_w32", num_keypoints=16)


@pytest.mark.parametrize(
    ("module", "params", "printed"),
    [
        ("backbone", 28_535_552, 28.5e6),
        ("bone_decoder", 21_167, 21.2e3),
        ("joint_decoder", 21_200, 21.2e3),
        ("ditm.parameter_adapter", 1_620, 1.6e3),
        ("ditm.cab", 780, 0.8e3),
        ("ditm.sab", 4_000, 4.0e3),
    ],
)
def test_modules_have_the_sizes_of_table_8(full, module, params, printed):
    assert size(full.get_submodule(module)) == params == pytest.approx(printed, rel=0.03)


def test_costs_are_those_of_table_8(full):
    """At 256x256, in MACs / 2^20; the paper adds biases and norms and counts the transfer as full convolutions."""
    cost = complexity(full, (256, 256)).macs_by_module
    printed = {"bone_decoder": 83.4, "joint_decoder": 83.6, "ditm.parameter_adapter": 0.6, "ditm.sab": 16.1}
    for module, mega in printed.items():
        assert cost[module] / 2**20 == pytest.approx(mega, rel=0.07), module
    transfer = 64 * 64 * (16 * 16 + 15 * 2 * 2 * 7 * 7) / 2**20
    assert transfer == pytest.approx(12.5, rel=0.01)


@pytest.mark.parametrize(("keypoints", "params"), [(16, 28_584_575), (17, 28_585_833)])
def test_the_whole_has_the_printed_size(keypoints, params):
    """Table 3: 28.6 M and 7.26 GFLOPs at 256x192."""
    with torch.device("meta"):
        model = create_model("ditn_w32", num_keypoints=keypoints)
    total = complexity(model, (192, 256))
    assert total.params == params == pytest.approx(28.6e6, rel=0.005)
    assert total.legacy_gflops == pytest.approx(7.26, rel=0.01)


def test_resnet50_brings_its_deconvolutions():
    with torch.device("meta"):
        model = DITN(16, backbone="resnet50")
        bare = SimpleBaseline(16)
    assert size(model.backbone) == size(bare) - size(bare.final_layer)
    assert model.joint_decoder.last.in_channels == 256
    output, looks = DITN(16, **RESNET)(torch.randn(2, 3, 64, 64), look=True)
    assert output["bones"].shape == (2, 15, 16, 16)
    assert "stage4" in looks


def decoded(decoder, f):
    """What a decoder gives, from its weights."""
    y = (F.conv2d(f, decoder.residual[0].weight) * BN).relu()
    y = (F.conv2d(y, decoder.residual[3].weight, padding=1) * BN).relu()
    return F.conv2d(f + y, decoder.last.weight, decoder.last.bias)


def transferred(ditm, joints, bones, cab=True, sab=True, merge="mean", heatmap_relu=True):
    """Eqs. 2 and 3 with a loop over bones; a joint takes the mean (or sum) over its bones, a lone joint nothing."""
    Q = F.conv2d(joints, ditm.k1.weight)
    kernels = ditm.parameter_adapter(bones[:, [0, 0, 1, 1, 2, 2]])
    groups = torch.cat([Q[:, list(bone)] for bone in NARROW["bones"]], 1)
    received = torch.stack(  # kernels are 1x1 on these small maps
        [torch.stack([groups[n, c] * kernels[n, c] for c in range(6)]) for n in range(len(Q))]
    )
    if cab:
        received, _ = ditm.cab(received)
    heatmaps = Q.clone()
    for joint, channels in {0: [0], 1: [1, 2, 4], 2: [3], 3: [5]}.items():
        share = len(channels) if merge == "mean" else 1
        heatmaps[:, joint] += sum(received[:, c] for c in channels) / share
    if sab:
        conv, norm = ditm.sab.refine[:2]
        g = norm(F.conv2d(heatmaps, conv.weight, conv.bias, padding=1))
        g = g.relu() if heatmap_relu else g
        heatmaps = (1 + ditm.sab.weigh(g)) * g
    return heatmaps


@pytest.mark.parametrize(
    "options",
    [
        {"ditm": False},
        {"cab": False, "sab": False},
        {"sab": False},
        {"cab": False},
        {},
        {"merge": "sum"},
        {"heatmap_relu": False},
        RESNET,
    ],
)
def test_options_are_wired_as_specified(options):
    """The rows of Table 5, the backbone of Tables 6 and 7, and what the paper leaves open."""
    torch.manual_seed(0)
    model = DITN(**(NARROW | options)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4 and not name.startswith("ditm.sab"):  # the others start near zero
            torch.nn.init.kaiming_normal_(parameter)
    images = torch.randn(2, 3, 64, 64)
    f = model.backbone.features(images)
    bones = decoded(model.bone_decoder, f)
    heatmaps = decoded(model.joint_decoder, f)
    found, looks = model(images, look=True)
    if options.get("ditm", True):
        kernels = model.ditm.parameter_adapter(bones.repeat_interleave(2, dim=1))
        torch.testing.assert_close(looks["kernels"], kernels)
        transfer = {name: value for name, value in options.items() if not name.startswith("backbone")}
        heatmaps = transferred(model.ditm, heatmaps, bones, **transfer)
    torch.testing.assert_close(found, heatmaps)
    torch.testing.assert_close(looks["bones"], bones)


DECODER = 32 * 64 + 2 * 64 + 9 * 64 * 32 + 2 * 32  # and 33 for each channel of its last layer
CAB = 2 * 30 * 9 + 3 * 30 + 2 * 30 + 3 * 30  # 30 channels in groups of two, 3x3 then 1x1, each with bias and norm
SAB = 16 * 16 * 9 + 16 * 16 + 16 * 81 + 3 * 3 * 16


@pytest.mark.parametrize(
    ("options", "without", "params"),
    [
        ({"ditm": False}, {"multi_task": False}, 2 * DECODER + 33 * 15),
        ({"cab": False, "sab": False}, {"ditm": False}, 16 * 16 + 1620),
        ({"sab": False}, {"cab": False, "sab": False}, CAB),
        ({"cab": False}, {"cab": False, "sab": False}, SAB),
        ({}, {"cab": False, "sab": False}, CAB + SAB),
        ({"merge": "sum", "heatmap_relu": False}, {}, 0),
    ],
)
def test_an_option_adds_the_parameters_counted_by_hand(options, without, params):
    with torch.device("meta"):
        counts = [size(DITN(16, **given)) for given in (options, without)]
    assert counts[0] - counts[1] == params


def test_bones_default_to_the_skeleton():
    with torch.device("meta"):
        assert DITN(16, backbone_options=HRNET).bone_decoder.last.out_channels == len(MPII16.bones) == 15
        assert DITN(17, backbone_options=HRNET).bone_decoder.last.out_channels == len(COCO17.bones) == 19
    with pytest.raises(ValueError, match="no skeleton has 5 keypoints"):
        DITN(5, backbone_options=HRNET)
    with pytest.raises(ValueError, match="beyond the 5 keypoints"):
        DITN(5, bones=((0, 5),), backbone_options=HRNET)
    with pytest.raises(ValueError, match="backbone='vgg'"):
        DITN(backbone="vgg")


def test_without_multi_task_it_is_hrnet():
    torch.manual_seed(0)
    hrnet, model = HRNet(5, **HRNET).eval(), DITN(**NARROW, multi_task=False).eval()
    load_weights(model, hrnet.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(images), hrnet(images))


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"ditm": False}, set()),
        ({"cab": False, "sab": False}, {"kernels"}),
        ({"sab": False}, {"kernels", "cab"}),
        ({"cab": False}, {"kernels", "sab"}),
        ({}, {"kernels", "cab", "sab"}),
    ],
)
def test_rows_of_the_ablation(options, seen):
    """Table 5; without SAB nothing rectifies the heatmaps."""
    torch.manual_seed(0)
    model = DITN(**NARROW, **options)
    output, looks = model(torch.randn(2, 3, 64, 64), look=True)
    assert {name for name in looks if not name.startswith("stage")} == seen | {"bones"}
    assert torch.equal(looks["bones"], output["bones"])
    assert (output["heatmaps"] >= 0).all() == ("sab" in seen)


def test_both_tasks_teach_the_bone_decoder():
    """Gradients reach it from the joints alone, through the kernels."""
    model = DITN(**NARROW)
    model(torch.randn(2, 3, 64, 64))["heatmaps"].square().sum().backward()
    assert model.bone_decoder.last.weight.grad.abs().sum() > 0


def test_without_sab_the_transfer_starts_near_zero():
    """Its output are the heatmaps then; with SAB behind it, it starts as PyTorch's layers do."""
    torch.manual_seed(0)
    plain, full = DITN(16, backbone_options=HRNET, sab=False).ditm, DITN(16, backbone_options=HRNET).ditm
    assert plain.k1.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert (plain.cab.refine[1].weight == 0.1).all()
    assert full.k1.weight.std() > 0.1
    assert (full.cab.refine[1].weight == 1).all()


def test_every_channel_is_correlated_with_its_own_kernel():
    torch.manual_seed(0)
    x, kernels = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 3, 5)
    out = adaptive_convolution(x, kernels)
    padded = F.pad(x, (2, 2, 1, 1))
    for n in range(2):
        for c in range(3):
            for row in range(5):
                for column in range(6):
                    expected = (padded[n, c, row : row + 3, column : column + 5] * kernels[n, c]).sum()
                    torch.testing.assert_close(out[n, c, row, column], expected, rtol=1e-4, atol=1e-5)


def test_adapter_is_the_chain_of_table_8_in_each_group():
    torch.manual_seed(0)
    adapter = ParameterAdapter(groups=3)
    assert sum(p.numel() for p in adapter.parameters()) == 3 * 108
    x = torch.randn(2, 6, 64, 48)
    out = adapter(x)
    for group in range(3):
        channels = slice(2 * group, 2 * group + 2)
        y = F.max_pool2d(F.conv2d(x[:, channels], adapter[0].weight[channels], stride=2), 2)
        y = F.max_pool2d(F.conv2d(y, adapter[2].weight[channels], padding=1), 2)
        torch.testing.assert_close(out[:, channels], F.conv2d(y, adapter[4].weight[channels], padding=1))


@pytest.mark.parametrize(
    ("maps", "kernel"),
    [((64, 64), (7, 7)), ((64, 48), (7, 5)), ((96, 96), (11, 11)), ((96, 72), (11, 7)), ((9, 16), (1, 1))],
)
def test_kernels_have_odd_sides(maps, kernel):
    assert ParameterAdapter(1)(torch.zeros(1, 2, *maps)).shape == (1, 2, *kernel)


def test_maps_too_small_for_a_kernel_are_refused():
    with pytest.raises(ValueError, match=r"12x8 maps.*64x64 px images"):
        ParameterAdapter(1)(torch.zeros(1, 2, 8, 12))


def normed(x, block, groups, relu=True):
    """With running statistics at their start."""
    conv, bn = block[0], block[1]
    y = F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2, groups=groups)
    y = y / (1 + 1e-5) ** 0.5 * bn.weight[:, None, None] + bn.bias[:, None, None]
    return y.relu() if relu else y


def test_channel_attention_is_eq_4_in_each_group():
    torch.manual_seed(0)
    block = ChannelAttention(groups=15).eval()
    assert sum(p.numel() for p in block.parameters()) == 780
    x = torch.randn(2, 30, 6, 5)
    g = normed(x, block.refine, groups=15)
    a = torch.sigmoid(normed(g.mean((2, 3), keepdim=True), block.weigh[1], groups=15))
    out, weights = block(x)
    torch.testing.assert_close(out, (1 + a) * g)
    torch.testing.assert_close(weights, a)
    assert (weights >= 0.5).all()
    other = x.clone()
    other[:, 2:] += 1  # groups do not see each other
    torch.testing.assert_close(block(other)[0][:, :2], out[:, :2])


@pytest.mark.parametrize("relu", [True, False])
def test_spatial_attention_is_eq_5(relu):
    torch.manual_seed(0)
    block = SpatialAttention(16, relu).eval()
    assert sum(p.numel() for p in block.parameters()) == 4000
    x = torch.randn(2, 16, 12, 10)
    g = normed(x, block.refine, groups=1, relu=relu)
    a = torch.sigmoid(normed(normed(g, block.weigh[0], 1), block.weigh[1], groups=16))
    out, weights = block(x)
    torch.testing.assert_close(out, (1 + a) * g, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights, a)
    assert (out >= 0).all() == relu
    assert (block.refine[1].weight == 0.1).all()
