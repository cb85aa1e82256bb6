"""An exported graph gives the library's keypoints: every decoder on peaked maps, every network of the study."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from hpelib.codecs import CODECS
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, InputSettings
from hpelib.export import export_onnx
from hpelib.models import create_model
from hpelib.records import records
from hpelib.skeletons import COCO17


class Brightness(nn.Module):
    """A network whose 17 heatmaps are the three channels of the picture, again and again, at a quarter of its size."""

    def forward(self, images):
        return images.repeat(1, 6, 1, 1)[:, :17, ::4, ::4]


def settings(codec: str, **changes) -> InputSettings:
    return InputSettings(codec=codec, input_size=(48, 64), heatmap_size=(12, 16), sigma=1.0, **changes)


def pictures(codec: str, places: list[tuple[float, float]]) -> torch.Tensor:
    """Black pictures with a bright spot at `places` (x, y) px in all three channels, as pixels."""
    across, down = torch.arange(48), torch.arange(64)
    spots = [torch.exp(-((down[:, None] - y) ** 2 + (across - x) ** 2) / (2 * 4.0**2)) for x, y in places]
    return 255 * torch.stack(spots)[:, None].expand(-1, 3, -1, -1).contiguous()


def run_graph(path, pixels):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels.numpy()})


@pytest.mark.parametrize("codec", CODECS)
def test_the_decoder_lies_in_the_graph(codec, tmp_path):
    places = [(20.3, 31.1), (30.0, 12.6), (24.4, 40.9)]
    pixels = pictures(codec, places)
    differences = export_onnx(Brightness(), settings(codec), COCO17, pixels, tmp_path / "graph.onnx", flip_test=False)
    assert max(differences.values()) < 1e-4
    keypoints, scores = run_graph(tmp_path / "graph.onnx", torch.cat([pixels, pixels]))
    assert keypoints.shape == (6, 17, 2), "any number of crops"
    np.testing.assert_allclose(keypoints[:3, 0], places, atol=2.5)
    blue = (1 - IMAGENET_MEAN[2]) / IMAGENET_STD[2]
    assert scores.max() == pytest.approx(blue, abs=0.2), "pixels are normalised in the graph"


def test_bgr_networks_take_rgb_pixels(tmp_path):
    pixels = pictures("msra", [(20, 32), (30, 12)])
    pixels[:, 1:] = 0  # red alone
    export_onnx(Brightness(), settings("msra", pixel_order="bgr"), COCO17, pixels, tmp_path / "g.onnx", flip_test=False)
    _, scores = run_graph(tmp_path / "g.onnx", pixels)
    assert (scores[:, 2] > 1).all(), "red is the last channel that the network sees"
    assert (scores[:, :2] < 0).all()


@pytest.mark.parametrize("name", [record.full_size for record in records().values()])
def test_every_network_of_the_study(name, narrow_options, tmp_path):
    torch.manual_seed(0)
    network = create_model(name, num_keypoints=17, **narrow_options[name])
    for module in network.modules():  # heads start near zero, where every map is flat
        if isinstance(module, nn.Conv2d) and module.weight.std() < 0.01:
            nn.init.kaiming_normal_(module.weight)
    pixels = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        height, width = network.eval()(pixels).shape[-2:]
    inputs = InputSettings("msra", (64, 64), (width, height), sigma=1.0)
    differences = export_onnx(network, inputs, COCO17, pixels, tmp_path / "graph.onnx")
    assert max(differences.values()) < 1e-3


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("hpelib.export.TOLERANCE", -1)
    with pytest.raises(ValueError, match=r"graph.onnx was not written"):
        export_onnx(Brightness(), settings("msra"), COCO17, pictures("msra", [(9, 9), (9, 9)]), tmp_path / "graph.onnx")
    assert not (tmp_path / "graph.onnx").exists()
