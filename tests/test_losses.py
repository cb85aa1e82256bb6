import pytest
import torch

from hpelib.layers.flow import RealNVP
from hpelib.losses import distribution_loss, heatmap_loss, joints_mse, ohkm, residual_log_likelihood


@pytest.fixture
def batch():
    """Predictions, targets and weights of 3 persons with 10 keypoints, some of them without a target."""
    generator = torch.Generator().manual_seed(0)
    heatmaps, targets = torch.rand(2, 3, 10, 6, 5, generator=generator)
    weights = torch.rand(3, 10, generator=generator).round() * 1.5
    return heatmaps, targets, weights


def official_joint_losses(heatmaps, targets, weights):
    """0.5 x MSE of each person and keypoint as in HRNet's lib/core/loss.py, in loops."""
    losses = torch.zeros(weights.shape)
    for n in range(losses.shape[0]):
        for k in range(losses.shape[1]):
            pred, truth = heatmaps[n, k] * weights[n, k], targets[n, k] * weights[n, k]
            losses[n, k] = 0.5 * torch.nn.functional.mse_loss(pred, truth)
    return losses


def test_mse_equals_the_official_loss(batch):
    expected = official_joint_losses(*batch).mean(0).sum() / 10
    torch.testing.assert_close(joints_mse(*batch), expected)


@pytest.mark.parametrize("hardest", [1, 8, 10])
def test_ohkm_equals_the_official_loss(batch, hardest):
    expected = 0
    for losses in official_joint_losses(*batch):
        expected += losses.sort(descending=True).values[:hardest].sum() / hardest
    torch.testing.assert_close(ohkm(*batch, hardest=hardest), expected / 3)


def test_mse_by_hand():
    heatmaps, targets = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    targets[0, 0, 0, 0] = 1
    targets[0, 1] = 9  # without weight
    loss = joints_mse(heatmaps, targets, torch.tensor([[2.0, 0.0]]))
    assert loss == 0.5 * 2**2 / 8  # the weight squared, over all pixels of both keypoints


def test_ohkm_needs_enough_keypoints(batch):
    with pytest.raises(ValueError, match="11 hardest of 10"):
        ohkm(*batch, hardest=11)


@pytest.mark.parametrize(("kind", "loss"), [("mse", joints_mse), ("ohkm", ohkm)])
def test_stages_add_up(batch, kind, loss):
    heatmaps, targets, weights = batch
    stages = [heatmaps, heatmaps * 2, heatmaps - 1]
    output = {"heatmaps": stages[0], "intermediate": stages[1:], "other": None}
    expected = sum(loss(stage, targets, weights) for stage in stages)
    torch.testing.assert_close(heatmap_loss(output, targets, weights, kind), expected)
    torch.testing.assert_close(heatmap_loss({"heatmaps": heatmaps}, targets, weights, kind), loss(*batch))


def test_every_stage_gets_a_gradient(batch):
    heatmaps, targets, weights = batch
    stages = [(heatmaps + stage).requires_grad_() for stage in range(3)]
    heatmap_loss({"heatmaps": stages[-1], "intermediate": stages[:-1]}, targets, weights).backward()
    for stage in stages:
        assert stage.grad[weights > 0].abs().sum() > 0
        assert stage.grad[weights == 0].abs().sum() == 0


def test_half_precision_is_summed_in_single(batch):
    heatmaps, targets, weights = batch
    loss = joints_mse(heatmaps.bfloat16(), targets, weights)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, joints_mse(heatmaps.bfloat16().float(), targets, weights))


def test_unknown_loss(batch):
    heatmaps, targets, weights = batch
    with pytest.raises(ValueError, match="'huber', choose from mse, ohkm"):
        heatmap_loss({"heatmaps": heatmaps}, targets, weights, "huber")


def test_resolutions_must_fit(batch):
    heatmaps, targets, weights = batch
    with pytest.raises(ValueError, match=r"\(3, 10, 3, 5\).*\(3, 10, 6, 5\)"):
        heatmap_loss({"heatmaps": heatmaps, "intermediate": [heatmaps[:, :, :3]]}, targets, weights)
    with pytest.raises(ValueError, match="weights"):
        joints_mse(heatmaps, targets, weights[:, :9])


@pytest.fixture
def distribution():
    """Output of a distribution learning module for 3 persons with 10 keypoints, and the true places in crop px."""
    torch.manual_seed(0)
    log_flow = RealNVP().tabulate().detach()
    output = {
        "heatmaps": torch.rand(3, 10, 6, 5),
        "dlm_heatmaps": torch.rand(3, 10, 6, 5),
        "mu": 64 * torch.rand(3, 10, 2),
        "sigma": 1 + 9 * torch.rand(3, 10, 2),
        "log_flow": log_flow,
    }
    return output, output["mu"] + output["sigma"] * torch.randn(3, 10, 2)


@pytest.mark.parametrize(
    ("base_density", "marginal"), [("gaussian", torch.distributions.Normal), ("laplace", torch.distributions.Laplace)]
)
def test_likelihood_is_base_times_flow_over_deviation(distribution, base_density, marginal):
    output, keypoints = distribution
    torch.manual_seed(0)
    flow, weights = RealNVP(), torch.ones(3, 10)
    expected = 0
    for mu, sigma, point in zip(
        output["mu"].view(-1, 2), output["sigma"].view(-1, 2), keypoints.view(-1, 2), strict=True
    ):
        e = (point - mu) / sigma
        expected -= marginal(0, 1).log_prob(e).sum() + flow.log_density(e) - sigma.prod().log()
    actual = residual_log_likelihood(output, keypoints, weights, base_density)
    torch.testing.assert_close(actual, expected.detach() / 30, rtol=0, atol=0.01)


def test_likelihood_passes_over_keypoints_without_label(distribution):
    output, keypoints = distribution
    weights = torch.ones(3, 10)
    weights[1:] = 0
    expected = residual_log_likelihood(
        {k: v[:1] if k != "log_flow" else v for k, v in output.items()}, keypoints[:1], weights[:1]
    )
    keypoints[1:] = torch.nan
    output["mu"].requires_grad_()
    loss = residual_log_likelihood(output, keypoints, weights)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert output["mu"].grad.isfinite().all()
    assert residual_log_likelihood(output, keypoints, torch.zeros(3, 10)) == 0


def test_likelihood_is_largest_at_the_truth(distribution):
    output, keypoints = distribution
    at_truth = output | {"mu": keypoints}
    weights = torch.ones(3, 10)
    assert residual_log_likelihood(at_truth, keypoints, weights) < residual_log_likelihood(output, keypoints, weights)


def test_distribution_loss_is_the_weighted_sum(distribution):
    output, keypoints = distribution
    targets, weights = torch.rand(3, 10, 6, 5), torch.ones(3, 10)
    expected = (
        joints_mse(output["heatmaps"], targets, weights)
        + 2 * joints_mse(output["dlm_heatmaps"], targets, weights)
        + 3 * residual_log_likelihood(output, keypoints, weights)
    )
    loss = distribution_loss(output, targets, weights, keypoints, dlm_weight=2, likelihood_weight=3)
    torch.testing.assert_close(loss, expected)
