import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from hpelib.data.mpii import read_mpii, write_mpii
from hpelib.skeletons import MPII16

NAMES = ["a.jpg", "b.jpg", "a.jpg"]


def entry(name: str = "a.jpg", **changes) -> dict:
    joints = [[100.0 + k, 200.0 + 2 * k] for k in range(16)]
    joints[0] = [-1, -1]
    visible = [0] + [1] * 15
    return {"image": name, "joints": joints, "joints_vis": visible, "center": [594, 257], "scale": 3.0} | changes


def write(folder: Path, entries: list[dict]) -> Path:
    for name in NAMES:
        (folder / name).touch()
    (folder / "valid.json").write_text(json.dumps(entries))
    return folder / "valid.json"


def write_mat(folder: Path, n: int, **changes) -> Path:
    joints = np.array(entry()["joints"])[..., None].repeat(n, 2)  # (16, 2, N)
    missing = np.zeros((16, n), np.uint8)
    missing[0] = 1
    head_boxes = np.array([[10, 20], [40, 60]])[..., None].repeat(n, 2)  # corners x, y: 30 by 40
    savemat(folder / "gt.mat", {"jnt_missing": missing, "pos_gt_src": joints, "headboxes_src": head_boxes} | changes)
    return folder / "gt.mat"


def test_order_of_operations_by_hand(tmp_path):
    entries = [entry(), entry("b.jpg", center=[-1, 257]), entry(center=[-3, 257])]
    people = read_mpii(write(tmp_path, entries), tmp_path)
    np.testing.assert_array_equal(people.centers[0], [593, 257 + 15 * 3 - 1])
    np.testing.assert_array_equal(people.centers[1], [-2, 256])  # no centre: not lowered
    np.testing.assert_array_equal(people.centers[2], [-4, 257 + 15 * 3 - 1])  # a centre beyond the picture's edge
    np.testing.assert_array_equal(people.sizes_px[0], [600, 600])
    np.testing.assert_array_equal(people.boxes[0], [293, 1, 600, 600])
    np.testing.assert_array_equal(people.keypoints[0, 3], [102, 205])  # 103, 206 from 1
    assert np.isnan(people.keypoints[0, 0]).all()
    assert people.visibility[0].tolist() == [0] + [2] * 15
    assert people.skeleton is MPII16


def test_a_test_json_without_joints_is_for_prediction(tmp_path):
    entries = [{key: value for key, value in entry(name).items() if "joints" not in key} for name in NAMES]
    people = read_mpii(write(tmp_path, entries), tmp_path)
    assert np.isnan(people.keypoints).all()
    assert not people.visibility.any()
    np.testing.assert_array_equal(people.centers[0], [593, 257 + 15 * 3 - 1])


def test_one_entry_without_joints_among_others_is_named(tmp_path):
    broken = entry()
    del broken["joints"]
    with pytest.raises(ValueError, match="joints"):
        read_mpii(write(tmp_path, [entry(), broken]), tmp_path)


def test_persons_of_one_image_share_its_id(tmp_path):
    people = read_mpii(write(tmp_path, [entry(name) for name in NAMES]), tmp_path)
    assert people.image_ids.tolist() == [0, 1, 0]
    assert people.ids.tolist() == [0, 1, 2]
    assert people.image_paths.tolist() == [str(tmp_path / name) for name in NAMES]


def test_ground_truth_gives_keypoints_visibility_and_head_size(tmp_path):
    moved = np.array(entry()["joints"])[..., None].repeat(2, 2) + 0.5
    missing = np.zeros((16, 2), np.uint8)
    missing[7, 1] = 1
    mat = write_mat(tmp_path, 2, pos_gt_src=moved, jnt_missing=missing)
    people = read_mpii(write(tmp_path, [entry(), entry("b.jpg")]), tmp_path, mat)
    np.testing.assert_array_equal(people.head_sizes_px, [30, 30])  # 0.6 times the diagonal of 50
    np.testing.assert_array_equal(people.keypoints[0, 3], [102.5, 205.5])
    assert people.visibility[0].tolist() == [2] * 16
    assert people.visibility[1, 7] == 0


