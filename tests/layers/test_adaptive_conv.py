"""Parameter adapter and adaptive convolution against loops and plain convolutions of one group at a time."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.layers.adaptive_conv import ParameterAdapter, adaptive_convolution


def test_every_channel_is_correlated_with_its_own_kernel():
    torch.manual_seed(0)
    x, kernels = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 3, 5)
    out = adaptive_convolution(x, kernels)
    padded = F.pad(x, (2, 2, 1, 1))
    for n in range(2):
        for c in range(3):
            for row in range(5):
                for column in range(6):
                    expected = (padded[n, c, row : row + 3, column : column + 5] * kernels[n, c]).sum()
                    torch.testing.assert_close(out[n, c, row, column], expected, rtol=1e-4, atol=1e-5)


def test_adapter_is_the_chain_of_table_8_in_each_group():
    torch.manual_seed(0)
    adapter = ParameterAdapter(groups=3)
    assert sum(p.numel() for p in adapter.parameters()) == 3 * 108
    x = torch.randn(2, 6, 64, 48)
    out = adapter(x)
    for group in range(3):
        channels = slice(2 * group, 2 * group + 2)
        y = F.max_pool2d(F.conv2d(x[:, channels], adapter[0].weight[channels], stride=2), 2)
        y = F.max_pool2d(F.conv2d(y, adapter[2].weight[channels], padding=1), 2)
        torch.testing.assert_close(out[:, channels], F.conv2d(y, adapter[4].weight[channels], padding=1))


@pytest.mark.parametrize(
    ("maps", "kernel"),
    [((64, 64), (7, 7)), ((64, 48), (7, 5)), ((96, 96), (11, 11)), ((96, 72), (11, 7)), ((9, 16), (1, 1))],
)
def test_kernels_have_odd_sides(maps, kernel):
    assert ParameterAdapter(1)(torch.zeros(1, 2, *maps)).shape == (1, 2, *kernel)


def test_maps_too_small_for_a_kernel_are_refused():
    with pytest.raises(ValueError, match=r"12x8 maps.*64x64 px images"):
        ParameterAdapter(1)(torch.zeros(1, 2, 8, 12))
