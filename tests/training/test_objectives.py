"""What the losses are told of codec and network."""

import pytest
import torch

from hpelib.codecs import make_codec
from hpelib.layers.flow import RealNVP
from hpelib.losses import bone_heatmaps, joints_mse, ohkm, residual_log_likelihood, transfer_loss
from hpelib.training.objectives import make_objective


def test_learned_heatmaps_need_the_cells_of_their_codec():
    with pytest.raises(ValueError, match=r"msra and dark.*not udp"):
        make_objective("distribution", make_codec("udp", (64, 64), (16, 16), 1.0))


def test_bones_are_drawn_at_the_stride_of_each_axis():
    codec = make_codec("dark", (96, 64), (24, 32), sigma=1.5)  # 4 px a cell across, 2 px down
    keypoints = torch.tensor([[[20.0, 10.0], [70.0, 50.0]]])
    batch = {"keypoints": keypoints, "visible": torch.ones(1, 2)}
    targets, _ = codec.encode(keypoints, batch["visible"])
    joints = torch.tensor([(0, 1)])
    bones = bone_heatmaps(torch.tensor([[[5.0, 5.0], [17.5, 25.0]]]), joints, (32, 24), sigma=1.5)
    output = {"heatmaps": targets, "bones": bones, "bone_joints": joints}
    assert make_objective("transfer", codec)(output, batch) == 0


@pytest.fixture
def learning():
    """Codec, batch, targets, weights and random heatmaps of the same shape: three persons, an ankle not labelled."""
    codec = make_codec("dark", (64, 64), (32, 32), 0.7)
    generator = torch.Generator().manual_seed(0)
    batch = {"keypoints": 60 * torch.rand(3, 14, 2, generator=generator), "visible": torch.ones(3, 14)}
    batch["visible"][1, 0] = 0
    targets, weights = codec.encode(batch["keypoints"], batch["visible"])
    return codec, batch, targets, weights, torch.rand(targets.shape, generator=generator)


def test_bones_are_as_wide_as_the_codecs_keypoints(learning):
    codec, batch, targets, weights, heatmaps = learning
    output = {"heatmaps": heatmaps, "bones": heatmaps[:, :2], "bone_joints": torch.tensor([(0, 1), (4, 2)])}
    found = make_objective("transfer", codec)(output, batch)
    arguments = (output, targets, weights, batch["keypoints"])
    assert found == transfer_loss(*arguments, stride=(2.0, 2.0), sigma=0.7)
    assert found != transfer_loss(*arguments, stride=(2.0, 2.0)), "wider ones are another loss"
    of_options = make_objective("transfer", codec, {"bone_weight": 3.0})(output, batch)
    assert of_options == transfer_loss(*arguments, stride=(2.0, 2.0), sigma=0.7, bone_weight=3.0)


@pytest.mark.parametrize(("name", "loss"), [("mse", joints_mse), ("ohkm", ohkm)])
def test_the_named_loss_is_the_one_that_is_minimised(learning, name, loss):
    codec, batch, targets, weights, heatmaps = learning
    found = make_objective(name, codec)({"heatmaps": heatmaps}, batch)
    assert found == loss(heatmaps, targets, weights)
    assert joints_mse(heatmaps, targets, weights) != ohkm(heatmaps, targets, weights)


def test_learned_heatmaps_and_likelihood_count_little_beside_the_heatmaps(learning):
    codec, batch, targets, weights, heatmaps = learning
    output = {
        "heatmaps": heatmaps,
        "dlm_heatmaps": heatmaps.flip(0),
        "mu": batch["keypoints"].flip(1),
        "sigma": 1 + 9 * batch["keypoints"].flip(0) / 60,
        "log_flow": RealNVP().tabulate().detach(),
        "base_density": "gaussian",
    }
    likelihood = residual_log_likelihood(output, batch["keypoints"], weights)
    expected = joints_mse(heatmaps, targets, weights) + 0.01 * joints_mse(heatmaps.flip(0), targets, weights)
    found = make_objective("distribution", codec)(output, batch)
    torch.testing.assert_close(found, expected + 0.0001 * likelihood)
