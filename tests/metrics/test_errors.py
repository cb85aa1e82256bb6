import json
import math

import numpy as np
import pytest

from hpelib.data.coco import write_coco
from hpelib.metrics.coco import coco_ap, coco_results, keypoint_similarity
from hpelib.metrics.errors import ERRORS, KINDS, diagnose, repair
from hpelib.skeletons import COCO17

AREA = 10_000.0
WRIST, OTHER_WRIST = COCO17.index("left_wrist"), COCO17.index("right_wrist")


def two_people() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, areas and image ids: keypoints 100 px and more apart, far beyond any fall-off."""
    grid = np.stack((100.0 * np.arange(17), np.zeros(17)), -1)
    return np.stack((grid, np.add(grid, (0, 1000)))), np.array([AREA, 4 * AREA]), np.array([7, 7])


def at_similarity(similarity: float, joint: int, area: float) -> float:
    """Distance in px at which OKS gives this similarity, solved by hand from exp(-d^2 / (2 area (2 sigma)^2))."""
    return math.sqrt(-2 * area * (2 * COCO17.sigmas[joint]) ** 2 * math.log(similarity))


@pytest.mark.parametrize(
    ("owner", "joint", "similarity", "kind"),
    [
        (0, WRIST, 1.0, "good"),
        (0, WRIST, 0.86, "good"),
        (0, WRIST, 0.84, "jitter"),
        (0, WRIST, 0.51, "jitter"),
        (0, WRIST, 0.49, "miss"),
        (0, OTHER_WRIST, 0.99, "inversion"),
        (0, OTHER_WRIST, 0.51, "inversion"),
        (0, OTHER_WRIST, 0.49, "miss"),
        (1, WRIST, 0.51, "swap"),
        (1, OTHER_WRIST, 0.99, "swap"),
        (1, WRIST, 0.49, "miss"),
        (0, COCO17.index("left_elbow"), 0.99, "miss"),
    ],
)
def test_a_keypoint_is_what_it_lies_near(owner, joint, similarity, kind):
    truth, areas, image_ids = two_people()
    keypoints = truth.copy()
    keypoints[0, WRIST] = truth[owner, joint] + (0, at_similarity(similarity, WRIST, areas[owner]))
    found = diagnose(keypoints, truth, areas, image_ids)
    assert KINDS[found.kinds[0, WRIST]] == kind
    assert (np.delete(found.kinds[0], WRIST) == 0).all()
    assert (found.kinds[1] == 0).all()


def test_a_person_in_another_image_cannot_be_swapped_with():
    truth, areas, _ = two_people()
    keypoints = truth.copy()
    keypoints[0, WRIST] = truth[1, WRIST]
    assert KINDS[diagnose(keypoints, truth, areas, np.array([7, 8])).kinds[0, WRIST]] == "miss"


def test_what_is_not_labelled_is_nothing_and_attracts_nothing():
    truth, areas, image_ids = two_people()
    keypoints = truth.copy()
    keypoints[0, WRIST] = truth[0, OTHER_WRIST]
    keypoints[0, 0] = truth[1, 0]
    truth[0, OTHER_WRIST] = truth[1, 0] = np.nan
    found = diagnose(keypoints, truth, areas, image_ids)
    assert KINDS[found.kinds[0, WRIST]] == "miss"
    assert KINDS[found.kinds[0, 0]] == "miss"
    assert found.kinds[0, OTHER_WRIST] == found.kinds[1, 0] == -1
    assert np.isnan(found.similarity[1, 0])


def a_crowd(seed: int) -> tuple[np.ndarray, ...]:
    """Predictions, truth, areas and image ids of 30 persons so crowded that every kind of error occurs."""
    random = np.random.default_rng(seed)
    truth = random.uniform(0, 60, (30, 17, 2))
    image_ids = random.integers(0, 8, 30)
    near = truth + random.normal(0, 4, truth.shape)
    wrong = truth[random.permutation(30)][:, random.permutation(17)]
    mirrored = truth[:, COCO17.flip_permutation]
    choice = random.uniform(size=(30, 17, 1))
    keypoints = np.where(choice < 0.5, near, np.where(choice < 0.7, mirrored, wrong))
    truth[random.uniform(size=(30, 17)) < 0.2] = np.nan
    return keypoints, truth, random.uniform(500, 4000, 30), image_ids


def kind_by_loop(n: int, k: int, keypoints, truth, areas, image_ids) -> int:
    if np.isnan(truth[n, k, 0]):
        return -1
    best, kind = -1.0, None
    mirror = COCO17.flip_permutation[k]
    for other in [n, *(m for m in range(len(truth)) if m != n)]:  # the keypoint itself first
        if image_ids[other] != image_ids[n]:
            continue
        for joint in (k, mirror):
            if np.isnan(truth[other, joint, 0]):
                continue
            distance_squared = sum((keypoints[n, k] - truth[other, joint]) ** 2)
            similarity = math.exp(-distance_squared / (2 * areas[other] * (2 * COCO17.sigmas[k]) ** 2))
            if similarity > best:
                best = similarity
                kind = "swap" if other != n else "inversion" if joint != k else "own"
    if best < 0.5:
        kind = "miss"
    elif kind == "own":
        kind = "good" if best >= 0.85 else "jitter"
    return KINDS.index(kind)


@pytest.mark.parametrize("seed", range(3))
def test_diagnosis_equals_a_loop_over_everything(seed):
    case = a_crowd(seed)
    expected = [[kind_by_loop(n, k, *case) for k in range(17)] for n in range(30)]
    found = diagnose(*case).kinds
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {-1, 0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", ERRORS)
def test_repair_moves_the_keypoints_of_its_kind_alone(kind):
    keypoints, truth, areas, image_ids = a_crowd(0)
    diagnosis = diagnose(keypoints, truth, areas, image_ids)
    repaired = repair(kind, keypoints, truth, areas, diagnosis)
    members = diagnosis.kinds == KINDS.index(kind)
    np.testing.assert_array_equal(repaired[~members], keypoints[~members])
    assert (repaired[members, 0] >= truth[members, 0]).all(), "to the right, as in coco-analyze"
    np.testing.assert_array_equal(repaired[members, 1], truth[members, 1])
    wanted = {"jitter": 0.85, "miss": 0.5}.get(kind, diagnosis.similarity[members])
    found = keypoint_similarity(repaired, truth, areas)[members]
    np.testing.assert_allclose(found, np.broadcast_to(np.power(wanted, 1 / 4), found.shape), rtol=1e-9)


def test_repairing_mixed_up_sides_gives_the_ap_back(tmp_path):
    truth, areas, _ = two_people()
    flat = np.concatenate((truth, np.full((2, 17, 1), 2)), -1).reshape(2, -1)
    people = [
        {"id": i + 1, "image_id": 7, "bbox": [0, 0, 1, 1], "area": areas[i], "keypoints": flat[i]} for i in range(2)
    ]
    write_coco(tmp_path / "truth.json", [{"id": 7, "file_name": "7.png", "width": 9, "height": 9}], people)
    assert len(json.loads((tmp_path / "truth.json").read_text())["annotations"]) == 2
    keypoints = truth.copy()
    keypoints[0] = truth[0, COCO17.flip_permutation]

    def ap(points: np.ndarray) -> float:
        results = coco_results(np.array([7, 7]), points, np.ones((2, 17)), np.ones(2), areas)
        return coco_ap(tmp_path / "truth.json", results)["AP"]

    diagnosis = diagnose(keypoints, truth, areas, np.array([7, 7]))
    assert ap(keypoints) < 60
    assert ap(repair("miss", keypoints, truth, areas, diagnosis)) == ap(keypoints)
    assert ap(repair("inversion", keypoints, truth, areas, diagnosis)) == pytest.approx(100)


def test_an_unknown_kind_is_named():
    keypoints, truth, areas, image_ids = a_crowd(0)
    with pytest.raises(ValueError, match="kind of error='good' is none of 'jitter', 'inversion', 'swap', 'miss'"):
        repair("good", keypoints, truth, areas, diagnose(keypoints, truth, areas, image_ids))
