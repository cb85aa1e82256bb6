import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.models import detection

from hpelib.data.crops import read_image
from hpelib.data.files import write_json
from hpelib.skeletons import COCO17
from hpelib.study.config import make_run
from hpelib.study.steps.train import build_network
from hpelib.study.steps.weights import write_weights
from hpelib.study.tools import own_pictures
from hpelib.study.tools.own_pictures import (
    detect_people,
    find_boxes,
    find_pictures,
    pose,
    read_boxes,
    results_folder,
    summary,
    to_people,
    write_results,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path):
    """Two pictures, the second of them turned by EXIF, beside a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(folder / "a.PNG")
    Image.fromarray(PIXELS).save(folder / "b.jpg", exif=exif, quality=100, subsampling=0)
    (folder / "notes.txt").write_text("none")
    return find_pictures(folder, tmp_path / "upright")


def test_pictures_are_found_and_set_upright(pictures, tmp_path):
    assert [path.name for path in pictures] == ["a.PNG", "b.png"]
    assert {path.parent for path in pictures} == {tmp_path / "upright"}, "one folder, for what reads the JSON"
    turned = read_image(pictures[1]).astype(int)
    assert np.abs(turned - cv2.rotate(PIXELS, cv2.ROTATE_90_CLOCKWISE)).mean() < 3
    assert find_pictures(tmp_path / "pictures" / "a.PNG", tmp_path) == [tmp_path / "pictures" / "a.PNG"]


def test_what_is_not_read_is_named(tmp_path, caplog):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for name in ("b.heic", "c.gif"):
        (tmp_path / name).write_bytes(b"some")
    (tmp_path / "sub").mkdir()
    assert find_pictures(tmp_path, tmp_path / "upright") == [tmp_path / "a.png"]
    (message,) = caplog.messages
    assert "3 entries are not read" in message
    assert message.endswith("b.heic, c.gif, sub")


@pytest.mark.parametrize("source", ["nowhere", "empty", "nowhere.jpg"])
def test_no_picture_is_named(tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{source}: no picture"):
        find_pictures(tmp_path / source, tmp_path)


def test_two_pictures_of_a_name_are_refused(pictures, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "pictures" / "a.bmp")
    with pytest.raises(ValueError, match="differ in their suffix only: a;"):
        find_pictures(tmp_path / "pictures", tmp_path)


class Detector(torch.nn.Module):
    """Finds a sure person, a sure dog and a doubtful person."""

    def forward(self, images):
        (image,) = images
        assert image.shape == (3, 48, 64)
        assert 0 <= image.min() < image.max() <= 1
        boxes = torch.tensor([[1.0, 2, 31, 42], [0, 0, 9, 9], [5, 5, 9, 9]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 18, 1]), "scores": torch.tensor([0.75, 0.9, 0.4])}]


def test_detected_persons_become_boxes(pictures, monkeypatch):
    monkeypatch.setattr(detection, "fasterrcnn_mobilenet_v3_large_fpn", lambda weights: Detector())
    boxes = detect_people(pictures[:1])
    np.testing.assert_array_equal(boxes[str(pictures[0])], [[1, 2, 30, 40, 0.75]])


def test_a_detector_that_cannot_be_fetched_is_named(pictures, monkeypatch):
    def offline(weights):
        raise ConnectionError("no route")

    monkeypatch.setattr(detection, "fasterrcnn_mobilenet_v3_large_fpn", offline)
    with pytest.raises(OSError, match=r"no route.*give boxes"):
        detect_people(pictures)


def test_boxes_are_read_by_picture_name(pictures, tmp_path):
    write_json(tmp_path / "boxes.json", {"b": [[1, 2, 30, 40], [5, 5, 9, 9]], "a": []})
    people = to_people(read_boxes(tmp_path / "boxes.json", pictures), COCO17)
    assert people.image_paths.tolist() == [str(pictures[1])] * 2
    np.testing.assert_array_equal(people.boxes, [[1, 2, 30, 40], [5, 5, 9, 9]])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"c": []}, "by picture name, one of a, b; no picture is called c"),
        ([[1, 2, 3, 4]], r"by picture name, one of a, b, got \[\[1, 2, 3, 4\]\]"),
        ({"a": [1, 2, 3]}, "'a' must be a list of boxes"),
        ({"a": [["x"] * 4]}, "'a' must be a list of boxes"),
        ({"a": [1, 2, 3, 4]}, "'a' must be a list of boxes"),
        ({"a": [[1, 2, 3, 4, 0.9]] * 4}, "'a' must be a list of boxes"),
        ({"a": None}, "'a' must be a list of boxes"),
        ({"a": [[1, 2, 0, 4]]}, "'a' has a box without extent"),
        ({"a": [[70, 2, 9, 4]]}, "'a' has a box outside the picture"),
    ],
)
def test_broken_boxes_are_named(pictures, tmp_path, entries, message):
    write_json(tmp_path / "boxes.json", entries)
    with pytest.raises(ValueError, match=rf"boxes\.json: .*{message}"):
        read_boxes(tmp_path / "boxes.json", pictures)


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.5, 0.7], [30, 20, 60, 45]], ids=["fractions", "corners"])
def test_impossible_boxes_are_refused(pictures, tmp_path, box):
    write_json(tmp_path / "boxes.json", {"a": [box]})
    with pytest.raises(ValueError, match=r"the given boxes: most persons .*boxes x, y, width, height"):
        to_people(read_boxes(tmp_path / "boxes.json", pictures), COCO17)


def test_nobody_is_an_error(pictures):
    with pytest.raises(ValueError, match="nobody in the 1 pictures"):
        to_people({str(pictures[0]): np.zeros((0, 5))}, COCO17)


def test_a_run_poses_everybody(pictures, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(params, "hourglass", "coco", 0)
    people = to_people(find_boxes("whole", pictures), COCO17)
    write_weights(run, build_network(run, people))
    posed, scores = pose(run, people)
    np.testing.assert_array_equal(posed.visibility, np.where(scores > 0.2, 2, 1))
    assert np.isfinite(posed.keypoints).all()

    drawn = write_results(posed, scores, results_folder("results", tmp_path / "pictures", "whole"))
    assert [path.name for path in drawn] == ["a.png", "b.png"]
    results = drawn[0].with_name("keypoints.json")
    assert len(COCO(str(results)).anns) == 2
    document = json.loads(results.read_text())
    assert [(image["file_name"], image["width"], image["height"]) for image in document["images"]] == [
        ("a.PNG", 64, 48),
        ("b.png", 48, 64),
    ]
    for i, annotation in enumerate(document["annotations"]):
        np.testing.assert_allclose(np.reshape(annotation["keypoints"], (17, 3))[:, :2], posed.keypoints[i])
    out = results_folder("results", tmp_path / "pictures", "whole")
    assert write_results(posed, scores, out) == drawn, "its own results may be written anew"

    def interrupt(*unused):
        raise KeyboardInterrupt

    with monkeypatch.context() as pressed:
        pressed.setattr(own_pictures, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_results(posed, scores, out)
    out = results_folder("results", tmp_path / "pictures", "whole")  # what was interrupted may be written anew
    assert [path.name for path in write_results(posed.take([0]), scores[:1], out)] == ["a.png"]
    assert not (out / "b.png").exists(), "a drawing of a picture that is no longer there"
    write_results(posed, scores, out)
    results.write_text(results.read_text().replace('"id": 1,', '"id":  1,'))
    for write in (lambda: results_folder("results", "pictures", "whole"), lambda: write_results(posed, scores, out)):
        with pytest.raises(FileExistsError, match=r"results holds files .* changed since: keypoints\.json"):
            write()


def test_a_file_of_the_user_among_upright_copies_stays(pictures, tmp_path):
    find_pictures(tmp_path / "pictures", tmp_path / "upright")
    Image.new("RGB", (8, 8)).save(tmp_path / "upright" / "b.png")
    with pytest.raises(FileExistsError, match=r"upright holds files .*b\.png"):
        find_pictures(tmp_path / "pictures", tmp_path / "upright")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_is_set_upright_as_it_is_read(tmp_path, suffix, depth):
    grey = PIXELS[..., 0]
    picture, exif = Image.fromarray(grey.astype(np.uint16) * 256 + 77 if depth == 16 else grey), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / f"a.{suffix}", exif=exif)
    (upright,) = find_pictures(tmp_path / f"a.{suffix}", tmp_path / "upright")
    np.testing.assert_array_equal(read_image(upright)[..., 0], cv2.rotate(grey, cv2.ROTATE_90_CLOCKWISE))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_cut_picture_is_named(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "cut.png"
    Image.fromarray(PIXELS).save(path, exif=exif)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"cut\.png"):
        to_people(find_boxes("whole", find_pictures(path, tmp_path / "upright")), COCO17)


def test_no_file_of_the_user_is_ever_written_over(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("pictures", "."):
        with pytest.raises(ValueError, match=r"lies in .*, where results go"):
            results_folder(out, "pictures", "whole")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.PNG").symlink_to(tmp_path / "pictures" / "a.PNG")
    with pytest.raises(ValueError, match="lies in pictures, where results go"):
        results_folder("pictures", "links", "whole")
    write_json(tmp_path / "mine" / "boxes.json", {})
    with pytest.raises(ValueError, match=r"boxes\.json lies in mine"):
        results_folder("mine", "pictures", "mine/boxes.json")
    with pytest.raises(FileExistsError, match=r"mine holds files that no command has written.*boxes\.json"):
        results_folder("mine", "pictures", "whole")
    with pytest.raises(FileExistsError, match=r"boxes\.json is a file; give another name"):
        results_folder("mine/boxes.json", "pictures", "whole")


def test_it_is_said_in_which_pictures_nobody_is(pictures):
    people = to_people({str(pictures[0]): np.array([[1, 2, 30, 40, 1.0]] * 2)}, COCO17)
    assert summary(people, pictures) == "2 people in 1 pictures; nobody in 1: b.png"


def test_weights_of_other_settings_are_refused_unless_one_insists(pictures, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people = to_people(find_boxes("whole", pictures), COCO17)
    write_weights(run := make_run(params, "hourglass", "coco", 0), build_network(run, people))
    other = replace(run, inputs=replace(run.inputs, input_size=(32, 64), heatmap_size=(8, 16)))
    with pytest.raises(ValueError, match=r"inputs\.input_size was \[32, 32\], is \[32, 64\]"):
        pose(other, people)
    pose(other, people, force=True)
