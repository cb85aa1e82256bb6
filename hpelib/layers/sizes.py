"""The check that every network makes on the size of its images."""

from torch import Tensor


def require_multiple(images: Tensor, multiple: int) -> None:
    """Check that height and width of `images` (N, 3, H, W) are multiples of `multiple` px.

    Raises:
        ValueError: they are not. The message gives a size that works.
    """
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        fitting = [max(1, round(side / multiple)) * multiple for side in (width, height)]
        raise ValueError(
            f"images are {width}x{height} px (width x height), but both sides must be multiples of {multiple}; "
            f"try {fitting[0]}x{fitting[1]}"
        )
