"""Files that training leaves behind. Each appears whole or not at all: written beside, then renamed."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from hpelib.data.files import write_whole


def save_weights(model: nn.Module, path: Path, precision: str) -> None:
    """Weights and the precision that they were trained in, as safetensors: what `hpelib.models.load_weights` reads."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_whole(path, lambda temporary: save_file(weights, temporary, {"precision": precision}))


def trained_precision(path: Path) -> str:
    """The precision that `save_weights` was told; "unknown" of weights from elsewhere."""
    with safe_open(path, "pt") as weights:
        return (weights.metadata() or {}).get("precision", "unknown")


def save_checkpoint(path: Path, state: dict) -> None:
    """Everything that an interrupted run needs to go on: tensors, numbers, lists and dicts of these."""
    write_whole(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path, device: str = "cpu") -> dict | None:
    """State of an interrupted run, or None where there is none. No code runs on load.

    Raises:
        ValueError: the file is not a checkpoint of ours.
    """
    path = Path(path)
    if not path.is_file():
        return None
    refusal = f"{path} is not a checkpoint of hpelib; remove it to train from the start"
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever a zip reader or an unpickler finds to say
        raise ValueError(refusal) from error
    if not isinstance(state, dict) or not {"model", "optimizer", "history", "epoch", "step"} <= state.keys():
        raise ValueError(refusal)
    return state
