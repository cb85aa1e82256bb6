import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from hpelib.formats import FORMATS, lspet
from hpelib.skeletons import LSP14, MPII16
from hpelib.study.steps import prepare as datasets
from hpelib.study.steps.prepare import prepare, read_split, require_prepared

COUNTS = {  # persons, images and labelled keypoints of each split
    "coco": {"train": (5, 4, 5 * 16), "val": (2, 1, 2 * 16), "test": (3, 2, 3 * 16)},
    "mpii": {"train": (5, 4, 5 * 16 - 1), "val": (2, 1, 2 * 16 - 1), "test": (3, 2, 3 * 16 - 1)},
    "lsp": {"train": (5, 5, 5 * 14), "val": (2, 2, 2 * 14), "test": (3, 3, 3 * 14)},
    "lspet": {"train": (6, 6, 6 * 14), "val": (3, 3, 3 * 14), "test": (3, 3, 3 * 14)},
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_manifest_counts_what_is_there(write_set, name):
    manifest = prepare(write_set(name))
    for split, (persons, images, keypoints) in COUNTS[name].items():
        counts = {"persons": persons, "images": images, "labelled_keypoints": keypoints}
        found = {key: value for key, value in manifest[split].items() if key not in ("pictures_sha256", "detections")}
        assert found == counts | {"left_out": {}}
    if name == "coco":
        assert manifest["test"]["detections"] == {"boxes": 3, "left_out": {}}
    assert (manifest["dataset"], manifest["source"]) == (name, "noise")


def test_splits_may_stand_in_any_order(write_set):
    dataset = write_set("coco")
    entries = dataset.splits | {"test": dataset.splits["val"]}
    usual, turned = (
        {name: entries[name] for name in order} for order in (("train", "val", "test"), ("test", "val", "train"))
    )
    made = [prepare(dataclasses.replace(dataset, splits=splits)) for splits in (usual, turned)]
    assert made[0] == made[1]
    assert made[0]["test"] == made[0]["val"]


@pytest.mark.parametrize("name", COUNTS)
def test_every_annotation_file_is_in_the_digest(write_set, name):
    dataset = write_set(name)
    files = FORMATS[name].annotation_files(dataset)
    assert set(files) == {path for path in dataset.root.rglob("*.*") if path.suffix not in (".png", ".jpg")}
    plain = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(files))
    assert prepare(dataset)["annotations_sha256"] == hashlib.sha256(plain).hexdigest()


def test_a_picture_that_changes_alone_changes_the_manifest(write_set):
    """Trainings depend on the manifest: with the old one they would stay as they are."""
    dataset = write_set("coco")
    before = prepare(dataset)
    path = dataset.root / "train" / "0.png"
    cv2.imwrite(str(path), cv2.imread(str(path)) ^ 1)  # the lowest bit of every value
    after = prepare(dataset)
    assert before["train"].pop("pictures_sha256") != after["train"].pop("pictures_sha256")
    assert before == after


def test_persons_whom_the_metric_leaves_out_are_counted(write_set):
    dataset = write_set("lsp")
    path = dataset.root / "test" / "joints.mat"
    joints = loadmat(path)["joints"]  # (3, 14, N)
    left, right = LSP14.keypoints.index("left_shoulder"), LSP14.keypoints.index("right_hip")
    joints[:2, right, 0] = joints[:2, left, 0]  # a torso without a length
    savemat(path, {"joints": joints})
    manifest = prepare(dataset)
    assert (manifest["test"]["persons"], manifest["train"]["persons"]) == (2, 5)
    assert manifest["test"]["left_out"] == {"persons without a labelled torso": 1}


def test_an_image_in_two_splits_is_named(write_set):
    dataset = write_set("coco")
    splits = dataset.splits | {"val": {"annotations": "val.json", "images": "train"}}
    with pytest.raises(ValueError, match=r"train/0\.png is \S*train/0\.png of train"):
        prepare(dataclasses.replace(dataset, splits=splits))


