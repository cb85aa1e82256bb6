"""SADI-Net: its hourglass, spatial fusion and distribution learning against the formulas, and the specified sizes."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock

from hpelib.losses import distribution_loss, heatmap_loss, joints_mse, residual_log_likelihood
from hpelib.metrics.cost import complexity
from hpelib.models.sadi_net import (
    DilatedResidualBlock,
    DistributionLearningModule,
    GlobalAttention,
    LocalAttention,
    SADINet,
)

NARROW = {
    "widths": (8, 8, 16, 16),
    "blocks": (1, 1, 1, 1),
    "stem_width": 8,
    "sfm_width": 8,
    "head_widths": (8, 8, 16, 16),
    "vector_width": 16,
}
BN = (1 + 1e-5) ** -0.5  # a batch norm at its start, in eval mode
HOURGLASS_52 = {"widths": (256, 256, 384, 384, 384, 512), "blocks": (2, 2, 2, 2, 2, 4)}


def narrow(**options):
    """A quick network whose last layers have left their start near zero, so that all parts matter."""
    torch.manual_seed(0)
    model = SADINet(num_keypoints=5, **(NARROW | options))
    layers = [*model.heads, *([model.dlm.mean, model.dlm.deviation] if model.dlm else [])]
    for layer in layers:
        torch.nn.init.kaiming_uniform_(layer.weight.flatten(1), a=5**0.5)
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("options", "params_m", "macs_g"),
    [
        ({"dlm": False}, 62.5, 10.0),  # what predicts
        ({"dlm": False, "rfm": False}, 41.9, 6.9),
        ({}, 75.3, 10.0),  # SFM, DLM and flow have parameters, but predict nothing
        ({"dlm": False, "stacks": 2}, 125, 19.4),
        ({"dlm": False, "rfm": False} | HOURGLASS_52, 93.7, 28.6),
        ({"dlm": False} | HOURGLASS_52, 140, 40.8),
    ],
)
def test_variants_have_the_specified_size(options, params_m, macs_g):
    with torch.device("meta"):
        size = complexity(SADINet(16, **options), (256, 256))
    assert (size.params / 1e6, size.macs / 1e9) == pytest.approx((params_m, macs_g), rel=0.01)


def test_training_costs_as_specified():
    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        SADINet(16)(torch.empty(2, 3, 256, 256))
    assert counter.get_total_flops() / 2 / 2 / 1e9 == pytest.approx(15.1, rel=0.01)


def residual(w, x, stride=1, rfm=True, dilation=2):
    """ResNet's basic block from its weights `w`, or with `rfm` the fortified one."""
    y = torch.relu(F.conv2d(x, w["conv1.conv.weight"], stride=stride, padding=1) * BN)
    y = F.conv2d(y, w["conv2.conv.weight"], padding=1) * BN
    if rfm:
        y += F.conv2d(x, w["dilated.conv.weight"], stride=stride, padding=dilation, dilation=dilation) * BN
        hidden = F.conv2d(y.mean((2, 3), keepdim=True), w["se.fc1.weight"], w["se.fc1.bias"]).relu()
        y *= F.conv2d(hidden, w["se.fc2.weight"], w["se.fc2.bias"]).sigmoid()
    if "shortcut.conv.weight" in w:
        x = F.conv2d(x, w["shortcut.conv.weight"], stride=stride) * BN
    return torch.relu(y + x)


def way_up(hourglass, x, **block_options):
    """The features of an hourglass on its way up, finest first."""

    def through(blocks, x, stride=1):
        for block in blocks:
            x, stride = residual(block.state_dict(), x, stride, **block_options), 1
        return x

    _, entry, rest = hourglass.low1
    below, bottom = through([entry, *rest], x, stride=2), not hasattr(hourglass.low2, "low1")
    lower = [through(hourglass.low2, below)] if bottom else way_up(hourglass.low2, below, **block_options)
    risen = F.interpolate(through(hourglass.low3, lower[0]), scale_factor=2, mode="nearest")
    return [through(hourglass.up1, x) + risen, *lower]


