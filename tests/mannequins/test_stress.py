"""The stress tests: each factor varies as it says, and nothing else does."""

import json
from math import cos, radians, sin
from pathlib import Path

import cv2
import numpy as np
import pytest

from hpelib.data.crops import read_image
from hpelib.mannequins.render import KEYPOINTS
from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.stress import (
    JPEG_QUALITY,
    LEVELS,
    PICTURE_PX,
    STATURE_PX,
    photograph,
    pictures,
    read_stress,
    recruit,
)
from hpelib.mannequins.writing import write_stress
from hpelib.skeletons import MPII16

RECIPE = read_recipe(Path(__file__).resolve().parents[2] / "data" / "mannequins.yaml")
MEASURED = {  # the column of People.factors that a factor is about
    "occlusion": "occluded_fraction",
    "truncation": "truncation",
    "overlap": "overlap",
    "height": "height_px",
    "yaw": "view_deg",
    "blur": "blur_px",
    "noise": "noise",
    "light": "light",
}
PERSONS = 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("stress") / "set"
    return root, write_stress(root, RECIPE, PERSONS, seed=0, processes=2)


@pytest.fixture(scope="module")
def people(written):
    return read_stress(written[0])[0]


@pytest.fixture(scope="module")
def subject():
    return next(found for index in range(20) if (found := recruit(RECIPE, 0, index)) is not None)


def rows_of(people, person: int, factor: str):
    """The person's easy picture and those of a factor, in the order of the levels."""
    mine = people.factors["person"] == person
    return people.take((mine & people.factors["factor"].isin(["easy", factor])).to_numpy())


def test_every_person_has_every_picture_in_order(written, people):
    assert written[1]["pictures"] == len(people) == PERSONS * len(pictures())
    found = list(zip(people.factors["factor"], people.factors["level"], strict=True))
    assert found == pictures() * PERSONS
    assert people.factors["person"].tolist() == [n for n in range(PERSONS) for _ in pictures()]
    assert len(set(people.image_paths)) == len(people)


@pytest.mark.parametrize("person", range(PERSONS))
@pytest.mark.parametrize("factor", LEVELS)
def test_only_the_factor_varies(people, person, factor):
    rows = rows_of(people, person, factor)
    for name in set(MEASURED.values()) - {MEASURED.get(factor)}:
        # a chair turns with who sits on it, and a mask is counted in pixels
        tolerance = 0.05 if (factor, name) == ("yaw", "occluded_fraction") else 1e-9
        np.testing.assert_allclose(rows.factors[name], rows.factors[name].iloc[0], atol=tolerance, err_msg=name)
    ratio = np.array(LEVELS[factor]) / LEVELS[factor][0] if factor in ("height", "scale") else np.ones(5)
    np.testing.assert_allclose(rows.sizes_px[:, 0], rows.sizes_px[0, 0] * ratio, rtol=1e-5)
    yardstick = ratio if factor == "height" else np.ones(5)
    np.testing.assert_allclose(rows.head_sizes_px, rows.head_sizes_px[0] * yardstick, rtol=2e-3)
    if factor not in ("height", "scale"):
        np.testing.assert_allclose(rows.centers, rows.centers[[0]].repeat(5, 0), atol=1e-3)


@pytest.mark.parametrize("person", range(PERSONS))
@pytest.mark.parametrize("factor", MEASURED)
def test_the_measured_factor_is_the_level_that_was_asked_for(people, person, factor):
    measured = rows_of(people, person, factor).factors[MEASURED[factor]].abs().to_numpy()
    asked = np.array(LEVELS[factor], float)
    tolerance = {"occlusion": 0.03, "truncation": 0.03, "overlap": 0.09, "height": 0.04 * asked[0]}.get(factor, 1e-3)
    assert (np.abs(measured - measured[0] - (asked - asked[0])) <= tolerance).all()
    assert (np.diff(measured * np.sign(asked[-1] - asked[0])) > 0).all()


@pytest.mark.parametrize("factor", ["occlusion", "truncation", "overlap", "blur", "noise", "light"])
def test_keypoints_stay_where_they_are(people, factor):
    for person in range(PERSONS):
        rows = rows_of(people, person, factor)
        labelled = rows.visibility > 0
        assert labelled.all() or factor == "truncation"
        moved = np.abs(rows.keypoints - rows.keypoints[0])[labelled]
        assert moved.max() == 0


def test_rotation_turns_the_keypoints_about_the_centre_of_the_crop(people):
    for person in range(PERSONS):
        rows = rows_of(people, person, "rotation")
        for turned, angle in zip(rows.keypoints, LEVELS["rotation"], strict=True):
            for (x, y), (x0, y0) in zip(turned - rows.centers[0], rows.keypoints[0] - rows.centers[0], strict=True):
                c, s = cos(radians(angle)), sin(radians(angle))
                assert (x, y) == pytest.approx((c * x0 + s * y0, c * y0 - s * x0), abs=0.02)


