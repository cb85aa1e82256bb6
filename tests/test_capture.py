import pytest
import torch

from hpelib.capture import capture
from hpelib.models import create_model

NARROW = {
    "simple_baseline_resnet34": {"width": 8, "depths": (1, 1, 1, 1), "deconv_widths": (8, 8, 8)},
    "hourglass": {"stacks": 2, "widths": (16, 16, 16, 16), "blocks": (1, 1, 1, 1)},
    "hrnet_w32": {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 8},
}


@pytest.mark.parametrize("name", NARROW)
def test_looking_changes_nothing(name):
    torch.manual_seed(0)
    model = create_model(name, num_keypoints=5, **NARROW[name]).train()
    images = torch.randn(2, 3, 64, 64)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    seen = capture(model, images)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(seen["heatmaps"], model.eval()(images), rtol=0, atol=0)


def test_looks_have_the_networks_own_names():
    model = create_model("hourglass", num_keypoints=5, **NARROW["hourglass"])
    seen = capture(model, torch.randn(1, 3, 64, 64))
    assert seen.keys() == {"heatmaps", "stack1", "stack2"}
    assert torch.equal(seen["stack2"], seen["heatmaps"])  # the prediction is the last stack's


def test_modes_of_parts_are_restored():
    model = create_model("hrnet_w32", num_keypoints=5, **NARROW["hrnet_w32"]).train()
    model.bn1.eval()  # a frozen part
    capture(model, torch.randn(1, 3, 64, 64))
    assert model.conv1.training
    assert not model.bn1.training
