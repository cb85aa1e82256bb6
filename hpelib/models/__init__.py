"""The networks by name. A network's file is imported when `create_model` asks for it, not before."""

import inspect
from difflib import get_close_matches
from importlib import import_module

from torch import nn

from hpelib.models.weights import imagenet_weights, load_matching, load_weights, trunk_entries
from hpelib.records import presets

__all__ = ["create_model", "list_models", "load_weights"]


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return list(presets())


def create_model(name: str, num_keypoints: int = 17, pretrained: bool | str = False, **options) -> nn.Module:
    """The network `name`, in training mode.

    `options` are those of the network's class (its docstring explains them); without any it is the paper's full model.
    `pretrained=True` starts the whole trunk from timm's ImageNet weights. A path starts the entries that fit from that
    file.

    Raises:
        ValueError: an unknown name or option; no ImageNet weights exist for this network; or the options give the
            trunk entries that the ImageNet weights do not have.
        OSError: the ImageNet weights cannot be fetched.
    """
    known_names = presets()
    if name not in known_names:
        near = get_close_matches(name, known_names, cutoff=0.4) or known_names
        raise ValueError(f"unknown network {name!r}; did you mean {', '.join(near)}?")
    record = known_names[name]
    preset = record.presets[name]
    cls = getattr(import_module(f"{__name__}.{record.name}"), record.cls)
    known = [option for option in inspect.signature(cls).parameters if option != "num_keypoints"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    chosen = dict(preset.options) | options
    model = cls(num_keypoints=num_keypoints, **chosen)
    if pretrained is True:
        imagenet = preset.imagenet if isinstance(preset.imagenet, str | None) else preset.imagenet[chosen["backbone"]]
        if imagenet is None:
            raise ValueError(f"there are no ImageNet weights for {name}; it is trained from its random start")
        _start_trunk(model, imagenet, f"{name} with options {options}")
    elif pretrained:
        load_matching(model, pretrained)
    return model


def _start_trunk(model: nn.Module, imagenet: str, described: str) -> None:
    source = imagenet_weights(imagenet)
    trunk, left = trunk_entries(model, source), set(load_matching(model, source))
    missing = [entry for entry in trunk if entry in left]
    if missing:
        raise ValueError(
            f"{imagenet} lacks {len(missing)} of the {len(trunk)} entries in the trunk of {described}, such as "
            f"{missing[0]}; leave the trunk's options alone, or train with pretrained=False"
        )
