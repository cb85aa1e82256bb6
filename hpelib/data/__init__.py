"""Annotated persons and batches of them. Names are imported from their files when first asked for."""

from importlib import import_module

_HOMES = {
    "People": "people",
    "check_images": "files",
    "make_loader": "loader",
    "read_coco": "coco",
    "read_detections": "coco",
    "read_lsp": "lsp",
    "read_lspet": "lsp",
    "read_mpii": "mpii",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(_HOMES)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