def test_a_set_may_be_tested_on_its_validation_people(write_set):
    dataset = write_set("coco")
    tested = dataset.splits["val"] | {"detections": "on_val.json"}
    (dataset.root / "on_val.json").write_text('[{"image_id": 1, "category_id": 1, "bbox": [9, 9, 9, 9], "score": 1}]')
    manifest = prepare(dataclasses.replace(dataset, splits=dataset.splits | {"test": tested}))
    assert manifest["test"] == manifest["val"] | {"detections": {"boxes": 1, "left_out": {}}}
    others = dataset.splits["val"] | {"images": "test"}  # other people, but in the same pictures
    with pytest.raises(ValueError, match=r"test/0\.png is \S*test/0\.png of val"):
        prepare(dataclasses.replace(dataset, splits=dataset.splits | {"val": others}))


@pytest.mark.parametrize(
    ("name", "image"), [("coco", "test/1.png"), ("mpii", "train/2.png"), ("lspet", "images/im00012.jpg")]
)
def test_a_corrupt_image_is_named(write_set, name, image):
    dataset = write_set(name)
    path = dataset.root / image
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=f"{image}.*truncated"):
        prepare(dataset)


def edit(path: Path, section: str, **changes) -> None:
    document = json.loads(path.read_text())
    document[section][0] |= changes
    path.write_text(json.dumps(document))


def test_an_image_of_another_size_than_annotated_is_named(write_set):
    dataset = write_set("coco")
    edit(dataset.root / "train.json", "images", width=63)
    with pytest.raises(ValueError, match=r"train\.json: 1 images .*0\.png \(64, 48\) for \(63, 48\)"):
        prepare(dataset)


def test_what_scoring_refuses_is_refused_before_training(write_set):
    dataset = write_set("coco")
    edit(dataset.root / "test.json", "annotations", area=0)
    with pytest.raises(ValueError, match=r"test\.json: annotations: 1 without a positive 'area'"):
        prepare(dataset)


@pytest.mark.parametrize("name", COUNTS)
def test_a_missing_file_is_named_with_where_to_look(write_set, name):
    dataset = write_set(name)
    for path in FORMATS[name].annotation_files(dataset):
        moved = path.rename(path.with_suffix(".away"))
        with pytest.raises(FileNotFoundError, match=f"{path.name} not found; docs/photographs.md says where"):
            prepare(dataset)
        moved.rename(path)


def test_a_missing_set_is_named(write_set):
    dataset = write_set("lspet")
    shutil.rmtree(dataset.root)
    with pytest.raises(FileNotFoundError, match=r"lspet/joints\.mat not found"):
        prepare(dataset)


