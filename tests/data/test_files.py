import io
import logging
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hpelib.data.crops import read_image
from hpelib.data.files import (
    check_coordinates,
    check_images,
    column,
    find_images,
    read_json,
    read_mat,
    write_json,
    write_mat,
)
from hpelib.data.people import People
from hpelib.skeletons import LSP14


def people_in(paths) -> People:
    n = len(paths)
    return People(
        LSP14,
        image_paths=np.array([str(path) for path in paths], dtype=object),
        image_ids=np.arange(n),
        ids=np.arange(n),
        keypoints=np.zeros((n, 14, 2)),
        visibility=np.ones((n, 14)),
        boxes=np.tile([0, 0, 9, 9], (n, 1)),
    )


def encoded(extension: str, settings: Sequence[int] = ()) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return cv2.imencode(extension, noise, settings)[1].tobytes()


def test_broken_json_is_named(tmp_path):
    path = tmp_path / "annotations.json"
    with pytest.raises(FileNotFoundError, match=r"annotations\.json"):
        read_json(path)
    path.write_text('[{"id": 1}, {"id"')
    with pytest.raises(ValueError, match=r"annotations\.json: not valid JSON.*incomplete"):
        read_json(path)


def test_equal_arrays_give_equal_matlab_files_at_any_time(tmp_path, monkeypatch):
    arrays = {"joints": np.random.default_rng(0).random((3, 14, 5))}
    written = []
    for when in ("Mon Jan  1 00:00:00 2001", "Tue Feb  2 11:11:11 2022"):
        monkeypatch.setattr("time.asctime", lambda *_, when=when: when)
        write_mat(tmp_path / "a.mat", arrays)
        written.append((tmp_path / "a.mat").read_bytes())
        np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "joints")[0], arrays["joints"])
    assert written[0] == written[1]


def test_json_takes_numpy_and_refuses_nan(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"x": np.arange(2), "y": np.float32(0.5)})
    assert read_json(tmp_path / "new" / "a.json") == {"x": [0, 1], "y": 0.5}
    with pytest.raises(ValueError, match=r"a\.json: NaN"):
        write_json(tmp_path / "a.json", [np.nan])


def test_broken_mat_is_named(tmp_path):
    path = tmp_path / "joints.mat"
    path.write_bytes(b"not a mat file" * 20)
    with pytest.raises(ValueError, match=r"joints\.mat: not readable as a Matlab file"):
        read_mat(path, "joints")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], r"record 1 \(id 8\): 'bbox' must be finite numbers of shape \(3,\), got \[1, 2\]"),
        ([1, 2, float("nan")], "record 1.*finite"),
        ([1, 2, float("inf")], "record 1.*finite"),
        ([1, 2, None], "record 1.*finite"),
        ([1, [2], 3], "record 1.*finite"),
        ("abc", "record 1.*finite"),
    ],
    ids=str,
)
def test_column_names_the_first_wrong_record(value, message):
    records = [{"id": 7, "bbox": [1, 2, 3]}, {"id": 8, "bbox": value}]
    with pytest.raises(ValueError, match="a.json: " + message):
        column(records, "bbox", "a.json", (3,))


def test_column_whole_numbers_and_absent_fields():
    assert column([{"id": 1}, {"id": 2.0}], "id", "a.json", dtype=np.int64).dtype == np.int64
    with pytest.raises(ValueError, match=r"whole numbers.*2\.5"):
        column([{"id": 2.5}], "id", "a.json", dtype=np.int64)
    with pytest.raises(ValueError, match=r"record 1.*no field 'id'"):
        column([{"id": 1}, {}], "id", "a.json")
    with pytest.raises(ValueError, match=r"record 0.*whole numbers"):
        column([{"id": 2**63}, {"id": -1}], "id", "a.json", dtype=np.int64)
    with pytest.raises(ValueError, match=r"record 1 has no field 'id', got \[3\]"):
        column([{"id": 1}, [3]], "id", "a.json")
    assert column([], "bbox", "a.json", (4,)).shape == (0, 4)


def test_images_are_found_in_subfolders_and_under_any_name(tmp_path):
    names = ["hände.jpg", "sub/b.png", "hände.jpg"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).touch()
    paths = find_images(tmp_path, names, "a.json")
    assert paths.tolist() == [str(tmp_path / name) for name in names]


def test_missing_images_are_counted_and_named(tmp_path):
    (tmp_path / "0.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"9 of the 10 images that a\.json names.*: 1\.jpg, .*5\.jpg, \.\.\.;"):
        find_images(tmp_path, [f"{i}.jpg" for i in range(10)], "a.json")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_images(tmp_path / "nowhere", ["0.jpg"], "a.json")


@pytest.mark.parametrize("name", ["/etc/a.jpg", "../a.jpg", "b/../../a.jpg", "C:\\a.jpg", "..\\a.jpg"])
def test_names_must_stay_in_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match=r"a\.json: image name .* inside the image folder"):
        find_images(tmp_path, [name], "a.json")


