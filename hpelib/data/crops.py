"""From an annotated person to the region of the image that the network sees.

One rule for every data set, as in the official HRNet and SimpleBaseline code: the short side of the person's box
grows to the input's aspect, then both sides grow by 1.25; `Codec.crop_matrix` maps that region to the crop.
"""

from pathlib import Path

import cv2
import numpy as np

PADDING = 1.25


def crop_regions(
    centers: np.ndarray, sizes_px: np.ndarray, input_size: tuple[int, int], padding: float = PADDING
) -> np.ndarray:
    """Sizes (N, 2) float64 in image px of the padded regions of the input's aspect about `centers` (N, 2).

    `sizes_px` (N, 2) are the persons' boxes, (width, height). Raises ValueError, naming the first bad row, where a
    centre or size is not finite or a person has no extent.
    """
    centers, sizes_px = np.asarray(centers, np.float64), np.asarray(sizes_px, np.float64)
    good = np.isfinite(centers).all(-1) & np.isfinite(sizes_px).all(-1) & (sizes_px.max(-1) > 0)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(f"person {row} has no region: centre {centers[row]}, size {sizes_px[row]} px")
    aspect = input_size[0] / input_size[1]
    width, height = sizes_px[:, 0], sizes_px[:, 1]
    return padding * np.stack((np.maximum(width, aspect * height), np.maximum(height, width / aspect)), -1)


def to_crop(keypoints: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Keypoints (N, K, 2) of the image in crop px, float32; `matrices` (N, 2, 3) as from `Codec.crop_matrix`."""
    linear, offset = matrices[:, :, :2], matrices[:, None, :, 2]
    return (keypoints @ linear.swapaxes(1, 2) + offset).astype(np.float32)


def to_image(keypoints: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Keypoints (N, K, 2) of the crop in image px, float32: the inverse of `to_crop`."""
    linear, offset = matrices[:, :, :2], matrices[:, None, :, 2]
    return ((keypoints - offset) @ np.linalg.inv(linear).swapaxes(1, 2)).astype(np.float32)


def read_image(path: str | Path) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB, also from grey, 16-bit or CMYK files; the EXIF orientation is ignored.

    COCO and MPII annotate pixels as stored, hence no rotation. Raises FileNotFoundError, or ValueError naming the
    file if it is empty or no readable image; truncated JPEGs, whose lost part OpenCV fills with grey, are what
    `check_images` finds.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image {path}: check the image folder that was given to the reader")
    if not path.stat().st_size:
        raise ValueError(f"image {path} is empty (0 bytes): fetch it again")
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"image {path} cannot be decoded ({error.err}): make it smaller than 2^30 px") from error
    if image is None:
        raise ValueError(f"image {path} cannot be decoded: fetch it again or convert it to JPEG or PNG")
    return image


def warp(image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """Crop (h, w, 3) of `image`, bilinear, black beyond its border; `matrix` (2, 3) maps image px to crop px."""
    return cv2.warpAffine(image, matrix, input_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
