"""What networks show of themselves: that looking changes nothing, that it is what the layers used, and that a heatmap
lies where its keypoint is decoded."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hpelib.capture import capture, quantity
from hpelib.codecs import make_codec
from hpelib.data.crops import to_image
from hpelib.figures.heatmaps import heatmap_to_image
from hpelib.layers.adaptive_conv import adaptive_convolution
from hpelib.layers.dysample import DySample
from hpelib.models import create_model

RESNET = {"width": 8, "depths": (1, 1, 1, 1)}
HRNET = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 8}
BASE = {
    "simple_baseline_resnet34": RESNET | {"deconv_widths": (8, 8, 8)},
    "hourglass": {"stacks": 2, "widths": (16, 16, 16, 16), "blocks": (1, 1, 1, 1)},
    "hrnet_w32": HRNET,
    "de_hrnet_w32": HRNET,
    "fr_sbn_resnet34": RESNET | {"decoder_widths": (8, 8, 8, 8, 4), "fused_width": 8},
    "ditn_w32": {"bones": ((0, 1), (1, 2), (1, 3)), "backbone_options": HRNET},
    "daunet_resnet50": RESNET | {"decoder_widths": (16, 16, 16), "tail_blocks": 1},
    "sadi_net": {
        "stacks": 2,
        "widths": (8, 8, 8),
        "blocks": (1, 1, 1),
        "stem_width": 8,
        "sfm_width": 8,
        "head_widths": (8, 8, 8),
        "vector_width": 8,
    },
}
# every network in full and its main ablations, each with what it must still show, and what it can no longer
CASES = [
    ("simple_baseline_resnet34", {}, "stage4", "stage5"),
    ("hourglass", {}, "stack2", "stack3"),
    ("hrnet_w32", {}, "stage4.branch0", "stage4.branch1"),
    ("de_hrnet_w32", {}, "stage4.0.dysample3to0", "stage2.0.gate0"),
    ("de_hrnet_w32", {"upsample": "nearest", "dem": "eca"}, "stage3.0.dem2", "stage3.0.dysample2to0"),
    ("de_hrnet_w32", {"dem": "off", "branch_gate": "eca"}, "stage2.0.gate0", "stage2.0.dem1"),
    ("fr_sbn_resnet34", {}, "decoder3_attention", "decoder4_attention"),
    ("fr_sbn_resnet34", {"sa_mfcd": False}, "stage4_attention", "sa_mfcd_gate"),
    ("ditn_w32", {}, "kernels", "stack1"),
    ("ditn_w32", {"cab": False}, "sab", "cab"),
    ("ditn_w32", {"sab": False}, "cab", "sab"),
    ("ditn_w32", {"ditm": False}, "bones", "kernels"),
    ("daunet_resnet50", {}, "stage4_block1_strip", "stage4_block2_strip"),
    ("daunet_resnet50", {"scru": False}, "up3_sge", "up3_sru"),
    ("daunet_resnet50", {"sge": False, "strip_form": "pointwise"}, "up3_cru", "up3_sge"),
    ("sadi_net", {}, "sfm_global", "sfm_local3"),
    ("sadi_net", {"sfm": False}, "dlm_heatmaps", "sfm_global"),
    ("sadi_net", {"dlm": False}, "stack2", "dlm_heatmaps"),
]
IDS = [
    f"{name}-{'-'.join(f'{key}={value}' for key, value in options.items()) or 'full'}" for name, options, *_ in CASES
]


def narrow(name, **options):
    """A quick network in eval mode as if it had been trained: nothing is near zero, norms know their statistics."""
    torch.manual_seed(0)
    model = create_model(name, num_keypoints=5, **BASE[name] | options)
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


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", BASE)
def test_looking_changes_nothing(name, images):
    model = narrow(name).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    seen = capture(model, images)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(seen["heatmaps"], model.eval()(images), rtol=0, atol=0)


def test_modes_of_parts_are_restored(images):
    model = narrow("hrnet_w32").train()
    model.bn1.eval()  # a frozen part
    capture(model, images)
    assert model.conv1.training
    assert not model.bn1.training


def test_looks_have_the_networks_own_names(images):
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
    "parting": lies_between_0_and_1,
    "scale": lambda look: torch.testing.assert_close(look, look.relu()),
    "offsets": lambda look: torch.testing.assert_close(look, look.view(2, 2, 4, *look.shape[-2:])),
}


@pytest.mark.parametrize(("name", "options", "shown", "gone"), CASES, ids=IDS)
def test_every_quantity_is_what_its_kind_says(name, options, shown, gone, images):
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


def test_a_quantity_is_named_as_in_its_paper():
    known = quantity("stage3.2.dysample2to0")
    assert known.title == "DySample offsets, stage 3.2, branch 2 to 0"
    assert known.kind == "offsets"
    assert quantity("my_own_map").kind == "features"


@pytest.mark.parametrize(("name", "options", "shown", "gone"), CASES, ids=IDS)
def test_peaks_carried_back_lie_on_the_decoded_keypoints(name, options, shown, gone, images):
    """Decoding moves a peak by a quarter px on each axis, which no turn of the crop makes more than half a px."""
    heatmaps = capture(narrow(name, **options), images)["heatmaps"]
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


def test_gcb_attention_gathers_the_context_that_is_added(images):
    model = narrow("fr_sbn_resnet34")
    block = model.stage_gcbs[1]
    (x,), (y, _), seen = fed(model, block, images)
    context = (x * seen["stage2_attention"]).sum(dim=(2, 3), keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(y, x + block.mlp_add(context))
    torch.testing.assert_close(seen["stage2_attention"], seen["stage2_sah"].flatten(1).softmax(1).view(2, 1, 8, 12))


def test_sa_mfcd_gate_multiplies_the_collected_features(images):
    model = narrow("fr_sbn_resnet34")
    (collected,), features, _ = fed(model, model.sa_mfcd.collect, images)
    assert collected.shape[1] == 8 + 16 + 32
    _, (distributed, _), seen = fed(model, model.sa_mfcd, images)
    torch.testing.assert_close(distributed[1], features * seen["sa_mfcd_gate"])


def test_dem_gate_weighs_the_concatenation(images):
    model = narrow("de_hrnet_w32")
    dem = model.stage3[0].dem[0]
    (higher, lower), _, seen = fed(model, dem, images)
    (gated,), _, _ = fed(model, dem.conv, images)
    both = torch.cat([F.avg_pool2d(higher, 2), lower], dim=1)
    torch.testing.assert_close(gated, both * seen["stage3.0.dem1"])


def test_plain_gates_weigh_every_branch(images):
    model = narrow("de_hrnet_w32", dem="off", branch_gate="eca")
    _, branch, seen = fed(model, model.stage4[0].branches[3], images)
    (fused,), _, _ = fed(model, model.stage4[0].fuse_layers[0][3][0], images)
    torch.testing.assert_close(fused, branch * seen["stage4.0.gate3"])


def test_dysample_offsets_move_the_sampled_point(images):
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
        sampled = sampler(features)
    torch.testing.assert_close(sampled[..., 4:-4, 4:-4], plain[..., 4:-4, 4:-4], rtol=1e-4, atol=1e-4)


def test_global_weights_mix_the_scales(images):
    model = narrow("sadi_net")
    attention = model.sfm.global_attention
    (features,), _, seen = fed(model, attention, images)
    (fused,), _, _ = fed(model, attention.keep, images)
    with torch.no_grad():
        unified = torch.stack(
            [F.interpolate(p(x), (16, 24), mode="bilinear") for p, x in zip(attention.project, features, strict=True)]
        )
    torch.testing.assert_close(fused, torch.einsum("snchw,nshw->nchw", unified, seen["sfm_global"]))


def test_local_weights_scale_each_column(images):
    model = narrow("sadi_net")
    (x,), (y, _), seen = fed(model, model.sfm.local_attention[0], images)
    norm = model.sfm.local_attention[0].norm
    with torch.no_grad():
        torch.testing.assert_close(y, norm(x.shape[2] * seen["sfm_local1"] * x).relu())


def test_learned_heatmaps_peak_at_the_learned_mean(images):
    """With a flow that is the identity the learned heatmap is a Gaussian: its peak is the cell nearest to the mean."""
    model = create_model("sadi_net", num_keypoints=5, **BASE["sadi_net"]).eval()
    for parameter in model.dlm.flow.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.normal_(model.dlm.mean.weight, std=0.1)
    learned, seen = fed(model, model.dlm, images)[1:]
    heatmaps = seen["dlm_heatmaps"]
    torch.testing.assert_close(heatmaps.amax((2, 3)), torch.ones(2, 5))
    places = heatmaps.flatten(2).argmax(-1)
    peaks = torch.stack([places % 24, places // 24], -1) * 4.0  # crop px
    assert ((peaks - learned["mu"].clamp(torch.zeros(2), torch.tensor([92.0, 60.0]))).abs() <= 2.0 + 1e-3).all()


def test_kernels_and_channel_attention_refine_the_joints(images):
    model = narrow("ditn_w32")
    ditm = model.ditm
    (groups,), (weighed, _), seen = fed(model, ditm.cab, images)
    _, joints, _ = fed(model, ditm.k1, images)
    members = [0, 1, 1, 2, 1, 3]
    torch.testing.assert_close(groups, adaptive_convolution(joints[:, members], seen["kernels"]))
    with torch.no_grad():
        torch.testing.assert_close(weighed, (1 + seen["cab"]) * ditm.cab.refine(groups))
    assert seen["cab"].min() >= 0.5


def test_spatial_attention_lifts_the_final_heatmaps(images):
    model = narrow("ditn_w32")
    (refined,), _, seen = fed(model, model.ditm.sab, images)
    with torch.no_grad():
        torch.testing.assert_close(seen["heatmaps"], (1 + seen["sab"]) * model.ditm.sab.refine(refined))


def test_bone_maps_make_the_kernels(images):
    model = narrow("ditn_w32")
    seen = capture(model, images)
    with torch.no_grad():
        kernels = model.ditm.parameter_adapter(seen["bones"].repeat_interleave(2, dim=1))
    torch.testing.assert_close(kernels, seen["kernels"])


def test_strip_gate_multiplies_its_features(images):
    model = narrow("daunet_resnet50")
    (x,), (y, _), seen = fed(model, model.layer4[0].strip, images)
    torch.testing.assert_close(y, x * seen["stage4_block1_strip"])


def test_sru_weights_part_informative_from_redundant(images):
    model = narrow("daunet_resnet50")
    (x,), (y, _), seen = fed(model, model.srus[2], images)
    r = seen["up3_sru"]
    informative, redundant = torch.where(r > 0.5, x, r * x), torch.where(r > 0.5, 0 * x, r * x)
    (a, b), (c, d) = informative.chunk(2, 1), redundant.chunk(2, 1)
    torch.testing.assert_close(y, torch.cat([a + d, b + c], 1))
    assert 0.05 < (r > 0.5).float().mean() < 0.95


def test_cru_weights_mix_the_rich_and_the_cheap(images):
    model = narrow("daunet_resnet50")
    unit = model.crus[0]
    (x,), y, seen = fed(model, unit, images)
    with torch.no_grad():
        up, low = unit.squeeze_up(x[:, :8]), unit.squeeze_low(x[:, 8:])
        rich, cheap = unit.groupwise(up) + unit.pointwise_up(up), torch.cat([unit.pointwise_low(low), low], 1)
    beta = seen["up1_cru"]
    torch.testing.assert_close(y[0], beta[:, 0] * rich + beta[:, 1] * cheap)


def test_sge_map_multiplies_its_group(images):
    model = narrow("daunet_resnet50")
    (x,), (y, _), seen = fed(model, model.sges[0], images)
    assert seen["up1_sge"].shape[1] == 8
    torch.testing.assert_close(y, x * seen["up1_sge"].repeat_interleave(2, dim=1))


def test_branches_are_what_the_head_reads(images):
    model = narrow("hrnet_w32")
    (x,), _, seen = fed(model, model.final_layer, images)
    assert torch.equal(x, seen["stage4.branch0"])
    widths = [seen[f"stage3.branch{i}"].shape[1:] for i in range(3)]
    assert widths == [(8, 16, 24), (16, 8, 12), (32, 4, 6)]
