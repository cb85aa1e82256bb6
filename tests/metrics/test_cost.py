import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hpelib.metrics.cost import complexity


def conv_macs(out_channels, in_channels, kernel, height, width, groups=1):
    return out_channels * (in_channels // groups) * kernel**2 * height * width


def count(*layers, input_size=(12, 8)):
    return complexity(nn.Sequential(*layers), input_size)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(3, 6, 3, padding=1), conv_macs(6, 3, 3, 8, 12)),
        (nn.Conv2d(3, 6, 3, stride=2, padding=1), conv_macs(6, 3, 3, 4, 6)),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), conv_macs(6, 3, 3, 8, 12, groups=3)),
        (nn.Conv2d(3, 6, 3, padding=2, dilation=2), conv_macs(6, 3, 3, 8, 12)),
        (nn.Conv2d(3, 6, (1, 5)), 6 * 3 * 5 * 8 * 8),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)), 21),
        (nn.Linear(12, 7), 3 * 8 * 12 * 7),
    ],
)
def test_layers_by_formula(layer, macs):
    counted = count(layer)
    assert counted.macs == macs
    assert counted.legacy_gflops == macs / 2**30


@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_convolution_counts_at_its_input_and_in_the_legacy_figure_at_its_output(groups):
    counted = count(nn.ConvTranspose2d(3, 6, 4, stride=2, padding=1, groups=groups))
    macs = conv_macs(6, 3, 4, 8, 12, groups)
    assert counted.macs == macs
    assert counted.legacy_gflops == 4 * macs / 2**30


class DynamicKernels(nn.Module):
    """A depthwise kernel per image made by a linear layer, then attention between positions."""

    def __init__(self):
        super().__init__()
        self.to_kernel = nn.Linear(3, 27)

    def forward(self, images):
        kernel = self.to_kernel(images.mean(dim=(2, 3))).view(3, 1, 3, 3)
        tokens = F.conv2d(images, kernel, padding=1, groups=3).flatten(2)  # (1, 3, 96)
        return tokens.transpose(1, 2) @ tokens


def test_functional_convolutions_and_products_are_counted():
    counted = complexity(DynamicKernels(), (12, 8))
    linear, convolution, product = 3 * 27, 3 * 9 * 96, 96 * 3 * 96
    assert counted.macs == linear + convolution + product
    assert counted.legacy_gflops == (linear + convolution) / 2**30


def test_modules_share_the_sum():
    counted = count(nn.Conv2d(3, 6, 1), nn.Sequential(nn.Conv2d(6, 2, 1), nn.ReLU()))
    assert counted.macs_by_module == {"0": 18 * 96, "1": 12 * 96, "1.0": 12 * 96}
    assert counted.macs == 30 * 96
    assert counted.params == 18 + 6 + 12 + 2


class AuxiliaryHead(nn.Conv2d):
    def forward(self, images):
        return super().forward(super().forward(images)) if self.training else super().forward(images)


def test_what_only_training_needs_is_not_counted():
    assert complexity(AuxiliaryHead(3, 3, 1).train(), (12, 8)).macs == 9 * 96


def test_counting_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    complexity(model, (12, 8))
    assert [module.training for module in model] == [True, False, True]
    assert model.training
    for name, value in model.state_dict().items():
        assert type(value) is torch.Tensor
        assert torch.equal(value, before[name])


def test_the_mode_comes_back_after_an_error():
    model = nn.Sequential(nn.Conv2d(5, 4, 3)).train()
    with pytest.raises(RuntimeError):
        complexity(model, (12, 8))
    assert model.training


def test_networks_without_weights_cost_the_same():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 4, stride=2))
    assert complexity(model.to("meta"), (12, 8)) == complexity(model.to_empty(device="cpu"), (12, 8))


def test_the_package_of_metrics_needs_no_torch():
    check = "import sys, hpelib.metrics; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
