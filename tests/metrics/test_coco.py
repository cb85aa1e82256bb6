import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hpelib.data.coco import read_coco
from hpelib.metrics.coco import (
    coco_ap,
    coco_results,
    keypoint_similarity,
    match,
    oks_nms,
    rescore,
    soft_oks_nms,
)
from hpelib.skeletons import COCO17

COCO_MINI = Path(__file__).resolve().parents[3] / "shared/data/coco_mini/annotations/person_keypoints_train2017.json"


def poses(rng, count, size=100):
    return np.concatenate([rng.uniform(0, size, (count, 17, 2)), rng.uniform(size=(count, 17, 1))], axis=-1)


def make_truth(path, keypoints, areas):
    """Ground truth with one image per person, all keypoints visible."""
    annotations = [
        {
            "id": i + 1,
            "image_id": i + 10,
            "category_id": 1,
            "iscrowd": 0,
            "num_keypoints": 17,
            "keypoints": np.concatenate([points, np.full((17, 1), 2)], axis=-1).ravel().tolist(),
            "bbox": [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()],
            "area": float(area),
        }
        for i, (points, area) in enumerate(zip(keypoints, areas, strict=True))
    ]
    images = [{"id": i + 10, "width": 200, "height": 200} for i in range(len(keypoints))]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def truth(tmp_path):
    """Four persons of 17 keypoints, two medium and two large, and the keypoints themselves."""
    keypoints = poses(np.random.default_rng(0), 4)[..., :2]
    return make_truth(tmp_path / "truth.json", keypoints, [2000, 3000, 10000, 20000]), keypoints


def results_for(keypoints, scores):
    return [
        {
            "image_id": i + 10,
            "category_id": 1,
            "keypoints": np.concatenate([points, np.ones((17, 1))], axis=-1).ravel().tolist(),
            "score": score,
        }
        for i, (points, score) in enumerate(zip(keypoints, scores, strict=True))
    ]


def plain_oks(one, other):
    variances = (np.array(COCO17.sigmas) * 2) ** 2
    total = 0.0
    for k in range(17):
        dx = other["keypoints"][k][0] - one["keypoints"][k][0]
        dy = other["keypoints"][k][1] - one["keypoints"][k][1]
        total += np.exp(-(dx**2 + dy**2) / variances[k] / ((one["area"] + other["area"]) / 2) / 2)
    return total / 17


def official_oks_nms(persons, threshold):
    """The loops of HRNet's lib/nms/nms.py."""
    order = np.array([person["score"] for person in persons]).argsort()[::-1]
    keep = []
    while order.size > 0:
        best = persons[order[0]]
        keep.append(order[0])
        overlaps = [plain_oks(best, persons[i]) for i in order[1:]]
        order = order[1:][np.array(overlaps) <= threshold]
    return keep


def official_soft_oks_nms(persons, threshold, limit):
    """The loops of the same file's `soft_oks_nms`: whoever is best is kept, the others decay, `limit` times."""
    left = {i: person["score"] for i, person in enumerate(persons)}
    keep = []
    while left and len(keep) < limit:
        best = max(left, key=left.get)
        keep.append(best)
        del left[best]
        left = {
            i: score * np.exp(-(plain_oks(persons[best], persons[i]) ** 2) / threshold) for i, score in left.items()
        }
    return keep


@pytest.fixture
def copies():
    """24 persons, six near-copies of each of four: arrays, and the same as the official code's dicts."""
    rng = np.random.default_rng(1)
    originals = poses(rng, 4)
    keypoints = np.repeat(originals, 6, axis=0) + rng.normal(0, 3, (24, 17, 3)) * np.linspace(0, 2, 24)[:, None, None]
    scores, areas = rng.uniform(size=24), rng.uniform(1000, 9000, 24)
    persons = [
        {"keypoints": k, "score": s, "area": a} for k, s, a in zip(keypoints.tolist(), scores, areas, strict=True)
    ]
    return (keypoints, scores, areas), persons


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
def test_nms_keeps_what_the_official_loops_keep(copies, threshold):
    arrays, persons = copies
    kept = oks_nms(*arrays, threshold)
    assert kept.tolist() == official_oks_nms(persons, threshold)
    assert 4 <= len(kept) < 24


