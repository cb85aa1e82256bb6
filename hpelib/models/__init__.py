"""The networks by name. A network's file is imported when it is asked for, not before."""

import inspect
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _Network:
    module: str  # file of this package
    cls: str
    options: dict = field(default_factory=dict)
    imagenet: str | None = None  # timm's name of the classifier whose weights the trunk starts from


_RESNETS = {depth: f"resnet{depth}.tv_in1k" for depth in (34, 50, 101, 152)}
_HRNETS = {width: f"hrnet_w{width}.ms_in1k" for width in (32, 48)}

_NETWORKS = {
    **{
        f"simple_baseline_resnet{depth}": _Network(
            "simple_baseline", "SimpleBaseline", {"encoder": f"resnet{depth}"}, imagenet
        )
        for depth, imagenet in _RESNETS.items()
    },
    "hourglass": _Network("hourglass", "StackedHourglass"),
    **{f"hrnet_w{width}": _Network("hrnet", "HRNet", {"width": width}, name) for width, name in _HRNETS.items()},
    **{
        f"de_hrnet_w{width}": _Network("de_hrnet", "DEHRNet", {"width": width}, name) for width, name in _HRNETS.items()
    },
    "sadi_net": _Network("sadi_net", "SADINet"),
    **{
        f"fr_sbn_resnet{depth}": _Network("fr_sbn", "FRSBN", {"encoder": f"resnet{depth}"}, imagenet)
        for depth, imagenet in _RESNETS.items()
    },
    "ditn_w32": _Network("ditn", "DITN", {}, _HRNETS[32]),
    "daunet_resnet50": _Network("daunet", "DAUNet", {}, _RESNETS[50]),
}


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return list(_NETWORKS)


def presets(module: str) -> dict[str, str]:
    """The names that one file of this package answers to, each with what it presets."""
    return {name: repr(network) for name, network in _NETWORKS.items() if network.module == module}


def create_model(name: str, num_keypoints: int = 17, pretrained: bool | str = False, **options) -> "nn.Module":
    """The network `name`, in training mode.

    `options` are those of the network's class (its docstring explains them), the paper's full model being the default.
    `pretrained=True` starts the trunk from timm's ImageNet weights, a path from the fitting entries of that file.
    Raises ValueError for an unknown name or option, or if there is nothing to start from.
    """
    if name not in _NETWORKS:
        near = get_close_matches(name, _NETWORKS, cutoff=0.4) or _NETWORKS
        raise ValueError(f"unknown network {name!r}; did you mean {', '.join(near)}?")
    network = _NETWORKS[name]
    cls = getattr(import_module(f"{__name__}.{network.module}"), network.cls)
    known = [option for option in inspect.signature(cls).parameters if option != "num_keypoints"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    model = cls(num_keypoints=num_keypoints, **(network.options | options))
    if pretrained:
        from hpelib.models.weights import imagenet_weights, load_matching

        if pretrained is True and network.imagenet is None:
            raise ValueError(f"there are no ImageNet weights for {name}; it is trained from its random start")
        load_matching(model, imagenet_weights(network.imagenet) if pretrained is True else pretrained)
    return model


def __getattr__(name: str):
    if name == "load_weights":
        from hpelib.models.weights import load_weights

        return load_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
