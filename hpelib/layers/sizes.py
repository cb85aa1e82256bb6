"""The one check that every network makes on its input."""

from torch import Tensor


def require_multiple(images: Tensor, multiple: int) -> None:
    """Raise ValueError, naming a size that works, unless both sides of `images` are multiples of `multiple` px."""
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        fitting = [max(1, round(side / multiple)) * multiple for side in (width, height)]
        raise ValueError(
            f"images are {width}x{height} px (width x height), but both sides must be multiples of {multiple}; "
            f"try {fitting[0]}x{fitting[1]}"
        )
