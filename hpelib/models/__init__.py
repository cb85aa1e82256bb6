"""The networks by name. A network's file is imported when it is asked for, not before."""

import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from hpelib.models.table import NETWORKS

if TYPE_CHECKING:
    from torch import nn


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return list(NETWORKS)


def create_model(name: str, num_keypoints: int = 17, pretrained: bool | str = False, **options) -> "nn.Module":
    """The network `name`, in training mode.

    `options` are those of the network's class (its docstring explains them), the paper's full model being the default.
    `pretrained=True` starts the whole trunk from timm's ImageNet weights, a path from the fitting entries of that file.
    Raises ValueError for an unknown name or option, if there is nothing to start from, or if options give the trunk
    entries that the ImageNet weights do not have; OSError if these cannot be fetched.
    """
    if name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, cutoff=0.4) or NETWORKS
        raise ValueError(f"unknown network {name!r}; did you mean {', '.join(near)}?")
    network = NETWORKS[name]
    cls = getattr(import_module(f"{__name__}.{network.module}"), network.cls)
    known = [option for option in inspect.signature(cls).parameters if option != "num_keypoints"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    chosen = network.options | options
    model = cls(num_keypoints=num_keypoints, **chosen)
    if pretrained is True:
        imagenet = network.imagenet[chosen["backbone"]] if isinstance(network.imagenet, dict) else network.imagenet
        if imagenet is None:
            raise ValueError(f"there are no ImageNet weights for {name}; it is trained from its random start")
        _start_trunk(model, imagenet, f"{name} with options {options}")
    elif pretrained:
        from hpelib.models.weights import load_matching

        load_matching(model, pretrained)
    return model


def _start_trunk(model: "nn.Module", imagenet: str, described: str) -> None:
    from hpelib.models.weights import imagenet_weights, load_matching, trunk_entries

    source = imagenet_weights(imagenet)
    trunk, left = trunk_entries(model, source), set(load_matching(model, source))
    missing = [entry for entry in trunk if entry in left]
    if missing:
        raise ValueError(
            f"{imagenet} lacks {len(missing)} of the {len(trunk)} entries in the trunk of {described}, such as "
            f"{missing[0]}; leave the trunk's options alone, or train with pretrained=False"
        )


def __getattr__(name: str):
    if name == "load_weights":
        from hpelib.models.weights import load_weights

        return load_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
