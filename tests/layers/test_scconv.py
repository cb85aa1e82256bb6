"""Spatial and channel rebuild units against Eqs. 8-16 written out channel by channel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hpelib.layers.scconv import ChannelRebuildUnit, SpatialRebuildUnit


def test_spatial_unit_equals_the_formula():
    torch.manual_seed(0)
    unit, x = SpatialRebuildUnit(8, groups=4), torch.randn(1, 8, 3, 4)
    torch.nn.init.uniform_(unit.norm.weight, 0.5, 2)
    torch.nn.init.normal_(unit.norm.bias)
    y, reweights, *parts = unit(x)
    phi, mu = unit.norm.weight.detach().numpy(), unit.norm.bias.detach().numpy()
    features = x[0].numpy()
    informative, redundant = np.empty_like(features), np.empty_like(features)
    for c in range(8):
        group = features[c // 2 * 2 : c // 2 * 2 + 2]
        normalised = phi[c] * (features[c] - group.mean()) / np.sqrt(group.var() + 1e-5) + mu[c]
        r = 1 / (1 + np.exp(-phi[c] / phi.sum() * normalised))
        np.testing.assert_allclose(reweights[0, c].detach().numpy(), r, rtol=1e-5)
        informative[c] = np.where(r > 0.5, 1, r) * features[c]
        redundant[c] = np.where(r > 0.5, 0, r) * features[c]
    for part, expected in zip(parts, (informative, redundant), strict=True):
        np.testing.assert_allclose(part[0].detach().numpy(), expected, rtol=1e-5)
    a, b, c, d = informative[:4], informative[4:], redundant[:4], redundant[4:]
    np.testing.assert_allclose(y[0].detach().numpy(), np.concatenate([a + d, b + c]), rtol=1e-5, atol=1e-6)


def test_channel_unit_equals_the_formula():
    torch.manual_seed(0)
    unit, x = ChannelRebuildUnit(16), torch.randn(2, 16, 3, 4)
    y, betas = unit(x)
    up = F.conv2d(x[:, :8], unit.squeeze_up.weight)
    low = F.conv2d(x[:, 8:], unit.squeeze_low.weight)
    groups = [F.conv2d(up[:, 2 * g : 2 * g + 2], unit.groupwise.weight[8 * g : 8 * g + 8], padding=1) for g in range(2)]
    y1 = torch.cat(groups, dim=1) + unit.groupwise.bias[:, None, None] + F.conv2d(up, unit.pointwise_up.weight)
    y2 = torch.cat([F.conv2d(low, unit.pointwise_low.weight), low], dim=1)
    for n in range(2):
        for c in range(16):
            s1, s2 = y1[n, c].mean(), y2[n, c].mean()
            beta1 = s1.exp() / (s1.exp() + s2.exp())
            torch.testing.assert_close(betas[n, 0, c, 0, 0], beta1)
            torch.testing.assert_close(y[n, c], beta1 * y1[n, c] + (1 - beta1) * y2[n, c])


def test_channel_unit_has_the_stated_size():
    with torch.device("meta"):
        assert sum(p.numel() for p in ChannelRebuildUnit(256).parameters()) == 119_040


@pytest.mark.parametrize("unit", [SpatialRebuildUnit(16, groups=4), ChannelRebuildUnit(16)])
def test_every_parameter_learns(unit):
    torch.manual_seed(0)
    unit(torch.randn(2, 16, 5, 5))[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in unit.parameters())
