"""Prediction with networks whose answers are known: the keypoints come back in image px, in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hpelib.codecs import CODECS, make_codec
from hpelib.data.loader import InputSettings, make_loader
from hpelib.inference import flip_back, predict
from hpelib.skeletons import LSP14

SETTINGS = InputSettings(input_size=(96, 128), heatmap_size=(24, 32), batch_size=4)


@pytest.fixture(scope="module")
def people(bright_spots):
    return bright_spots(count=9, spacing_px=100)


class BrightSpot(nn.Module):
    """Sees the crop's brightness at the heatmap's pixels; keypoint k of 14 answers k + 1 times as strongly."""

    def __init__(self, codec):
        super().__init__()
        self.places = [torch.arange(side) * step for side, step in zip(codec.heatmap_size, codec.stride, strict=True)]
        self.frozen = nn.Identity().eval()
        self.modes = []

    def forward(self, images):
        self.modes.append(self.training)
        grey = images.mean(1, keepdim=True) - images.amin((1, 2, 3))[:, None, None, None] + 1e-3
        height, width = grey.shape[-2:]
        x, y = (2 * p / (side - 1) - 1 for p, side in zip(self.places, (width, height), strict=True))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(len(images), -1, -1, -1)
        maps = nn.functional.grid_sample(grey, grid.to(grey), align_corners=True)  # (B, 1, h, w)
        return maps * torch.arange(1, 15)[:, None, None]


def official_flip_back(heatmaps, pairs):
    """`flip_back` of the official HRNet code."""
    flipped = heatmaps[:, :, :, ::-1].copy()
    for left, right in pairs:
        kept = flipped[:, left].copy()
        flipped[:, left] = flipped[:, right]
        flipped[:, right] = kept
    return flipped


@pytest.mark.parametrize("shift", [False, True])
def test_flip_back_equals_the_official_code(shift):
    heatmaps = torch.rand(3, 14, 8, 6, generator=torch.Generator().manual_seed(0))
    expected = official_flip_back(heatmaps.numpy(), LSP14.flip_pairs)
    if shift:
        expected[:, :, :, 1:] = expected.copy()[:, :, :, :-1]
    before = heatmaps.clone()
    np.testing.assert_array_equal(flip_back(heatmaps, LSP14.flip_pairs, shift), expected)
    assert torch.equal(heatmaps, before)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("batch_size", [4, 9])
def test_spots_are_found_in_image_px_and_in_order(people, name, flip_test, batch_size):
    loader = make_loader(people, replace(SETTINGS, codec=name, batch_size=batch_size), train=False)
    found = predict(BrightSpot(loader.codec), loader, loader.codec, flip_test)
    assert found.index.tolist() == list(range(9))
    assert found.ids.tolist() == people.ids.tolist()
    assert found.keypoints.shape == (9, 14, 2)
    errors_px = np.linalg.norm(found.keypoints - people.keypoints, axis=-1)
    assert errors_px.max() < {"msra": 2.0, "dark": 0.8, "udp": 0.3}[name]  # a heatmap px is 3.1 image px here


def test_the_flip_test_averages_a_keypoint_with_its_partner(people):
    loader = make_loader(people, replace(SETTINGS, codec="udp"), train=False)
    model = BrightSpot(loader.codec)
    plain, flipped = (predict(model, loader, loader.codec, flip_test) for flip_test in (False, True))
    expected = (plain.scores + plain.scores[:, list(LSP14.flip_permutation)]) / 2
    np.testing.assert_allclose(flipped.scores, expected, rtol=0.05)


def test_the_model_predicts_in_eval_mode_and_gets_its_modes_back(people):
    loader = make_loader(people, SETTINGS, train=False)
    model = BrightSpot(loader.codec).train()
    model.frozen.eval()
    predict(model, loader, loader.codec)
    assert not any(model.modes)
    assert model.training
    assert not model.frozen.training


def test_a_codec_of_another_crop_is_refused(people):
    loader = make_loader(people, SETTINGS, train=False)
    for other in (make_codec("udp", (96, 128), (24, 32)), make_codec("msra", (64, 64), (16, 16))):
        with pytest.raises(ValueError, match=r"loader\.codec"):
            predict(BrightSpot(other), loader, other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_heatmaps_that_are_no_numbers_are_refused_with_the_persons(people, value):
    class Broken(nn.Module):
        def forward(self, images):
            heatmaps = torch.zeros(len(images), 14, 32, 24)
            heatmaps[1, 3, 5, 5] = value
            return heatmaps

    loader = make_loader(people, SETTINGS, train=False)
    with pytest.raises(ValueError, match=rf"NaN or infinity in the heatmaps of persons \[{people.ids[1]}\]"):
        predict(Broken(), loader, loader.codec)


def test_a_network_of_another_skeleton_is_refused(people):
    class OfCoco(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images), 17, 32, 24)

    loader = make_loader(people, SETTINGS, train=False)
    with pytest.raises(ValueError, match="the network gives 17 heatmaps, people of lsp14 have 14"):
        predict(OfCoco(), loader, loader.codec)
