"""A trained network as one ONNX graph: pixels of a crop go in, keypoints and scores come out.

Normalisation, the flip test and the decoder lie inside the graph, so that a program without this library gives the same
keypoints. What remains outside is to cut the crop, `hpelib.data.crops.crop_person`.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hpelib.data.files import write_whole
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, InputSettings
from hpelib.inference import average_with_mirrored
from hpelib.layers.modes import eval_mode
from hpelib.skeletons import Skeleton

TOLERANCE = 1e-4  # by which scores may differ from the library's, and keypoints as a share of the crop's longer side


class Deployed(nn.Module):
    """From RGB pixels (N, 3, H, W) in 0..255, of any type, to keypoints (N, K, 2) in crop px and scores (N, K)."""

    def __init__(self, network: nn.Module, settings: InputSettings, skeleton: Skeleton, flip_test: bool = True):
        super().__init__()
        self.network, self.codec, self.skeleton, self.flip_test = network, settings.make_codec(), skeleton, flip_test
        self.is_bgr = settings.pixel_order == "bgr"
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        pixels = pixels.flip(1) if self.is_bgr else pixels
        images = (pixels.float() - self.mean) / self.std
        heatmaps = self.network(images).float()
        if self.flip_test:
            heatmaps = average_with_mirrored(heatmaps, self.network(images.flip(-1)).float(), self.skeleton, self.codec)
        return self.codec.decode(heatmaps)


def export_onnx(
    network: nn.Module, settings: InputSettings, skeleton: Skeleton, pixels: Tensor, path: Path, flip_test: bool = True
) -> dict[str, float]:
    """Write `network` with its codec as an ONNX file for any number of crops, and compare it with the library.

    The graph takes `pixels` (N, 3, H, W), float32 RGB in 0..255, and gives `keypoints` (N, K, 2) in crop px, x before
    y, and `scores` (N, K). Needs the packages of `pip install hpelib[export]`.

    Args:
        pixels: two or more crops of people to compare on, as the graph takes them. On noise a heatmap has no clear
            maximum, and the Newton step of `dark` and `udp` then magnifies rounding.

    Returns:
        The largest differences between the library and onnxruntime: `keypoints_px` and `scores`.

    Raises:
        ValueError: the two differ by more than rounding; no file is left then.
    """
    deployed = Deployed(network, settings, skeleton, flip_test)
    with eval_mode(deployed), torch.no_grad():
        expected = deployed(pixels)
        program = torch.onnx.export(
            deployed,
            (pixels,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["keypoints", "scores"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    graph = program.model_proto.SerializeToString()
    differences = _compare(graph, pixels.numpy(), [value.numpy() for value in expected])
    if max(differences["keypoints_px"] / max(settings.input_size), differences["scores"]) > TOLERANCE:
        raise ValueError(f"{path} was not written: onnxruntime and the library differ by {differences}")
    write_whole(path, lambda whole: whole.write_bytes(graph))
    return differences


def _compare(graph: bytes, pixels: np.ndarray, expected: list[np.ndarray]) -> dict[str, float]:
    import onnxruntime  # an extra of the package: only an export needs it

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {"pixels": pixels})
    differences = (float(np.abs(ours - theirs).max()) for ours, theirs in zip(found, expected, strict=True))
    return dict(zip(("keypoints_px", "scores"), differences, strict=True))