@pytest.mark.parametrize("threshold", [0.3, 0.9])
@pytest.mark.parametrize("limit", [1, 6, 20, 30])
def test_soft_nms_keeps_what_the_official_loops_keep(copies, threshold, limit):
    arrays, persons = copies
    kept = soft_oks_nms(*arrays, threshold, limit)
    assert kept.tolist() == official_soft_oks_nms(persons, threshold, limit)
    assert len(kept) == min(limit, 24)
    assert limit == 1 or kept.tolist() != np.argsort(arrays[1])[::-1][:limit].tolist(), "scores decay"


def test_a_copy_goes_above_the_threshold_and_not_at_it():
    twice = np.repeat(poses(np.random.default_rng(0), 1), 2, axis=0)
    assert oks_nms(twice, np.array([0.4, 0.6]), np.ones(2), threshold=1.0).tolist() == [1, 0]
    assert oks_nms(twice, np.array([0.4, 0.6]), np.ones(2), threshold=0.999).tolist() == [1]


@pytest.mark.parametrize("nms", [oks_nms, soft_oks_nms])
def test_nms_of_nobody_is_nobody(nms):
    assert nms(np.zeros((0, 17, 3)), np.zeros(0), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("nms", [oks_nms, soft_oks_nms])
def test_nms_rejects_other_skeletons(nms):
    with pytest.raises(ValueError, match=r"\(N, 17, 3\)"):
        nms(np.zeros((2, 16, 3)), np.zeros(2), np.ones(2))


def test_mean_similarity_is_the_oks_of_pycocotools(truth):
    path, keypoints = truth
    rng = np.random.default_rng(2)
    moved = keypoints + rng.normal(0, 4, keypoints.shape)
    gt = COCO(str(path))
    evaluation = COCOeval(gt, gt.loadRes(results_for(moved, np.ones(4))), "keypoints")
    evaluation.evaluate()
    expected = [evaluation.ious[image_id, 1][0, 0] for image_id in (10, 11, 12, 13)]
    ours = keypoint_similarity(moved, keypoints, [2000, 3000, 10000, 20000])
    np.testing.assert_allclose(ours.mean(-1), expected, rtol=1e-9)


def test_similarity_of_a_missing_keypoint_is_missing():
    keypoints = np.zeros((17, 2))
    reference = keypoints.copy()
    reference[3] = np.nan
    similarity = keypoint_similarity(keypoints, reference, np.array(100.0))
    assert np.flatnonzero(np.isnan(similarity)).tolist() == [3]
    assert np.nanmin(similarity) == 1


def test_rescoring_by_hand():
    keypoint_scores = np.full((3, 17), 0.1)
    keypoint_scores[0, :2] = 0.4, 0.8
    keypoint_scores[1, 0] = 0.2  # not above the threshold
    keypoint_scores[2] = 1
    np.testing.assert_allclose(rescore([0.5, 1, 0.9], keypoint_scores), [0.5 * 0.6, 0, 0.9])


def test_results_are_rescored_and_cleared_of_copies_within_an_image():
    pose = poses(np.random.default_rng(3), 1)[0, :, :2]
    keypoints = np.stack([pose, pose + 0.1, pose, pose + 500]).astype(np.float32)
    confidence = np.repeat([[0.5], [0.9], [0.5], [0.4]], 17, axis=1)
    results = coco_results(np.array([7, 7, 3, 7]), keypoints, confidence, np.ones(4), np.full(4, 9000.0))
    assert [result["image_id"] for result in results] == [3, 7, 7]
    assert [result["score"] for result in results] == pytest.approx([0.5, 0.9, 0.4])
    np.testing.assert_allclose(np.reshape(results[1]["keypoints"], (17, 3))[:, :2], keypoints[1], rtol=1e-6)
    json.dumps(results)


def test_soft_nms_lets_a_copy_go_only_from_more_than_twenty():
    rng = np.random.default_rng(4)
    keypoints, confidence = poses(rng, 22, size=3000)[..., :2], np.repeat(rng.uniform(0.5, 0.9, (22, 1)), 17, axis=1)
    keypoints[1] = keypoints[0]
    confidence[:2] = [[1], [0.99]]
    case = keypoints, confidence, np.ones(22), np.full(22, 900.0)
    crowd = coco_results(np.zeros(22, int), *case, nms="soft")
    few = coco_results(np.zeros(3, int), *(values[:3] for values in case), nms="soft")
    assert [round(result["score"], 2) for result in few[:1]] == [1]
    assert len(crowd) == 20
    assert 0.99 not in [round(result["score"], 2) for result in crowd]
    assert sorted(round(result["score"], 2) for result in few)[1:] == [0.99, 1], "its score is left as it was"


def test_results_of_nobody_are_empty():
    nobody = coco_results(np.zeros(0, int), np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0), np.zeros(0))
    assert nobody == []


