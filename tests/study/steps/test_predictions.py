"""The pyramid on a network that answers with the brightness of the crop: bright spots are found where they are."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hpelib.codecs import Codec
from hpelib.data.loader import InputSettings, make_loader
from hpelib.inference import predict
from hpelib.study.config import Protocol
from hpelib.study.steps.predictions import PYRAMID, make_predictor


class Brightness(nn.Module):
    """Heatmaps are the crop itself at the heatmap's pixels."""

    def __init__(self, codec):
        super().__init__()
        self.x, self.y = (
            torch.arange(side) * step / (full - 1) * 2 - 1
            for side, step, full in zip(codec.heatmap_size, codec.stride, codec.input_size, strict=True)
        )

    def forward(self, images):
        grid = torch.stack(torch.meshgrid(self.x, self.y, indexing="xy"), -1).expand(len(images), -1, -1, -1)
        grey = images.mean(1, keepdim=True) + 3
        return nn.functional.grid_sample(grey, grid.to(grey), align_corners=True).expand(-1, 14, -1, -1)


@pytest.fixture(scope="module")
def people(bright_spots):
    return bright_spots(count=5, spacing_px=160)


def run_of(codec: str, pyramid: bool = False, precision: str = "fp32"):
    inputs = InputSettings(codec, input_size=(96, 128), heatmap_size=(24, 32), batch_size=2)
    protocol = Protocol(pyramid=pyramid, precision=precision)
    return SimpleNamespace(inputs=inputs, recipe=SimpleNamespace(device="cpu"), test=protocol)


@pytest.mark.parametrize("codec", ["msra", "dark", "udp"])
@pytest.mark.parametrize("scales", [(0.7,), (1.2,), PYRAMID])
def test_spots_are_found_at_every_scale(people, codec, scales):
    run = run_of(codec, pyramid=True)
    found = make_predictor(run, people, scales)(Brightness(run.inputs.make_codec()))
    assert found.ids.tolist() == people.ids.tolist()
    assert np.abs(found.keypoints - people.keypoints).max() < 1.6, "a heatmap px is 4.2 image px"


def test_one_plain_scale_is_no_pyramid(people):
    run = run_of("dark")
    network, loader = Brightness(run.inputs.make_codec()), make_loader(people, run, train=False)
    expected = predict(network, loader, loader.codec)
    alone = make_predictor(run_of("dark", pyramid=True), people, (1.0,))(network)
    np.testing.assert_allclose(alone.keypoints, expected.keypoints, atol=0.01)
    np.testing.assert_array_equal(make_predictor(run, people)(network).keypoints, expected.keypoints)
    several = make_predictor(run_of("dark", pyramid=True), people)(network)
    assert not np.allclose(several.keypoints, expected.keypoints, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pyramid", [False, True])
def test_a_network_is_tested_in_the_precision_of_the_protocol(people, precision, pyramid):
    computed = set()

    class Noting(Brightness):
        def forward(self, images):
            computed.add(torch.nn.functional.conv2d(images, images[:1, :, :3, :3]).dtype)
            return super().forward(images)

    run = run_of("dark", pyramid, precision)
    found = make_predictor(run, people)(Noting(run.inputs.make_codec()))
    assert computed == {{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]}
    assert found.keypoints.dtype == np.float32


@pytest.mark.parametrize(("scales", "covered"), [((0.7,), 0.7), ((0.5, 0.7), 0.7), ((1.2,), 1), (PYRAMID, 1)])
def test_heatmaps_are_means_over_the_scales_that_reach_a_place(people, monkeypatch, scales, covered):
    """A network that says 1 everywhere says 1 wherever a crop lay, however few did, and nothing beyond."""
    decoded, decode = [], Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda codec, maps: decoded.append(maps) or decode(codec, maps))
    network, run = nn.Identity(), run_of("dark", pyramid=True)
    network.forward = lambda images: torch.ones(len(images), 14, 32, 24)
    make_predictor(run, people, scales)(network)
    for heatmaps in decoded:
        inside = heatmaps > 0.5
        torch.testing.assert_close(heatmaps, inside.float(), rtol=0, atol=1e-5)
        assert inside.float().mean().item() == pytest.approx(covered**2, abs=0.06)
    assert len(decoded) == 3, "batches"


def test_the_pyramid_is_of_six_scales_and_their_mirror_images(people):
    assert sorted(PYRAMID) == pytest.approx([0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
    run, seen = run_of("dark", pyramid=True), []
    network = Brightness(run.inputs.make_codec())
    network.register_forward_hook(lambda *_: seen.append(1))
    make_predictor(run, people)(network)
    assert len(seen) == 3 * 6 * 2, "three batches"