def test_rotated_pixels_are_those_of_the_easy_picture(subject):
    easy, turned = photograph(subject, "easy", 0), photograph(subject, "rotation", 90)
    middle = slice(PICTURE_PX // 2 - 60, PICTURE_PX // 2 + 60)
    assert np.abs(np.rot90(easy.image)[middle, middle].astype(int) - turned.image[middle, middle]).max() <= 2
    assert (np.rot90(easy.mask) == turned.mask).mean() > 0.999


def test_smaller_pictures_show_the_same_with_fewer_pixels(people):
    for person in range(PERSONS):
        rows = rows_of(people, person, "height")
        for keypoints, path, height in zip(rows.keypoints, rows.image_paths, LEVELS["height"], strict=True):
            ratio = height / STATURE_PX
            np.testing.assert_allclose(keypoints + 0.5, ratio * (rows.keypoints[0] + 0.5), atol=0.02)
            assert read_image(path).shape[:2] == (round(PICTURE_PX * ratio),) * 2


def test_a_wider_region_shows_the_same_person_smaller(people):
    for person in range(PERSONS):
        rows = rows_of(people, person, "scale")
        offsets = rows.keypoints - rows.centers[:, None]
        np.testing.assert_allclose(offsets, offsets[[0]].repeat(5, 0), atol=0.02)


def test_truncation_takes_rows_away_and_the_labels_in_them(subject):
    easy, cut = photograph(subject, "easy", 0), photograph(subject, "truncation", 0.45)
    rows = len(cut.image)
    np.testing.assert_array_equal(cut.image, easy.image[:rows])
    gone = easy.mask[rows:].sum() / easy.mask.sum()
    assert cut.factors["truncation"] == pytest.approx(gone, abs=1e-4)
    np.testing.assert_array_equal(cut.visibility > 0, (easy.visibility > 0) & (easy.points_px[:, 1] < rows - 0.5))
    assert (cut.visibility == 0).any()


def test_the_panel_hides_joints_and_leaves_all_else_as_it_was(subject):
    easy, previous = photograph(subject, "easy", 0), None
    for level in LEVELS["occlusion"][1:]:
        shot = photograph(subject, "occlusion", level)
        changed = (shot.image != easy.image).any(axis=2)
        assert not (shot.mask & ~easy.mask).any(), "nobody grows behind a panel"
        assert not (changed & shot.mask).sum() > 0.03 * shot.mask.sum(), "what is still seen looks as before"
        hidden = shot.visibility == 1
        assert not (previous is not None and (previous & ~hidden).any()), "a growing panel gives nothing back"
        previous = hidden
    assert hidden[KEYPOINTS.index("left_knee")] or hidden.sum() > (easy.visibility == 1).sum()


def test_who_stands_behind_hides_nothing(subject):
    easy = photograph(subject, "easy", 0)
    for level in LEVELS["overlap"][1:]:
        shot = photograph(subject, "overlap", level)
        assert (shot.mask != easy.mask).sum() <= 2
        np.testing.assert_array_equal(shot.visibility, easy.visibility)
        assert (shot.image != easy.image).any()


def test_the_hidden_joints_are_those_of_the_coco_file(written):
    root, _ = written
    people, hidden = read_stress(root)
    annotations = json.loads((root / "coco.json").read_text())["annotations"]
    for name in ("left_wrist", "right_knee"):
        names = json.loads((root / "coco.json").read_text())["categories"][0]["keypoints"]
        flags = [annotation["keypoints"][3 * names.index(name) + 2] == 1 for annotation in annotations]
        assert hidden[:, people.skeleton.index(name)].tolist() == flags
    assert not hidden[:, people.skeleton.index("head_top")].any()
    by_level = people.factors.assign(hidden=hidden.sum(axis=1)).groupby(["factor", "level"])["hidden"].sum()
    assert by_level["occlusion", 0.6] > by_level["easy", 0.0]


def test_the_files_are_those_of_the_same_seed_in_this_process(people, subject):
    for row, (factor, level) in enumerate(pictures()):  # the first person's
        shot = photograph(subject, factor, level)
        points, visibility = shot.of(MPII16)
        labelled = visibility > 0
        np.testing.assert_allclose(people.keypoints[row][labelled], points[labelled], atol=0.006)
        np.testing.assert_array_equal(people.visibility[row] > 0, labelled)
        _, encoded = cv2.imencode(".jpg", shot.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert Path(people.image_paths[row]).read_bytes() == encoded.tobytes(), (factor, level)
    other = next(found for index in range(20) if (found := recruit(RECIPE, 1, index)) is not None)
    assert other.spec.persons[0] != subject.spec.persons[0]


def test_nobody_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1 person, got 0"):
        write_stress(tmp_path / "none", RECIPE, 0, seed=0)


def test_files_that_do_not_belong_together_are_refused(written, tmp_path):
    root, _ = written
    (tmp_path / "images").symlink_to(root / "images")
    for name in ("mpii.json", "mpii.mat"):
        (tmp_path / name).symlink_to(root / name)
    document = json.loads((root / "coco.json").read_text())
    document["annotations"].pop()
    (tmp_path / "coco.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"coco\.json has 81 persons and mpii\.json 82"):
        read_stress(tmp_path)
