import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from hpelib.data.coco import check_coco, read_coco, read_detections, write_coco
from hpelib.skeletons import COCO17

COCO_MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_mini"
WIDTH, HEIGHT = 80, 60


def annotation(number: int, **changes) -> dict:
    keypoints = np.zeros((17, 3))
    keypoints[:6] = [[20 + k, 10 + number, 1 + k % 2] for k in range(6)]
    defaults = {
        "id": number,
        "image_id": 1 + number % 3,
        "bbox": [10.5, 5, 30, 40],
        "area": 700.5,
        "keypoints": keypoints.ravel().tolist(),
    }
    return defaults | changes


def write(folder: Path, annotations: list[dict]) -> Path:
    images = [{"id": i, "file_name": f"bild_ä{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in (1, 2, 3)]
    for image in images:
        cv2.imwrite(str(folder / image["file_name"]), np.full((HEIGHT, WIDTH, 3), 80 * image["id"], np.uint8))
    write_coco(folder / "persons.json", images, annotations)
    return folder / "persons.json"


def edit(path: Path, section: str, position: int, **changes) -> None:
    document = json.loads(path.read_text())
    document[section][position] |= changes
    path.write_text(json.dumps(document))


def test_reader_agrees_with_pycocotools(tmp_path):
    path = write(tmp_path, [annotation(i) for i in (5, 3, 9)])
    reference = COCO(str(path))
    people = read_coco(path, tmp_path)
    assert people.skeleton is COCO17
    assert people.ids.tolist() == [5, 3, 9]
    for row, loaded in enumerate(reference.loadAnns(people.ids.tolist())):
        x, y, v = np.array(loaded["keypoints"]).reshape(17, 3).T
        np.testing.assert_array_equal(people.visibility[row], v)
        np.testing.assert_array_equal(people.keypoints[row][v > 0], np.stack([x, y], 1)[v > 0])
        assert np.isnan(people.keypoints[row][v == 0]).all()
        assert people.areas[row] == np.float32(loaded["area"])
        assert people.image_ids[row] == loaded["image_id"]
        assert Path(people.image_paths[row]).name == reference.loadImgs(loaded["image_id"])[0]["file_name"]
        assert loaded["num_keypoints"] == 6
    assert reference.loadCats(reference.getCatIds())[0]["skeleton"][0] == [16, 14]


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ([10.5, 5, 30, 40], [10.5, 5, 29, 39]),
        ([-5, -4, 30, 40], [0, 0, 29, 39]),  # the official rule keeps the extent of a box cut at the left
        ([60, 30, 50, 50], [60, 30, 19, 29]),
        ([0, 0, WIDTH, HEIGHT], [0, 0, WIDTH - 1, HEIGHT - 1]),
    ],
    ids=str,
)
def test_boxes_are_clipped_by_the_official_rule(tmp_path, bbox, expected):
    people = read_coco(write(tmp_path, [annotation(1, bbox=bbox)]), tmp_path)
    np.testing.assert_array_equal(people.boxes[0], expected)
    np.testing.assert_array_equal(people.sizes_px[0], expected[2:])
    np.testing.assert_array_equal(people.centers[0], np.add(expected[:2], np.divide(expected[2:], 2)))


def test_filters(tmp_path):
    left_out = [
        annotation(2, iscrowd=1),
        annotation(3, area=0),
        annotation(4, keypoints=[0] * 51),
        annotation(5, bbox=[10, 10, 0, 0]),
        annotation(6, bbox=[79.5, 10, 1, 20]),
        annotation(7, category_id=2),
    ]
    path = write(tmp_path, [annotation(1), *left_out])
    assert read_coco(path, tmp_path).ids.tolist() == [1]
    with pytest.raises(ValueError, match=r"persons\.json: annotations: none is a person with"):
        read_coco(write(tmp_path, left_out), tmp_path)


