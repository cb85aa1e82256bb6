"""A release of the official layout, made here, against what its persons are by hand."""

import json
import logging

import numpy as np
import pytest
from scipy.io import savemat

from hpelib.data.mpii import read_mpii
from hpelib.data.mpii_release import convert_release

NOTHING = np.zeros((0, 0))  # Matlab's empty field


def structs(*entries):
    """A struct array as Matlab stores it: whoever lacks a field has it empty."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    array = np.zeros((1, len(entries)), [(name, object) for name in names])
    for i, entry in enumerate(entries):
        array[0, i] = tuple(entry.get(name, NOTHING) for name in names)
    return array


def cells(*values):
    array = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        array[i, 0] = value
    return array


def rect(start, joints=range(16), **changes):
    points = [{"x": start + k + 0.5, "y": start + 2.0 * k, "id": k, "is_visible": str(k % 2)} for k in joints]
    person = {"x1": start, "y1": start + 1, "x2": start + 30, "y2": start + 41, "scale": 1.5}
    person |= {"annopoints": structs({"point": structs(*points)}), "objpos": structs({"x": start + 9, "y": start + 8})}
    return {name: value for name, value in (person | changes).items() if value is not None}


def picture(name, video, *rects):
    annorect = structs(*rects) if rects else NOTHING
    return {"image": structs({"name": name}), "annorect": annorect, "frame_sec": 3, "vididx": video}


def write_release(path, pictures, img_train, single_person):
    release = structs(
        {
            "annolist": structs(*pictures),
            "img_train": np.array([img_train], np.uint8),
            "version": "12",
            "single_person": cells(*single_person),
            "act": NOTHING,
            "video_list": NOTHING,
        }
    )
    savemat(path, {"RELEASE": release})
    return path


@pytest.fixture
def folder(tmp_path):
    """The release as mat file, with its pictures: six to train on, of three videos, and two to test."""
    pictures = [
        picture("a.jpg", 1, rect(10), rect(50, joints=(3, 9))),
        picture("b.jpg", 1, rect(20), rect(30, scale=None), rect(40, objpos=None), rect(60, annopoints=None)),
        picture("c.jpg", 2, rect(70, x1=None)),
        picture("d.jpg", 2, rect(80)),
        picture("empty.jpg", 2),
        picture("e.jpg", 3, rect(90)),
        picture("t.jpg", 4, rect(5, annopoints=None, x1=None), rect(6, annopoints=None), rect(7, annopoints=None)),
        picture("u.jpg", 5, rect(8, annopoints=None, scale=None)),
    ]
    alone = [1, NOTHING, 1, 1, NOTHING, 1, np.array([[1], [3]]), 1]
    write_release(tmp_path / "release.mat", pictures, [1] * 6 + [0] * 2, alone)
    for name in (f"{letter}.jpg" for letter in "abcdetu"):
        (tmp_path / name).touch()
    return tmp_path


def test_persons_are_those_of_the_release(folder, caplog):
    (folder / "valid.json").write_text(json.dumps([{"image": "d.jpg"}, {"image": "d.jpg"}]))
    with caplog.at_level(logging.INFO):
        convert_release(folder / "release.mat", folder / "annot", folder / "valid.json")
    assert "left out 4 training persons without joints, scale, position or head box" in caplog.text
    train = json.loads((folder / "annot/train.json").read_text())
    assert [entry["image"] for entry in train] == ["a.jpg", "a.jpg", "b.jpg", "e.jpg"]
    first, second = train[:2]
    assert first["scale"] == 1.5
    np.testing.assert_allclose(first["center"], [19, 18], atol=1e-9)
    np.testing.assert_allclose(first["joints"], [[10.5 + k, 10 + 2 * k] for k in range(16)], atol=1e-9)
    assert first["joints_vis"] == [1] * 16, "occluded joints are labelled ones"
    assert second["joints_vis"] == [int(k in (3, 9)) for k in range(16)]
    np.testing.assert_allclose(second["joints"][9], [59.5, 68], atol=1e-9)
    assert second["joints"][0] == [-1, -1]
    test = json.loads((folder / "annot/test.json").read_text())
    assert test == [{"image": "t.jpg", "center": [x, y], "scale": 1.5} for x, y in ((14, 13), (16, 15))]


def test_what_is_converted_is_read_by_the_official_rules(folder):
    (folder / "valid.json").write_text(json.dumps([{"image": "a.jpg"}]))
    convert_release(folder / "release.mat", folder / "annot", folder / "valid.json")
    people = read_mpii(folder / "annot/valid.json", folder, folder / "annot/gt_valid.mat")
    np.testing.assert_allclose(people.centers[0], [19 - 1, 18 + 15 * 1.5 - 1])
    np.testing.assert_allclose(people.sizes_px, 300)
    np.testing.assert_allclose(people.keypoints[0, 4], [10.5 + 4 - 1, 10 + 8 - 1])
    np.testing.assert_allclose(people.head_sizes_px, 0.6 * 50)
    assert (people.visibility[1] > 0).nonzero()[0].tolist() == [3, 9]
    prediction = read_mpii(folder / "annot/test.json", folder)
    assert len(prediction) == 2
    assert not prediction.visibility.any()


def test_our_own_split_keeps_videos_whole(tmp_path):
    pictures = [picture(f"{i}.jpg", i // 4, rect(i)) for i in range(40)] + [picture("t.jpg", 99, rect(1))]
    release = write_release(tmp_path / "r.mat", pictures, [1] * 40 + [0], [1] * 41)
    convert_release(release, tmp_path)
    train, valid = (
        {int(entry["image"][:-4]) for entry in json.loads((tmp_path / f"{split}.json").read_text())}
        for split in ("train", "valid")
    )
    assert (len(train), len(valid)) == (36, 4)
    assert not {i // 4 for i in train} & {i // 4 for i in valid}


def test_another_mat_file_is_named(folder):
    savemat(folder / "other.mat", {"joints": np.zeros(3)})
    with pytest.raises(ValueError, match=r"other\.mat: not MPII's release"):
        convert_release(folder / "other.mat", folder / "annot")
    with pytest.raises(FileNotFoundError, match=r"absent\.mat"):
        convert_release(folder / "absent.mat", folder / "annot")


def test_validation_pictures_that_are_not_there_are_named(folder):
    (folder / "valid.json").write_text(json.dumps([{"image": "t.jpg"}]))
    with pytest.raises(ValueError, match=r"valid\.json: 1 pictures that the release does not train on: t\.jpg"):
        convert_release(folder / "release.mat", folder / "annot", folder / "valid.json")


def test_a_joint_of_no_such_number_is_named(tmp_path):
    wrong = rect(3, joints=(0, 16))
    release = write_release(
        tmp_path / "r.mat", [picture("a.jpg", 1, wrong), picture("t.jpg", 2, rect(1))], [1, 0], [1, 1]
    )
    with pytest.raises(ValueError, match=r"joint outside 0 to 15: a\.jpg"):
        convert_release(release, tmp_path)


@pytest.mark.parametrize("name", ["valid.json", "gt_train.mat"])
def test_no_file_is_written_over(folder, name):
    (folder / "annot").mkdir()
    (folder / "annot" / name).write_text("corrected by hand")
    with pytest.raises(FileExistsError, match=rf"{name} is there already; move it"):
        convert_release(folder / "release.mat", folder / "annot", folder / "valid.json")
    assert [path.read_text() for path in (folder / "annot").iterdir()] == ["corrected by hand"]
