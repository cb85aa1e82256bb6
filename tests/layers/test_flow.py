"""The flow's density against a numeric change of variables, its integral, and its table."""

import math

import pytest
import torch
from torch.distributions import Laplace, Normal

from hpelib.layers.flow import RealNVP, gaussian_log_density, laplace_log_density, tabulated_log_density


@pytest.fixture
def flow():
    """A flow that is clearly not a Gaussian, as after some training, but as smooth as one."""
    torch.manual_seed(0)
    flow = RealNVP()
    for name, parameter in flow.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.normal_(parameter, std=0.25 / math.sqrt(parameter.shape[1]))
    return flow


def grid(extent, nodes):
    axis = torch.linspace(-extent, extent, nodes)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def test_log_density_is_the_change_of_variables(flow):
    for x in torch.randn(10, 2):
        z, _ = flow.inverse(x)
        jacobian = torch.autograd.functional.jacobian(lambda point: flow.inverse(point)[0], x)
        expected = Normal(0, 1).log_prob(z).sum() + jacobian.det().abs().log()
        torch.testing.assert_close(flow.log_density(x), expected, rtol=1e-4, atol=1e-4)


def test_density_integrates_to_one(flow):
    points = grid(12, 241)
    with torch.no_grad():
        log_density = flow.log_density(points)
    mass = log_density.exp().sum() * (24 / 240) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)
    assert (log_density - gaussian_log_density(points).sum(-1)).abs().max() > 0.5  # not the normal it started from


def test_starts_close_to_the_standard_normal_with_the_official_size():
    torch.manual_seed(0)
    flow, x = RealNVP(), torch.randn(100, 2)
    assert sum(p.numel() for p in flow.parameters()) == 53_784
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    torch.testing.assert_close(flow.log_density(x), gaussian_log_density(x).sum(-1), rtol=0, atol=1e-3)


def test_table_is_within_a_hundredth(flow):
    points = 12 * torch.rand(2000, 2) - 6
    errors = tabulated_log_density(flow.tabulate(), *points.unbind(-1)) - flow.log_density(points)
    assert errors.abs().max() < 0.01


def test_a_row_and_a_column_give_the_map_of_their_points(flow):
    row, column = torch.linspace(-7, 7, 5), torch.linspace(-3, 3, 4)[:, None]
    density = tabulated_log_density(flow.tabulate(), row, column)
    assert density.shape == (4, 5)
    for i, j in ((0, 0), (1, 4), (3, 2)):
        torch.testing.assert_close(density[i, j], tabulated_log_density(flow.tabulate(), row[j], column[i, 0]))


def test_table_continues_the_border_beyond_its_extent(flow):
    inside, outside = torch.tensor([6.0, -6.0]), torch.tensor([7.0, -9.0])
    expected = flow.log_density(inside) + (gaussian_log_density(outside) - gaussian_log_density(inside)).sum()
    torch.testing.assert_close(tabulated_log_density(flow.tabulate(), *outside), expected)


def test_table_passes_gradients_to_flow_and_points(flow):
    points = torch.tensor([[0.3, -0.4]], requires_grad=True)
    tabulated_log_density(flow.tabulate(), *points.unbind(-1)).sum().backward()
    assert points.grad.abs().min() > 0
    assert all(p.grad is not None for p in flow.parameters())


@pytest.mark.parametrize(
    ("log_density", "marginal"), [(gaussian_log_density, Normal(0, 1)), (laplace_log_density, Laplace(0, 1))]
)
def test_base_densities_are_torchs(log_density, marginal):
    x = torch.randn(20, 2)
    torch.testing.assert_close(log_density(x), marginal.log_prob(x))
