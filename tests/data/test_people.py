from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hpelib.data.people import People
from hpelib.skeletons import COCO17, LSP14


def people(n: int = 3, skeleton=LSP14, **columns) -> People:
    K = skeleton.num_keypoints
    visibility = np.full((n, K), 2)
    visibility[0, 0], visibility[0, 1] = 0, 1
    defaults = {
        "image_paths": np.array([f"{i // 2}.jpg" for i in range(n)], dtype=object),
        "image_ids": np.arange(n) // 2,
        "ids": np.arange(n) + 1,
        "keypoints": np.arange(n * K * 2).reshape(n, K, 2),
        "visibility": visibility,
        "boxes": np.array([[10 * i, 5, 20, 40 + i] for i in range(n)]),
    }
    return People(skeleton, **(defaults | columns))


def test_the_table_fills_in_what_a_format_lacks():
    table = people()
    assert np.isnan(table.keypoints[0, 0]).all()
    assert np.isfinite(table.keypoints[0, 1]).all()
    np.testing.assert_array_equal(table.centers[1], [20, 25.5])  # box 10, 5, 20, 41
    np.testing.assert_array_equal(table.sizes_px, table.boxes[:, 2:])
    np.testing.assert_array_equal(table.scores, [1, 1, 1])
    assert np.isnan(table.areas).all()
    assert np.isnan(table.head_sizes_px).all()
    assert table.factors.shape == (3, 0)


@pytest.mark.parametrize(
    "indices", [[2, 0], np.array([True, False, True]), slice(None, None, -1), np.array([], dtype=int)], ids=str
)
def test_take_follows_numpy(indices):
    table = people(factors=pd.DataFrame({"noise": [0.1, 0.2, 0.3]}))
    taken = table.take(indices)
    np.testing.assert_array_equal(taken.ids, table.ids[indices])
    np.testing.assert_array_equal(taken.keypoints, table.keypoints[indices])
    np.testing.assert_array_equal(taken.factors["noise"], np.array([0.1, 0.2, 0.3])[indices])
    assert list(taken.factors.index) == list(range(len(taken)))


def test_concatenated_sets_keep_their_persons_and_images_apart():
    parts = [replace(people(ids=np.arange(3)), left_out={"crowds": 2}) for _ in range(3)]
    joined = People.concatenate(parts)
    assert len(np.unique(joined.ids)) == 9
    assert len(np.unique(joined.image_ids)) == 6  # two images each
    np.testing.assert_array_equal(joined.ids[:3], [0, 1, 2])
    np.testing.assert_array_equal(joined.keypoints[3:6], parts[1].keypoints)
    assert joined.summary() == "9 persons; left out: 6 crowds"
    alone = People.concatenate(parts[:1])
    np.testing.assert_array_equal(alone.image_ids, parts[0].image_ids)


def test_concatenate_needs_one_skeleton():
    with pytest.raises(ValueError, match=r"coco17.*lsp14"):
        People.concatenate([people(), people(skeleton=COCO17)])


def test_describe_counts():
    described = people().describe()
    assert list(described.index) == ["all", *LSP14.keypoints]
    assert described.loc["all"].tolist() == [3, 2, 3 * 14 - 1, 3 * 14 - 2, 41]
    assert described.loc["right_ankle"].tolist() == [2, 2, 2, 2, 41.5]  # not labelled in the first person
    assert described.loc["right_knee"].tolist() == [3, 2, 3, 2, 41]  # occluded in the first person


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ids", np.array([1, 2, 2]), "ids must be unique.*2"),
        ("visibility", np.full((3, 14), 3, np.uint8), "visibility must be 0, 1 or 2"),
        ("keypoints", np.full((3, 14, 2), np.nan, np.float32), "keypoints must be finite"),
        ("keypoints", np.full((3, 14, 2), np.inf, np.float32), "keypoints must be finite.*3 person"),
        ("keypoints", np.zeros((3, 17, 2), np.float32), r"keypoints must be \(3, 14, 2\).*lsp14.*\(3, 17, 2\)"),
        ("boxes", np.full((3, 4), np.inf, np.float32), "boxes must be finite"),
        ("centers", np.full((3, 2), np.nan), "centers must be finite"),
        ("sizes_px", np.zeros((3, 2), np.float32), "sizes_px must be"),
        ("areas", np.zeros(3, np.float32), "areas must be positive"),
        ("head_sizes_px", np.full(3, -1, np.float32), "head_sizes_px must be positive"),
        ("scores", np.full(3, np.nan, np.float32), "scores must be finite"),
        ("factors", pd.DataFrame(index=range(2)), "3 rows.*got 2"),
    ],
)
def test_what_does_not_hold_is_refused(column, value, message):
    with pytest.raises(ValueError, match=message):
        replace(people(), **{column: value})