def test_perfect_predictions_score_100_and_leave_their_input_alone(truth, capsys):
    path, keypoints = truth
    results = results_for(keypoints, [0.9, 0.8, 0.7, 0.6])
    figures = coco_ap(path, results)
    assert figures == dict.fromkeys(("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"), 100.0)
    assert results == results_for(keypoints, [0.9, 0.8, 0.7, 0.6])
    assert capsys.readouterr().out == ""


def test_figures_by_hand(tmp_path, truth):
    """Two of four persons are found exactly and best scored, the other two are far off."""
    path, keypoints = truth
    keypoints = keypoints + np.array([0, 900, 0, 900])[:, None, None]
    results_json = tmp_path / "results.json"
    results_json.write_text(json.dumps(results_for(keypoints, [0.9, 0.1, 0.8, 0.2])))
    figures = coco_ap(path, results_json)
    assert figures["AR"] == figures["ARM"] == figures["ARL"] == 50
    assert figures["AP"] == pytest.approx(100 * 51 / 101)  # precision 1 at recalls 0 to 0.50 of 101


def test_no_results_score_zero(truth):
    assert set(coco_ap(truth[0], []).values()) == {0.0}


@pytest.mark.parametrize("found", [True, False])
def test_a_figure_without_ground_truth_is_missing(tmp_path, found):
    keypoints = poses(np.random.default_rng(4), 2)[..., :2]
    path = make_truth(tmp_path / "truth.json", keypoints, [2000, 3000])
    figures = coco_ap(path, results_for(keypoints, [1, 1]) if found else [])
    assert {name for name, value in figures.items() if np.isnan(value)} == {"APL", "ARL"}
    assert figures["AP"] == (100 if found else 0)


def test_results_of_unknown_images_are_refused(truth):
    path, keypoints = truth
    results = results_for(keypoints, np.ones(4))
    results[2]["image_id"] = 4711
    with pytest.raises(ValueError, match="4711"):
        coco_ap(path, results)


def test_results_without_a_field_are_refused(truth):
    path, keypoints = truth
    results = results_for(keypoints, np.ones(4))
    del results[1]["score"]
    with pytest.raises(ValueError, match=r"record 1 has no field 'score'"):
        coco_ap(path, results)


def test_results_of_another_skeleton_are_refused(truth):
    path, keypoints = truth
    results = results_for(keypoints, np.ones(4))
    results[3]["keypoints"] = [0] * 48
    with pytest.raises(ValueError, match=r"results: record 3 .*'keypoints' must be finite numbers of shape \(51,\)"):
        coco_ap(path, results)