def test_what_is_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(5, 90, (3, 16, 2)).round(2)
    visibility = rng.choice([0, 2], (3, 16))
    centers, sizes = rng.uniform(30, 60, (3, 2)), rng.uniform(50, 90, 3)
    head_boxes = np.array([[1, 2, 4, 6]] * 3)
    factors = [{"noise": i} for i in range(3)]
    write(tmp_path, [])
    paths = tmp_path / "valid.json", tmp_path / "gt.mat"
    write_mpii(paths[0], NAMES, keypoints, visibility, centers, sizes, head_boxes, paths[1], factors)

    for mat in (None, paths[1]):
        people = read_mpii(paths[0], tmp_path, mat)
        np.testing.assert_array_equal(people.visibility, visibility)
        np.testing.assert_allclose(people.keypoints[visibility > 0], keypoints[visibility > 0], rtol=1e-6)
        np.testing.assert_allclose(people.centers, centers, rtol=1e-6)
        np.testing.assert_allclose(people.sizes_px, np.stack([sizes, sizes], 1), rtol=1e-6)
        assert people.factors["noise"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(people.head_sizes_px, 3)
    first = json.loads(paths[0].read_text())[0]
    assert first["center"][1] == pytest.approx(centers[0, 1] + 1 - 15 * sizes[0] / 200)
    assert loadmat(paths[1])["pos_gt_src"].shape == (16, 2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joints": [[1, 2]] * 15}, r"record 1 .*'joints' must be .*\(16, 2\)"),
        ({"joints": [[1, float("inf")]] * 16}, "'joints' must be finite"),
        ({"joints_vis": [1] * 15 + [2]}, "joints_vis other than 0 or 1, by position: 1"),
        ({"scale": 0}, "scale is not positive, by position: 1"),
        ({"center": [3]}, "'center'"),
        ({"image": None}, "'image' must be text"),
        ({"image": "../a.jpg"}, "inside the image folder"),
    ],
    ids=str,
)
def test_errors_name_file_entry_and_field(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"valid\.json.*{message}"):
        read_mpii(write(tmp_path, [entry(), entry(**changes)]), tmp_path)


def test_nothing_to_use_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="list of persons"):
        read_mpii(write(tmp_path, []), tmp_path)
    with pytest.raises(ValueError, match="no keypoint of its 1 persons"):
        read_mpii(write(tmp_path, [entry(joints_vis=[0] * 16)]), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"1 of the 1 images.*c\.jpg"):
        read_mpii(write(tmp_path, [entry("c.jpg")]), tmp_path)


@pytest.mark.parametrize(
    ("n", "changes", "message"),
    [
        (3, {}, r"jnt_missing.*\(16, 3\).*need .*\(16, 2\)"),
        (2, {"jnt_missing": np.full((16, 2), 2)}, "jnt_missing other than 0 or 1"),
        (2, {"headboxes_src": np.ones((2, 2, 2))}, "without a head box.*: 0, 1"),
        (2, {"pos_gt_src": np.full((16, 2, 2), np.nan)}, "pos_gt_src is NaN"),
        (2, {"pos_gt_src": np.full((16, 2, 2), 500.0)}, "not in the order of the json"),
    ],
    ids=["count", "flags", "head box", "nan", "order"],
)
def test_ground_truth_must_belong_to_the_json(tmp_path, n, changes, message):
    path = write(tmp_path, [entry(), entry("b.jpg")])
    with pytest.raises(ValueError, match=rf"gt\.mat: .*{message}"):
        read_mpii(path, tmp_path, write_mat(tmp_path, n, **changes))


def test_ground_truth_without_its_arrays(tmp_path):
    path = write(tmp_path, [entry()])
    savemat(tmp_path / "gt.mat", {"other": np.zeros(3)})
    with pytest.raises(ValueError, match=r"gt\.mat: no array 'jnt_missing'.*other"):
        read_mpii(path, tmp_path, tmp_path / "gt.mat")
