"""SGE against Eqs. 17-21 written out position by position."""

import numpy as np
import pytest
import torch

from hpelib.layers.spatial_group_enhance import SpatialGroupEnhance


def test_equals_the_formula():
    torch.manual_seed(0)
    layer, x = SpatialGroupEnhance(6, groups=2), torch.randn(1, 6, 3, 4)
    torch.nn.init.normal_(layer.gamma)
    torch.nn.init.normal_(layer.beta)
    y, attention = layer(x)
    for group in range(2):
        features = x[0, 3 * group : 3 * group + 3].numpy()
        g = features.mean(axis=(1, 2))
        c = np.array([[g @ features[:, i, j] for j in range(4)] for i in range(3)])
        a = layer.gamma[0, group].item() * (c - c.mean()) / (c.std() + 1e-5) + layer.beta[0, group].item()
        weight = 1 / (1 + np.exp(-a))
        np.testing.assert_allclose(attention[0, group].detach().numpy(), weight, rtol=1e-4)
        np.testing.assert_allclose(y[0, 3 * group : 3 * group + 3].detach().numpy(), features * weight, rtol=1e-4)


def test_starts_as_a_constant_factor_and_learns():
    layer, x = SpatialGroupEnhance(6, groups=2), torch.randn(2, 6, 3, 4)
    y, _ = layer(x)
    torch.testing.assert_close(y, x * torch.sigmoid(torch.tensor(1.0)))
    y.square().sum().backward()
    assert all((p.grad != 0).all() for p in layer.parameters())


def test_flat_features_give_finite_gradients():
    layer, x = SpatialGroupEnhance(4, groups=2), torch.ones(1, 4, 3, 3, requires_grad=True)
    torch.nn.init.ones_(layer.gamma)
    layer(x)[0].sum().backward()
    assert x.grad.isfinite().all()


def test_indivisible_channels_are_named():
    with pytest.raises(ValueError, match=r"12 channels.*8 groups"):
        SpatialGroupEnhance(12)
