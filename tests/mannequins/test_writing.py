"""The mannequins on disk: what the readers of real data give back, and that the same seed gives the same bytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from pycocotools.coco import COCO

from hpelib.data.coco import read_coco, read_detections
from hpelib.data.lsp import read_lsp
from hpelib.data.mpii import read_mpii
from hpelib.mannequins import writing
from hpelib.mannequins.render import render
from hpelib.mannequins.scenes import read_recipe, sample_scene
from hpelib.mannequins.writing import write_mannequins
from hpelib.skeletons import COCO17, LSP14, MPII16

COUNTS = {"train": 24, "val": 10}
RECIPE = read_recipe(Path(__file__).resolve().parents[2] / "data" / "mannequins.yaml")
# Recipe version 1, seed 0, COUNTS. They change only together with the version.
ANNOTATION_DIGESTS = {
    "train": "9f0ddf6e80cf6a209c0383c6dd0b038ba0f0e79dcca8bbbd5ba69d50c04479a6",
    "val": "d772bf575feb3db133ac9820c826c35258c4931bd8fa129265a41bb770d87b7c",
}
PIXEL_DIGESTS = {  # with the OpenCV of the lock file
    "train": "4fb70ed63afc56de460f1a08bfaa2209da4be1a76331e4474c18ac67cca171af",
    "val": "fbb669cbbb319855e8f9988f9327d7de07cd1c45e0621d3f9115a1930150b3ab",
}
LOCKED_OPENCV = "5.0.0"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("mannequins") / "set"
    return root, write_mannequins(root, RECIPE, COUNTS, seed=0, processes=2)


@pytest.fixture(scope="module")
def truths(written) -> dict:
    """Everybody in the training scenes, rendered anew in this process, by (image id, box)."""
    _, summary = written
    scenes = (render(sample_scene(RECIPE, 0, "train", index)) for index in range(summary["train"]["images"]))
    return {(i, tuple(truth.box)): truth for i, scene in enumerate(scenes, start=1) for truth in scene.persons}


def coco_of(root: Path, split: str):
    return read_coco(root / f"coco/annotations/person_keypoints_{split}.json", root / "coco/images" / split)


def test_coco_comes_back_as_rendered(written, truths):
    root, summary = written
    people = coco_of(root, "train")
    assert len(people) == summary["train"]["persons"] >= COUNTS["train"]
    document = json.loads((root / "coco/annotations/person_keypoints_train.json").read_text())
    boxes = {annotation["id"]: annotation["bbox"] for annotation in document["annotations"]}
    for n in range(len(people)):
        truth = truths[people.image_ids[n], tuple(boxes[people.ids[n]])]
        points, visibility = truth.of(COCO17)
        labelled = visibility > 0
        np.testing.assert_array_equal(people.visibility[n], visibility)
        np.testing.assert_allclose(people.keypoints[n][labelled], points[labelled], atol=0.006)
        assert people.areas[n] == truth.mask.sum()
        assert people.factors.iloc[n].to_dict() == truth.factors


def test_segmentations_are_the_masks_that_area_and_box_were_taken_from(written):
    root, _ = written
    coco = COCO(root / "coco/annotations/person_keypoints_train.json")
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["num_keypoints"] == sum(v > 0 for v in annotation["keypoints"][2::3])


def test_mpii_names_the_same_joints_in_the_same_images(written):
    root, _ = written
    people = read_mpii(root / "mpii/valid.json", root / "coco/images/val", root / "mpii/gt_valid.mat")
    reference = coco_of(root, "val")
    shared = [name for name in MPII16.keypoints if name in COCO17.keypoints]
    ours, theirs = ([s.index(name) for name in shared] for s in (MPII16, COCO17))
    matched = 0
    for n in range(len(people)):
        for m in np.flatnonzero(reference.image_paths == people.image_paths[n]):
            if np.array_equal(np.isnan(people.keypoints[n][ours]), np.isnan(reference.keypoints[m][theirs])):
                matched += np.allclose(
                    people.keypoints[n][ours], reference.keypoints[m][theirs], atol=1e-3, equal_nan=True
                )
    assert matched == len(people) > 0
    height = people.factors["height_px"].to_numpy()
    assert ((people.head_sizes_px > 0.06 * height) & (people.head_sizes_px < 0.30 * height)).all()


def test_lsp_images_are_cut_out_of_the_scenes(written, truths):
    root, summary = written
    people = read_lsp(root / "lsp/train")
    assert len(people) == summary["train"]["lsp_persons"] > 3
    full = {i: cv2.imread(str(root / f"coco/images/train/{i:012d}.jpg")).astype(float) for i, _ in truths}
    for n in range(len(people)):
        crop = cv2.imread(people.image_paths[n]).astype(float)
        height, width = crop.shape[:2]
        errors = []
        for (image_id, _), truth in truths.items():
            points, visibility = truth.of(LSP14)
            offset = (points - people.keypoints[n]).mean(axis=0).round().astype(int)
            if (visibility > 0).all() and np.allclose(points - people.keypoints[n], offset, atol=0.01):
                np.testing.assert_array_equal(people.visibility[n], visibility)
                region = full[image_id][offset[1] : offset[1] + height, offset[0] : offset[0] + width]
                errors.append(np.abs(region - crop).mean())
        assert len(errors) == 1
        assert errors[0] < 12  # grey levels, compressed twice


def test_detections_lie_on_people_and_score_them(written):
    root, _ = written
    annotations = root / "coco/annotations/person_keypoints_val.json"
    detections = read_detections(root / "coco/annotations/detections_val.json", annotations, root / "coco/images/val")
    people = coco_of(root, "val")
    assert ((detections.scores > 0) & (detections.scores < 1)).all()
    overlaps = []
    for box, image_id in zip(detections.boxes, detections.image_ids, strict=True):
        there = people.boxes[people.image_ids == image_id]
        shared = np.minimum(there[:, :2] + there[:, 2:], box[:2] + box[2:]) - np.maximum(there[:, :2], box[:2])
        shared = shared.clip(0).prod(1)
        overlaps.append(max(shared / (there[:, 2:].prod(1) + box[2:].prod() - shared), default=0.0))
    assert np.corrcoef(overlaps, detections.scores)[0, 1] > 0.5
    assert np.mean(np.array(overlaps) > 0.5) > 0.6
    assert not (root / "coco/annotations/detections_train.json").exists()


def test_splits_share_no_picture(written):
    root, summary = written
    pictures = {split: {p.read_bytes() for p in (root / "coco/images" / split).iterdir()} for split in COUNTS}
    assert all(len(pictures[split]) == summary[split]["images"] for split in COUNTS)
    assert not pictures["train"] & pictures["val"]


def test_digests_are_those_on_record(written):
    _, summary = written
    assert {split: summary[split]["annotation_digest"] for split in COUNTS} == ANNOTATION_DIGESTS
    if cv2.__version__ == LOCKED_OPENCV:
        assert {split: summary[split]["pixel_digest"] for split in COUNTS} == PIXEL_DIGESTS


def test_a_set_with_nobody_who_fits_into_lsp(tmp_path):
    summary = write_mannequins(tmp_path / "set", RECIPE, {"val": 1}, seed=2, processes=1)  # all are cut off
    assert (summary["val"]["persons"], summary["val"]["lsp_persons"]) == (1, 0)
    assert len(coco_of(tmp_path / "set", "val")) == 1


def test_a_crowd_is_annotated_without_keypoints(tmp_path):
    recipe = RECIPE | {"people": RECIPE["people"] | {"crowd": 1.0}}
    write_mannequins(tmp_path / "set", recipe, {"val": 12}, seed=0, processes=1)
    coco = COCO(tmp_path / "set/coco/annotations/person_keypoints_val.json")
    crowds = [annotation for annotation in coco.dataset["annotations"] if annotation["iscrowd"]]
    assert len(crowds) > 1
    for annotation in crowds:
        assert (annotation["num_keypoints"], set(annotation["keypoints"])) == (0, {0})
        assert annotation["area"] == coco.annToMask(annotation).sum() > 0


def test_a_run_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("disk full")

    write_mannequins(tmp_path / "set", RECIPE, {"val": 1}, seed=0, processes=1)
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*.*")}
    monkeypatch.setattr(writing, "write_lsp", full_disk)
    with pytest.raises(OSError, match="disk full"):
        write_mannequins(tmp_path / "set", RECIPE, {"val": 1}, seed=1, processes=1)
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*.*")} == before


@pytest.mark.parametrize("folder", ["set", "set.unfinished"])
def test_nothing_that_was_not_rendered_is_lost(tmp_path, folder):
    write_mannequins(tmp_path / "set", RECIPE, {"val": 1}, seed=0, processes=1)
    first = (tmp_path / "set/summary.json").read_text()
    write_mannequins(tmp_path / "set", RECIPE, {"val": 1}, seed=1, processes=1)
    assert (tmp_path / "set/summary.json").read_text() != first, "its own files are replaced"
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=rf"{folder} holds files .*thesis\.txt"):
        write_mannequins(tmp_path / "set", RECIPE, {"val": 1}, seed=0, processes=1)
    assert (tmp_path / folder / "thesis.txt").read_text() == "mine"
    with pytest.raises(FileExistsError, match=r"thesis\.txt is a file"):
        write_mannequins(tmp_path / folder / "thesis.txt", RECIPE, {"val": 1}, seed=0, processes=1)


CALLER = """
import os, time
from hpelib.mannequins.writing import spread_over

def work(number):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    with spread_over(2) as spread:
        list(spread(work, range(2)))
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_what_asked_for_them(tmp_path, how):
    (tmp_path / "caller.py").write_text(CALLER)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(
        [sys.executable, "caller.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as caller:
        workers = [psutil.Process(int(caller.stdout.readline())) for _ in range(2)]
        caller.send_signal(how)
        caller.wait()
        gone, alive = psutil.wait_procs(workers, timeout=60)
        for worker in alive:
            worker.kill()
    assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize(
    ("counts", "message"), [({"valid": 3}, "'valid' is none of 'train', 'val', 'test'"), ({"val": 0}, "got 0 for val")]
)
def test_counts_that_cannot_be(tmp_path, counts, message):
    with pytest.raises(ValueError, match=message):
        write_mannequins(tmp_path / "set", RECIPE, counts, seed=0)
