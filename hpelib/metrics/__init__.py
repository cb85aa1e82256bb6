"""The figures by which networks are compared."""

from hpelib.metrics.accuracy import pck, pckh
from hpelib.metrics.coco import coco_ap, oks_nms
from hpelib.metrics.cost import complexity

__all__ = ["coco_ap", "complexity", "oks_nms", "pck", "pckh"]
