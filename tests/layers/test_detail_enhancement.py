"""DEM against its formula step by step, the gates against timm's blocks."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import EcaModule, SEModule

from hpelib.layers.detail_enhancement import DetailEnhancement, ECAGate, SEGate


@pytest.fixture
def branches():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 8, 8, 6, generator=generator), torch.randn(2, 16, 4, 3, generator=generator)


def convolved(dem, u):
    """ReLU(BN(conv)) in eval mode with the running statistics at their start."""
    return torch.relu(F.conv2d(u, dem.conv.weight, padding=1) / (1 + 1e-5) ** 0.5)


def test_follows_its_formula(branches):
    torch.manual_seed(0)
    higher, lower = branches
    dem = DetailEnhancement(16).eval()
    pooled = torch.zeros(2, 8, 4, 3)
    for row in range(4):
        for column in range(3):
            pooled[:, :, row, column] = higher[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((2, 3))
    u = torch.cat([pooled, lower], 1)
    w = torch.sigmoid(torch.relu(u.mean((2, 3)) @ dem.gate[1].weight[:, :, 0, 0].T) @ dem.gate[3].weight[:, :, 0, 0].T)
    y, weights = dem(higher, lower)
    torch.testing.assert_close(weights[:, :, 0, 0], w)
    torch.testing.assert_close(y, convolved(dem, w[:, :, None, None] * u))
    assert dem.gate[1].weight.shape == (4, 24, 1, 1)


def test_gate_may_weigh_the_output(branches):
    higher, lower = branches
    u = torch.cat([F.avg_pool2d(higher, 2), lower], 1)
    for place in ("output", "concat_to_output"):
        dem = DetailEnhancement(16, gate_on=place).eval()
        raw = convolved(dem, u)
        y, weights = dem(higher, lower)
        torch.testing.assert_close(weights, dem.gate(raw if place == "output" else u))
        torch.testing.assert_close(y, weights * raw)


def test_without_a_gate_there_is_only_the_convolution(branches):
    dem = DetailEnhancement(16, gate="none").eval()
    y, weights = dem(*branches)
    assert weights is None
    torch.testing.assert_close(y, convolved(dem, torch.cat([F.avg_pool2d(branches[0], 2), branches[1]], 1)))


def test_dropout_is_before_the_convolution_and_only_in_training(branches):
    dem = DetailEnhancement(16, dropout=1.0).train()
    y, _ = dem(*branches)
    assert not y.any()
    assert dem.eval()(*branches)[0].any()


@pytest.mark.parametrize("channels", [24, 128, 200])
def test_gates_are_timms(channels):
    x = torch.randn(2, channels, 4, 3)
    se = SEModule(channels, rd_channels=6, bias=False)
    ours = SEGate(channels, 6, channels)
    ours[1].weight, ours[3].weight = se.fc1.weight, se.fc2.weight
    torch.testing.assert_close(ours(x) * x, se(x))
    eca = EcaModule(channels)
    ours = ECAGate(channels)
    ours.load_state_dict(eca.state_dict())
    torch.testing.assert_close(ours(x) * x, eca(x))
    assert eca.conv.weight.shape[-1] == (3 if channels < 128 else 5)


def test_impossible_gates_are_refused():
    with pytest.raises(ValueError, match=r"gate='cbam' is none of 'none', 'se', 'eca'"):
        DetailEnhancement(16, gate="cbam")
    with pytest.raises(ValueError, match="gate_on='input'"):
        DetailEnhancement(16, gate_on="input")
    with pytest.raises(ValueError, match="eca weighs the channels that it sees"):
        DetailEnhancement(16, gate="eca", gate_on="concat_to_output")
