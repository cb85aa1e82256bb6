"""Annotated persons, and batches of them."""

from hpelib.data.coco import read_coco, read_detections
from hpelib.data.files import check_images
from hpelib.data.loader import make_loader
from hpelib.data.lsp import read_lsp, read_lspet
from hpelib.data.mpii import read_mpii
from hpelib.data.people import People

__all__ = [
    "People",
    "check_images",
    "make_loader",
    "read_coco",
    "read_detections",
    "read_lsp",
    "read_lspet",
    "read_mpii",
]
