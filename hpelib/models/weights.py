"""Reading weights into networks: whole checkpoints, and trunks that were trained on other data."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hpelib.layers.choices import listed

StateDict = Mapping[str, Tensor]
MOST = 8  # entries in a message
COUNTER = "num_batches_tracked"  # of batch norms and of a DLM; old checkpoints lack it, and no prediction uses it
UNREAD = ".fuse_layers."  # of HRNet: the last of its modules has only those that its output needs


def load_weights(model: nn.Module, state_dict_or_path: StateDict | str | Path) -> None:
    """Fill the whole of `model` from a state dict or its file: ours, or the official `pose_hrnet` and `pose_resnet`.

    Official HRNet checkpoints expect RGB pixels, official SimpleBaseline checkpoints BGR pixels, both with the RGB mean
    and deviation of ImageNet. A network that keeps another one in `backbone` and has no other weights also takes the
    state dict of that one.

    Raises:
        ValueError: entries are missing, unexpected or of another shape. The message names them; `model` is unchanged.
        FileNotFoundError: there is no such file.
    """
    weights = _for_model(model, state_dict_or_path)
    own = model.state_dict()
    problems = {
        "unexpected": [name for name in weights if name not in own],
        "missing": [name for name in own if name not in weights and not name.endswith(COUNTER)],
        "other shape": [
            f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
            for name, tensor in weights.items()
            if name in own and tensor.shape != own[name].shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{kind}: {listed(names, MOST)}" for kind, names in problems.items() if names)
        raise ValueError(f"the weights do not belong to this {type(model).__name__} and its options: {found}")
    model.load_state_dict(weights, strict=False)


def load_trunk(
    model: nn.Module, state_dict_or_path: StateDict | str | Path, trunk: Iterable[str], source: str, into: str
) -> None:
    """Fill the entries of `model` that the weights have by name and shape; all of `trunk` must be among them.

    Other entries keep their start, for example a heatmap layer for another number of keypoints. A network whose layers
    are cut from those of the weights has a method `adapt_pretrained(state_dict) -> state_dict`. Messages call the
    weights `source` and the network `into`.

    Raises:
        ValueError: entries of the trunk are missing or of another shape, or the weights are of a deeper network of the
            same kind. The message names one entry; `model` is unchanged.
        FileNotFoundError: there is no such file.
    """
    weights = _for_model(model, state_dict_or_path)
    if hasattr(model, "adapt_pretrained"):
        weights = model.adapt_pretrained(weights)
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and tensor.shape == own[name].shape}
    trunk = [name for name in trunk if not name.endswith(COUNTER)]
    missing = [name for name in trunk if name not in fitting]
    advice = "choose weights of the same network and size, leave the trunk's options alone, or train without pretrained"
    if missing:
        shape, given = tuple(own[missing[0]].shape), weights.get(missing[0])
        instead = "" if given is None else f" (it has {tuple(given.shape)})"
        raise ValueError(
            f"{source} lacks {len(missing)} of the {len(trunk)} entries in the trunk of {into}, such as {missing[0]} "
            f"{shape}{instead}; {advice}"
        )
    parts, kinds = {_part(name) for name in own}, {_kind(name) for name in trunk}
    left = [name for name in weights if name not in own and UNREAD not in name]
    deeper = [name for name in left if _part(name) in parts and _kind(name) in kinds]
    if deeper:
        raise ValueError(f"{source} belongs to a deeper network than {into}: it has {deeper[0]}; {advice}")
    model.load_state_dict(fitting, strict=False)


def trunk_entries(model: nn.Module, source: Collection[str]) -> list[str]:
    """The entries of `model` that a classifier with the entries `source` has too, in any block and with any shape.

    Numbers in names count as equal. So `layer1.3.conv1.weight` belongs to the trunk also where the classifier's
    `layer1` ends with block 2, but `layer1.2.strip.fuse.1.weight`, which no ResNet has, is an addition of the paper.
    """
    prefix = _prefix(model, source)
    known = {_kind(prefix + name) for name in source}
    return [name for name in model.state_dict() if _kind(name) in known]


def imagenet_weights(timm_name: str) -> dict[str, Tensor]:
    """State dict of timm's ImageNet classifier of this name, fetched on first use.

    Raises:
        OSError: it cannot be fetched.
    """
    import timm

    try:
        return timm.create_model(timm_name, pretrained=True).state_dict()
    except Exception as error:  # the hub client raises many kinds: offline, not cached, refused
        raise OSError(
            f"could not fetch the ImageNet weights {timm_name!r}; connect to the network or pass the path of a "
            "state dict as `pretrained`"
        ) from error


def imagenet_entries(timm_name: str) -> list[str]:
    """Names of the entries that `imagenet_weights(timm_name)` has. Nothing is fetched."""
    import timm

    with torch.device("meta"):
        return list(timm.create_model(timm_name.split(".")[0]).state_dict())


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """What a `.safetensors` or PyTorch file holds. Code that is stored in the file never runs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, or holds more than tensors and plain values.
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


def _usable(weights: Tensor) -> bool:
    return weights.is_floating_point() and (weights.is_meta or bool(weights.isfinite().all()))


def _kind(name: str) -> str:
    """The name of an entry in any block, such as layer#.#.conv#.weight."""
    return re.sub(r"\d+", "#", name)


def _part(name: str) -> str:
    """The part of a network that an entry lies in, such as layer3."""
    return name.removeprefix("backbone.").partition(".")[0]


def _for_model(model: nn.Module, state_dict_or_path: StateDict | str | Path) -> dict[str, Tensor]:
    """The state dict under the names of `model`: without wrappers, and with `backbone.` in front where it has one."""
    from_file = not isinstance(state_dict_or_path, Mapping)
    weights = read_state_dict(state_dict_or_path) if from_file else state_dict_or_path
    where = state_dict_or_path if from_file else "the state dict"
    if not isinstance(weights, Mapping):
        raise ValueError(f"{where} holds a {type(weights).__name__} instead of weights by name")
    weights = weights.get("state_dict", weights)
    others = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{where} holds more than weights by name: {listed(others, MOST)}; give the state dict alone")
    unfit = [name for name, value in weights.items() if not (name.endswith(COUNTER) or _usable(value))]
    if unfit:
        raise ValueError(f"{where} holds weights that are no finite floating-point numbers: {listed(unfit, MOST)}")
    weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    return {_prefix(model, weights) + name: tensor for name, tensor in weights.items()}


def _prefix(model: nn.Module, names: Collection[str]) -> str:
    """What stands before `names` in `model`, which may keep the network that they belong to in `backbone`."""
    inside = hasattr(model, "backbone") and not any(name.startswith("backbone.") for name in names)
    return "backbone." if inside else ""
