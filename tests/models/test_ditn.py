"""DITN: Table 8 module by module, the ablation's corners, and the transfer joint by joint."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.metrics.complexity import complexity
from hpelib.models import create_model, load_weights
from hpelib.models.ditn import DITN, Decoder
from hpelib.models.hrnet import HRNet
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.skeletons import COCO17, MPII16

HRNET = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 16}
NARROW = {"num_keypoints": 5, "bones": ((0, 1), (1, 2), (1, 3)), "backbone_options": HRNET}  # joint 4 is in no bone


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
    narrow = {"width": 8, "depths": (1, 1, 1, 1), "deconv_widths": (8, 8, 8)}
    output, looks = DITN(16, backbone="resnet50", backbone_options=narrow)(torch.randn(2, 3, 64, 64), look=True)
    assert output["bones"].shape == (2, 15, 16, 16)
    assert "stage4" in looks


def test_decoder_adds_its_input_before_the_last_layer():
    torch.manual_seed(0)
    decoder = Decoder(8, 5, gives_heatmaps=False).eval()
    f = torch.randn(2, 8, 6, 4)
    scale = (1 + 1e-5) ** -0.5
    y = (F.conv2d(f, decoder.residual[0].weight) * scale).relu()
    y = (F.conv2d(y, decoder.residual[3].weight, padding=1) * scale).relu()
    torch.testing.assert_close(decoder(f), F.conv2d(f + y, decoder.last.weight, decoder.last.bias))


@pytest.mark.parametrize("merge", ["mean", "sum"])
def test_transfer_group_by_group(merge):
    """Eqs. 2 and 3 with a loop over bones; a joint takes the mean (or sum) over its bones, a lone joint nothing."""
    torch.manual_seed(0)
    ditm = DITN(**NARROW, merge=merge).eval().ditm
    joints, bones = torch.randn(2, 5, 16, 16), torch.randn(2, 3, 16, 16)
    Q = ditm.k1(joints)
    kernels = ditm.parameter_adapter(bones[:, [0, 0, 1, 1, 2, 2]])
    groups = torch.cat([Q[:, list(bone)] for bone in NARROW["bones"]], 1)
    induced = torch.stack(  # kernels are 1x1 on these small maps
        [torch.stack([groups[n, c] * kernels[n, c] for c in range(6)]) for n in range(2)]
    )
    received, _ = ditm.cab(induced)
    expected = Q.clone()
    for joint, channels in {0: [0], 1: [1, 2, 4], 2: [3], 3: [5]}.items():
        share = len(channels) if merge == "mean" else 1
        expected[:, joint] += sum(received[:, c] for c in channels) / share
    heatmaps, attention = ditm.sab(expected)
    looks = {}
    torch.testing.assert_close(ditm(joints, bones, looks), heatmaps)
    torch.testing.assert_close(looks["sab"], attention)
    torch.testing.assert_close(looks["kernels"], kernels)


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
