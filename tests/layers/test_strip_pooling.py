"""The strip-pooling gate against loops over rows, columns and taps."""

import numpy as np
import pytest
import torch

from hpelib.layers.strip_pooling import StripPooling

BN = 1 / np.sqrt(1 + 1e-5)  # batch norm at its start, in eval mode


@pytest.fixture
def x():
    return torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def gated(features, pre_sigmoid):
    return features * (1 / (1 + np.exp(-pre_sigmoid)))


def test_pointwise_form_is_equations_4_to_7(x):
    torch.manual_seed(0)
    gate = StripPooling(3, form="pointwise").eval()
    weight = gate.fuse[0].weight.detach().numpy()[:, :, 0, 0]
    features = x[0].numpy()
    expected = np.empty_like(features)
    for i in range(4):
        for j in range(5):
            y = features[:, i, :].mean(axis=1) + features[:, :, j].mean(axis=1)
            expected[:, i, j] = gated(features[:, i, j], weight @ y * BN)
    np.testing.assert_allclose(gate(x)[0][0].detach().numpy(), expected, rtol=1e-5)


def test_spnet_form_convolves_the_strips(x):
    torch.manual_seed(0)
    gate = StripPooling(3, form="spnet").eval()
    rows_weight = gate.rows[0].weight.detach().numpy()[:, :, :, 0]  # (out, in, tap)
    columns_weight = gate.columns[0].weight.detach().numpy()[:, :, 0, :]
    last = gate.fuse[1]
    weight, bias = last.weight.detach().numpy()[:, :, 0, 0], last.bias.detach().numpy()
    features = x[0].numpy()
    rows = np.pad(features.mean(axis=2), ((0, 0), (1, 1)))
    columns = np.pad(features.mean(axis=1), ((0, 0), (1, 1)))
    expected = np.empty_like(features)
    for i in range(4):
        for j in range(5):
            h = sum(rows_weight[:, :, tap] @ rows[:, i + tap] for tap in range(3)) * BN
            v = sum(columns_weight[:, :, tap] @ columns[:, j + tap] for tap in range(3)) * BN
            expected[:, i, j] = gated(features[:, i, j], weight @ np.maximum(h + v, 0) + bias)
    np.testing.assert_allclose(gate(x)[0][0].detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["spnet", "pointwise"])
def test_output_is_input_times_gate_and_every_parameter_learns(form, x):
    torch.manual_seed(0)
    layer = StripPooling(3, form)
    y, gate = layer(x)
    assert torch.equal(y, x * gate)
    assert ((gate > 0) & (gate < 1)).all()
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match=r"'none'.*'spnet', 'pointwise'"):
        StripPooling(4, "none")
