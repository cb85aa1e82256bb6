"""Regions, the affine maps, reading of awkward image files."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from hpelib.codecs import CODECS, make_codec
from hpelib.data.crops import crop_person, crop_regions, read_image, to_crop, to_image, warp
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, InputSettings, make_loader


def official_region(width, height, aspect):
    """Box to scale as in HRNet's `_xywh2cs`, in px."""
    if width > aspect * height:
        height = width / aspect
    elif width < aspect * height:
        width = height * aspect
    return width * 1.25, height * 1.25


@pytest.mark.parametrize("input_size", [(192, 256), (64, 64), (256, 128)])
def test_regions_equal_the_official_rule(input_size):
    sizes_px = np.random.default_rng(0).uniform(10, 300, (50, 2))
    regions = crop_regions(np.zeros((50, 2)), sizes_px, input_size)
    expected = [official_region(*size_px, input_size[0] / input_size[1]) for size_px in sizes_px]
    np.testing.assert_allclose(regions, expected)


@pytest.mark.parametrize(("center", "size_px"), [((np.nan, 1), (10, 10)), ((1, 1), (0, 0)), ((1, 1), (np.inf, 1))])
def test_persons_without_region_are_named(center, size_px):
    with pytest.raises(ValueError, match="person 1"):
        crop_regions([(1, 1), center], [(10, 10), size_px], (64, 64))


@pytest.mark.parametrize("name", CODECS)
def test_to_image_undoes_to_crop(name):
    random = np.random.default_rng(0)
    keypoints = random.uniform(0, 500, (5, 14, 2)).astype(np.float32)
    keypoints[0, 0] = np.nan
    codec = make_codec(name, (96, 128), (24, 32))
    matrices = codec.crop_matrix(random.uniform(100, 400, (5, 2)), (150, 200), random.uniform(-90, 90, 5))
    in_crop = to_crop(keypoints, matrices)
    np.testing.assert_allclose(in_crop[1, 2], matrices[1] @ [*keypoints[1, 2], 1], rtol=1e-5)
    np.testing.assert_allclose(to_image(in_crop, matrices), keypoints, atol=1e-3)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("rotation_deg", [0, 37, -120])
def test_keypoints_land_on_what_is_drawn(name, rotation_deg):
    keypoints = np.array([[[60, 80], [130, 70], [90, 150], [120, 120]]], np.float32)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    image = np.zeros((240, 200, 3), np.uint8)
    for point, colour in zip(keypoints[0].astype(int).tolist(), colours, strict=True):
        cv2.circle(image, point, 4, colour, -1)
    matrix = make_codec(name, (192, 256), (48, 64)).crop_matrix((100, 110), (150, 200), rotation_deg)
    crop = warp(image, matrix, (192, 256))
    assert crop.shape == (256, 192, 3)
    for (x, y), colour in zip(to_crop(keypoints, matrix[None])[0], colours, strict=True):
        np.testing.assert_allclose(crop[round(y), round(x)], colour, atol=2)
        owner = np.argwhere((crop == colour).all(-1)).mean(0)  # the dot's centre of mass, y and x
        np.testing.assert_allclose(owner, (y, x), atol=0.35)


def test_warping_is_bilinear():
    ramp = np.repeat(np.arange(0, 200, 20, np.uint8)[:, None], 3, 1)[None].repeat(10, 0)  # 20 per px to the right
    crop = warp(ramp, np.array([[1, 0, 0.25], [0, 1, 0]]), (10, 10))
    np.testing.assert_allclose(crop[:, 1:].astype(int), ramp[:, 1:].astype(int) - 5, atol=1)


def test_beyond_the_image_is_black():
    matrix = make_codec("msra", (32, 32), (8, 8)).crop_matrix((0, 0), (32, 32), 0)
    crop = warp(np.full((50, 50, 3), 255, np.uint8), matrix, (32, 32))
    assert not crop[:16].any()
    assert not crop[:, :16].any()
    assert (crop[16:, 16:] == 255).all()


def test_images_are_read_as_rgb(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), image)


def test_orientation_tags_are_ignored(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees for display
    Image.new("RGB", (20, 10), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(str(tmp_path / "turned.jpg")).shape == (10, 20, 3)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("I;16", "png"), ("RGBA", "png"), ("CMYK", "jpg")])
def test_other_pixel_formats_become_8_bit_rgb(tmp_path, mode, suffix):
    from PIL import Image

    path = tmp_path / f"image.{suffix}"
    Image.new(mode, (20, 10)).save(path)
    image = read_image(path)
    assert image.shape == (10, 20, 3)
    assert image.dtype == np.uint8


def test_unreadable_images_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        read_image(tmp_path / "missing.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"empty\.jpg is empty"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be decoded"):
        read_image(tmp_path / "broken.jpg")


@pytest.mark.parametrize("codec", CODECS)
def test_one_person_is_cropped_as_for_the_network(bright_spots, codec):
    people = bright_spots(3, 150)
    settings = InputSettings(codec=codec, input_size=(96, 128), heatmap_size=(24, 32), batch_size=3)
    (batch,) = make_loader(people, settings, train=False)
    crop = crop_person(people, 1, settings)
    pixels = torch.from_numpy(crop.pixels).permute(2, 0, 1) / 255  # (3, H, W)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close((pixels - mean) / std, batch["images"][1], rtol=0, atol=1e-5)
    for found, of_batch in ((crop.keypoints, "keypoints"), (crop.visibility, "visible"), (crop.matrix, "matrices")):
        np.testing.assert_array_equal(found, batch[of_batch][1])
    x, y = crop.keypoints[0].round().astype(int)
    assert crop.pixels[y, x].min() > 100, "the keypoint lies on its spot"


def test_crops_and_formats_need_no_torch():
    check = "import sys, hpelib.formats, hpelib.data.crops, hpelib.data.loader; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
