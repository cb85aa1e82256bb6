"""What a stranger's data set can hold: each case is read as it should be, left out and counted, or named."""

import io
import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hpelib.data.coco import check_coco, read_coco, write_coco
from hpelib.data.crops import read_image
from hpelib.data.files import check_images
from hpelib.data.loader import InputSettings, make_loader
from hpelib.data.mpii import read_mpii
from hpelib.data.splits import read_groups
from hpelib.metrics.coco import load_truth

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def save(path: Path, mode: str = "RGB", **options) -> None:
    Image.fromarray(PIXELS).convert(mode).save(path, **options)


def person(number: int, **changes) -> dict:
    keypoints = np.tile([20, 10, 2], 17).tolist()
    return {"id": number, "image_id": 1, "bbox": [10, 5, 30, 40], "area": 700, "keypoints": keypoints} | changes


def write_set(folder: Path, persons: list[dict], name: str = "a.png", **image) -> Path:
    path = folder / "persons.json"
    write_coco(path, [{"id": 1, "file_name": name, "width": 64, "height": 48} | image], persons)
    return path


def test_persons_left_out_are_counted_by_reason(tmp_path):
    save(tmp_path / "a.png")
    unlabelled = {"keypoints": [0] * 51}
    persons = [person(1), person(2, iscrowd=1), person(3, **unlabelled), person(4, area=0), person(5, area=0)]
    persons += [person(6, bbox=[10, 5, 0, 0]), person(7, iscrowd=1, area=0), person(8, area=0, **unlabelled)]
    people = read_coco(write_set(tmp_path, persons), tmp_path)
    assert people.ids.tolist() == [1]
    assert people.left_out == {
        "crowds": 2,
        "persons without a labelled keypoint": 2,
        "labelled persons without an area": 2,
        "labelled persons without a box": 1,
    }


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "person"}], "must list the 17.*got None; take person_keypoints"),
        ([{"id": 1, "name": "person", "keypoints": 17}], "must list the 17.*got 17"),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "no category 'person', .* among cat, dog"),
        ([{"id": 1}], "categories: record 0 has no field 'name'"),
        ([], "no category 'person'"),
    ],
    ids=["no keypoints", "a count", "no person", "no name", "none"],
)
def test_categories_without_the_keypoints_are_named(tmp_path, categories, message):
    path = write_set(tmp_path, [person(1)])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": categories}))
    with pytest.raises(ValueError, match=rf"persons\.json: .*{message}"):
        read_coco(path, tmp_path)


def test_a_category_without_an_id_is_named(tmp_path):
    path = write_set(tmp_path, [person(1)])
    document = json.loads(path.read_text())
    del document["categories"][0]["id"]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"categories: record 0 has no field 'id'"):
        read_coco(path, tmp_path)


def test_json_nested_without_end_is_named(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"deep\.json: not valid JSON"):
        read_coco(tmp_path / "deep.json", tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "..\\secret.jpg"])
def test_no_format_reads_outside_its_image_folder(tmp_path, name):
    save(tmp_path / "secret.jpg")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"persons\.json: image name .* inside the image folder"):
        read_coco(write_set(tmp_path, [person(1)], name), tmp_path / "images")
    joints = {"joints": [[5, 5]] * 16, "joints_vis": [1] * 16, "center": [9, 9], "scale": 1}
    (tmp_path / "mpii.json").write_text(json.dumps([joints | {"image": name}]))
    with pytest.raises(ValueError, match=r"mpii\.json: image name .* inside the image folder"):
        read_mpii(tmp_path / "mpii.json", tmp_path / "images")


@pytest.mark.parametrize("name", ["ünïcode 日本.png", "with space.png", "🙂.png"])
def test_any_name_is_read_to_the_pixel(tmp_path, name):
    save(tmp_path / name)
    people = read_coco(write_set(tmp_path, [person(1)], name), tmp_path)
    check_images(people)
    np.testing.assert_array_equal(read_image(people.image_paths[0]), PIXELS)


def test_16_bit_keeps_the_upper_byte(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS[..., ::-1].astype(np.uint16) * 256 + 77)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)


def test_cmyk_and_grey_have_the_colours_that_pillow_sees(tmp_path):
    for mode in ("CMYK", "L"):
        path = tmp_path / f"{mode}.jpg"
        save(path, mode, quality=95)
        expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert np.abs(read_image(path) - expected).mean() < 2, mode