def test_changed_annotations_are_refused_with_the_command_to_run(write_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = write_set("coco")
    command = "dvc repro --force --single-item prepare@coco"
    with pytest.raises(FileNotFoundError, match=f"work/tiny/data/coco.json not found; run: {command}"):
        require_prepared(dataset)
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    assert require_prepared(dataset)["test"]["persons"] == 3
    path = dataset.root / "detections.json"
    path.write_text(path.read_text().replace("0.9", "0.8"))
    with pytest.raises(ValueError, match=f"annotations of coco changed since they were checked; run: {command}"):
        require_prepared(dataset)


def test_the_manifest_lies_where_dvc_looks_for_it(params):
    for name in params["datasets"]:
        dataset = datasets.make_dataset(params, name)
        assert dataset.manifest == Path(f"work/tiny/data/{name}.json")


def test_our_lspet_split_is_disjoint_complete_and_keeps_near_duplicates_together(write_set):
    dataset = write_set("lspet")
    parts = {split: set(read_split(dataset, split).ids.tolist()) for split in dataset.splits}
    assert parts == {"train": {1, 3, 4, 5, 7, 12}, "val": {2, 6, 11}, "test": {8, 9, 10}}, "as on record"
    assert sorted(number for part in parts.values() for number in part) == list(range(1, 13))
    for group in ({1, 7, 12}, {3, 4}):
        assert sum(bool(group & part) for part in parts.values()) == 1
    again = {split: set(read_split(dataset, split).ids.tolist()) for split in dataset.splits}
    assert parts == again


def test_our_lspet_split_is_of_the_images_that_were_searched_for_near_duplicates(write_set, monkeypatch):
    dataset = write_set("lspet")
    monkeypatch.setattr(lspet, "SEARCHED_IMAGES", 9)
    numbers = [number for split in dataset.splits for number in read_split(dataset, split).ids.tolist()]
    assert sorted(numbers) == list(range(1, 10))


def test_broken_detections_are_found_before_training(write_set):
    dataset = write_set("coco")
    splits = dataset.splits | {"test": dataset.splits["val"]}  # a test set that keeps its annotations to itself
    splits["test"] = splits["test"] | {"detections": "detections.json"}
    (dataset.root / "detections.json").write_text('[{"image_id": 1, "bb')
    with pytest.raises(ValueError, match=r"detections\.json: not valid JSON"):
        prepare(dataclasses.replace(dataset, splits=splits))


def test_persons_of_a_split_are_those_of_its_file(write_set):
    dataset = write_set("lspet")
    joints = loadmat(dataset.root / "joints.mat")["joints"]  # (14, 3, N)
    people = read_split(dataset, "test")
    for person, number in enumerate(people.ids):
        np.testing.assert_allclose(people.keypoints[person], joints[:, :2, number - 1], rtol=1e-6)


def test_lsp_persons_may_be_chosen_by_number(write_set):
    dataset = write_set("lsp")
    splits = {"train": {"folder": "train", "numbers": [2, 4]}}
    people = read_split(dataclasses.replace(dataset, splits=splits), "train")
    assert people.ids.tolist() == [2, 3, 4]


def test_mpii_and_lspet_join_the_training_of_lsp(write_set):
    lsp, mpii, lspet = (write_set(name) for name in ("lsp", "mpii", "lspet"))
    merged = {
        "mpii": {"root": str(mpii.root), "annotations": "train.json", "images": "train"},
        "lspet": {"root": str(lspet.root)},
    }
    splits = lsp.splits | {"train": {"folder": "train", "numbers": [1, 2], "merged": merged}}
    dataset = dataclasses.replace(lsp, splits=splits)
    people, theirs = read_split(dataset, "train"), read_split(mpii, "train")
    assert len(people) == 2 + len(theirs) + 12
    assert len(np.unique(people.ids)) == len(people)
    assert people.skeleton is LSP14
    for name, of_mpii in (("neck", "upper_neck"), ("left_wrist", "left_wrist"), ("right_ankle", "right_ankle")):
        np.testing.assert_array_equal(
            people.keypoints[2 : 2 + len(theirs), LSP14.index(name)], theirs.keypoints[:, MPII16.index(of_mpii)]
        )
    np.testing.assert_array_equal(people.centers[2], theirs.centers[0])
    digest = datasets.annotation_digest(dataset)
    (mpii.root / "train.json").write_text((mpii.root / "train.json").read_text() + " ")
    assert datasets.annotation_digest(dataset) != digest, "what is merged is checked as well"
    assert len(read_split(dataset, "val")) == 2


def test_an_unknown_split_or_format_is_named(write_set):
    dataset = write_set("lsp")
    with pytest.raises(ValueError, match="lsp has no split 'tests'; it has train, val, test"):
        read_split(dataset, "tests")
    with pytest.raises(ValueError, match="dataset lsp: format='cocoa' is none of 'coco', 'lsp', 'lspet', 'mpii'"):
        read_split(dataclasses.replace(dataset, format="cocoa"), "train")


def test_copies_of_a_picture_in_two_splits_are_refused_whatever_their_file(write_set):
    dataset = write_set("mpii")
    copy, original = dataset.root / "test/0.png", dataset.root / "train/2.png"
    cv2.imwrite(str(copy), cv2.imread(str(original)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert copy.read_bytes() != original.read_bytes()
    with pytest.raises(ValueError, match=r"mpii: 1 pictures of test .*test/0\.png is \S*train/2\.png of train"):
        prepare(dataset)
    accepted = dataset.splits | {"test": dataset.splits["test"] | {"may_share_pictures": True}}
    assert prepare(dataclasses.replace(dataset, splits=accepted))["test"]["persons"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 0}, "ids below 1"),
        ({"num_keypoints": 0}, "'num_keypoints' is not that of its 'keypoints'"),
        ({"iscrowd": 1, "keypoints": None}, "'keypoints' must be finite numbers"),
    ],
    ids=["id", "num_keypoints", "crowd without keypoints"],
)
def test_whatever_the_scorer_refuses_is_refused_before_training(write_set, changes, message):
    dataset = write_set("coco")
    edit(dataset.root / "test.json", "annotations", **changes)
    with pytest.raises(ValueError, match=rf"test\.json: annotations.*{message}"):
        prepare(dataset)


