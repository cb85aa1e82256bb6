"""DySample against its published formulation, a loop over output pixels, and torch's bilinear upsampling."""

import pytest
import torch
import torch.nn.functional as F

from hpelib.layers.dysample import DySample


def layer(channels=8, scale=2, groups=4, dynamic_scope=False, std=1.0):
    torch.manual_seed(0)
    sampler = DySample(channels, scale, groups, dynamic_scope)
    for parameter in sampler.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return sampler


def published(sampler, x):
    """As the paper's code goes about it: low resolution positions plus sub-pixel starts, then pixel shuffle."""
    N, _, H, W = x.shape
    s, g = sampler.scale, sampler.groups
    h = torch.arange((-s + 1) / 2, (s - 1) / 2 + 1) / s
    start = torch.stack(torch.meshgrid(h, h, indexing="ij")).transpose(1, 2).repeat(1, g, 1).reshape(1, -1, 1, 1)
    if sampler.scope is None:
        offset = sampler.offset(x) * 0.25 + start
    else:
        offset = sampler.offset(x) * sampler.scope(x).sigmoid() * 0.5 + start
    offset = offset.view(N, 2, -1, H, W)
    coords = torch.stack(torch.meshgrid(torch.arange(W) + 0.5, torch.arange(H) + 0.5, indexing="ij"))
    coords = coords.transpose(1, 2)[None, :, None]
    coords = 2 * (coords + offset) / torch.tensor([W, H]).view(1, 2, 1, 1, 1) - 1
    coords = F.pixel_shuffle(coords.view(N, -1, H, W), s).view(N, 2, -1, s * H, s * W)
    coords = coords.permute(0, 2, 3, 4, 1).flatten(0, 1)
    out = F.grid_sample(x.reshape(N * g, -1, H, W), coords, align_corners=False, padding_mode="border")
    return out.view(N, -1, s * H, s * W)


@pytest.mark.parametrize(("scale", "groups", "scope"), [(2, 4, False), (8, 4, False), (4, 2, True), (2, 8, True)])
def test_equals_the_published_formulation(scale, groups, scope):
    sampler = layer(scale=scale, groups=groups, dynamic_scope=scope)
    x = torch.randn(2, 8, 5, 3)
    torch.testing.assert_close(sampler(x), published(sampler, x), rtol=1e-4, atol=1e-4)


def test_offsets_are_input_pixels_x_first():
    """Each output pixel looked up by hand."""
    sampler = layer(channels=2, scale=2, groups=1, std=0.5)
    x = torch.randn(1, 2, 4, 6)
    offsets, out = sampler.offsets(x)[0, :, 0], sampler(x)
    for row in range(8):
        for column in range(12):
            dx, dy = offsets[:, row, column].tolist()
            px = min(max((column + 0.5) / 2 - 0.5 + dx, 0), 5)
            py = min(max((row + 0.5) / 2 - 0.5 + dy, 0), 3)
            left, top = min(int(px), 4), min(int(py), 2)
            fx, fy = px - left, py - top
            patch = x[0, :, top : top + 2, left : left + 2]
            upper = (1 - fx) * patch[:, 0, 0] + fx * patch[:, 0, 1]
            lower = (1 - fx) * patch[:, 1, 0] + fx * patch[:, 1, 1]
            torch.testing.assert_close(out[0, :, row, column], (1 - fy) * upper + fy * lower, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scope", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_without_offsets_it_is_bilinear(scale, scope):
    sampler = DySample(8, scale, dynamic_scope=scope)
    torch.nn.init.zeros_(sampler.offset.weight)
    x = torch.randn(2, 8, 6, 4)
    torch.testing.assert_close(sampler(x), F.interpolate(x, scale_factor=scale, mode="bilinear"), rtol=1e-4, atol=1e-5)


def test_groups_move_apart_and_channels_must_divide():
    sampler = layer(groups=2, std=0.0)
    sampler.offset.bias.data[:4] = 4.0  # x of the first group, by one input px
    x = torch.randn(1, 8, 4, 4)
    plain = F.interpolate(x, scale_factor=2, mode="bilinear")
    out = sampler(x)
    torch.testing.assert_close(out[:, 4:], plain[:, 4:])
    torch.testing.assert_close(out[:, :4, :, 1:5], plain[:, :4, :, 3:7])
    with pytest.raises(ValueError, match="6 channels"):
        DySample(6, 2)


def test_half_precision_keeps_positions():
    sampler = layer(std=0.1).bfloat16()
    x = torch.linspace(0, 1, 64).expand(1, 8, 64, 64).bfloat16()
    assert sampler(x).dtype == torch.bfloat16
    exact = F.interpolate(x.float(), scale_factor=2, mode="bilinear")
    assert (sampler(x).float() - exact).abs().max() < 0.03