def test_factors_are_carried(tmp_path):
    path = write(tmp_path, [annotation(1, factors={"noise": 0.5}), annotation(2)])
    factors = read_coco(path, tmp_path).factors
    assert factors["noise"][0] == 0.5
    assert np.isnan(factors["noise"][1])


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("annotations", {"keypoints": [1] * 48}, r"id 2\): 'keypoints' must be .*\(51,\)"),
        ("annotations", {"keypoints": [float("nan")] * 51}, "'keypoints' must be finite"),
        ("annotations", {"keypoints": [5, 5, 3] * 17}, "visibility other than 0, 1, 2, by id: 2"),
        ("annotations", {"bbox": [1, 2, 3]}, "'bbox'"),
        ("annotations", {"bbox": [40, 20, -30, 30]}, "box has a negative width or height, by id: 2"),
        ("annotations", {"iscrowd": "0"}, "'iscrowd' is not 0 or 1, by id: 2"),
        ("annotations", {"bbox": [200, 2, 30, 30]}, "box lies outside the image, by id: 2"),
        ("annotations", {"bbox": [2, -50, 30, 30]}, "box lies outside the image, by id: 2"),
        ("annotations", {"id": 1}, "ids used more than once: 1"),
        ("annotations", {"image_id": 77}, "does not list, by image_id: 77"),
        ("annotations", {"area": None}, "'area'"),
        ("images", {"id": 1}, "ids used more than once: 1"),
        ("images", {"file_name": "/etc/passwd"}, "inside the image folder"),
        ("images", {"file_name": "../a.jpg"}, "inside the image folder"),
        ("images", {"file_name": 3}, "'file_name'"),
        ("images", {"width": 0}, "without width or height, by id: 2"),
    ],
    ids=str,
)
def test_errors_name_file_and_field(tmp_path, section, changes, message):
    path = write(tmp_path, [annotation(1), annotation(2), annotation(4)])
    edit(path, section, 1, **changes)
    with pytest.raises(ValueError, match=rf"persons\.json.*{message}"):
        read_coco(path, tmp_path)


@pytest.mark.parametrize(
    "keypoints", [COCO17.keypoints[:16], [*COCO17.keypoints[:15], "right_ankle", "left_ankle"]], ids=["count", "order"]
)
def test_category_must_list_the_coco_keypoints(tmp_path, keypoints):
    path = write(tmp_path, [annotation(1)])
    edit(path, "categories", 0, keypoints=keypoints)
    with pytest.raises(ValueError, match=r"persons\.json: category 'person' must list the 17"):
        read_coco(path, tmp_path)


