"""From an annotated person to the region of the image that the network sees.

One rule holds for every data set, as in the official HRNet and SimpleBaseline code. The short side of the person's box
grows until the box has the aspect of the network's input; then both sides grow by 1.25. `crop_matrix` maps that region
to the crop. Nothing here needs torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from hpelib.data.people import People

if TYPE_CHECKING:
    from hpelib.data.loader import InputSettings

PADDING = 1.25
SHARP_PX = 256  # the short side of a crop in a `Picture`, at least
MARGIN = 0.1  # what a `Picture` shows on each side of the crop, in widths of the crop


@dataclass(frozen=True)
class Picture:
    """A person for readers: the region of a crop at a resolution at which joints can be told, and some of its margin.

    Whatever is drawn over it is in crop px, as over the crop itself.
    """

    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    zoom: int  # picture px per crop px
    margin_px: int  # crop px on each side

    @property
    def crop_size(self) -> tuple[int, int]:
        """(width, height) of the crop, px."""
        height, width = self.pixels.shape[:2]
        return width // self.zoom - 2 * self.margin_px, height // self.zoom - 2 * self.margin_px

    @property
    def aspect(self) -> float:
        """Height over width."""
        return self.pixels.shape[0] / self.pixels.shape[1]

    def hidden(self, mask: np.ndarray, grey: int) -> "Picture":
        """The picture with grey where `mask` (H, W), of the crop, is true."""
        width, height = self.crop_size
        fine = np.broadcast_to(mask, (height, width)).repeat(self.zoom, 0).repeat(self.zoom, 1)
        fine = np.pad(fine, self.zoom * self.margin_px)
        return replace(self, pixels=np.where(fine[..., None], np.uint8(grey), self.pixels))


@dataclass(frozen=True)
class Crop:
    """One person as a network sees them, without augmentation."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    keypoints: np.ndarray  # (K, 2) float32 crop px, NaN where not labelled
    visibility: np.ndarray  # (K,) uint8
    matrix: np.ndarray  # (2, 3) float64, image px to crop px
    picture: Picture  # the same person for readers


def crop_person(people: People, person: int, settings: "InputSettings") -> Crop:
    """The crop of the person at position `person` of `people`: what the network is fed in a test.

    Example: `crop_person(people, 3, run.inputs).pixels` is the picture of the fourth person.

    Raises:
        FileNotFoundError, ValueError: the image is missing or cannot be decoded.
    """
    center, size_px = people.centers[[person]].astype(np.float64), people.sizes_px[[person]]
    region_px = crop_regions(center, size_px, settings.input_size)
    (matrix,) = crop_matrix(center, region_px, settings.input_size, udp=settings.codec == "udp")
    image = read_image(people.image_paths[person])
    return Crop(
        pixels=warp(image, matrix, settings.input_size),
        keypoints=to_crop(people.keypoints[person], matrix),
        visibility=people.visibility[person],
        matrix=matrix,
        picture=_picture(image, matrix, settings.input_size),
    )


def _picture(image: np.ndarray, matrix: np.ndarray, crop_size: tuple[int, int]) -> Picture:
    zoom, margin_px = -(-SHARP_PX // min(crop_size)), round(MARGIN * crop_size[0])
    fine = zoom * matrix
    fine[:, 2] += zoom * (margin_px + 0.5) - 0.5  # pixel centres are at integers
    size = tuple(zoom * (side + 2 * margin_px) for side in crop_size)
    return Picture(cv2.warpAffine(image, fine, size, flags=cv2.INTER_CUBIC), zoom, margin_px)


def crop_regions(
    centers: np.ndarray, sizes_px: np.ndarray, input_size: tuple[int, int], padding: float = PADDING
) -> np.ndarray:
    """Width and height of the padded regions with the aspect of the input, (N, 2) float64 image px.

    Shapes: centers (N, 2) and sizes_px (N, 2), the persons' boxes as (width, height), both in image px.

    Raises:
        ValueError: a centre or a size is not finite, or a person has no extent. The message names the first such row.
    """
    centers, sizes_px = np.asarray(centers, np.float64), np.asarray(sizes_px, np.float64)
    good = np.isfinite(centers).all(-1) & np.isfinite(sizes_px).all(-1) & (sizes_px.max(-1) > 0)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(f"person {row} has no region: centre {centers[row]}, size {sizes_px[row]} px")
    aspect = input_size[0] / input_size[1]
    width, height = sizes_px[:, 0], sizes_px[:, 1]
    return padding * np.stack((np.maximum(width, aspect * height), np.maximum(height, width / aspect)), -1)


def crop_matrix(
    center: np.ndarray,
    size_px: np.ndarray,
    input_size: tuple[int, int],
    rotation_deg: float | np.ndarray = 0.0,
    udp: bool = False,
) -> np.ndarray:
    """Affine map from image px to crop px, float64 (2, 3), or (N, 2, 3) for N regions.

    `center` and `size_px`, (2,) or (N, 2), describe the padded region in image px; the region has the input's aspect.
    A positive `rotation_deg` turns the region clockwise on the screen about its centre, so that the content of the crop
    turns counter-clockwise.

    The map equals `get_affine_transform` of the official HRNet code. With `udp` lengths are measured between pixel
    centres (w - 1 in place of w), as in section 4 of Huang et al. (CVPR 2020). The official UDP code turns the other
    way; here an angle means the same for every codec.

    Raises:
        ValueError: a centre or a size is not finite, or a size is not positive.
    """
    center, size_px = np.asarray(center, np.float64), np.asarray(size_px, np.float64)
    if not (np.isfinite(center).all() and np.isfinite(size_px).all() and (size_px > 0).all()):
        raise ValueError(f"need finite centres and positive sizes, got centre {center} and size {size_px} px")
    lengths = np.array(input_size, np.float64) - udp
    scale = lengths / size_px if udp else (lengths[0] / size_px[..., :1]).repeat(2, -1)
    cos, sin = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    rotation = np.stack((np.stack((cos, sin), -1), np.stack((-sin, cos), -1)), -2)  # (..., 2, 2)
    linear = scale[..., :, None] * rotation
    offset = lengths / 2 - (linear @ center[..., None])[..., 0]
    linear = np.broadcast_to(linear, (*offset.shape, 2))
    return np.concatenate((linear, offset[..., None]), -1)


def to_crop(keypoints: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Keypoints of the image in crop px, float32.

    Shapes: keypoints (..., K, 2) image px, matrices (..., 2, 3) as from `crop_matrix` -> (..., K, 2).
    """
    linear, offset = matrices[..., :2], matrices[..., None, :, 2]
    return (keypoints @ linear.swapaxes(-1, -2) + offset).astype(np.float32)


def to_image(keypoints: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Keypoints of the crop in image px, float32: the inverse of `to_crop`, with the same shapes."""
    linear, offset = matrices[..., :2], matrices[..., None, :, 2]
    return ((keypoints - offset) @ np.linalg.inv(linear).swapaxes(-1, -2)).astype(np.float32)


def read_image(path: str | Path) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB; grey, 16-bit and CMYK files are converted.

    Pixels are read as they are stored, whatever an EXIF tag says about turning them: COCO and MPII annotate stored
    pixels. OpenCV fills the lost part of a truncated JPEG with grey; `check_images` finds such files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, or no image that can be decoded.
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
