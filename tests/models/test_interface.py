"""What every network in `list_models()` must do, tried on narrow variants, and its size in full."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from hpelib.models import create_model, list_models, load_weights

RESNET = {"width": 8, "depths": (1, 1, 1, 1), "deconv_widths": (8, 8, 8)}
HRNET = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 16}
NARROW = {
    **{f"simple_baseline_resnet{depth}": RESNET for depth in (34, 50, 101, 152)},
    "hourglass": {"stacks": 2, "widths": (16, 16, 16, 16), "blocks": (1, 1, 1, 1)},
    **{f"hrnet_w{width}": HRNET for width in (32, 48)},
    **{f"de_hrnet_w{width}": HRNET for width in (32, 48)},
    "ditn_w32": {"bones": ((0, 1), (1, 2), (1, 3)), "backbone_options": HRNET},
    **{
        f"fr_sbn_resnet{depth}": {
            "width": 8,
            "depths": (1, 1, 1, 1),
            "decoder_widths": (8, 8, 8, 8, 4),
            "fused_width": 8,
        }
        for depth in (34, 50, 101, 152)
    },
    "daunet_resnet50": {"width": 8, "depths": (1, 1, 1, 1), "decoder_widths": (16, 16, 16), "tail_blocks": 1},
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
# parameters of the full networks with 17 keypoints, and their stride
FULL = {
    "simple_baseline_resnet34": (25_484_881, 4),
    "simple_baseline_resnet50": (33_999_697, 4),
    "simple_baseline_resnet101": (52_991_825, 4),
    "simple_baseline_resnet152": (68_635_473, 4),
    "hourglass": (25_598_472, 4),
    "hrnet_w32": (28_536_113, 4),
    "hrnet_w48": (63_595_745, 4),
    "de_hrnet_w32": (33_569_457, 4),
    "de_hrnet_w48": (74_821_345, 4),
    "ditn_w32": (28_585_833, 4),
    "fr_sbn_resnet34": (32_013_205, 1),
    "fr_sbn_resnet50": (55_632_085, 1),
    "fr_sbn_resnet101": (74_624_213, 1),
    "fr_sbn_resnet152": (90_267_861, 1),
    "daunet_resnet50": (38_879_553, 4),
    "sadi_net": (75_326_897, 4),
}
SIZE = (64, 64)  # (H, W)


@pytest.fixture(params=NARROW)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    torch.manual_seed(0)
    return create_model(name, num_keypoints=5, **NARROW[name])


@pytest.fixture
def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def tensors(output):
    """All tensors of a training output, lists opened."""
    return [t for value in output.values() for t in (value if isinstance(value, list) else [value])]


def test_all_networks_are_tried():
    assert set(NARROW) == set(FULL) == set(list_models())


def test_heatmaps_have_the_stated_shape(name, model, images):
    stride = FULL[name][1]
    shape = (2, 5, SIZE[0] // stride, SIZE[1] // stride)
    assert model(images)["heatmaps"].shape == shape
    assert model.eval()(images).shape == shape


def test_every_parameter_learns(model, images):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01 * torch.randn_like(p))  # a layer that starts at zero hides those in front of it
    sum(t.square().sum() + t.sum() for t in tensors(model(images))).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # a bias in front of a batch norm has zero gradient up to rounding, a gate may be closed on two pictures
    assert sum(float(p.grad.abs().sum()) > 0 for p in model.parameters()) > 0.9 * len(list(model.parameters()))


def test_looking_changes_nothing(model, images):
    model.eval()
    heatmaps, looks = model(images, look=True)
    assert torch.equal(heatmaps, model(images))
    assert looks
    assert all(isinstance(look, torch.Tensor) and look.isfinite().all() for look in looks.values())


def test_people_do_not_influence_each_other(model, images):
    model(images)  # moves the running statistics off their start
    model.eval()
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_odd_sizes_are_refused_with_one_that_works(model):
    with pytest.raises(ValueError, match=r"60x67 px.*try 64x64"):
        model(torch.zeros(1, 3, 67, 60))


def test_half_precision_gives_finite_heatmaps(model, images):
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images)
    assert half.isfinite().all()


def test_saved_weights_give_the_same_heatmaps(name, model, images, tmp_path):
    model(images)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = create_model(name, num_keypoints=5, **NARROW[name])
    load_weights(other, tmp_path / "model.safetensors")
    assert torch.equal(model.eval()(images), other.eval()(images))


@pytest.mark.parametrize("full_name", FULL)
def test_full_networks_have_the_stated_size(full_name):
    parameters, stride = FULL[full_name]
    with torch.device("meta"):
        model = create_model(full_name).eval()
        shapes = [model(torch.zeros(1, 3, *size)).shape for size in ((256, 192), (256, 256))]
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert shapes == [(1, 17, 256 // stride, 192 // stride), (1, 17, 256 // stride, 256 // stride)]


def test_unknown_names_and_options_are_explained():
    with pytest.raises(ValueError, match="hrnet_w32"):
        create_model("hrnet_w23")
    with pytest.raises(ValueError, match=r"hrnet_w32 has no option stacks.*width.*blocks"):
        create_model("hrnet_w32", stacks=2)
    with pytest.raises(ValueError, match="no ImageNet weights for hourglass"):
        create_model("hourglass", pretrained=True, **NARROW["hourglass"])


def test_naming_the_networks_imports_none():
    code = "import sys, hpelib.models as m; m.list_models(); print('torch' in sys.modules, 'timm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
