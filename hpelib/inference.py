"""Keypoints of many people from a network, in image px: in batches, with the flip test."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, distributed, nn

from hpelib.codecs import Codec
from hpelib.data.crops import to_image
from hpelib.data.loader import PeopleLoader
from hpelib.layers.modes import eval_mode
from hpelib.skeletons import Skeleton


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


def average_with_mirrored(heatmaps: Tensor, mirrored: Tensor, skeleton: Skeleton, codec: Codec) -> Tensor:
    """The flip test: heatmaps of crops averaged with those of the mirrored crops, both (N, K, h, w)."""
    return (heatmaps + flip_back(mirrored, skeleton.flip_pairs, codec.flip_shift)) / 2


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
        skeleton = loader.people.skeleton
        rows = [decode(batch, predict_heatmaps(model, batch, skeleton, codec, flip_test), codec) for batch in loader]
    if loader.batches.world_size > 1:
        shares = [None] * loader.batches.world_size
        distributed.all_gather_object(shares, rows)
        rows = [row for share in shares for row in share]  # in the order of one process
    return join(rows)


def predict_heatmaps(
    model: nn.Module, batch: dict[str, Tensor], skeleton: Skeleton, codec: Codec, flip_test: bool = True
) -> Tensor:
    """Heatmaps of a batch, float32 (B, K, h, w). `flip_test` averages those of the crops and of their mirror images.

    Raises:
        ValueError: the network gives heatmaps of another number of keypoints, or NaN or infinity in them.
    """
    heatmaps = model(batch["images"]).float()
    if heatmaps.shape[1] != skeleton.num_keypoints:
        raise ValueError(
            f"the network gives {heatmaps.shape[1]} heatmaps, people of {skeleton.name} have {skeleton.num_keypoints}"
        )
    if flip_test:
        mirrored = model(batch["images"].flip(-1)).float()
        heatmaps = average_with_mirrored(heatmaps, mirrored, skeleton, codec)
    if not heatmaps.isfinite().all():
        broken = batch["ids"][~heatmaps.isfinite().flatten(1).all(1)]
        raise ValueError(f"the network gives NaN or infinity in the heatmaps of persons {broken[:5].tolist()}")
    return heatmaps


def decode(batch: dict[str, Tensor], heatmaps: Tensor, codec: Codec) -> Predictions:
    """What the heatmaps (B, K, h, w) of a batch say, in image px."""
    keypoints, scores = (found.cpu().numpy() for found in codec.decode(heatmaps))
    index, ids, matrices = (batch[name].cpu().numpy() for name in ("index", "ids", "matrices"))
    return Predictions(index, ids, to_image(keypoints, matrices), scores)


def join(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several batches, one after the other.

    Raises:
        ValueError: there is no batch.
    """
    if not parts:
        raise ValueError("the loader gave no batch to predict")
    columns = (field.name for field in fields(Predictions))
    return Predictions(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))
