from pathlib import Path

import numpy as np
import pytest

from hpelib.data.splits import grouped_split, read_groups

NEAR_DUPLICATES = Path(__file__).resolve().parents[2] / "data" / "lspet_near_duplicates.csv"
GROUPS = [[0, 50], [3, 4, 5, 6, 7, 8], [90, 91, 99]]


def test_every_position_once_and_groups_whole():
    parts = grouped_split(100, GROUPS, (0.7, 0.2, 0.1), seed=1)
    assert sorted(np.concatenate(parts)) == list(range(100))
    for group in GROUPS:
        assert sum(np.isin(group, part).any() for part in parts) == 1
    assert [len(part) for part in parts] == [70, 20, 10]


def test_shares_are_as_near_as_the_groups_allow():
    groups = np.arange(60).reshape(6, 10)
    assert [len(part) for part in grouped_split(60, groups, (0.5, 0.25, 0.25), seed=0)] == [30, 20, 10]


def test_the_seed_decides():
    first, again, other = (grouped_split(100, GROUPS, (0.5, 0.5), seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("groups", "fractions", "message"),
    [
        ([], (0.5, 0.6), "sum to 1"),
        ([], (1.5, -0.5), "positive"),
        ([[0, 1], [1, 2]], (0.5, 0.5), "at most once"),
        ([[0, 10]], (0.5, 0.5), "positions 0 to 9"),
    ],
)
def test_errors(groups, fractions, message):
    with pytest.raises(ValueError, match=message):
        grouped_split(10, groups, fractions, seed=0)


def test_groups_become_positions(tmp_path):
    path = tmp_path / "near_duplicates.csv"
    path.write_text("group,image_number\n0,12\n0,10\n5,11\n5,77\n")
    groups = read_groups(path, np.array([10, 11, 12]))
    assert [group.tolist() for group in groups] == [[2, 0], [1]]
    path.write_text("group,image\n0,12\n")
    with pytest.raises(ValueError, match=r"near_duplicates\.csv: needs columns group and image_number"):
        read_groups(path, np.arange(3))
    path.write_text("group,image_number\n0,im00012\n0,im00010\n")
    with pytest.raises(ValueError, match="columns group and image_number must be whole numbers"):
        read_groups(path, np.arange(3))
    path.write_text("group,image_number\n0,12\n0,10\n1,12\n")
    with pytest.raises(ValueError, match=r"near_duplicates\.csv: 1 images in more than one row, by number: 12"):
        read_groups(path, np.array([10, 12]))
    with pytest.raises(FileNotFoundError, match=r"missing\.csv"):
        read_groups(tmp_path / "missing.csv", np.arange(3))


def test_real_near_duplicates_stay_together():
    groups = read_groups(NEAR_DUPLICATES, np.arange(1, 7001))
    parts = grouped_split(7000, groups, (0.8, 0.1, 0.1), seed=0)
    assert all(sum(np.isin(group, part).any() for part in parts) == 1 for group in groups)
    assert [len(part) for part in parts] == [5600, 700, 700]
