"""SimpleBaseline against timm's and torchvision's ResNets and the names of the official code."""

import pytest
import timm
import torch
from torchvision.models import resnet50

from hpelib.models.simple_baseline import SimpleBaseline

HEAD = [
    "deconv_layers.0.weight",
    *(f"deconv_layers.1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    "deconv_layers.3.weight",
    *(f"deconv_layers.4.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    "deconv_layers.6.weight",
    *(f"deconv_layers.7.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    "final_layer.weight",
    "final_layer.bias",
]


def test_names_are_the_official_ones():
    with torch.device("meta"):
        ours = SimpleBaseline().state_dict()
        encoder = [name for name in resnet50().state_dict() if not name.startswith("fc.")]
    assert sorted(ours) == sorted(encoder + HEAD)
    assert ours["deconv_layers.0.weight"].shape == (2048, 256, 4, 4)
    assert ours["final_layer.weight"].shape == (17, 256, 1, 1)


@pytest.mark.parametrize("encoder", ["resnet34", "resnet50"])
def test_encoder_is_timms(encoder):
    torch.manual_seed(0)
    reference = timm.create_model(encoder, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    ours = SimpleBaseline(encoder=encoder).eval()
    ours.load_state_dict(reference.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    for expected, stage in zip(reference(images), ours.encode(images), strict=True):
        torch.testing.assert_close(stage, expected)


def test_head_is_three_deconvolutions_and_a_convolution():
    torch.manual_seed(0)
    model = SimpleBaseline(encoder="resnet34", width=8, depths=(1, 1, 1, 1), deconv_widths=(6, 5, 4)).eval()
    images = torch.randn(1, 3, 64, 32)
    x = model.encode(images)[-1]
    w = model.state_dict()
    for i in (0, 3, 6):
        x = torch.nn.functional.conv_transpose2d(x, w[f"deconv_layers.{i}.weight"], stride=2, padding=1)
        x = torch.relu(x / (1 + 1e-5) ** 0.5)  # batch norm at its start
    expected = torch.einsum("kc,nchw->nkhw", w["final_layer.weight"][:, :, 0, 0], x)
    torch.testing.assert_close(model(images), expected)


def test_heads_start_as_in_the_official_code():
    model = SimpleBaseline()
    assert model.deconv_layers[0].weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert model.final_layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not model.final_layer.bias.any()


def test_unknown_encoder_is_named():
    with pytest.raises(ValueError, match=r"resnet18.*resnet34"):
        SimpleBaseline(encoder="resnet18")


def test_stages_must_be_four():
    with pytest.raises(ValueError, match=r"depths \(1, 1, 1\) names 3 stages, but the encoder has 4"):
        SimpleBaseline(depths=(1, 1, 1))
