"""Reading weights into networks: whole checkpoints strictly, pretrained trunks as far as they fit."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

StateDict = Mapping[str, Tensor]


def load_weights(model: nn.Module, state_dict_or_path: StateDict | str | Path) -> None:
    """Fill `model` from a complete state dict: ours, or the official `pose_hrnet` and `pose_resnet` ones.

    Official HRNet checkpoints expect RGB pixels, official SimpleBaseline checkpoints BGR pixels, both with the RGB mean
    and deviation of ImageNet. A network that wraps another one as its `backbone` also takes the state dict of that one
    alone, if it has no weights besides. Raises ValueError naming unexpected and missing entries and differing shapes,
    and leaves the model as it was.
    """
    weights = _for_model(model, state_dict_or_path)
    own = model.state_dict()
    # checkpoints from before batch norm counted its batches lack this counter, which nothing here uses
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    reshaped = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in weights.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems = {"unexpected": unexpected, "missing": missing, "other shape": reshaped}
    if any(problems.values()):
        found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"the weights do not belong to this {type(model).__name__} and its options: {found}")
    model.load_state_dict(weights, strict=False)


def load_matching(model: nn.Module, state_dict_or_path: StateDict | str | Path) -> list[str]:
    """Fill every entry of `model` that the weights know by name and shape; returns the names that kept their start.

    A network whose layers are cut from those of the source offers `adapt_pretrained(state_dict) -> state_dict`. Raises
    ValueError if nothing fits at all.
    """
    weights = _for_model(model, state_dict_or_path)
    if hasattr(model, "adapt_pretrained"):
        weights = model.adapt_pretrained(weights)
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and tensor.shape == own[name].shape}
    if not fitting:
        raise ValueError(
            f"none of the {len(weights)} entries ({next(iter(weights), 'empty')}, ...) has the name and shape of one "
            f"in this {type(model).__name__} ({next(iter(own))}, ...)"
        )
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def trunk_entries(model: nn.Module, source: StateDict) -> list[str]:
    """Names in `model` that those of a pretrained `source` cover, be it in another block or with another shape.

    Numbers are blanked out: `layer1.3.conv1.weight` is part of a ResNet's trunk even where the source's `layer1` has
    three blocks, `layer1.2.strip.fuse.1.weight` is an addition.
    """
    covered = {_numberless(name) for name in _for_model(model, source)}
    return [name for name in model.state_dict() if _numberless(name) in covered]


def imagenet_weights(timm_name: str) -> dict[str, Tensor]:
    """State dict of timm's ImageNet classifier `timm_name`, fetched on first use. Raises OSError if that fails."""
    import timm

    try:
        return timm.create_model(timm_name, pretrained=True).state_dict()
    except Exception as error:  # the hub client raises many kinds: offline, not cached, refused
        raise OSError(
            f"could not fetch the ImageNet weights {timm_name!r}; connect to the network or pass the path of a "
            "state dict as `pretrained`"
        ) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """What a `.safetensors` or PyTorch file holds; never runs code stored in the file.

    Raises FileNotFoundError where there is none, ValueError where it is broken or holds more than tensors and
    plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a zip reader or an unpickler finds to say
        raise ValueError(
            f"{path} is broken, or holds more than weights, which is not loaded: code could run"
        ) from error


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _for_model(model: nn.Module, state_dict_or_path: StateDict | str | Path) -> dict[str, Tensor]:
    """State dict under the names that `model` uses: wrappers taken off, the place of the backbone put before."""
    weights = state_dict_or_path if isinstance(state_dict_or_path, Mapping) else read_state_dict(state_dict_or_path)
    if not isinstance(weights, Mapping):
        raise ValueError(f"{state_dict_or_path} holds a {type(weights).__name__} instead of weights by name")
    weights = weights.get("state_dict", weights)
    weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    if hasattr(model, "backbone") and not any(name.startswith("backbone.") for name in weights):
        weights = {f"backbone.{name}": tensor for name, tensor in weights.items()}
    return weights
