"""The global context block against the formula written out, and against timm's."""

import numpy as np
import pytest
import torch
from timm.layers import GlobalContext

from hpelib.layers.global_context import GlobalContextBlock


@pytest.fixture
def block():
    torch.manual_seed(0)
    block = GlobalContextBlock(8, ratio=4)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block


@pytest.fixture
def x():
    return torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(1))


def test_equals_the_formula(block, x):
    y, heatmap = block(x)
    w = {name: p.detach().numpy().squeeze() for name, p in block.named_parameters()}
    for features, result, sah in zip(x.numpy(), y.detach().numpy(), heatmap.detach().numpy(), strict=True):
        positions = [features[:, i, j] for i in range(3) for j in range(4)]
        logits = np.array([w["conv_attn.weight"] @ p + w["conv_attn.bias"] for p in positions])
        np.testing.assert_allclose(sah.ravel(), logits, rtol=1e-5)
        attention = np.exp(logits) / np.exp(logits).sum()
        context = sum(a * p for a, p in zip(attention, positions, strict=True))
        t = w["mlp_add.fc1.weight"] @ context + w["mlp_add.fc1.bias"]
        t = (t - t.mean()) / np.sqrt(t.var() + 1e-6) * w["mlp_add.norm.weight"] + w["mlp_add.norm.bias"]
        t = w["mlp_add.fc2.weight"] @ np.maximum(t, 0) + w["mlp_add.fc2.bias"]
        np.testing.assert_allclose(result, features + t[:, None, None], rtol=1e-4, atol=1e-5)


def test_features_are_timms(block, x):
    reference = GlobalContext(8, fuse_add=True, fuse_scale=False, rd_channels=2)
    reference.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x)[0], reference(x))


def test_starts_as_the_identity(x):
    assert torch.equal(GlobalContextBlock(8)(x)[0], x)


def test_every_parameter_learns(block, x):
    y, heatmap = block(x)
    (y.square().sum() + heatmap.square().sum()).backward()
    assert all(p.grad.abs().sum() > 0 for p in block.parameters())
