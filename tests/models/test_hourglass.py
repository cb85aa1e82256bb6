"""Stacked hourglass: sizes, levels, and one hourglass against the recursion written out."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.models.hourglass import Hourglass, PreactivationBottleneck, StackedHourglass


@pytest.mark.parametrize(("stacks", "millions"), [(1, 3.59), (2, 6.73), (4, 13.02), (8, 25.59)])
def test_sizes_with_16_keypoints(stacks, millions):
    """2 and 8 stacks as the PyTorch rendering of the authors' code reports them; papers print 25.1 M for 8."""
    with torch.device("meta"):
        model = StackedHourglass(num_keypoints=16, stacks=stacks)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_block_is_three_convolutions_behind_their_activations():
    torch.manual_seed(0)
    block = PreactivationBottleneck(6, 8, stride=2).eval()
    x = torch.randn(2, 6, 8, 8)
    y = x
    for conv, options in zip(block.residual[2::3], ({}, {"stride": 2, "padding": 1}, {}), strict=True):
        y = F.conv2d(torch.relu(y / (1 + 1e-5) ** 0.5), conv.weight, conv.bias, **options)
    expected = y + F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("pool", [True, False])
def test_hourglass_adds_what_comes_back_up(pool):
    torch.manual_seed(0)
    hourglass = Hourglass((4, 6, 8), (1, 2, 3), PreactivationBottleneck, pool).eval()
    x = torch.randn(1, 4, 16, 8)
    inner, lower = hourglass.low2, hourglass.low1(x)
    bottom = inner.low2(inner.low1(lower))
    middle = inner.up1(lower) + inner.low3(bottom).repeat_interleave(2, 2).repeat_interleave(2, 3)
    top = hourglass.up1(x) + hourglass.low3(middle).repeat_interleave(2, 2).repeat_interleave(2, 3)
    for actual, expected in zip(hourglass(x), (top, middle, bottom), strict=True):
        torch.testing.assert_close(actual, expected)
    assert [tuple(t.shape[1:]) for t in hourglass(x)] == [(4, 16, 8), (6, 8, 4), (8, 4, 2)]
    assert len(hourglass.low2.low2) == 3


def test_every_stack_is_supervised():
    model = StackedHourglass(num_keypoints=3, stacks=3, widths=(8, 8), blocks=(1, 1))
    output = model(torch.randn(2, 3, 32, 32))
    assert [t.shape for t in output["intermediate"]] == [(2, 3, 8, 8)] * 2
    _, looks = model.eval()(torch.randn(2, 3, 32, 32), look=True)
    assert list(looks) == ["stack1", "stack2", "stack3"]


def test_later_stacks_see_the_heatmaps_of_earlier_ones():
    torch.manual_seed(0)
    model = StackedHourglass(num_keypoints=3, stacks=2, widths=(8, 8), blocks=(1, 1)).eval()
    images = torch.randn(1, 3, 32, 32)
    before = model(images)
    with torch.no_grad():
        model.heads[0].bias += 1
    assert not torch.allclose(before, model(images))


def test_levels_must_agree():
    with pytest.raises(ValueError, match="same two or more levels"):
        Hourglass((8, 8), (1,), PreactivationBottleneck)