def test_files_must_be_there_and_of_the_format(tmp_path):
    path = write(tmp_path, [annotation(1), annotation(2)])
    (tmp_path / "bild_ä3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images.*bild_ä3"):
        read_coco(path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.json"):
        read_coco(tmp_path / "other.json", tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no list 'images'"):
        read_coco(path, tmp_path)


def test_writer_refuses_what_pycocotools_would_misread(tmp_path):
    with pytest.raises(ValueError, match="ids below 1: 0"):
        write_coco(tmp_path / "a.json", [], [annotation(0)])
    with pytest.raises(ValueError, match="more than once: 4"):
        write_coco(tmp_path / "a.json", [], [annotation(4), annotation(4)])


def test_detections(tmp_path):
    path = write(tmp_path, [annotation(1)])
    detections = [
        {"image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.75},
        {"image_id": 3, "category_id": 18, "bbox": [1, 2, 30, 40], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 0, 40], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [-2, 2, 30, 40], "score": 0.25},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(detections))
    people = read_detections(tmp_path / "boxes.json", path, tmp_path)
    assert people.image_ids.tolist() == [3, 1]
    assert people.scores.tolist() == [0.75, 0.25]
    np.testing.assert_array_equal(people.boxes, [[1, 2, 30, 40], [-2, 2, 30, 40]])
    assert not people.visibility.any()
    assert people.left_out == {"boxes of other categories": 1, "boxes without extent": 1}

    detections[3]["score"] = -0.25  # a logit; the sum of products would put the best person last
    (tmp_path / "boxes.json").write_text(json.dumps(detections))
    with pytest.raises(ValueError, match=r"boxes\.json: 1 scores below 0, .*: -0\.25"):
        read_detections(tmp_path / "boxes.json", path, tmp_path)

    detections[3]["score"], detections[0]["image_id"] = 0.25, 99
    (tmp_path / "boxes.json").write_text(json.dumps(detections))
    with pytest.raises(ValueError, match=r"boxes\.json.*image_id: 99"):
        read_detections(tmp_path / "boxes.json", path, tmp_path)


def test_annotations_of_other_categories_are_counted(tmp_path):
    path = write(tmp_path, [annotation(1), annotation(2)])
    edit(path, "annotations", 0, category_id=7)
    assert read_coco(path, tmp_path).left_out == {"annotations of other categories": 1}


def test_a_file_without_a_person_is_named(tmp_path):
    path = write(tmp_path, [annotation(1)])
    edit(path, "annotations", 0, category_id=7)
    with pytest.raises(ValueError, match=r"persons\.json: annotations: none is a person with labelled keypoints"):
        read_coco(path, tmp_path)


@pytest.mark.skipif(not COCO_MINI.exists(), reason="needs the COCO photographs beside the repository")
def test_real_annotations_agree_with_pycocotools():
    path = COCO_MINI / "annotations" / "person_keypoints_train2017.json"
    people = read_coco(path, COCO_MINI / "train2017")
    assert len(people) == 86
    loaded = COCO(str(path)).loadAnns(people.ids.tolist())
    assert people.visibility.astype(bool).sum(1).tolist() == [a["num_keypoints"] for a in loaded]
    np.testing.assert_array_equal(people.areas, np.float32([a["area"] for a in loaded]))


def test_detections_on_images_without_annotations(tmp_path):
    """As on test-dev, whose file lists the images and 80 categories without keypoints."""
    path = write(tmp_path, [annotation(1)])
    document = json.loads(path.read_text())
    path.write_text(json.dumps({"images": document["images"], "categories": [{"id": 1, "name": "person"}]}))
    (tmp_path / "boxes.json").write_text(
        json.dumps([{"image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 1}])
    )
    assert read_detections(tmp_path / "boxes.json", path, tmp_path).image_ids.tolist() == [3]
    with pytest.raises(ValueError, match="no list 'annotations'"):
        read_coco(path, tmp_path)


def add_category(path: Path, **category) -> None:
    document = json.loads(path.read_text())
    document["categories"].insert(0, category)
    path.write_text(json.dumps(document))


def test_of_two_categories_named_person_the_one_with_keypoints_is_taken(tmp_path):
    """As in exports whose root category has the name of its only child."""
    path = write(tmp_path, [annotation(1), annotation(2, category_id=0)])
    add_category(path, id=0, name="person", supercategory="none")
    assert read_coco(path, tmp_path).ids.tolist() == [1]


def test_two_categories_named_person_that_cannot_be_told_apart_are_named(tmp_path):
    path = write(tmp_path, [annotation(1)])
    add_category(path, id=4, name="person", keypoints=list(COCO17.keypoints))
    with pytest.raises(ValueError, match=r"2 categories are named 'person' \(ids 4, 1\), and 2 of them list keypoints"):
        read_coco(path, tmp_path)


def test_another_skeleton_is_read_and_written_in_the_same_format(tmp_path):
    pair = dataclasses.replace(COCO17, name="pair", keypoints=("top", "bottom"), bones=((0, 1),))
    image = {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    path = tmp_path / "pair.json"
    write_coco(path, [image], [annotation(1, image_id=1, keypoints=[20, 10, 2, 0, 0, 0])], pair)
    people = read_coco(path, tmp_path, pair)
    assert people.skeleton is pair
    assert people.visibility.tolist() == [[2, 0]]
    with pytest.raises(ValueError, match="must list the 17 keypoints of coco17"):
        read_coco(path, tmp_path)


def test_boxes_written_as_two_corners_are_refused(tmp_path):
    boxes = [[30, 20, 60, 50], [40, 15, 70, 55], [5, 5, 30, 40]]  # right, right, and one that could be a box
    middles = [np.tile([(x + u) / 2, (y + v) / 2, 2], 17).tolist() for x, y, u, v in boxes]
    persons = list(enumerate(zip(boxes, middles, strict=True), start=1))
    path = write(tmp_path, [annotation(number, bbox=box, keypoints=middle) for number, (box, middle) in persons])
    with pytest.raises(ValueError, match=r"own test: most persons have a box .*boxes x, y, width, height"):
        check_coco(path, read_coco(path, tmp_path), "own test")
    right = [(number, [x, y, u - x, v - y], middle) for number, ((x, y, u, v), middle) in persons]
    path = write(tmp_path, [annotation(number, bbox=box, keypoints=middle) for number, box, middle in right])
    check_coco(path, read_coco(path, tmp_path), "own test")
