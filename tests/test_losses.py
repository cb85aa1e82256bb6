import pytest
import torch

from hpelib.losses import heatmap_loss, joints_mse, ohkm


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
