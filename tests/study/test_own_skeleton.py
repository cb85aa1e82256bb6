"""A set of hands in COCO's format, with a skeleton of its own: read, trained, scored, looked at and exported."""

import argparse
import json

import numpy as np
import pytest
import yaml

from hpelib.data.coco import read_document
from hpelib.data.files import write_json
from hpelib.formats import form_of
from hpelib.metrics.coco import keypoint_similarity
from hpelib.skeletons import make_skeleton
from hpelib.study.config import make_dataset, make_run
from hpelib.study.evaluation import load, save
from hpelib.study.inside.explorer import Explorer
from hpelib.study.results.comparisons import mean_pose, put_mean_pose, scored_people
from hpelib.study.steps.evaluate import evaluate
from hpelib.study.steps.prepare import prepare, read_split
from hpelib.study.steps.train import build_network, train, training_people
from hpelib.study.tools.arguments import chosen_set, make_parser
from hpelib.study.tools.export import export
from hpelib.study.tools.score import score

FINGERS = ("thumb", "index", "middle", "ring", "little")
JOINTS = ["wrist", *(f"{finger}_{joint}" for finger in FINGERS for joint in range(1, 5))]
BONES = [[1 if joint == 0 else 1 + 4 * f + joint, 2 + 4 * f + joint] for f in range(5) for joint in range(4)]
HAND = {"hand21": {"keypoints": JOINTS, "skeleton": BONES, "sigmas": [0.03] * 21}}
HRNET = {"width": 8, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1, "stem_width": 16}


@pytest.fixture
def hands(params, write_set, tmp_path, monkeypatch):
    """Parameters of a study on hands: the tiny COCO set with 21 joints in place of 17, in a category of its own."""
    monkeypatch.chdir(tmp_path)
    root = write_set("coco").root
    random = np.random.default_rng(1)
    for split in ("train", "val", "test"):
        document = read_document(root / f"{split}.json", "annotations")
        for hand in document["annotations"]:
            x, y, w, h = hand["bbox"]
            joints = np.array([x, y]) + random.uniform(0, 1, (21, 2)) * (w, h)
            hand["keypoints"] = np.concatenate([joints, np.full((21, 1), 2)], 1).ravel().tolist()
            hand |= {"category_id": 3, "num_keypoints": 21}
        document["categories"] = [{"id": 1, "name": "arm"}, {"id": 3, "name": "hand", "keypoints": JOINTS}]
        write_json(root / f"{split}.json", document)
    boxes = json.loads((root / "detections.json").read_text())
    write_json(root / "detections.json", [box | {"category_id": 3} for box in boxes])
    (tmp_path / "hand.yaml").write_text(yaml.safe_dump(HAND))
    params["sets"]["coco"] |= {"skeleton": "hand.yaml"}
    params["profiles"]["tiny"]["inputs"] |= {"input_size": [64, 64], "heatmap_size": [16, 16]}
    params["profiles"]["tiny"]["networks"]["ditn"] = {
        "model": "ditn_w32",
        "options": {"backbone_options": HRNET},
        "recipe": {"loss": "transfer"},
    }
    params |= {"datasets": ["coco"], "all_datasets": ["coco"], "networks": ["hourglass", "ditn"], "seeds": [0]}
    dataset = make_dataset(params, "coco")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    return params