def test_check_images_accepts_whole_ones(tmp_path):
    thumbnail = encoded(".jpg")
    whole = {
        "a.jpg": encoded(".jpg"),
        "b.png": encoded(".png"),
        "trailing.jpg": encoded(".jpg") + b"\0" * 50,
        "motion.jpg": encoded(".jpg") + b"a film \xff\xd9 of a second \xff\xda",
        "padded.jpg": encoded(".jpg")[:2] + b"\xff\xff" + encoded(".jpg")[2:],
        "progressive.jpg": encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "restarts.jpg": encoded(".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        "trailing.png": encoded(".png") + b"\0" * 100,
        "thumbnail.jpg": encoded(".jpg")[:2] + app1(thumbnail) + encoded(".jpg")[2:],
    }
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    check_images(people_in(sorted(tmp_path.iterdir())))


def app1(payload: bytes) -> bytes:
    return b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "empty file"),
        (b"\0" * 100, "not an image"),
        (encoded(".jpg")[:-200], "truncated"),
        (encoded(".jpg")[:2] + app1(encoded(".jpg")) + encoded(".jpg")[2:-200], "truncated"),
        (encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[:-200], "truncated"),
        (encoded(".jpg")[:30], "truncated"),
        (encoded(".png")[:-200], "truncated"),
        (encoded(".png")[:-6], "not an image"),  # to OpenCV, which wants its last sum
        (None, "missing"),
    ],
    ids=["empty", "zeros", "jpeg", "with thumbnail", "progressive", "header", "png", "end of png", "missing"],
)
def test_check_images_names_the_bad_ones(tmp_path, data, fault):
    (tmp_path / "good.jpg").write_bytes(encoded(".jpg"))
    if data is not None:
        (tmp_path / "bad.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=rf"1 of 2 images cannot be used: \S*bad\.jpg \({fault}\)"):
        check_images(people_in([tmp_path / "good.jpg", tmp_path / "bad.jpg"]))


STRAY = b"\x12\xff\x12\x34\xff\xd3\x56" * 100  # with bytes that look like markers


@pytest.mark.parametrize("settings", [[], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]], ids=["plain", "restarts"])
def test_sound_jpegs_with_extraneous_bytes_before_their_end_are_accepted(tmp_path, settings):
    whole = encoded(".jpg", settings)
    (tmp_path / "a.jpg").write_bytes(whole[:-2] + STRAY + whole[-2:])
    (tmp_path / "whole.jpg").write_bytes(whole)
    with pytest.raises(OSError, match="image"), Image.open(tmp_path / "a.jpg") as image:
        image.load()
    hashes = check_images(people_in([tmp_path / "a.jpg", tmp_path / "whole.jpg"]))
    assert len(set(hashes.values())) == 1, "no pixel is lost"


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "with an end"])
def test_extraneous_bytes_do_not_hide_that_pixels_are_lost(tmp_path, end):
    (tmp_path / "a.jpg").write_bytes(encoded(".jpg")[:-300] + STRAY + end)
    with pytest.raises(ValueError, match=r"a\.jpg \(truncated\)"):
        check_images(people_in([tmp_path / "a.jpg"]))


@pytest.mark.parametrize("scans", range(1, 10))
def test_a_progressive_jpeg_that_is_cut_between_scans_is_truncated(tmp_path, scans):
    """Its pixels are all there, but coarse: libjpeg's ten scans make them finer one by one."""
    whole = encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    starts = [position for position in range(len(whole)) if whole[position : position + 2] == b"\xff\xda"]
    assert len(starts) == 10
    header = 2 + int.from_bytes(whole[starts[scans - 1] + 2 : starts[scans - 1] + 4])
    end = next(at for at in range(starts[scans - 1] + header, len(whole)) if whole[at] == 0xFF and whole[at + 1])
    (tmp_path / "cut.jpg").write_bytes(whole[:end])
    with pytest.raises(ValueError, match=r"cut\.jpg \(truncated\)"):
        check_images(people_in([tmp_path / "cut.jpg"]))


