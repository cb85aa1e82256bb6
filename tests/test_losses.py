import pytest
import torch

from hpelib.layers.flow import RealNVP
from hpelib.losses import (
    bone_heatmaps,
    distribution_loss,
    focal_l2,
    heatmap_loss,
    joints_mse,
    ohkm,
    residual_log_likelihood,
    transfer_loss,
)


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
    with pytest.raises(ValueError, match="kind='huber' is none of 'mse', 'ohkm'"):
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
        "base_density": "gaussian",
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
    actual = residual_log_likelihood(output | {"base_density": base_density}, keypoints, weights)
    torch.testing.assert_close(actual, expected.detach() / 30, rtol=0, atol=0.01)


def test_likelihood_passes_over_keypoints_without_label(distribution):
    output, keypoints = distribution
    weights = torch.ones(3, 10)
    weights[1:] = 0
    first = {name: output[name][:1] for name in ("mu", "sigma")}
    expected = residual_log_likelihood(output | first, keypoints[:1], weights[:1])
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


def test_focal_l2_equals_its_formula_pixel_by_pixel(batch):
    heatmaps, targets, _ = batch
    targets = targets * (targets > 0.5)
    loss, printed = focal_l2(heatmaps, targets), focal_l2(heatmaps, targets, as_printed=True)
    for pixel in [(0, 0, 0, 0), (1, 4, 2, 3), (2, 9, 5, 4), (0, 1, 2, 3), (1, 1, 1, 1)]:
        h, g = heatmaps[pixel].item(), targets[pixel].item()
        s = h if g >= 0.01 else 1 - h
        assert loss[pixel].item() == pytest.approx((h - g) ** 2 * abs(1 - s) ** 2, abs=1e-6)
        assert printed[pixel].item() == pytest.approx((h - g) ** 2 * (g if g >= 0.01 else 1 - h) ** 2, abs=1e-6)
    assert (targets == 0).any()
    torch.testing.assert_close(focal_l2(heatmaps, targets, gamma=0), (heatmaps - targets) ** 2)


@pytest.mark.parametrize(("target", "factor"), [(0.01, 0.3), (0.0099, 0.7)])
def test_foreground_begins_at_a_target_of_one_hundredth(target, factor):
    loss = focal_l2(torch.tensor([0.7]), torch.tensor([target]))
    assert loss.item() == pytest.approx((0.7 - target) ** 2 * factor**2, rel=1e-5)


def test_bones_are_gaussians_of_the_distance_to_the_segment():
    keypoints = torch.tensor([[[2.0, 3.0], [7.5, 5.0], [torch.nan, torch.nan], [2.0, 3.0]]])
    maps = bone_heatmaps(keypoints, torch.tensor([(0, 1), (1, 2), (0, 3)]), (8, 12), sigma=1.5)
    assert maps.shape == (1, 3, 8, 12)
    for y in range(8):
        for x in range(12):
            nearest = min(  # a fine walk along the segment
                (x - (2 + 5.5 * step / 2000)) ** 2 + (y - (3 + 2 * step / 2000)) ** 2 for step in range(2001)
            )
            assert maps[0, 0, y, x].item() == pytest.approx(torch.exp(torch.tensor(-nearest / 4.5)).item(), abs=1e-3)
    assert not maps[0, 1].any()
    assert maps[0, 2].argmax() == 3 * 12 + 2  # a bone without length is a point


def test_transfer_loss_is_the_weighted_sum_of_both_tasks(batch):
    heatmaps, targets, weights = batch
    weights = (weights > 0).float()
    weights[:, [0, 1, 4, 2]] = torch.tensor([[1.0, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]])  # either end may be missing
    generator = torch.Generator().manual_seed(1)
    bones, keypoints = ((0, 1), (4, 2)), 20 * torch.rand(3, 10, 2, generator=generator)
    assert sum(bool(weights[n, i] * weights[n, j]) for n in range(3) for i, j in bones) == 3, "half of them count"
    keypoints[weights == 0] = torch.nan
    output = {
        "heatmaps": heatmaps,
        "bones": torch.randn(3, 2, 6, 5, generator=generator),
        "bone_joints": torch.tensor(bones),
    }
    drawn = bone_heatmaps(keypoints / torch.tensor([4.0, 3.0]), output["bone_joints"], (6, 5), 2.0)
    (x, y), (other_x, other_y) = keypoints[1, :2].tolist()
    shares = torch.linspace(0, 1, 2001)  # of the way to the other joint; strides are 4 across and 3 down
    squares = ((x + shares * (other_x - x)) / 4 - 3) ** 2 + ((y + shares * (other_y - y)) / 3 - 2) ** 2
    torch.testing.assert_close(drawn[1, 0, 2, 3], torch.exp(-squares.min() / (2 * 2.0**2)), rtol=0, atol=1e-4)
    expected = 0.0
    for n in range(3):
        for k in range(10):
            expected += weights[n, k] * focal_l2(heatmaps[n, k], targets[n, k]).mean() / 30
        for b, (i, j) in enumerate(bones):
            pixels = torch.nn.functional.smooth_l1_loss(output["bones"][n, b], drawn[n, b])
            expected += 0.3 * weights[n, i] * weights[n, j] * pixels / 6
    loss = transfer_loss(output, targets, weights, keypoints, stride=(4.0, 3.0), bone_weight=0.3)
    torch.testing.assert_close(loss, expected)
    alone = transfer_loss({"heatmaps": heatmaps}, targets, weights, keypoints, joint_loss="mse")
    torch.testing.assert_close(alone, ((heatmaps - targets) ** 2 * weights[:, :, None, None]).mean())
    torch.testing.assert_close(alone, 2 * joints_mse(heatmaps, targets, weights))
    with pytest.raises(ValueError, match="bone_loss='l1' is none of 'focal_l2'"):
        transfer_loss(output, targets, weights, keypoints, bone_loss="l1")


def test_losses_of_other_networks_are_refused(batch):
    heatmaps, targets, weights = batch
    keypoints = torch.zeros(3, 10, 2)
    with pytest.raises(ValueError, match=r"gives heatmaps, intermediate only.*dlm=True.*mse"):
        distribution_loss({"heatmaps": heatmaps, "intermediate": []}, targets, weights, keypoints)
    with pytest.raises(ValueError, match=r"intermediate.*stacks=1"):
        transfer_loss({"heatmaps": heatmaps, "intermediate": [heatmaps]}, targets, weights, keypoints)
    transfer_loss({"heatmaps": heatmaps, "intermediate": []}, targets, weights, keypoints)  # one stack
    for short in (heatmaps[:, :, :, :1], heatmaps[:, :1]):  # these would be broadcast
        with pytest.raises(ValueError, match="make the codec's heatmap size that of the network"):
            transfer_loss({"heatmaps": short}, targets, weights, keypoints)


def test_bones_of_the_network_are_learned_in_its_own_order():
    """MPII's 16 bones are not COCO's, and one's own may stand in any order."""
    bones = torch.tensor([(2, 3), (0, 1)])
    keypoints = torch.tensor([[[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]]])
    drawn = bone_heatmaps(keypoints / 4, bones, (6, 6), 2.0)
    targets, weights = torch.zeros(1, 4, 6, 6), torch.ones(1, 4)
    output = {"heatmaps": targets, "bones": drawn, "bone_joints": bones}
    assert transfer_loss(output, targets, weights, keypoints) == 0
    assert transfer_loss(output | {"bone_joints": bones.flip(0)}, targets, weights, keypoints) > 0
