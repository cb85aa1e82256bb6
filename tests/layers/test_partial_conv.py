"""Partial convolution against an ordinary one on a slice, and as a drop-in for it."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.layers.partial_conv import PartialConv2d


def test_convolves_the_first_channels_and_passes_the_rest():
    torch.manual_seed(0)
    conv, x = PartialConv2d(8, ratio=4), torch.randn(2, 8, 5, 6)
    y = conv(x)
    torch.testing.assert_close(y[:, :2], F.conv2d(x[:, :2], conv.weight, padding=1))
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert {name: tuple(p.shape) for name, p in conv.named_parameters()} == {"weight": (2, 2, 3, 3)}


def test_a_ratio_of_one_is_an_ordinary_convolution():
    conv, x = PartialConv2d(4, ratio=1), torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, padding=1))


def test_indivisible_channels_are_named():
    with pytest.raises(ValueError, match=r"10 channels.*ratio 4"):
        PartialConv2d(10)