def test_pckh_without_heads_is_refused_before_training(write_set):
    dataset = write_set("mpii")
    files = {kind: value for kind, value in dataset.splits["val"].items() if kind != "ground_truth"}
    with pytest.raises(ValueError, match="give `ground_truth` of val"):
        prepare(dataclasses.replace(dataset, splits=dataset.splits | {"val": files}))
    prepare(
        dataclasses.replace(
            dataset, splits=dataset.splits | {"train": files | {"annotations": "train.json", "images": "train"}}
        )
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_impossible_coordinates_are_refused_before_training(write_set, split):
    dataset = write_set("coco")
    path = dataset.root / f"{split}.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["keypoints"] = [2 if k % 3 == 2 else value / 64 for k, value in enumerate(annotation["keypoints"])]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"coco {split}: .*outside the boxes of their persons"):
        prepare(dataset)


def test_the_manifest_says_who_was_left_out_and_why(write_set):
    dataset = write_set("coco")
    edit(dataset.root / "train.json", "annotations", iscrowd=1)
    assert prepare(dataset)["train"]["left_out"] == {"crowds": 1}


def test_an_entry_of_a_split_must_have_what_its_format_needs_and_nothing_else(write_set):
    dataset = write_set("coco")
    for files, message in (
        ({"annotations": "test.json"}, "missing or unknown: images"),
        (dataset.splits["test"] | {"detection": "detections.json"}, "missing or unknown: detection"),
    ):
        with pytest.raises(ValueError, match=f"coco, split test: {message}; .*needs annotations, images and may have"):
            prepare(dataclasses.replace(dataset, splits=dataset.splits | {"test": files}))


@pytest.mark.parametrize("contents", [b"", None], ids=["empty", "half"])
def test_pictures_that_only_detections_name_are_checked(write_set, contents):
    dataset = write_set("coco")
    path = dataset.root / "test" / "9.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    document = json.loads((dataset.root / "test.json").read_text())
    document["images"].append({"id": 9, "file_name": "9.jpg", "width": 64, "height": 48})
    (dataset.root / "test.json").write_text(json.dumps(document))
    found = json.loads((dataset.root / "detections.json").read_text())
    (dataset.root / "detections.json").write_text(json.dumps([*found, found[0] | {"image_id": 9}]))
    path.write_bytes(whole)
    prepare(dataset)
    path.write_bytes(whole[: len(whole) // 2] if contents is None else contents)
    with pytest.raises(ValueError, match=r"1 of 1 images cannot be used: \S*9\.jpg"):
        prepare(dataset)


def test_detections_that_cannot_be_are_refused_before_training(write_set):
    dataset = write_set("coco")
    path = dataset.root / "detections.json"
    found = json.loads(path.read_text())
    for box in ([0.2, 0.3, 0.5, 0.4], [30, 20, 50, 45]):
        path.write_text(json.dumps([one | {"bbox": box} for one in found]))
        with pytest.raises(ValueError, match=r"coco test, detections: most persons .*boxes x, y, width, height"):
            prepare(dataset)


@pytest.mark.parametrize("picture", ["encoded anew", "smaller"])
def test_copies_in_another_encoding_are_refused_but_a_few_only_named(write_set, picture, caplog, monkeypatch):
    dataset = write_set("mpii")
    original, copy = (cv2.imread(str(dataset.root / name)) for name in ("train/2.png", "test/0.png"))
    smooth = cv2.resize(cv2.resize(original, (8, 6)), (64, 48), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(dataset.root / "train/2.png"), smooth)
    smaller = cv2.resize(smooth, (48, 36), interpolation=cv2.INTER_AREA)
    again = cv2.imdecode(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    assert not np.array_equal(again, smooth)
    cv2.imwrite(str(dataset.root / "test/0.png"), again if picture == "encoded anew" else smaller)
    with pytest.raises(ValueError, match=r"mpii: 1 pictures of test .*test/0\.png is \S*train/2\.png of train"):
        prepare(dataset)
    monkeypatch.setattr(datasets, "FEW", 0.5)  # of two pictures
    prepare(dataset)
    assert "mpii: 1 pictures of test are in another split" in caplog.text
    cv2.imwrite(str(dataset.root / "test/0.png"), copy)
    prepare(dataset)


def test_what_only_the_test_split_can_use_is_refused_elsewhere(write_set):
    dataset = write_set("coco")
    splits = dataset.splits | {"val": dataset.splits["val"] | {"max_persons": 30}}
    with pytest.raises(ValueError, match="split val: missing or unknown: max_persons"):
        prepare(dataclasses.replace(dataset, splits=splits))


@pytest.mark.parametrize("missing", ["annotations", "images"])
def test_a_merged_set_with_half_of_its_files_is_named(write_set, missing):
    lsp, mpii = write_set("lsp"), write_set("mpii")
    merged = {"root": str(mpii.root), "annotations": "train.json", "images": "train"}
    del merged[missing]
    splits = lsp.splits | {"train": {"folder": "train", "merged": {"mpii": merged}}}
    with pytest.raises(ValueError, match="merged mpii has annotations or images alone"):
        read_split(dataclasses.replace(lsp, splits=splits), "train")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("coco", "may_share_pictures", "no"),
        ("coco", "may_share_pictures", 1),
        ("coco", "max_persons", "20"),
        ("coco", "images", None),
        ("lsp", "numbers", 5),
        ("lsp", "merged", "lspet"),
        ("lspet", "fraction", "0.5"),
    ],
)
def test_a_value_of_another_type_in_an_entry_is_named(write_set, name, key, value):
    dataset = write_set(name)
    splits = dataset.splits | {"test": dataset.splits["test"] | {key: value}}
    with pytest.raises(ValueError, match=f"{name}, split test: {key} must be .*, got {value!r}"):
        prepare(dataclasses.replace(dataset, splits=splits))


@pytest.mark.parametrize("name", ["mpii", "lspet"])
def test_coordinates_of_each_merged_set_are_checked(write_set, name):
    sets = {name: write_set(name) for name in ("lsp", "mpii", "lspet")}
    root = {key: {"root": str(sets[key].root)} for key in ("mpii", "lspet")}
    merged = {"mpii": root["mpii"] | {"annotations": "train.json", "images": "train"}, "lspet": root["lspet"]}
    dataset = sets["lsp"]
    splits = dataset.splits | {"train": {"folder": "train", "merged": merged}}
    dataset = dataclasses.replace(dataset, splits=splits)
    prepare(dataset)
    if name == "mpii":
        entries = json.loads((sets["mpii"].root / "train.json").read_text())
        entries = [entry | {"scale": 200 * entry["scale"]} for entry in entries]
        (sets["mpii"].root / "train.json").write_text(json.dumps(entries))
    else:
        joints = loadmat(sets["lspet"].root / "joints.mat")["joints"]
        joints[:, :2] /= 64
        savemat(sets["lspet"].root / "joints.mat", {"joints": joints})
    with pytest.raises(ValueError, match=f"lsp train, merged {name}: most persons"):
        prepare(dataset)


@pytest.mark.parametrize("field", ["center", "scale"])
def test_centres_and_extents_of_mpii_are_checked(write_set, field):
    dataset = write_set("mpii")
    entries = json.loads((dataset.root / "train.json").read_text())
    for entry in entries:
        entry[field] = entry[field] * 200 if field == "scale" else [entry[field][0] / 64, entry[field][1] / 48]
    (dataset.root / "train.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="mpii train: most persons have"):
        prepare(dataset)