@pytest.mark.parametrize("network", ["hourglass", "ditn"])
def test_a_network_is_trained_scored_explored_and_exported(hands, network, tmp_path):
    run = make_run(hands, network, "coco", 0)
    people = training_people(run)
    assert people.skeleton.keypoints == tuple(JOINTS)
    model = build_network(run, people)
    train(run, model, people)
    if network == "ditn":
        assert model.bone_joints.tolist() == [[a - 1, b - 1] for a, b in BONES]
    evaluation = evaluate([run])
    save(evaluation, run.evaluation)
    loaded = load(run.evaluation)
    assert loaded.groups.keys() == {joint.replace("_", " ").capitalize() for joint in JOINTS}
    assert {"AP_gt", "AP_det", "OKS", "Thumb 1"} <= set(loaded.figures["metric"])
    test, test_images = read_split(run.dataset, "test"), hands["sets"]["coco"]["splits"]["test"]["images"]
    by_hand = keypoint_similarity(loaded.keypoints[0], test.keypoints, test.areas, [0.03] * 21)
    assert loaded.values("OKS") == [pytest.approx(100 * np.nanmean(by_hand), rel=1e-4, abs=1e-6)]
    explorer = Explorer(hands | {"networks": [network]}, "coco")
    assert len(explorer.figure(f"{network}, seed 0", 0, "thumb_4").axes) >= 4
    given = argparse.Namespace(root=run.dataset.root, annotations="test.json", images=test_images)
    parser = make_parser("score", "")
    unset = {key: None for key in vars(parser.parse_args([network, "coco", "0"])) if key not in vars(given)}
    scored = score(run, chosen_set(parser, argparse.Namespace(**unset, **vars(given)), "coco", run))
    assert scored.set_index("metric").loc["OKS", "value"] == pytest.approx(loaded.values("OKS")[0], abs=1e-4)
    if network == "hourglass":  # DITN's maps are flat after one epoch, and then any pixel is a maximum
        assert export(run, tmp_path / "hand.onnx")["scores"] < 1e-4


def test_the_mean_pose_is_of_the_own_skeleton(hands):
    dataset = make_dataset(hands, "coco")
    people = scored_people(dataset)
    assert put_mean_pose(dataset, people).shape == (len(people), 21, 2)
    assert "Thumb 1" in mean_pose(hands, "coco")


def test_a_set_without_sigmas_says_what_it_takes(hands, tmp_path, caplog):
    entry = {key: HAND["hand21"][key] for key in ("keypoints", "skeleton")}
    (tmp_path / "hand.yaml").write_text(yaml.safe_dump({"hand21": entry}))
    dataset = make_dataset(hands, "coco")
    people = read_split(dataset, "test")
    assert people.skeleton.sigmas == (0.05,) * 21
    dataset.form.check_truth(dataset, "test", people)
    assert "hand21 gives no sigmas" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: params["sets"]["coco"].update(skeleton="foot.yaml"), r"'foot.yaml' of a set is no file"),
        (lambda params: params["sets"]["coco"].update(format="lsp"), r"the format lsp has keypoints of its own"),
    ],
)
def test_a_skeleton_that_cannot_be_is_refused(hands, change, message):
    change(hands)
    with pytest.raises(ValueError, match=message):
        make_dataset(hands, "coco")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": {"OKS": ["nose"]}}, "the group 'OKS' is the name of a figure"),
        ({"groups": {"AP_gt": ["nose"]}}, "the group 'AP_gt' is the name of a figure"),
        ({"unscored": ["nose"]}, "the format coco scores all keypoints, also unscored: nose"),
    ],
)
def test_a_skeleton_that_figures_would_not_follow_is_refused(change, message):
    entry = {"keypoints": ["nose", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
    with pytest.raises(ValueError, match=message):
        form_of("coco", {"cat": entry | change})


def test_left_and_right_paws_are_mirrored():
    """An animal: pairs follow from names, and groups are made of them."""
    entry = {"keypoints": ["nose", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
    cat = make_skeleton("cat", entry, "cat.yaml")
    assert cat.flip_pairs == ((1, 2),)
    assert cat.groups == {"Nose": (0,), "Paw": (1, 2)}
    assert cat.flip_permutation == (0, 2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": [0.1, float("nan"), 0.1]}, "cat.yaml: cat: sigmas must be a list of shares"),
        ({"sigmas": [0.1, 0.0, 0.1]}, "sigmas must be a list of shares"),
        ({"sigmas": [30.0, 30.0, 30.0]}, "sigmas must be a list of shares"),
        ({"sigmas": 0.1}, "sigmas must be a list of shares"),
        ({"keypoints": ["nose", "tail", "right_paw"]}, "cat has no keypoint 'left_paw'"),
        ({"keypoints": ["nose", "left_paw", "tail"]}, "cat has no keypoint 'right_paw'"),
    ],
)
def test_impossible_sigmas_and_half_pairs_are_refused(change, message):
    entry = {"keypoints": ["nose", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
    with pytest.raises(ValueError, match=message):
        make_skeleton("cat", entry | change, "cat.yaml")