def save_turned(path, orientation) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_images_with_an_exif_orientation_are_read_as_stored_and_named(tmp_path, caplog, orientation, suffix):
    for name, tag in (("turned", orientation), ("upright", 1)):
        save_turned(tmp_path / f"{name}.{suffix}", tag)
    paths = [tmp_path / f"{name}.{suffix}" for name in ("turned", "upright")]
    with caplog.at_level(logging.WARNING):
        hashes = check_images(people_in(paths))
    assert len(set(hashes.values())) == 1
    (message,) = caplog.messages
    assert "1 of 2 images have an EXIF orientation" in message
    assert f"turned.{suffix} ({orientation})" in message


@pytest.mark.parametrize("orientation", [2, 6])
def test_a_tiff_with_an_orientation_is_refused_for_opencv_turns_only_some(tmp_path, orientation):
    save_turned(tmp_path / "a.tif", orientation)
    with pytest.raises(ValueError, match=r"a\.tif \(a TIFF with an orientation tag: save it upright\)"):
        check_images(people_in([tmp_path / "a.tif"]))


def test_images_of_equal_pixels_have_one_hash(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(".jpg"))
    cv2.imwrite(str(tmp_path / "copy.png"), read_image(tmp_path / "a.jpg")[..., ::-1])
    cv2.imwrite(str(tmp_path / "other.png"), read_image(tmp_path / "a.jpg")[:, ::-1, ::-1])
    first, copy, other = check_images(people_in(sorted(tmp_path.iterdir()))).values()
    assert first == copy != other


