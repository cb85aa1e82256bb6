"""HRNet against a second, independent writing of the official `pose_hrnet` and against timm's trunk."""

import pytest
import timm
import torch
from torch import nn

from hpelib.models import create_model, load_weights
from hpelib.models.hrnet import HRNet
from hpelib.models.weights import load_trunk, trunk_entries


def conv(i, o, k=3, s=1):
    return nn.Conv2d(i, o, k, s, k // 2, bias=False)


class Block(nn.Module):
    """Basic block (two 3x3) or bottleneck (1x1, 3x3, 1x1 with four times the width)."""

    def __init__(self, inner, outer, before, kernels):
        super().__init__()
        sizes = [before] + [inner] * (len(kernels) - 1) + [outer]
        for n, kernel in enumerate(kernels, start=1):
            setattr(self, f"conv{n}", conv(sizes[n - 1], sizes[n], kernel))
            setattr(self, f"bn{n}", nn.BatchNorm2d(sizes[n]))
        if before != outer:
            self.downsample = nn.Sequential(conv(before, outer, 1), nn.BatchNorm2d(outer))
        self.count = len(kernels)

    def forward(self, x):
        y = x
        for n in range(1, self.count + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = y.relu() if n < self.count else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class Reference(nn.Module):
    """`pose_hrnet` with its names, sizes written as the official configuration has them."""

    def __init__(self, width, joints):
        super().__init__()
        c = [width * 2**i for i in range(4)]
        self.conv1, self.bn1 = conv(3, 64, s=2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = conv(64, 64, s=2), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(*(Block(64, 256, 64 if n == 0 else 256, (1, 3, 1)) for n in range(4)))
        self.transition1 = nn.ModuleList(
            [
                nn.Sequential(conv(256, c[0]), nn.BatchNorm2d(c[0]), nn.ReLU()),
                nn.Sequential(nn.Sequential(conv(256, c[1], s=2), nn.BatchNorm2d(c[1]), nn.ReLU())),
            ]
        )
        self.transition2, self.transition3 = (
            nn.ModuleList(
                [None] * n + [nn.Sequential(nn.Sequential(conv(c[n - 1], c[n], s=2), nn.BatchNorm2d(c[n]), nn.ReLU()))]
            )
            for n in (2, 3)
        )
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(self.module(c[:n], 1 if n == 4 and m == count - 1 else n) for m in range(count)))
            for n, count in ((2, 1), (3, 4), (4, 3))
        )
        self.final_layer = nn.Conv2d(width, joints, 1)

    @staticmethod
    def module(c, outputs):
        m = nn.Module()
        m.branches = nn.ModuleList(nn.Sequential(*(Block(w, w, w, (3, 3)) for _ in range(4))) for w in c)
        m.fuse_layers = nn.ModuleList()
        for i in range(outputs):
            row = nn.ModuleList()
            for j in range(len(c)):
                if j > i:
                    up = nn.Upsample(scale_factor=2 ** (j - i), mode="nearest")
                    row.append(nn.Sequential(conv(c[j], c[i], 1), nn.BatchNorm2d(c[i]), up))
                elif j == i:
                    row.append(None)
                else:
                    steps = []
                    for k in range(i - j):
                        last = k == i - j - 1
                        step = [conv(c[j], c[i] if last else c[j], s=2), nn.BatchNorm2d(c[i] if last else c[j])]
                        steps.append(nn.Sequential(*step) if last else nn.Sequential(*step, nn.ReLU()))
                    row.append(nn.Sequential(*steps))
            m.fuse_layers.append(row)
        return m

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer1(self.bn2(self.conv2(x)).relu())
        branches = [t(x) for t in self.transition1]
        for n in (2, 3, 4):
            if n > 2:
                branches = [*branches, getattr(self, f"transition{n - 1}")[n - 1](branches[-1])]
            for m in getattr(self, f"stage{n}"):
                y = [b(x) for b, x in zip(m.branches, branches, strict=True)]
                branches = []
                for i, row in enumerate(m.fuse_layers):
                    total = 0
                    for j, layer in enumerate(row):
                        total = total + (y[j] if i == j else layer(y[j]))
                    branches.append(total.relu())
        return self.final_layer(branches[0])


@pytest.mark.parametrize(("width", "joints"), [(32, 17), (8, 16)])
def test_official_state_dicts_load_and_give_the_official_heatmaps(width, joints):
    torch.manual_seed(0)
    reference = Reference(width, joints).eval()
    for module in reference.modules():  # statistics off their start, or the order of layers could hide
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    model = create_model("hrnet_w32", num_keypoints=joints, width=width).eval()
    load_weights(model, reference.state_dict())
    images = torch.randn(1, 3, 64, 64)
    expected = reference(images)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)


def test_imagenet_weights_reach_everything_but_the_head():
    with torch.device("meta"):
        model, source = HRNet(), timm.create_model("hrnet_w32").state_dict()
    trunk = trunk_entries(model, source)
    assert model.state_dict().keys() - set(trunk) == {"final_layer.weight", "final_layer.bias"}
    load_trunk(model, source, trunk, "timm", "hrnet_w32")  # which refuses other shapes


def test_starts_as_the_official_code_does():
    model = HRNet(width=8)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert float(torch.cat([c.weight.flatten() for c in convs]).std()) == pytest.approx(0.001, rel=0.01)
    assert not model.final_layer.bias.any()


def test_looks_are_the_branches_after_each_stage():
    model = HRNet(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1).eval()
    _, looks = model(torch.zeros(1, 3, 64, 32), look=True)
    assert {name: tuple(look.shape[1:]) for name, look in looks.items()} == {
        "stage2.branch0": (8, 16, 8),
        "stage2.branch1": (16, 8, 4),
        "stage3.branch0": (8, 16, 8),
        "stage3.branch1": (16, 8, 4),
        "stage3.branch2": (32, 4, 2),
        "stage4.branch0": (8, 16, 8),
    }


@pytest.mark.parametrize("modules", [(0, 1), ()])
def test_every_stage_has_modules(modules):
    with pytest.raises(ValueError, match=r"modules=.*one module at least"):
        HRNet(width=8, modules=modules)
