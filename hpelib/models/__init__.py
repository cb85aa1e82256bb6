"""The networks by name. A network's file is imported when `create_model` asks for it, not before."""

import inspect
from importlib import import_module

import torch
from torch import nn

from hpelib.layers.choices import require_choice, require_options
from hpelib.models import weights
from hpelib.models.weights import load_weights
from hpelib.records import presets
from hpelib.skeletons import Skeleton

__all__ = ["create_model", "list_models", "load_weights"]


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return list(presets())


def create_model(
    name: str,
    num_keypoints: int = 17,
    pretrained: bool | str = False,
    skeleton: Skeleton | None = None,
    **options,
) -> nn.Module:
    """The network `name`, in training mode.

    Without `options` it is the paper's full model. The docstring of the network's class explains its options; the
    error for an unknown one lists them.

    `pretrained=True` starts the trunk from timm's ImageNet weights. The path of a file starts it from that file, for
    example from a checkpoint that was trained on another set. The trunk is what ImageNet weights would fill; for a
    network without ImageNet weights it is all of it but the layers whose size depends on `num_keypoints`.

    `skeleton` tells a network that learns bones which these are. Without it they are those of the skeleton of COCO,
    MPII or LSP with that many keypoints.

    Raises:
        ValueError: the name or an option is unknown; an option is of another type than its annotation; there are no
            ImageNet weights for this network; or the weights do not fit the whole trunk.
        OSError: the ImageNet weights cannot be fetched, or the file does not exist.
    """
    known_names = presets()
    require_choice("network", name, known_names)
    record = known_names[name]
    preset = record.presets[name]
    cls = getattr(import_module(f"{__name__}.{record.name}"), record.cls)
    require_options(name, cls, options)
    bones = {"bones": skeleton.bones} if skeleton and "bones" in inspect.signature(cls).parameters else {}
    chosen = dict(preset.options) | bones | options
    if pretrained is True:
        require_imagenet(name, **options)
    model = cls(num_keypoints=num_keypoints, **chosen)
    if not pretrained:
        return model

    imagenet = _imagenet(name, options)
    source = weights.imagenet_weights(imagenet) if pretrained is True else pretrained
    if imagenet:
        trunk = weights.trunk_entries(model, weights.imagenet_entries(imagenet))
    else:
        with torch.device("meta"):
            other = cls(num_keypoints=num_keypoints + 1, **chosen).state_dict()
        trunk = [entry for entry, tensor in model.state_dict().items() if tensor.shape == other[entry].shape]
    label = imagenet if pretrained is True else str(pretrained)
    weights.load_trunk(model, source, trunk, label, f"{name} with options {options}")
    return model


def require_imagenet(name: str, **options) -> str:
    """timm's name of the classifier whose weights start the trunk of the network `name` with these options.

    Nothing is fetched.

    Raises:
        ValueError: there are no ImageNet weights for it.
    """
    imagenet = _imagenet(name, options)
    if imagenet is None:
        raise ValueError(f"there are no ImageNet weights for {name}; it is trained from its random start")
    return imagenet


def _imagenet(name: str, options: dict) -> str | None:
    """timm's name of the classifier whose weights start the trunk, if it has one."""
    preset = presets()[name].presets[name]
    if isinstance(preset.imagenet, str | None):
        return preset.imagenet
    return preset.imagenet[(dict(preset.options) | options)["backbone"]]
