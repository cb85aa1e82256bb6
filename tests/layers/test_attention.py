"""The attention blocks of DITN against Eqs. 4 and 5 written out, and their sizes in Table 8."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.layers.attention import ChannelAttention, SpatialAttention


def conv_bn_relu(x, block, groups, relu=True):
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
    g = conv_bn_relu(x, block.refine, groups=15)
    a = torch.sigmoid(conv_bn_relu(g.mean((2, 3), keepdim=True), block.weigh[1], groups=15))
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
    g = conv_bn_relu(x, block.refine, groups=1, relu=relu)
    a = torch.sigmoid(conv_bn_relu(conv_bn_relu(g, block.weigh[0], 1), block.weigh[1], groups=16))
    out, weights = block(x)
    torch.testing.assert_close(out, (1 + a) * g, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights, a)
    assert (out >= 0).all() == relu
    assert (block.refine[1].weight == 0.1).all()