def test_an_image_turned_by_exif_is_read_as_stored_and_its_annotated_size_checked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == PIXELS.shape
    path = write_set(tmp_path, [person(1)], "a.jpg")
    check_coco(path, read_coco(path, tmp_path), "own test")
    turned = write_set(tmp_path, [person(1)], "a.jpg", width=48, height=64)
    with pytest.raises(ValueError, match=r"persons\.json: 1 images .*a\.jpg \(64, 48\) for \(48, 64\)"):
        check_coco(turned, read_coco(turned, tmp_path), "own test")


@pytest.mark.parametrize("width", [20_000, 40_000])
def test_a_person_at_the_far_end_of_a_wide_panorama_is_cut_out(tmp_path, width):
    panorama = np.zeros((48, width, 3), np.uint8)
    panorama[:, -64:] = PIXELS
    Image.fromarray(panorama).save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    crops = []
    for name, start in (("a.png", width - 64), ("b.png", 0)):
        keypoints = np.tile([start + 20, 10, 2], 17).tolist()
        path = write_set(tmp_path, [person(1, bbox=[start + 20, 10, 20, 20], keypoints=keypoints)], name, width=width)
        settings = InputSettings("msra", (32, 32), (8, 8), batch_size=1)
        crops.append(next(iter(make_loader(read_coco(path, tmp_path), settings, train=False)))["images"])
    np.testing.assert_allclose(*crops, atol=0.05)


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


UNUSABLE = {
    "empty.jpg": b"",
    "text.jpg": b"no image" * 20,
    "zero_width.png": png(0, 48),
    "zero_height.png": png(64, 0),
    "bomb.png": png(70_000, 70_000),
} | {f"cut.{kind}": encoded(kind)[: len(encoded(kind)) // 2] for kind in ("png", "bmp", "tiff", "webp")}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_whole_image_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(UNUSABLE[name])
    people = read_coco(write_set(tmp_path, [person(1)], name), tmp_path)
    with pytest.raises(ValueError, match=rf"1 of 1 images cannot be used: \S*{name}"):
        check_images(people)
    with pytest.raises(ValueError, match=rf"image \S*{name} "):
        read_image(tmp_path / name)


def test_a_truncated_jpeg_is_found_though_opencv_fills_it_with_grey(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encoded("jpeg")[:-300])
    assert read_image(tmp_path / "cut.jpg").shape == PIXELS.shape
    with pytest.raises(ValueError, match=r"cut\.jpg \(truncated\)"):
        check_images(read_coco(write_set(tmp_path, [person(1)], "cut.jpg"), tmp_path))


@pytest.mark.parametrize("value", [None, 3, "text", [None], [3]])
@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_lists_that_hold_something_else_are_named_by_reader_and_scorer(tmp_path, section, value):
    save(tmp_path / "a.png")
    path = write_set(tmp_path, [person(1)])
    path.write_text(json.dumps(json.loads(path.read_text()) | {section: value}))
    for read in (lambda: read_coco(path, tmp_path), lambda: load_truth(path)):
        with pytest.raises(ValueError, match=rf"persons\.json: .*{section}"):
            read()


@pytest.mark.parametrize("value", [None, 3, [1], "text"])
def test_values_of_another_kind_are_named_with_their_record(tmp_path, value):
    save(tmp_path / "a.png")
    joints = {"image": "a.png", "joints": [[5, 5]] * 16, "joints_vis": [1] * 16, "center": [9, 9], "scale": 1}
    for field in ("id", "image_id", "bbox", "area", "keypoints", "iscrowd", "category_id", "factors"):
        if not (value == 3 and field not in ("bbox", "keypoints", "iscrowd", "factors")):
            with pytest.raises(ValueError, match=rf"persons\.json: .*{field}"):
                read_coco(write_set(tmp_path, [person(1), person(2) | {field: value}]), tmp_path)
    for entry in (value, joints | {"factors": value}, joints | {"scale": "text"}, joints | {"image": None}):
        (tmp_path / "mpii.json").write_text(json.dumps([joints, entry]))
        with pytest.raises(ValueError, match=r"mpii\.json: record 1"):
            read_mpii(tmp_path / "mpii.json", tmp_path)


def test_an_empty_table_of_groups_is_named(tmp_path):
    (tmp_path / "groups.csv").touch()
    with pytest.raises(ValueError, match=r"groups\.csv: not readable as a table"):
        read_groups(tmp_path / "groups.csv", np.arange(3))
