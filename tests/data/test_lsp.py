from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from hpelib.data.lsp import read_lsp, read_lspet, write_lsp

LSPET = Path(__file__).resolve().parents[3] / "shared" / "data" / "lspet"
N, WIDTH, HEIGHT = 3, 100, 80


def joints() -> np.ndarray:
    """(N, 14, 3) x, y, flag; every flag 0."""
    xy = np.random.default_rng(0).uniform(5, 75, (N, 14, 2))
    return np.concatenate([xy, np.zeros((N, 14, 1))], 2)


def write(root: Path, array: np.ndarray, digits: int) -> Path:
    (root / "images").mkdir(exist_ok=True)
    for number in range(1, N + 1):
        path = root / "images" / f"im{number:0{digits}d}.jpg"
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 50 * number, np.uint8))
    savemat(root / "joints.mat", {"joints": array})
    return root


@pytest.mark.parametrize("digits", [4, 5])
def test_lsp_flag_means_occluded_and_every_joint_counts(tmp_path, digits):
    data = joints()
    data[1, 4, 2] = 1
    people = read_lsp(write(tmp_path, data.transpose(2, 1, 0), digits))  # (3, 14, N)
    np.testing.assert_allclose(people.keypoints, data[..., :2], rtol=1e-6)
    assert people.visibility[1, 4] == 1
    assert (people.visibility == 2).sum() == N * 14 - 1
    np.testing.assert_array_equal(people.centers, [[49.5, 39.5]] * N)
    np.testing.assert_allclose(people.sizes_px, [[100 * 1.15, 80 * 1.15]] * N, rtol=1e-6)
    assert people.ids.tolist() == [1, 2, 3]
    assert Path(people.image_paths[2]).name == f"im{3:0{digits}d}.jpg"


@pytest.mark.parametrize("digits", [4, 5])
def test_lspet_flag_means_labelled(tmp_path, digits):
    data = joints()
    data[..., 2] = 1
    data[0, 2] = [-20, 30, 1]  # flagged as labelled, but outside
    data[0, 4:6] = [[0, 30, 1], [20, 0, 1]]  # on the edge
    data[1, 3] = [40, 40, 0]
    data[2, 2:, 2] = 0
    data[2, :2, :2] = [[10, 20], [40, 60]]
    people = read_lspet(write(tmp_path, data.transpose(1, 2, 0), digits))  # (14, 3, N)
    assert people.visibility[0].tolist() == [2, 2, 0] + [2] * 11
    assert people.visibility[1].tolist() == [2, 2, 2, 0] + [2] * 10
    np.testing.assert_array_equal(people.boxes[2], [10, 20, 30, 40])
    np.testing.assert_array_equal(people.centers[2], [25, 40])
    np.testing.assert_allclose(people.sizes_px[2], [30 * 1.15, 40 * 1.15], rtol=1e-6)
    assert Path(people.image_paths[2]).name == f"im{3:0{digits}d}.jpg"


def test_both_numberings_in_one_folder_are_told_apart(tmp_path):
    data = joints()
    write(tmp_path, data.transpose(2, 1, 0), digits=5)
    assert Path(read_lsp(write(tmp_path, data.transpose(2, 1, 0), 4)).image_paths[0]).name == "im0001.jpg"
    data[..., 2] = 1
    assert Path(read_lspet(write(tmp_path, data.transpose(1, 2, 0), 4)).image_paths[0]).name == "im00001.jpg"


def test_lspet_persons_without_extent_are_left_out(tmp_path):
    data = joints()
    data[[0, 2], :, 2] = 1
    data[1, 5, 2] = 1  # a single joint
    root = write(tmp_path, data.transpose(1, 2, 0), 5)
    assert read_lspet(root).ids.tolist() == [1, 3]
    write(tmp_path, joints().transpose(1, 2, 0), 5)
    with pytest.raises(ValueError, match="none of the 3 persons"):
        read_lspet(root)


def test_what_is_written_is_read_back(tmp_path):
    write(tmp_path, np.zeros(1), 4)
    keypoints = joints()[..., :2]
    visibility = np.random.default_rng(1).integers(1, 3, (N, 14))
    write_lsp(tmp_path, keypoints, visibility)
    people = read_lsp(tmp_path)
    np.testing.assert_allclose(people.keypoints, keypoints, rtol=1e-6)
    np.testing.assert_array_equal(people.visibility, visibility)
    with pytest.raises(ValueError, match="LSP needs all 14, by position: 0, 1, 2"):
        write_lsp(tmp_path, keypoints, np.zeros((N, 14), int))


def with_value(position: tuple[int, int, int], value: float) -> np.ndarray:
    data = joints()
    data[..., 2] = 1
    data[position] = value
    return data


@pytest.mark.parametrize(
    ("reader", "axes", "data", "message"),
    [
        (read_lsp, (1, 2, 0), joints(), r"\(14, 3, 3\) is the other Leeds set; read it by read_lspet"),
        (read_lspet, (2, 1, 0), joints(), "read it by read_lsp"),
        (read_lsp, (2, 1, 0), joints()[:, :13], r"must have shape \(3, 14, N\), got \(3, 13, 3\)"),
        (read_lsp, (2, 1, 0), with_value((1, 3, 0), np.nan), "NaN or infinity in 'joints', by number: 2"),
        (read_lspet, (1, 2, 0), with_value((2, 3, 1), np.inf), "NaN or infinity in 'joints', by number: 3"),
        (read_lspet, (1, 2, 0), with_value((0, 3, 2), 2), "flag other than 0 or 1, by number: 1"),
        (read_lsp, (2, 1, 0), joints() + np.array([500, 0, 0]), "outside the image, by image number: 1, 2, 3"),
    ],
    ids=["lspet as lsp", "lsp as lspet", "joint count", "nan", "infinity", "flag", "outside"],
)
def test_errors_name_file_and_field(tmp_path, reader, axes, data, message):
    with pytest.raises(ValueError, match=f"{tmp_path.name}.*{message}"):
        reader(write(tmp_path, data.transpose(axes), 4))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"joints\.mat"):
        read_lsp(tmp_path)
    write(tmp_path, joints().transpose(2, 1, 0), 4)
    (tmp_path / "images" / "im0002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 images.*im0002\.jpg"):
        read_lsp(tmp_path)
    (tmp_path / "images" / "im0002.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"im0002\.jpg: not a readable image"):
        read_lsp(tmp_path)


@pytest.mark.skipif(not LSPET.exists(), reason="needs the LSPET photographs beside the repository")
def test_real_annotations():
    people = read_lspet(LSPET)
    assert len(people) == 7000
    assert (people.visibility == 0).mean() == pytest.approx(0.12, abs=0.005)
    assert Path(people.image_paths[-1]).name == "im07000.jpg"
    image = cv2.imread(people.image_paths[0])
    assert (people.keypoints[0][people.visibility[0] > 0] < image.shape[1::-1]).all()