@pytest.mark.parametrize(
    "options",
    [
        {"rfm": False, "sfm": False, "dlm": False},
        {"sfm": False, "dlm": False},
        {"rfm": False},
        {"sfm": False},
        {},
        {"stacks": 2},
        {"dilation": 3},
    ],
)
def test_options_are_wired_as_specified(options, images):
    """The rows of Tables III and IV, and what the paper leaves open."""
    block = {name: options[name] for name in options.keys() & {"rfm", "dilation"}}
    model = narrow(**options).eval()
    heatmaps, looks = model(images, look=True)
    x = residual(model.stem[1].state_dict(), model.stem[0](images), 2, **block)
    for i in range(options.get("stacks", 1)):
        scales = way_up(model.hourglasses[i], x, **block)
        y = model.features[i](scales[0])
        h = model.heads[i](y)
        torch.testing.assert_close(looks[f"stack{i + 1}"], h)
        if i < len(model.joins):
            x = x + model.remap_features[i](y) + model.remap_heatmaps[i](h)
            x = residual(model.joins[i].state_dict(), x, **block)
    torch.testing.assert_close(heatmaps, h)
    assert ("dlm_mu" in looks) == options.get("dlm", True)
    if options.get("dlm", True):
        vector = model.sfm(scales)[0] if options.get("sfm", True) else scales[-1].mean((2, 3))
        mu = (model.dlm.mean(vector).view(2, 5, 2) + 0.5) * torch.tensor([96, 64])
        torch.testing.assert_close(looks["dlm_mu"], mu)


def conv(inputs, outputs, kernel=1):
    """Parameters of a convolution and its batch norm."""
    return inputs * outputs * kernel**2 + 2 * outputs


