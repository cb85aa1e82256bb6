"""Keypoints of people from a run's network, from one crop of each person or from a pyramid of crops."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from hpelib.codecs import Codec
from hpelib.data.loader import PeopleLoader, make_loader
from hpelib.data.people import People
from hpelib.inference import Predictions, decode, join, predict, predict_heatmaps
from hpelib.layers.modes import eval_mode
from hpelib.study.config import Run
from hpelib.training.engine import autocast

PYRAMID = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)  # of the code that Yang et al. (ICCV 2017) released for their tests on MPII


def make_predictor(run: Run, people: People, scales: tuple[float, ...] = PYRAMID) -> Callable[[nn.Module], Predictions]:
    """A function of a network that returns the keypoints of `people`, with the flip test, by the run's test protocol.

    The network computes in the protocol's precision. Where the protocol has a `pyramid`, every person is cut out at
    several `scales` of their size, and keypoints are read from the mean of the heatmaps. Decoded pictures stay for the
    next network.
    """
    sizes_px = [people.sizes_px * np.float32(scale) for scale in scales] if run.test.pyramid else []
    plain, *scaled = (
        make_loader(part, run, train=False, device=run.recipe.device)
        for part in (people, *(replace(people, sizes_px=size_px) for size_px in sizes_px))
    )

    def predictor(network: nn.Module) -> Predictions:
        with autocast(run.test.precision, run.recipe.device):
            return _predict_pyramid(network, plain, scaled) if scaled else predict(network, plain, plain.codec)

    return predictor


@torch.no_grad()
def _predict_pyramid(network: nn.Module, plain: PeopleLoader, scaled: list[PeopleLoader]) -> Predictions:
    """Lay the heatmaps of the `scaled` regions over those of the plain ones and average them where they lie.

    The mean is over the scales that cover a place. A joint outside the plain crop is not found.
    """
    codec, skeleton, found = plain.codec, plain.people.skeleton, []
    with eval_mode(network):
        for base, *batches in zip(plain, *scaled, strict=True):
            total = seen = 0
            for batch in batches:
                heatmaps = predict_heatmaps(network, batch, skeleton, codec)
                grid = _places(codec, base["matrices"], batch["matrices"])
                total = total + _lay(heatmaps, grid)
                seen = seen + _lay(torch.ones_like(heatmaps[:, :1]), grid)
            found.append(decode(base, total / seen.clamp(min=1e-6), codec))
    return join(found)


def _lay(maps: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(maps, grid, align_corners=True)  # zero beyond the border


def _places(codec: Codec, base: Tensor, other: Tensor) -> Tensor:
    """Where each px of the heatmaps of crops `base` lies in those of `other`, in -1 to 1 of `grid_sample`.

    Shapes: base and other (B, 2, 3), image px to crop px -> (B, h, w, 2).
    """
    width, height = codec.heatmap_size
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    places = torch.stack([x, y], -1).to(base)  # (h, w, 2) heatmap px
    stride = torch.tensor(codec.stride).to(base)
    image = (places * stride - base[:, None, None, :, 2]) @ torch.linalg.inv(base[:, :, :2]).mT[:, None]
    moved = (image @ other[:, :, :2].mT[:, None] + other[:, None, None, :, 2]) / stride
    return (2 * moved / (torch.tensor([width, height]).to(base) - 1) - 1).float()
