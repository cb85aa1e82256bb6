"""The figures by which networks are compared. Each name is imported from its file when first asked for."""

import sys
from importlib import import_module
from types import ModuleType

_FILES = {"coco_ap": "coco", "oks_nms": "coco", "pckh": "pck", "pck": "pck", "complexity": "complexity"}
__all__ = sorted(_FILES)


def __getattr__(name: str):
    if name not in _FILES:
        raise AttributeError(f"hpelib.metrics has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"hpelib.metrics.{_FILES[name]}"), name)


class _Face(ModuleType):
    """Keeps `hpelib.metrics.pck` the function: importing a file would else bind its module to the same name."""

    def __setattr__(self, name, value):
        if name not in _FILES:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