def fortified(inputs, outputs):
    """Parameters that a fortified block has more than a basic one: the dilated convolution, and SE with its biases."""
    hidden = max(outputs // 16, 4)
    return conv(inputs, outputs, 3) + (outputs + 1) * hidden + (hidden + 1) * outputs


def bottleneck(inputs, outputs):
    widened = 0 if inputs == outputs else conv(inputs, outputs)
    return conv(inputs, outputs // 4) + conv(outputs // 4, outputs // 4, 3) + conv(outputs // 4, outputs) + widened


WIDTHS, HEAD_WIDTHS, VECTOR_WIDTH = (64, 128, 256, 512), (128, 256, 512, 1024), 2048
BLOCKS = [
    (128, 64),  # of the stem
    *(pair for a, b in pairwise(WIDTHS) for pair in ((a, a), (a, a), (a, b), (b, b), (b, b), (b, a))),
    *4 * [(512, 512)],
]
SFM = (
    sum(conv(c, 256) + 257 for c in WIDTHS)  # projections and scores
    + 4 * conv(256, 256, 3)
    + sum(bottleneck(256, c) for c in HEAD_WIDTHS)
    + sum(conv(a, b, 3) + 2 * b for a, b in pairwise(HEAD_WIDTHS))  # with the norm of the local attention
    + conv(1024, VECTOR_WIDTH)
)
FLOW = 6 * 2 * (2 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2)  # scale and shift of six couplings, three layers each


@pytest.mark.parametrize(
    ("options", "without", "params"),
    [
        ({"dlm": False}, {"dlm": False, "rfm": False}, sum(fortified(*pair) for pair in BLOCKS)),
        ({"sfm": False}, {"dlm": False}, 2 * (512 + 1) * 32 + FLOW),
        ({}, {"dlm": False}, SFM + 2 * (VECTOR_WIDTH + 1) * 32 + FLOW),
        ({"dlm": False, "sfm": False}, {"dlm": False}, 0),
        ({"dilation": 3, "base_density": "laplace"}, {}, 0),
    ],
)
def test_an_option_adds_the_parameters_counted_by_hand(options, without, params):
    with torch.device("meta"):
        counts = [sum(p.numel() for p in SADINet(16, **given).parameters()) for given in (options, without)]
    assert counts[0] - counts[1] == params


def test_global_attention_weighs_scales_at_every_position():
    torch.manual_seed(0)
    module = GlobalAttention((4, 8, 16), width=6).eval()
    features = [torch.randn(1, c, 8 // 2**i, 12 // 2**i) for i, c in enumerate((4, 8, 16))]
    maps, weights = module(features)
    unified = [F.interpolate(p(x), (8, 12), mode="bilinear") for p, x in zip(module.project, features, strict=True)]
    fused = torch.zeros(1, 6, 8, 12)
    for i in range(8):
        for j in range(12):
            scores = torch.stack([s(u)[0, 0, i, j] for s, u in zip(module.score, unified, strict=True)])
            a = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(weights[0, :, i, j], a)
            fused[0, :, i, j] = sum(w * u[0, :, i, j] for w, u in zip(a, unified, strict=True))
    half = module.reduce[0](fused)
    for actual, expected in zip(maps, (module.keep(fused), half, module.reduce[1](half)), strict=True):
        torch.testing.assert_close(actual, expected)
    assert [m.shape[2:] for m in maps] == [(8, 12), (4, 6), (2, 3)]


def test_local_attention_is_a_softmax_down_each_column():
    module, x = LocalAttention(3).eval(), torch.randn(1, 3, 4, 5)
    y, _ = module(x)
    for c in range(3):
        for j in range(5):
            column = x[0, c, :, j]
            w = column.exp() / column.exp().sum()
            torch.testing.assert_close(y[0, c, :, j], torch.relu(4 * w * column / (1 + 1e-5) ** 0.5))


def test_classification_head_joins_scales_from_fine_to_coarse(images):
    sfm = narrow().eval().sfm
    features = [torch.randn(2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate((8, 8, 16, 16))]
    e = [widen(g) for widen, g in zip(sfm.widen, sfm.global_attention(features)[0], strict=True)]
    y = e[0]
    for i in range(3):
        y, _ = sfm.local_attention[i](sfm.down[i](y) + e[i + 1])
    torch.testing.assert_close(sfm(features)[0], sfm.last(y).mean(dim=(2, 3)))


@pytest.mark.parametrize("base_density", ["gaussian", "laplace"])
def test_learned_heatmap_is_the_rescaled_density_with_its_peak_at_mu(base_density):
    torch.manual_seed(0)
    dlm = DistributionLearningModule(4, num_keypoints=3, base_density=base_density)
    torch.nn.init.normal_(dlm.mean.weight, std=0.05)
    torch.nn.init.constant_(dlm.deviation.bias, -3)
    for parameter in dlm.flow.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    out = dlm(torch.randn(2, 4), (96, 64), (24, 16))
    heatmaps = out["dlm_heatmaps"]
    assert heatmaps.shape == (2, 3, 16, 24)
    x, y = 4 * torch.arange(24.0), 4 * torch.arange(16.0)
    cells = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    marginal = {"gaussian": torch.distributions.Normal, "laplace": torch.distributions.Laplace}[base_density](0, 1)
    for n in range(2):
        for k in range(3):
            e = (cells - out["mu"][n, k]) / out["sigma"][n, k]
            log_density = marginal.log_prob(e).sum(-1) + dlm.flow.log_density(e)
            expected = (log_density - log_density.max()).exp()
            torch.testing.assert_close(heatmaps[n, k], expected, rtol=0, atol=0.01)
            row, column = divmod(heatmaps[n, k].argmax().item(), 24)
            peak = torch.tensor([4.0 * column, 4.0 * row])
            assert (peak - out["mu"][n, k]).abs().max() < 4
    assert heatmaps.amax() == 1


def test_distribution_starts_in_the_middle_of_the_crop():
    dlm = DistributionLearningModule(4, num_keypoints=3, base_density="gaussian")
    out = dlm(torch.zeros(1, 4), (96, 64), (24, 16))
    torch.testing.assert_close(out["mu"], torch.tensor([48.0, 32.0]).expand(1, 3, 2))
    torch.testing.assert_close(out["sigma"], torch.tensor([48.0, 32.0]).expand(1, 3, 2))


def trained(model, images, steps):
    """Losses of `steps` on two pictures with the joints of each at one place."""
    keypoints = torch.tensor([[[40.0, 24.0]], [[68.0, 48.0]]]).expand(2, 5, 2)
    weights, targets = torch.ones(2, 5), torch.zeros(2, 5, 16, 24)
    targets[0, :, 5:8, 9:12] = targets[1, :, 11:14, 16:19] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = distribution_loss(model(images), targets, weights, keypoints, dlm_weight=1, likelihood_weight=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, keypoints


@pytest.mark.parametrize("options", [{}, {"stacks": 2}, {"sfm": False}, {"base_density": "laplace"}])
def test_every_parameter_learns(options, images):
    model = narrow(**options)
    trained(model, images, steps=1)
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_detached_learning_leaves_the_hourglass_as_it_is_without_it(images):
    """Its hourglass trains, to the last bit, as that of the row `rfm`."""
    detached, alone = narrow(detached=True), narrow(dlm=False)
    hourglass = {name: t for name, t in detached.state_dict().items() if not name.startswith(("sfm.", "dlm."))}
    alone.load_state_dict(hourglass)
    targets, weights, keypoints = torch.rand(2, 5, 16, 24), torch.ones(2, 5), torch.full((2, 5, 2), 30.0)
    distribution_loss(detached(images), targets, weights, keypoints).backward()
    heatmap_loss(alone(images), targets, weights).backward()
    gradients = {name: p.grad for name, p in detached.named_parameters()}
    assert all(torch.equal(p.grad, gradients[name]) for name, p in alone.named_parameters())
    assert gradients["dlm.mean.weight"].abs().sum() > 0
    assert gradients["sfm.last.conv.weight"].abs().sum() > 0


def test_auxiliary_gradient_starts_no_larger_than_from_a_heatmap_layer(images):
    """From PyTorch's start of its linear layers, this share is over a hundred times larger."""
    torch.manual_seed(0)
    model = SADINet(num_keypoints=5, **NARROW)
    output, keypoints = model(images), torch.full((2, 5, 2), 30.0)
    loss = residual_log_likelihood(output, keypoints, torch.ones(2, 5))
    (small,) = torch.autograd.grad(loss, model.stem[0].conv.weight)
    for linear in (model.dlm.mean, model.dlm.deviation):
        linear.reset_parameters()
    loss = residual_log_likelihood(model(images), keypoints, torch.ones(2, 5))
    (large,) = torch.autograd.grad(loss, model.stem[0].conv.weight)
    assert large.norm() > 30 * small.norm()


def test_learned_heatmaps_are_a_second_target_after_the_warm_up(images):
    model, targets, weights = narrow(), torch.rand(2, 5, 16, 24), torch.ones(2, 5)
    keypoints = torch.full((2, 5, 2), 30.0)
    for batch in (1, 2, 3):
        output = model(images)
        loss = distribution_loss(output, targets, weights, keypoints, learned_target_weight=2.0, warmup_batches=1)
        plain = distribution_loss(output, targets, weights, keypoints)
        second = joints_mse(output["heatmaps"], output["dlm_heatmaps"].detach(), weights)
        torch.testing.assert_close(loss - plain, 2 * second if batch > 1 else torch.tensor(0.0), rtol=1e-3, atol=1e-6)
    (into_learned,) = torch.autograd.grad(loss - plain, output["mu"], allow_unused=True)
    assert into_learned.abs().max() < 1e-7, "the learned heatmaps get no gradient from it"
    before = model.dlm.num_batches_tracked.item()
    model.eval()(images, look=True)
    assert model.dlm.num_batches_tracked == before == 3


def test_learned_density_is_that_of_the_flow(images):
    density = narrow().eval()(images, look=True)[1]["dlm_density"]
    assert density.shape == (2, 1, 65, 65)
    cell = (12 / 64) ** 2
    assert density[0].sum().item() * cell == pytest.approx(1, abs=0.01)


def test_learns_a_few_pictures_by_heart(images):
    model = narrow()
    losses, keypoints = trained(model, images, steps=25)
    assert losses[-1] < losses[0] - 0.1
    error = (model(images)["mu"] - keypoints).norm(dim=-1).mean()
    assert error < 10  # px of a 96x64 crop


def test_only_training_runs_the_distribution_learning_module(images):
    model = narrow(stacks=2)
    output = model(images)
    assert set(output) == {
        *("heatmaps", "intermediate", "dlm_heatmaps"),
        *("mu", "sigma", "log_flow", "base_density", "updates"),
    }
    assert len(output["intermediate"]) == 1
    plain = narrow(stacks=2, dlm=False).eval()
    model.eval()
    model.sfm = None
    plain.load_state_dict({name: t for name, t in model.state_dict().items() if not name.startswith("dlm.")})
    assert torch.equal(model(images), plain(images))
    assert set(plain.train()(images)) == {"heatmaps", "intermediate"}


def test_looks_show_gates_attentions_and_the_learned_heatmaps(images):
    model = narrow().eval()
    heatmaps, looks = model(images, look=True)
    assert torch.equal(heatmaps, model(images))
    gates = {f"rfm{i}_se" for i in range(1, 12)}  # of the stem, of three blocks a level and of the bottom
    attentions = {"sfm_global", "sfm_local1", "sfm_local2", "sfm_local3"}
    assert set(looks) == {"stack1", "dlm_mu", "dlm_sigma", "dlm_heatmaps", "dlm_density"} | gates | attentions
    torch.testing.assert_close(looks["sfm_global"].sum(dim=1), torch.ones(2, 16, 24))
    torch.testing.assert_close(looks["sfm_local3"].sum(dim=2), torch.ones(2, 16, 3))
    assert looks["dlm_heatmaps"].shape == heatmaps.shape


def test_distribution_stays_in_full_precision_under_autocast(images):
    with torch.autocast("cpu", torch.bfloat16):
        output = narrow()(images)
    assert output["heatmaps"].dtype == torch.bfloat16
    assert {output[name].dtype for name in ("dlm_heatmaps", "mu", "sigma", "log_flow")} == {torch.float32}


def test_impossible_requests_are_explained():
    with pytest.raises(ValueError, match=r"100x60 px.*try 96x64"):
        narrow()(torch.zeros(1, 3, 60, 100))
    with pytest.raises(ValueError, match="4 levels, but there are 2 widths"):
        narrow(widths=(8, 8), blocks=(1, 1))
    for without in ({"dlm": False}, {"sfm": False}):  # no SFM whose head could be too long
        assert narrow(widths=(8, 8), blocks=(1, 1), **without)(torch.zeros(2, 3, 64, 64))["heatmaps"].shape[1] == 5
    with pytest.raises(ValueError, match=r"base_density='cauchy'.*'gaussian', 'laplace'"):
        narrow(base_density="cauchy")


def test_plain_form_is_resnets_basic_block():
    torch.manual_seed(0)
    ours, reference, x = DilatedResidualBlock(8, 8, fortified=False), BasicBlock(8, 8), torch.randn(2, 8, 5, 5)
    reference.load_state_dict(dict(zip(reference.state_dict(), ours.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(x), reference(x))
