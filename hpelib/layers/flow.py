"""A normalising flow in the plane (RealNVP): the learned residual density of RLE and of SADI-Net's DLM.

L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density estimation using Real NVP", ICLR 2017. Sizes and initial weights are
those of the official code of J. Li et al., "Human Pose Regression with Residual Log-likelihood Estimation" (RLE),
ICCV 2021. SADI-Net uses it in Sec. III-D.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpelib.layers.choices import require_choice

TABLE_EXTENT = 6.0  # standard deviations to each side
TABLE_NODES = 65


def gaussian_log_density(x: Tensor) -> Tensor:
    """log N(x; 0, 1) of every element."""
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)


def laplace_log_density(x: Tensor) -> Tensor:
    """Log density of a standard Laplace variable, of every element."""
    return -x.abs() - math.log(2)


BaseDensity = Literal["gaussian", "laplace"]
BASE_DENSITIES = {"gaussian": gaussian_log_density, "laplace": laplace_log_density}  # the same along both axes


class RealNVP(nn.Module):
    """Six coupling layers over a standard normal. Each scales and shifts one axis, by what it reads of the other."""

    def __init__(self, hidden: int = 64):
        super().__init__()
        kept = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(3, 1)
        self.register_buffer("kept", kept, persistent=False)  # (6, 2), 1 for the axis that a layer leaves alone
        self.scales = nn.ModuleList(nn.Sequential(*_two_hidden_layers(hidden), nn.Tanh()) for _ in kept)
        self.shifts = nn.ModuleList(nn.Sequential(*_two_hidden_layers(hidden)) for _ in kept)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normal variable z (..., 2) that the flow maps to x (..., 2), and log |det dz/dx| (...)."""
        log_det = x.new_zeros(x.shape[:-1])
        for kept, scale, shift in reversed(list(zip(self.kept, self.scales, self.shifts, strict=True))):
            log_scale = scale(kept * x) * (1 - kept)
            x = kept * x + (1 - kept) * (x - shift(kept * x)) * torch.exp(-log_scale)
            log_det = log_det - log_scale.sum(-1)
        return x, log_det

    def log_density(self, x: Tensor) -> Tensor:
        """log G(x). Shape: (..., 2) -> (...)."""
        z, log_det = self.inverse(x)
        return gaussian_log_density(z).sum(-1) + log_det

    def tabulate(self) -> Tensor:
        """log G - log N(0, I) on a grid (rows y, columns x) over the table's extent, for `tabulated_log_density`."""
        axis = torch.linspace(-TABLE_EXTENT, TABLE_EXTENT, TABLE_NODES, device=self.kept.device)
        points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
        return self.log_density(points) - gaussian_log_density(points).sum(-1)


def flow_density(table: Tensor) -> Tensor:
    """G at the nodes of a flow's table, (rows y, columns x), from -6 to 6 standard deviations along both axes."""
    axis = gaussian_log_density(torch.linspace(-TABLE_EXTENT, TABLE_EXTENT, TABLE_NODES, device=table.device))
    return (table + axis + axis[:, None]).exp()


def tabulated_log_density(table: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """log G(x, y) from the table of a flow: bilinear between nodes, and beyond the table as at its border.

    A million look-ups cost less than a few thousand evaluations of the flow. Differentiable in x, y and table.
    Shape: x and y broadcast to each other. A row (w,) and a column (h, 1) give a map (h, w).
    """
    points = torch.stack(torch.broadcast_tensors(x, y), dim=-1)  # (..., 2)
    grid = (points / TABLE_EXTENT).reshape(1, 1, -1, 2)
    ratio = F.grid_sample(table[None, None], grid, padding_mode="border", align_corners=True)
    return gaussian_log_density(x) + gaussian_log_density(y) + ratio.reshape(points.shape[:-1])


def residual_log_density(
    x: Tensor,
    y: Tensor,
    mu: Tensor,
    sigma: Tensor,
    table: Tensor,
    base_density: BaseDensity = "gaussian",
) -> Tensor:
    """log P(x, y) = log Q(e) + log G(e) - log(sigma_x sigma_y), e = ((x, y) - mu) / sigma.

    RLE, Eq. 6; SADI-Net, Eqs. 4 and 5. Q is the base density, G the flow of `table`. As in RLE, the constant is left
    out that would make P integrate to one.
    Shape: x, y, mu[..., 0] and sigma[..., 0] broadcast to each other; all in the same unit.

    Raises:
        ValueError: `base_density` is unknown.
    """
    require_choice("base_density", base_density, BASE_DENSITIES)
    base = BASE_DENSITIES[base_density]
    e_x, e_y = ((place - m) / s for place, m, s in zip((x, y), mu.unbind(-1), sigma.unbind(-1), strict=True))
    scale = sigma.log().sum(-1)
    return (base(e_x) - scale) + base(e_y) + tabulated_log_density(table, e_x, e_y)


def _two_hidden_layers(hidden: int) -> list[nn.Module]:
    linear = [nn.Linear(2, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 2)]
    for layer in linear:
        nn.init.xavier_uniform_(layer.weight, gain=0.01)
    return [linear[0], nn.LeakyReLU(), linear[1], nn.LeakyReLU(), linear[2]]