@pytest.mark.parametrize("area", [0, None])
def test_a_person_without_area_is_refused(truth, area):
    path = truth[0]
    content = json.loads(path.read_text())
    content["annotations"][2]["area"] = area
    if area is None:
        del content["annotations"][2]["area"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"truth\.json: annotations: .*(\b3\b.*'area'|'area'.*\b3\b)"):
        coco_ap(path, [])


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("annotations", {"id": 0}, "1 ids below 1, which pycocotools takes for no match: 0"),
        ("annotations", {"id": 2}, "1 ids used more than once: 2"),
        ("annotations", {"num_keypoints": 0}, "whose 'num_keypoints' is not that of its 'keypoints', by id: 3"),
        ("annotations", {"keypoints": [0] * 48}, "'keypoints' must be finite numbers of shape"),
        ("annotations", {"bbox": None}, "'bbox' must be finite numbers"),
        ("categories", {"id": 2}, "annotations: none is of category 2, the persons"),
        ("categories", {"name": "dog"}, "no category 'person', and none with the keypoints of coco17, among dog"),
    ],
)
def test_what_pycocotools_would_score_wrongly_is_refused(truth, section, change, message):
    path = truth[0]
    content = json.loads(path.read_text())
    content[section][-2 if section == "annotations" else 0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        coco_ap(path, [])


@pytest.mark.parametrize(
    ("field", "value"), [("keypoints", [float("nan")] * 51), ("score", float("inf")), ("category_id", 2)]
)
def test_results_that_pycocotools_would_take_for_hits_are_refused(truth, field, value):
    path, keypoints = truth
    results = results_for(keypoints, np.ones(4))
    results[3][field] = value
    with pytest.raises(ValueError, match=r"results: record 3|results: 1 of a category other than 1 .*: 3"):
        coco_ap(path, results)


def test_other_categories_and_a_missing_iscrowd_do_not_count(truth):
    path, keypoints = truth
    content = json.loads(path.read_text())
    for person in content["annotations"]:
        del person["iscrowd"]
    content["annotations"].append({"id": 9, "image_id": 10, "category_id": 7})
    content["categories"].append({"id": 7, "name": "racket"})
    path.write_text(json.dumps(content))
    assert coco_ap(path, results_for(keypoints, np.ones(4)))["AP"] == 100


def test_persons_are_of_one_category_to_the_reader_and_to_the_scorer(truth, tmp_path):
    """As in exports with an empty root category before the one that annotations use."""
    path, keypoints = truth
    content = json.loads(path.read_text())
    for image, person in zip(content["images"], content["annotations"], strict=True):
        image["file_name"] = "a.png"
        person["category_id"] = 2
    content["categories"] = [{"id": 1, "name": "person"}, content["categories"][0] | {"id": 2}]
    path.write_text(json.dumps(content))
    (tmp_path / "a.png").touch()
    people = read_coco(path, tmp_path)
    assert len(people) == len(content["annotations"])
    assert coco_ap(path, results_for(keypoints, np.ones(4)), ids=people.ids.tolist())["AP"] == 100


def test_a_truncated_results_file_is_named(truth, tmp_path):
    cut = tmp_path / "cut.json"
    cut.write_text('[{"image_id": 10, "categ')
    with pytest.raises(ValueError, match=r"cut\.json: not valid JSON"):
        coco_ap(truth[0], cut)
    cut.write_text("{}")
    with pytest.raises(ValueError, match="must be a list of COCO results, got dict"):
        coco_ap(truth[0], cut)


@pytest.mark.skipif(not COCO_MINI.exists(), reason="the COCO sample is not here")
def test_annotations_of_coco_as_results_are_perfect():
    annotations = json.loads(COCO_MINI.read_text())["annotations"]
    labelled = [person for person in annotations if person["num_keypoints"] and not person["iscrowd"]]
    figures = coco_ap(
        COCO_MINI,
        coco_results(
            np.array([person["image_id"] for person in labelled]),
            np.array([person["keypoints"] for person in labelled]).reshape(-1, 17, 3)[..., :2],
            np.ones((len(labelled), 17)),
            np.ones(len(labelled)),
            np.array([person["area"] for person in labelled]),
            nms_threshold=1,
        ),
    )
    assert figures["AP"] == pytest.approx(100)
    assert figures["AR"] == pytest.approx(100)


def test_figures_are_those_of_pycocotools_to_the_last_digit(truth):
    """Also though no figure is taken by `COCOeval.summarize`, which knows no other limit than 20 persons."""
    path, keypoints = truth
    moved = keypoints + np.random.default_rng(5).normal(0, 6, keypoints.shape)
    results = results_for(np.concatenate([moved, keypoints]), [0.9, 0.5, 0.7, 0.2, 0.8, 0.3, 0.6, 0.4])
    results = [result | {"image_id": 10 + i % 4} for i, result in enumerate(results)]
    official = COCO(str(path))
    evaluation = COCOeval(official, official.loadRes([dict(result) for result in results]), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert list(coco_ap(path, results).values()) == (100 * evaluation.stats).tolist()
    assert 0 < evaluation.stats[0] < 1


def in_one_image(path, keypoints):
    """Ground truth and exact results of persons who share image 10."""
    make_truth(path, keypoints, np.full(len(keypoints), 20000))
    document = json.loads(path.read_text())
    document["annotations"] = [person | {"image_id": 10} for person in document["annotations"]]
    path.write_text(json.dumps(document))
    return [result | {"image_id": 10} for result in results_for(keypoints, np.linspace(1, 0.5, len(keypoints)))]


def test_more_than_twenty_persons_in_an_image_need_a_larger_limit(tmp_path):
    path = tmp_path / "truth.json"
    results = in_one_image(path, poses(np.random.default_rng(6), 25, size=2000)[..., :2])
    assert coco_ap(path, results)["AR"] == pytest.approx(100 * 20 / 25)
    assert coco_ap(path, results)["AP"] == pytest.approx(80.2, abs=0.05)
    assert coco_ap(path, results, max_persons=25)["AP"] == 100


def test_persons_who_are_not_scored_cost_nothing_found_or_not(tmp_path):
    path = tmp_path / "truth.json"
    results = in_one_image(path, poses(np.random.default_rng(7), 4, size=2000)[..., :2])
    everybody = coco_ap(path, results[:3])
    assert everybody["AR"] == 75
    assert coco_ap(path, results[:3], ids=[1, 2, 3])["AP"] == 100, "nobody missed the fourth"
    assert coco_ap(path, results, ids=[2, 3, 4])["AP"] == 100, "the first was found and is no false positive"


def test_another_skeleton_is_scored_by_its_own_sigmas(tmp_path):
    loose = dataclasses.replace(COCO17, name="loose", sigmas=tuple(10 * sigma for sigma in COCO17.sigmas))
    keypoints = poses(np.random.default_rng(8), 3)[..., :2]
    path = make_truth(tmp_path / "truth.json", keypoints, [2000, 2000, 2000])
    results = results_for(keypoints + 15, np.ones(3))
    assert coco_ap(path, results)["AP"] < 50 < coco_ap(path, results, loose)["AP"]


def crowd(path, random, images=30):
    """Truth of one to three persons in each image, and results of them: some far off, some of nobody, no two alike."""
    counts = random.integers(1, 4, images)
    keypoints = poses(random, int(counts.sum()), size=300)[..., :2]
    make_truth(path, keypoints, random.uniform(1500, 30000, len(keypoints)))
    document = json.loads(path.read_text())
    of_person = np.repeat(10 + np.arange(images), counts)
    document["images"] = [document["images"][0] | {"id": int(image)} for image in np.unique(of_person)]
    for person, image in zip(document["annotations"], of_person.tolist(), strict=True):
        person["image_id"] = image
    path.write_text(json.dumps(document))
    moved = keypoints + random.normal(0, 1, (len(keypoints), 1, 1)) * random.normal(0, 8, keypoints.shape)
    results = results_for(moved, random.permutation(len(moved)) / len(moved))
    results = [result | {"image_id": image} for result, image in zip(results, of_person.tolist(), strict=True)]
    return document, results[:-4] + [result | {"score": result["score"] / 2.003} for result in results[:9]]


def redrawn(document, results, times):
    """The ten figures by pycocotools of a set in which image i stands times[i] times, as copies of their own."""
    images, persons, copies = [], [], []
    for image, count in zip(document["images"], times, strict=True):
        for _ in range(count):
            number = len(images) + 1
            images.append(image | {"id": number})
            for person in document["annotations"]:
                if person["image_id"] == image["id"]:
                    persons.append(person | {"id": len(persons) + 1, "image_id": number, "iscrowd": 0})
            copies += [result | {"image_id": number} for result in results if result["image_id"] == image["id"]]
    truth = COCO()
    truth.dataset = document | {"images": images, "annotations": persons}
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(copies), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return 100 * evaluation.stats


def test_figures_of_redrawn_images_are_those_of_pycocotools_to_the_last_digit(tmp_path):
    """Paired: both networks' figures, and so their difference, of the same redrawn images."""
    random = np.random.default_rng(8)
    document, results = crowd(tmp_path / "truth.json", random)
    better = [result | {"keypoints": list(np.array(result["keypoints"]) + 1)} for result in results]
    times = random.multinomial(30, np.full(30, 1 / 30), size=6)
    found = [matches.figures(times) for matches in match(tmp_path / "truth.json", [results, better])]
    assert 5 < found[0]["AP"].mean() < 95
    for figures, of in zip(found, (results, better), strict=True):
        expected = np.array([redrawn(document, of, drawn) for drawn in times])
        np.testing.assert_array_equal(
            np.stack([*figures.values()], axis=1), np.where(expected == -100, np.nan, expected)
        )


@pytest.mark.parametrize("limit", [-3, 0, True, "abc"])
def test_a_limit_of_persons_that_is_no_count_is_refused(limit, tmp_path):
    with pytest.raises(ValueError, match=r"COCO AP: max_persons must be .*, got " + repr(limit)):
        coco_ap(tmp_path / "absent.json", [], max_persons=limit)
