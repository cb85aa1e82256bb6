"""SADI-Net's dilated residual block against torch's functions, and its plain form against ResNet's basic block."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.resnet import BasicBlock

from hpelib.layers.dilated_residual import DilatedResidualBlock

BN = (1 + 1e-5) ** -0.5  # batch norm at its start, in eval mode


@pytest.mark.parametrize(("out_channels", "stride"), [(32, 1), (128, 2)])
def test_equals_the_formula(out_channels, stride):
    torch.manual_seed(0)
    block, x = DilatedResidualBlock(32, out_channels, stride).eval(), torch.randn(2, 32, 8, 6)
    w = block.state_dict()
    p = torch.relu(F.conv2d(x, w["conv1.conv.weight"], stride=stride, padding=1) * BN)
    p = F.conv2d(p, w["conv2.conv.weight"], padding=1) * BN
    q = F.conv2d(x, w["dilated.conv.weight"], stride=stride, padding=2, dilation=2) * BN
    hidden = torch.relu(F.conv2d((p + q).mean((2, 3), keepdim=True), w["se.fc1.weight"], w["se.fc1.bias"]))
    gate = torch.sigmoid(F.conv2d(hidden, w["se.fc2.weight"], w["se.fc2.bias"]))
    shortcut = x if stride == 1 else F.conv2d(x, w["shortcut.conv.weight"], stride=stride) * BN
    looks = []
    torch.testing.assert_close(block(x, looks), torch.relu((p + q) * gate + shortcut))
    torch.testing.assert_close(looks, [gate])
    assert w["se.fc1.weight"].shape[0] == max(out_channels // 16, 4)


def test_plain_form_is_resnets_basic_block():
    torch.manual_seed(0)
    ours, reference, x = DilatedResidualBlock(8, 8, fortified=False), BasicBlock(8, 8), torch.randn(2, 8, 5, 5)
    reference.load_state_dict(dict(zip(reference.state_dict(), ours.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(x), reference(x))


def test_every_parameter_learns():
    torch.manual_seed(0)
    block = DilatedResidualBlock(16, 32, stride=2)
    block(torch.randn(2, 16, 8, 8)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in block.parameters())