@pytest.fixture
def plausible(tmp_path) -> People:
    """Eight persons of 20 x 40 px in the right half of a picture of 200 x 100 px."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 200, 3), np.uint8))
    random = np.random.default_rng(0)
    starts = random.uniform((105, 5), (170, 55), (8, 2))
    return replace(
        people_in([tmp_path / "a.png"] * 8),
        keypoints=(starts[:, None] + random.uniform(0, (20, 40), (8, 14, 2))).astype(np.float32),
        boxes=np.concatenate([starts, np.tile([20, 40], (8, 1))], 1).astype(np.float32),
    )


def test_coordinates_in_boxes_and_pictures_are_plausible(plausible):
    check_coordinates(plausible, "own test")
    strays = plausible.keypoints.copy()
    strays[0, :4] = 0, 50  # outside their box, as annotators do
    check_coordinates(replace(plausible, keypoints=strays), "own test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k / (200, 100), "112 of 112 labelled keypoints lie outside the boxes"),
        (lambda k: k[..., ::-1], "labelled keypoints lie outside the boxes"),
        (lambda k: k * 4, "labelled keypoints lie outside the boxes"),
        (lambda k: np.where(np.arange(14)[:, None] == 3, 0, k), "8 of 112 labelled keypoints lie at exactly 0, 0"),
        (
            lambda k: np.where(np.arange(14)[:, None] == 3, -1, k),
            "8 of 112 labelled keypoints lie at exactly 0, 0|outside",
        ),
    ],
    ids=["fractions", "y before x", "of a larger picture", "unlabelled as 0, 0", "unlabelled as 0, 0 from 1"],
)
def test_impossible_coordinates_are_refused(plausible, change, message):
    keypoints = change(plausible.keypoints).astype(np.float32)
    with pytest.raises(ValueError, match=f"own test: .*{message}"):
        check_coordinates(replace(plausible, keypoints=keypoints), "own test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k / (200, 100), "most persons are under 2 px"),
        (lambda k: k[..., ::-1], "most persons have a box that ends far outside their picture"),
        (lambda k: k * 4, "most persons have a box that ends far outside their picture"),
    ],
    ids=["fractions", "y before x", "of a larger picture"],
)
def test_impossible_coordinates_are_refused_where_boxes_come_from_them(plausible, change, message):
    """As in the Leeds sets, where a person fills the picture."""
    keypoints = np.random.default_rng(0).uniform((20, 10), (190, 90), (8, 14, 2))
    for points in (keypoints, change(keypoints)):
        boxes = np.concatenate([points.min(1), np.ptp(points, axis=1)], 1).astype(np.float32)
        people = replace(plausible, keypoints=points.astype(np.float32), boxes=boxes)
        if points is keypoints:
            check_coordinates(people, "own test")
    with pytest.raises(ValueError, match=f"own test: .*{message}"):
        check_coordinates(people, "own test")


def test_a_box_outside_its_picture_is_named(plausible):
    boxes = plausible.boxes.copy()
    boxes[5, 0] = 201
    with pytest.raises(ValueError, match="own test: 1 boxes outside the picture, by id: 5"):
        check_coordinates(replace(plausible, boxes=boxes), "own test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"areas": 0.5 * p.boxes[:, 2:].prod(1) * 1e4}, "an area that their box cannot have"),
        (lambda p: {"areas": 0.5 * p.boxes[:, 2:].prod(1) / (200 * 100)}, "an area that their box cannot have"),
        (
            lambda p: {"boxes": np.concatenate([p.boxes[:, :2], p.boxes[:, :2] + p.boxes[:, 2:]], 1)},
            "a box that ends far outside",
        ),
        (lambda p: {"boxes": p.boxes / (200, 100, 200, 100)}, "under 2 px"),
        (lambda p: {"boxes": p.boxes * (1, 1, 200, 200)}, "a box that ends far outside"),
        (lambda p: {"boxes": p.boxes - [*(p.boxes[0, :2] + p.boxes[0, 2:] / 2), 0, 0]}, "centre outside the picture"),
    ],
    ids=[
        "area too large",
        "area as fraction",
        "corners",
        "boxes as fractions",
        "extents too large",
        "centres as fractions",
    ],
)
@pytest.mark.parametrize("detected", [False, True], ids=["annotated", "detected"])
def test_impossible_boxes_and_areas_are_refused(plausible, change, message, detected):
    plausible = replace(plausible, areas=0.5 * plausible.boxes[:, 2:].prod(1))
    boxes = {"boxes": np.tile(plausible.boxes[:1], (8, 1)), "keypoints": np.tile(plausible.keypoints[:1], (8, 1, 1))}
    people = replace(plausible, **boxes)
    if detected:
        people = replace(people, visibility=np.zeros_like(people.visibility))
    check_coordinates(people, "own test")
    with pytest.raises(ValueError, match=f"own test: most persons .*{message}.*areas px"):
        check_coordinates(replace(people, **change(people)), "own test")


def test_a_set_of_half_its_pictures_size_is_refused(plausible):
    many = People.concatenate([plausible] * 3)
    keypoints = np.random.default_rng(0).uniform((20, 10), (190, 90), (24, 14, 2))
    for scale in (1, 0.5):
        points = (scale * keypoints).astype(np.float32)
        boxes = np.concatenate([points.min(1), np.ptp(points, axis=1)], 1)
        people = replace(many, keypoints=points, boxes=boxes)
        if scale == 1:
            check_coordinates(people, "own test")
    with pytest.raises(ValueError, match="own test: most persons are in the upper left quarter of their picture"):
        check_coordinates(people, "own test")
    check_coordinates(people.take(slice(20)), "few may be there")


def test_boxes_written_as_two_corners_are_told_by_their_keypoints(plausible):
    many = People.concatenate([plausible] * 3)
    left = replace(many, keypoints=many.keypoints - (90, 0), boxes=many.boxes - (90, 0, 0, 0))
    check_coordinates(left, "own test")
    corners = left.boxes + np.concatenate([np.zeros((24, 2)), left.boxes[:, :2]], 1)
    assert (corners[:, :2] + corners[:, 2:] < (200, 110)).all(1).mean() > 0.5, "most end in their pictures"
    with pytest.raises(ValueError, match="own test: most persons have a box that seems to be x1, y1, x2, y2"):
        check_coordinates(replace(left, boxes=corners), "own test")


JPEG_KINDS = {"plain": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 3}}


def jpeg(**options) -> bytes:
    buffer = io.BytesIO()
    small = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", JPEG_KINDS)
def test_a_jpeg_counts_as_whole_if_all_of_its_pixels_are_there(tmp_path, kind, capfd):
    whole = jpeg(**JPEG_KINDS[kind])
    sound = {"whole": whole, "no_end": whole[:-2], "zeros_for_end": whole[:-2] + bytes(50), "two": whole + whole}
    for name, contents in sound.items():
        (tmp_path / f"{name}.jpg").write_bytes(contents)
    thumbnails = check_images(people_in(sorted(tmp_path.iterdir())))
    assert len(thumbnails) == 4
    assert capfd.readouterr().err == "", "no remark about sound files"
    for path in thumbnails:
        np.testing.assert_array_equal(read_image(path), read_image(tmp_path / "whole.jpg"))
    for share in (0.5, 0.9, 0.99):
        cut = whole[: int(share * len(whole))]
        for end in (b"", b"\xff\xd9", b"\xff\xd9" + whole):
            (tmp_path / "cut.jpg").write_bytes(cut + end)
            with pytest.raises(ValueError, match=r"cut\.jpg \(truncated\)"):
                check_images(people_in([tmp_path / "cut.jpg"]))


@pytest.mark.parametrize("values", ["text", np.array([1j]), {"x": 1}], ids=["text", "complex", "struct"])
def test_a_matlab_array_without_real_numbers_is_named(tmp_path, values):
    savemat(tmp_path / "a.mat", {"joints": values})
    with pytest.raises(ValueError, match=r"a\.mat: 'joints' must be an array of real numbers"):
        read_mat(tmp_path / "a.mat", "joints")
