"""Keypoints of many people from a network, in image px: in batches, with the flip test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed, nn

from hpelib.codecs import Codec
from hpelib.data.crops import to_image
from hpelib.data.loader import PeopleLoader
from hpelib.layers.modes import eval_mode


@dataclass(frozen=True)
class Predictions:
    """One row per person, in the order of the loader."""

    index: np.ndarray  # (N,) int64 position in the loader's people
    ids: np.ndarray  # (N,) int64 annotation ids
    keypoints: np.ndarray  # (N, K, 2) float32 image px
    scores: np.ndarray  # (N, K) float32 heatmap maxima


def flip_back(heatmaps: Tensor, flip_pairs: Sequence[tuple[int, int]], shift: bool) -> Tensor:
    """Turn the heatmaps of mirrored images into heatmaps of the images themselves; the input is left as it is.

    Columns are mirrored, and the keypoints of each pair in `flip_pairs` change places. With `shift` all maps then move
    one px to the right and column 0 is kept, as in the official HRNet code. `Codec.flip_shift` says whether a codec
    needs the shift.

    Shapes: heatmaps (N, K, h, w) -> (N, K, h, w).
    """
    order = list(range(heatmaps.shape[1]))
    for left, right in flip_pairs:
        order[left], order[right] = right, left
    heatmaps = heatmaps[:, order].flip(-1)
    return torch.cat((heatmaps[..., :1], heatmaps[..., :-1]), -1) if shift else heatmaps


@torch.no_grad()
def predict(model: nn.Module, loader: PeopleLoader, codec: Codec, flip_test: bool = True) -> Predictions:
    """Keypoints of everybody in `loader`. `model` runs in eval mode and gets its former mode back.

    `flip_test` averages the heatmaps of each crop and of its mirror image. For mixed precision call this under
    `torch.autocast`; decoding is always float32. If the loader divides the people among processes, each process gets
    the predictions of all people.

    Raises:
        ValueError: `codec` decodes to another crop than the loader cuts; or the network gives heatmaps of another
            number of keypoints, or NaN or infinity in them; or the loader has nobody.
    """
    if (codec.name == "udp", codec.input_size) != (loader.codec.name == "udp", loader.codec.input_size):
        raise ValueError(f"codec {codec} does not belong to crops cut for {loader.codec}: use loader.codec")
    with eval_mode(model):
        batches = [_predict_batch(model, batch, loader, codec, flip_test) for batch in loader]
    if loader.batches.world_size > 1:
        shares = [None] * loader.batches.world_size
        distributed.all_gather_object(shares, batches)
        batches = [batch for share in shares for batch in share]  # in the order of one process
    if not batches:
        raise ValueError("the loader gave no batch to predict")
    return Predictions(*(np.concatenate(column) for column in zip(*batches, strict=True)))


def _predict_batch(
    model: nn.Module, batch: dict[str, Tensor], loader: PeopleLoader, codec: Codec, flip_test: bool
) -> tuple[np.ndarray, ...]:
    images, skeleton = batch["images"], loader.people.skeleton
    heatmaps = model(images).float()  # (B, K, h, w)
    if heatmaps.shape[1] != skeleton.num_keypoints:
        raise ValueError(
            f"the network gives {heatmaps.shape[1]} heatmaps, people of {skeleton.name} have {skeleton.num_keypoints}"
        )
    if flip_test:
        mirrored = flip_back(model(images.flip(-1)).float(), skeleton.flip_pairs, codec.flip_shift)
        heatmaps = (heatmaps + mirrored) / 2
    if not heatmaps.isfinite().all():
        broken = batch["ids"][~heatmaps.isfinite().flatten(1).all(1)]
        raise ValueError(f"the network gives NaN or infinity in the heatmaps of persons {broken[:5].tolist()}")
    keypoints, scores = codec.decode(heatmaps)
    image_keypoints = to_image(keypoints.cpu().numpy(), batch["matrices"].cpu().numpy())
    return batch["index"].cpu().numpy(), batch["ids"].cpu().numpy(), image_keypoints, scores.cpu().numpy()
