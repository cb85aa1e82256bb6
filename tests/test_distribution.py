"""How far SADI-Net's learned means tell persons apart, and how good they are as predictions."""

import dataclasses

import numpy as np
import pytest
from torch import nn

from hpelib.data.loader import InputSettings, make_loader
from hpelib.distribution import judge_means, sd_share
from hpelib.formats import FORMATS

SETTINGS = InputSettings(codec="dark", input_size=(64, 64), heatmap_size=(16, 16), sigma=1.0, batch_size=4)


def test_means_half_as_spread_as_the_truth_have_half_its_deviation():
    truth = np.random.default_rng(0).normal(30, 8, (200, 5, 2))
    assert sd_share(30 + (truth - 30) / 2, truth) == pytest.approx(0.5)
    assert sd_share(np.full_like(truth, 30), truth) == 0
    hidden = truth.copy()
    hidden[:50] = np.nan
    wild = truth.copy()
    wild[:50] = 1e6
    assert sd_share(wild, hidden) == pytest.approx(1), "a keypoint without label does not count"


class Oracle(nn.Module):
    """Shows the true keypoints of one batch after the other, moved by `shift_px` of the crop."""

    def __init__(self, loader, shift_px=0.0):
        super().__init__()
        self.batches, self.shift_px = iter(loader), shift_px

    def forward(self, images, look=False):
        return images, {"dlm_mu": next(self.batches)["keypoints"] + self.shift_px}


def test_true_means_are_perfect_predictions_and_shifted_ones_are_not(bright_spots):
    people, form = bright_spots(count=9, spacing_px=100), FORMATS["lsp"]
    people = dataclasses.replace(people, keypoints=people.keypoints + np.arange(14)[:, None])  # a torso has a length
    loader = make_loader(people, SETTINGS, train=False)
    true = judge_means(Oracle(loader), loader, form)
    far = judge_means(Oracle(loader, shift_px=100.0), loader, form)
    assert set(true) == {"sd_share", form.keypoint_metric}
    assert true["sd_share"] == far["sd_share"] == pytest.approx(1)
    assert true[form.keypoint_metric] == 100
    assert far[form.keypoint_metric] == 0


def test_a_network_without_means_is_refused(bright_spots):
    loader = make_loader(bright_spots(count=9, spacing_px=100), SETTINGS, train=False)

    class Blind(nn.Module):
        def forward(self, images, look=False):
            return images, {}

    with pytest.raises(ValueError, match=r"dlm_mu.*dlm=True"):
        judge_means(Blind(), loader, FORMATS["lsp"])
