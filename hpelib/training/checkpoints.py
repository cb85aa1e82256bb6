"""Files that training leaves behind: weights and checkpoints. Each file appears whole or not at all."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from hpelib.data.files import write_whole

HEADER = "hpelib"  # the entry of a safetensors header that holds what `save_weights` was told
NEEDED = {"model", "optimizer", "history", "epoch", "step", "updates", "step_size", "loss_sum", "random"}  # to go on


def save_weights(model: nn.Module, path: Path, header: dict) -> None:
    """Write the weights of `model` as safetensors. `header` holds plain JSON values that say how they were trained."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {HEADER: json.dumps(header, sort_keys=True)}
    write_whole(path, lambda temporary: save_file(weights, temporary, metadata))


def read_header(path: Path) -> dict:
    """The header that `save_weights` wrote; an empty dict for weights from elsewhere.

    Raises:
        ValueError: the file is no safetensors file.
    """
    try:
        with safe_open(path, "pt") as weights:
            return json.loads((weights.metadata() or {}).get(HEADER, "{}"))
    except SafetensorError as error:
        raise ValueError(f"{path} is broken or no safetensors file ({error}); train again or fetch it anew") from error


def save_checkpoint(path: Path, state: dict) -> None:
    """Write everything that an interrupted training needs to go on: tensors, numbers, lists and dicts of these."""
    write_whole(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path, device: str = "cpu") -> dict | None:
    """The state of an interrupted training, or None where there is no such file. No code runs on load.

    Raises:
        ValueError: the file is not a checkpoint of ours.
    """
    path = Path(path)
    if not path.is_file():
        return None
    refusal = f"{path} is not a checkpoint of hpelib; remove it to train from the start"
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a zip reader or an unpickler raises many kinds
        raise ValueError(refusal) from error
    if not isinstance(state, dict) or not state.keys() >= NEEDED:
        raise ValueError(refusal)
    return state
