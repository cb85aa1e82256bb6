"""What networks show of themselves: that looking changes nothing, that it is what the layers used, and that a heatmap
lies where its keypoint is decoded."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from hpelib.capture import altered, capture
from hpelib.codecs import make_codec
from hpelib.data.crops import to_image
from hpelib.figures.heatmaps import heatmap_to_image
from hpelib.models import create_model
from hpelib.models.de_hrnet import DySample
from hpelib.models.ditn import adaptive_convolution
from hpelib.models.sadi_net import DilatedResidualBlock
from hpelib.records import quantity

ROWS = yaml.safe_load((Path(__file__).resolve().parents[1] / "params.yaml").read_text(encoding="utf-8"))["ablations"]
FAMILIES = (
    "simple_baseline_resnet34",
    "hourglass",
    "hrnet_w32",
    "de_hrnet_w32",
    "fr_sbn_resnet34",
    "ditn_w32",
    "daunet_resnet50",
    "sadi_net",
)
# every network in full and its options, each with what it must still show, and what it can no longer
CASES = [
    ("simple_baseline_resnet34", {}, "stage4", "stage5"),
    ("hourglass", {}, "stack2", "stack3"),
    ("hrnet_w32", {}, "stage4.branch0", "stage4.branch1"),
    ("de_hrnet_w32", {}, "stage4.0.dysample3to0", "stage2.0.gate0"),
    ("de_hrnet_w32", {"upsample": "nearest", "dem": "eca"}, "stage3.0.dem2", "stage3.0.dysample2to0"),
    ("de_hrnet_w32", {"upsample": "nearest", "dem": "conv"}, "stage3.branch2", "stage3.0.dem2"),
    ("de_hrnet_w32", {"dem": "off", "branch_gate": "eca"}, "stage2.0.gate0", "stage2.0.dem1"),
    ("de_hrnet_w32", {"dem": "off", "branch_gate": "se", "width": 16}, "stage2.0.gate0", "stage2.0.dem1"),
    ("de_hrnet_w32", {"dem_residual": True}, "stage2.0.dem1", "stage2.0.gate0"),
    ("de_hrnet_w32", {"gate_on": "output"}, "stage2.0.dem1", "stage2.0.gate0"),
    ("de_hrnet_w32", {"gate_on": "concat_to_output"}, "stage2.0.dem1", "stage2.0.gate0"),
    ("de_hrnet_w32", {"dysample_scope": True}, "stage2.0.dysample1to0", "stage2.0.dysample1to0.1"),
    ("de_hrnet_w32", {"dysample_chained": True}, "stage4.0.dysample3to0.3", "stage4.0.dysample3to0"),
    ("fr_sbn_resnet34", {}, "decoder3_attention", "decoder4_attention"),
    ("fr_sbn_resnet34", {"sa_mfcd": False}, "stage4_attention", "sa_mfcd_gate"),
    ("fr_sbn_resnet34", {"sa_mfcd": False, "gcb": False}, "stage4", "stage4_attention"),
    ("fr_sbn_resnet34", {"sa_mfcd": False, "skip": True}, "decoder3_attention", "sa_mfcd_gate"),
    ("fr_sbn_resnet34", {"full_resolution": False}, "decoder3_attention", "decoder4_attention"),
    ("fr_sbn_resnet34", {"distribution": "convolved", "gate": "sigmoid"}, "sa_mfcd_gate", "decoder4_attention"),
    ("fr_sbn_resnet34", {"distribution": "plain", "gcb_ratio": 2}, "sa_mfcd_gate", "decoder4_attention"),
    ("ditn_w32", {}, "kernels", "stack1"),
    ("ditn_w32", {"cab": False}, "sab", "cab"),
    ("ditn_w32", {"sab": False}, "cab", "sab"),
    ("ditn_w32", {"ditm": False}, "bones", "kernels"),
    ("ditn_w32", {"multi_task": False}, "stage4.branch0", "bones"),
    ("ditn_w32", {"backbone": "resnet50", "backbone_options": "simple_baseline"}, "stage4", "stage4.branch0"),
    ("ditn_w32", {"merge": "sum", "heatmap_relu": False}, "sab", "stack1"),
    ("daunet_resnet50", {}, "stage4_block1_strip", "stage4_block2_strip"),
    ("daunet_resnet50", {"ibn": False}, "stage4", "stage4_block1_strip"),
    ("daunet_resnet50", {"scru": False}, "up3_sge", "up3_sru"),
    ("daunet_resnet50", {"sge": False, "strip_form": "pointwise"}, "up3_cru", "up3_sge"),
    ("daunet_resnet50", {"partial": "stride1", "strip_form": "conv3x3"}, "stage2_block1_strip", "up4_sge"),
    ("daunet_resnet50", {"partial": "added", "strip_placement": "spnet", "skip": "none"}, "up1_cru", "up4_cru"),
    ("daunet_resnet50", {"skip": "concat1x1", "level_block": "basic", "sge_groups": 4}, "up1_cru", "up4_cru"),
    ("sadi_net", {}, "sfm_global", "sfm_local3"),
    ("sadi_net", {"rfm": False}, "sfm_global", "rfm1_se"),
    ("sadi_net", {"sfm": False, "base_density": "laplace"}, "dlm_heatmaps", "sfm_global"),
    ("sadi_net", {"dlm": False}, "stack2", "dlm_heatmaps"),
    ("sadi_net", {"detached": True}, "dlm_density", "sfm_local3"),
]
IDS = [
    f"{name}-{'-'.join(f'{key}={value}' for key, value in options.items()) or 'full'}" for name, options, *_ in CASES
]


@pytest.fixture
def narrow(narrow_options):
    """Makes a quick network in eval mode as if it was trained: nothing is near zero, norms know their statistics."""

    def make(name, **options):
        torch.manual_seed(0)
        if options.get("backbone_options") == "simple_baseline":  # as in params.yaml, another network's options
            options["backbone_options"] = narrow_options["simple_baseline_resnet50"]
        model = create_model(name, num_keypoints=5, **narrow_options[name] | options)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 4:
                    torch.nn.init.kaiming_normal_(parameter)
                parameter.add_(0.1 * torch.randn_like(parameter))
            for layer in model.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = 1.0
            model(torch.randn(4, 3, 64, 96))
        return model.eval()

    return make


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_looking_changes_nothing(narrow, name, images):
    model = narrow(name).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    seen = capture(model, images)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(seen["heatmaps"], model.eval()(images), rtol=0, atol=0)


def test_modes_of_parts_are_restored(narrow, images):
    model = narrow("hrnet_w32").train()
    model.bn1.eval()  # a frozen part
    capture(model, images)
    assert model.conv1.training
    assert not model.bn1.training


def test_looks_have_the_networks_own_names(narrow, images):
    seen = capture(narrow("hourglass"), images)
    assert seen.keys() == {"heatmaps", "stack1", "stack2"}
    assert torch.equal(seen["stack2"], seen["heatmaps"])  # the prediction is the last stack's


def sums_to_one(look, dims):
    assert (look >= 0).all()
    torch.testing.assert_close(look.sum(dims), torch.ones_like(look.sum(dims)))


def lies_between_0_and_1(look):
    assert (look >= 0).all()
    assert (look <= 1).all()


def has_maps(look):
    assert look.ndim == 4


CHECKS = {
    "features": has_maps,
    "heatmaps": has_maps,
    "bones": has_maps,
    "kernels": has_maps,
    "attention": lambda look: sums_to_one(look, (1, 2, 3)),
    "columns": lambda look: sums_to_one(look, 2),
    "competition": lambda look: sums_to_one(look, 1),
    "gate": lies_between_0_and_1,
    "detail_gate": lies_between_0_and_1,
    "group_gate": lies_between_0_and_1,
    "parts": has_maps,
    "density": lambda look: torch.testing.assert_close(look, look.relu()),
    "parting": lies_between_0_and_1,
    "scale": lambda look: torch.testing.assert_close(look, look.relu()),
    "offsets": lambda look: torch.testing.assert_close(look, look.view(2, 2, 4, *look.shape[-2:])),
    "means": lambda look: torch.testing.assert_close(look, look.view(2, 5, 2)),
    "deviations": lambda look: torch.testing.assert_close(look, look.view(2, 5, 2).abs()),
}


@pytest.mark.parametrize(("name", "options", "shown", "gone"), CASES, ids=IDS)
def test_every_quantity_is_what_its_kind_says(narrow, name, options, shown, gone, images):
    seen = capture(narrow(name, **options), images)
    assert shown in seen
    assert gone not in seen
    for look_name, look in seen.items():
        known = quantity(look_name)
        assert known.source, f"{look_name} has no meaning in hpelib.capture"
        assert look.isfinite().all()
        assert len(look) == 2  # persons
        CHECKS[known.kind](look)
        assert look.std() > 0, f"{look_name} is the same everywhere"


@pytest.mark.parametrize("network", ROWS)
def test_every_option_of_the_ablations_is_tried(network):
    wanted = [option for row in ROWS[network]["rows"].values() for option in row.get("options", {}).items()]
    tried = [option for name, options, *_ in CASES if name.startswith(network) for option in options.items()]
    defaults = [("dem", "se"), ("upsample", "dysample")]
    assert not [option for option in wanted if option not in tried + defaults]


def test_compiled_networks_show_the_same(narrow, images):
    model = narrow("de_hrnet_w32")  # which gathers what it shows on the way
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # without the cost of generated code
    torch.testing.assert_close(capture(compiled, images), capture(model, images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: networks were looked into on the CPU alone")
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_on_a_gpu_show_the_same(narrow, name, images):
    model = narrow(name)
    expected = capture(model, images)
    with torch.backends.cudnn.flags(allow_tf32=False):
        seen = capture(model.cuda(), images.cuda())
    torch.testing.assert_close({key: look.cpu() for key, look in seen.items()}, expected, rtol=1e-3, atol=1e-3)


def test_a_quantity_is_named_as_in_its_paper():
    known = quantity("stage3.2.dysample2to0")
    assert known.title == "DySample offsets, stage 3.2, branch 2 to 0"
    assert known.kind == "offsets"
    assert quantity("my_own_map").kind == "features"


@pytest.mark.parametrize("name", FAMILIES)
def test_peaks_carried_back_lie_on_the_decoded_keypoints(narrow, name, images):
    """Decoding moves a peak by a quarter px on each axis, which no turn of the crop makes more than half a px."""
    heatmaps = capture(narrow(name), images)["heatmaps"]
    codec = make_codec("msra", (96, 64), heatmaps.shape[:1:-1])
    matrix = codec.crop_matrix(np.array([210.0, 160.0]), np.array([288.0, 192.0]), rotation_deg=20.0)
    keypoints, scores = codec.decode(heatmaps)
    keypoints = to_image(keypoints.numpy(), matrix[None])
    peaks = (heatmaps == heatmaps.amax((2, 3), keepdim=True)).numpy()
    found = np.argwhere(scores.numpy() > 0)
    assert len(found) > 5
    for person, keypoint in found:
        carried = heatmap_to_image(peaks[person, keypoint], matrix, codec.stride, (420, 320))
        carried /= carried.sum()
        centre = carried.sum(0) @ np.arange(420), carried.sum(1) @ np.arange(320)
        distance_px = np.abs(centre - keypoints[person, keypoint]).max()
        assert distance_px <= 0.5 * codec.stride[0] * 288 / 96


def fed(model, layer, images):
    """What `layer` got and gave during one look, and the look."""
    passed = {}
    handle = layer.register_forward_hook(lambda _, inputs, output: passed.update(inputs=inputs, output=output))
    seen = capture(model, images)
    handle.remove()
    return passed["inputs"], passed["output"], seen


@pytest.mark.parametrize("name", ["simple_baseline_resnet34", "daunet_resnet50"])
def test_stages_are_what_the_encoder_gives(narrow, name, images):
    model = narrow(name)
    for i, stage in enumerate((model.layer1, model.layer2, model.layer3, model.layer4), start=1):
        _, output, seen = fed(model, stage[-1], images)
        assert torch.equal(seen[f"stage{i}"], output[0] if isinstance(output, tuple) else output)
    (deepest,), _, _ = fed(model, model.deconv_layers[0], images)
    assert torch.equal(seen["stage4"], deepest)


@pytest.mark.parametrize("gcb", [True, False])
def test_stages_of_fr_sbn_are_what_the_next_one_reads(narrow, images, gcb):
    model = narrow("fr_sbn_resnet34", gcb=gcb, sa_mfcd=False)
    for i, layer in enumerate((model.layer2, model.layer3, model.layer4, model.deconv_layers[0]), start=1):
        (x,), _, seen = fed(model, layer, images)
        assert torch.equal(seen[f"stage{i}"], x)


def test_stacks_are_the_heads_answers(narrow, images):
    for name in ("hourglass", "sadi_net"):
        model = narrow(name)
        _, output, seen = fed(model, model.heads[0], images)
        assert torch.equal(seen["stack1"], output)


def test_gcb_attention_gathers_the_context_that_is_added(narrow, images):
    model = narrow("fr_sbn_resnet34")
    block = model.stage_gcbs[1]
    (x,), (y, _), seen = fed(model, block, images)
    context = (x * seen["stage2_attention"]).sum(dim=(2, 3), keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(y, x + block.mlp_add(context))
    torch.testing.assert_close(seen["stage2_attention"], seen["stage2_sah"].flatten(1).softmax(1).view(2, 1, 8, 12))


def test_sa_mfcd_gate_multiplies_the_collected_features(narrow, images):
    model = narrow("fr_sbn_resnet34")
    (collected,), features, _ = fed(model, model.sa_mfcd.collect, images)
    assert collected.shape[1] == 8 + 16 + 32
    _, (distributed, _), seen = fed(model, model.sa_mfcd, images)
    torch.testing.assert_close(distributed[1], features * seen["sa_mfcd_gate"])


def test_dem_gate_weighs_the_concatenation(narrow, images):
    model = narrow("de_hrnet_w32")
    dem = model.stage3[0].dem[0]
    (higher, lower), _, seen = fed(model, dem, images)
    (gated,), _, _ = fed(model, dem.conv, images)
    both = torch.cat([F.avg_pool2d(higher, 2), lower], dim=1)
    torch.testing.assert_close(gated, both * seen["stage3.0.dem1"])


def test_plain_gates_weigh_every_branch(narrow, images):
    model = narrow("de_hrnet_w32", dem="off", branch_gate="eca")
    _, branch, seen = fed(model, model.stage4[0].branches[3], images)
    (fused,), _, _ = fed(model, model.stage4[0].fuse_layers[0][3][0], images)
    torch.testing.assert_close(fused, branch * seen["stage4.0.gate3"])


def test_dysample_offsets_move_the_sampled_point(narrow, images):
    """Offsets of exactly (1, -1) px: every output is that of plain upsampling of the map moved by them."""
    model = narrow("de_hrnet_w32")
    layer = model.stage3[0].fuse_layers[0][2]
    sampler = layer[2]
    assert isinstance(sampler, DySample)
    with torch.no_grad():
        sampler.offset.weight.zero_()
        sampler.offset.bias.unflatten(0, (2, -1)).copy_(torch.tensor([[4.0], [-4.0]]))  # a quarter of them counts
    _, features, seen = fed(model, layer[1], images)
    offsets = seen["stage3.0.dysample2to0"]
    torch.testing.assert_close(offsets[:, 0], torch.full_like(offsets[:, 0], 1.0))
    torch.testing.assert_close(offsets[:, 1], torch.full_like(offsets[:, 1], -1.0))
    moved = F.pad(features, (0, 1, 1, 0), mode="replicate")[..., :-1, 1:]  # what lies right of, and above, each px
    plain = F.interpolate(moved, scale_factor=4.0, mode="bilinear")
    with torch.no_grad():
        sampled, _ = sampler(features)
    torch.testing.assert_close(sampled[..., 4:-4, 4:-4], plain[..., 4:-4, 4:-4], rtol=1e-4, atol=1e-4)


def test_chained_dysamples_show_the_offsets_of_every_doubling(narrow, images):
    model = narrow("de_hrnet_w32", dysample_chained=True)
    for step, sampler in enumerate(model.stage4[0].fuse_layers[0][3][2], start=1):
        _, (_, offsets), seen = fed(model, sampler, images)
        assert torch.equal(seen[f"stage4.0.dysample3to0.{step}"], offsets)


def test_se_gates_scale_both_ways_of_every_fortified_block(narrow, images):
    model = narrow("sadi_net")
    blocks = [module for module in model.modules() if isinstance(module, DilatedResidualBlock)]
    gates = capture(model, images)
    gates = [gate for name, gate in gates.items() if re.fullmatch(r"rfm\d+_se", name)]
    assert len(gates) == len(blocks) > 8
    unused = list(gates)
    for block in blocks:
        (x, *_), y, _ = fed(model, block, images)
        with torch.no_grad():
            both = block.conv2(block.conv1(x)) + block.dilated(x)
            fitting = [g for g in gates if g.shape[1] == both.shape[1]]
            expected = [(both * gate + block.shortcut(x)).relu() for gate in fitting]
        (gate,) = [g for g, z in zip(fitting, expected, strict=True) if torch.allclose(z, y, atol=1e-5)]
        unused = [g for g in unused if g is not gate]
    assert not unused


def test_global_weights_mix_the_scales(narrow, images):
    model = narrow("sadi_net")
    attention = model.sfm.global_attention
    (features,), _, seen = fed(model, attention, images)
    (fused,), _, _ = fed(model, attention.keep, images)
    with torch.no_grad():
        unified = torch.stack(
            [F.interpolate(p(x), (16, 24), mode="bilinear") for p, x in zip(attention.project, features, strict=True)]
        )
    torch.testing.assert_close(fused, torch.einsum("snchw,nshw->nchw", unified, seen["sfm_global"]))


def test_local_weights_scale_each_column(narrow, images):
    model = narrow("sadi_net")
    (x,), (y, _), seen = fed(model, model.sfm.local_attention[0], images)
    norm = model.sfm.local_attention[0].norm
    with torch.no_grad():
        torch.testing.assert_close(y, norm(x.shape[2] * seen["sfm_local1"] * x).relu())


def test_learned_heatmaps_have_the_learned_mean_and_deviation(narrow_options, images):
    """A flow that is the identity leaves a Gaussian, and so is the density that it corrects."""
    model = create_model("sadi_net", num_keypoints=5, **narrow_options["sadi_net"]).eval()
    for parameter in model.dlm.flow.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.normal_(model.dlm.mean.weight, std=0.1)
    torch.nn.init.constant_(model.dlm.deviation.bias, -2)
    seen = capture(model, images)
    heatmaps, mu, sigma = seen["dlm_heatmaps"], seen["dlm_mu"], seen["dlm_sigma"]
    cells = 4.0 * torch.stack(torch.meshgrid(torch.arange(24), torch.arange(16), indexing="xy"), -1)  # crop px
    e = (cells - mu[:, :, None, None]) / sigma[:, :, None, None]
    density = (-e.square().sum(-1)).exp()
    torch.testing.assert_close(heatmaps, density / density.amax((2, 3), keepdim=True), rtol=0, atol=0.01)
    places = heatmaps.flatten(2).argmax(-1)
    peaks = torch.stack([places % 24, places // 24], -1) * 4.0  # crop px
    assert ((peaks - mu.clamp(torch.zeros(2), torch.tensor([92.0, 60.0]))).abs() <= 2.0 + 1e-3).all()


def test_kernels_and_channel_attention_refine_the_joints(narrow, images):
    model = narrow("ditn_w32")
    ditm = model.ditm
    (groups,), (weighed, _), seen = fed(model, ditm.cab, images)
    _, joints, _ = fed(model, ditm.k1, images)
    members = [0, 1, 1, 2, 1, 3]
    torch.testing.assert_close(groups, adaptive_convolution(joints[:, members], seen["kernels"]))
    with torch.no_grad():
        torch.testing.assert_close(weighed, (1 + seen["cab"]) * ditm.cab.refine(groups))
    assert seen["cab"].min() >= 0.5


def test_spatial_attention_lifts_the_final_heatmaps(narrow, images):
    model = narrow("ditn_w32")
    (refined,), _, seen = fed(model, model.ditm.sab, images)
    with torch.no_grad():
        torch.testing.assert_close(seen["heatmaps"], (1 + seen["sab"]) * model.ditm.sab.refine(refined))


def test_bone_maps_make_the_kernels(narrow, images):
    model = narrow("ditn_w32")
    seen = capture(model, images)
    with torch.no_grad():
        kernels = model.ditm.parameter_adapter(seen["bones"].repeat_interleave(2, dim=1))
    torch.testing.assert_close(kernels, seen["kernels"])


def test_strip_gate_multiplies_its_features(narrow, images):
    model = narrow("daunet_resnet50")
    (x,), (y, _), seen = fed(model, model.layer4[0].strip, images)
    torch.testing.assert_close(y, x * seen["stage4_block1_strip"])


def test_sru_weights_part_informative_from_redundant(narrow, images):
    model = narrow("daunet_resnet50")
    (x,), (y, *_), seen = fed(model, model.srus[2], images)
    r = seen["up3_sru"]
    informative, redundant = torch.where(r > 0.5, x, r * x), torch.where(r > 0.5, 0 * x, r * x)
    torch.testing.assert_close(seen["up3_sru_informative"], informative)
    torch.testing.assert_close(seen["up3_sru_redundant"], redundant)
    (a, b), (c, d) = informative.chunk(2, 1), redundant.chunk(2, 1)
    torch.testing.assert_close(y, torch.cat([a + d, b + c], 1))
    assert 0.05 < (r > 0.5).float().mean() < 0.95


def test_cru_weights_mix_the_rich_and_the_cheap(narrow, images):
    model = narrow("daunet_resnet50")
    unit = model.crus[0]
    (x,), y, seen = fed(model, unit, images)
    with torch.no_grad():
        up, low = unit.squeeze_up(x[:, :8]), unit.squeeze_low(x[:, 8:])
        rich, cheap = unit.groupwise(up) + unit.pointwise_up(up), torch.cat([unit.pointwise_low(low), low], 1)
    beta = seen["up1_cru"]
    torch.testing.assert_close(y[0], beta[:, 0] * rich + beta[:, 1] * cheap)


def test_sge_map_multiplies_its_group(narrow, images):
    model = narrow("daunet_resnet50")
    (x,), (y, _), seen = fed(model, model.sges[0], images)
    assert seen["up1_sge"].shape[1] == 8
    torch.testing.assert_close(y, x * seen["up1_sge"].repeat_interleave(2, dim=1))


def test_branches_are_what_the_head_reads(narrow, images):
    model = narrow("hrnet_w32")
    (x,), _, seen = fed(model, model.final_layer, images)
    assert torch.equal(x, seen["stage4.branch0"])
    widths = [seen[f"stage3.branch{i}"].shape[1:] for i in range(3)]
    assert widths == [(8, 16, 24), (16, 8, 12), (32, 4, 6)]


def test_an_altered_module_is_altered_inside_of_the_block_alone():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    inputs = torch.ones(1, 2)
    before = network(inputs)
    with altered(network[0], torch.zeros_like):
        assert network(inputs).eq(0).all()
    with altered(network[0], None):
        torch.testing.assert_close(network(inputs), inputs)
    torch.testing.assert_close(network(inputs), before)


def test_a_module_that_is_left_out_still_shows_its_other_values():
    module = nn.LSTM(2, 2)
    inputs = torch.ones(1, 1, 2)
    with altered(module, None):
        output, state = module(inputs)
    torch.testing.assert_close(output, inputs)
    assert state[0].abs().sum() > 0
