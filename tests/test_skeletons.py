"""Indices of the skeletons against the names that they stand for."""

import pytest
import yaml

from hpelib.skeletons import SKELETONS, read_skeletons

SIDED = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
HEADS = {
    "coco17": {"nose", "left_eye", "right_eye", "left_ear", "right_ear"},
    "mpii16": {"head_top"},
    "lsp14": {"neck", "head_top"},
}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_a_joint_group_is_left_and_right_of_its_name(skeleton):
    groups = {name: {skeleton.keypoints[k] for k in members} for name, members in skeleton.groups.items()}
    sided = {name: {f"{side}_{name.lower()}" for side in ("left", "right")} for name in SIDED}
    assert groups == {"Head": HEADS[skeleton.name]} | sided


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_the_upper_body_is_all_above_the_hips(skeleton):
    lower = {name for name in skeleton.keypoints if name.endswith(("pelvis", "hip", "knee", "ankle"))}
    assert {skeleton.keypoints[k] for k in skeleton.upper_body} == set(skeleton.keypoints) - lower


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_mirrored_keypoints_change_side_and_no_other_does(skeleton):
    mirror = {"left": "right", "right": "left"}
    for name, k in zip(skeleton.keypoints, skeleton.flip_permutation, strict=True):
        side, _, joint = name.partition("_")
        assert skeleton.keypoints[k] == (f"{mirror[side]}_{joint}" if side in mirror else name)


HAND = {
    "keypoints": ["left_thumb", "right_thumb", "palm"],
    "skeleton": [[1, 3], [2, 3]],
    "groups": {"Thumb": ["left_thumb", "right_thumb"]},
    "upper_body": ["palm"],
    "sigmas": [0.03, 0.03, 0.1],
    "unscored": ["palm"],
}


def read(folder, **changes):
    entry = {name: value for name, value in (HAND | changes).items() if value is not None}
    (folder / "own.yaml").write_text(yaml.safe_dump({"hand": entry}))
    return read_skeletons(folder / "own.yaml")["hand"]


def test_a_set_of_ones_own_counts_bones_from_1_and_names_all_else(tmp_path):
    hand = read(tmp_path)
    assert (hand.name, hand.keypoints) == ("hand", ("left_thumb", "right_thumb", "palm"))
    assert (hand.bones, hand.flip_pairs, hand.groups) == (((0, 2), (1, 2)), ((0, 1),), {"Thumb": (0, 1)})
    assert (hand.upper_body, hand.unscored, hand.sigmas) == ((2,), (2,), (0.03, 0.03, 0.1))
    assert read(tmp_path, sigmas=None, unscored=None).unscored == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": None}, "needs.*keypoints"),
        ({"bones": []}, "bones"),
        ({"skeleton": [[0, 3]]}, "numbers 1 to 3"),
        ({"keypoints": ["palm", "palm", "left_thumb"]}, "repeats a keypoint"),
        ({"keypoints": ["left_thumb", "right_finger", "palm"]}, "no keypoint 'right_thumb'; it has left_thumb"),
        ({"upper_body": ["wrist"]}, "no keypoint 'wrist'"),
        ({"sigmas": [0.1]}, "1 sigmas for 3 keypoints"),
    ],
    ids=str,
)
def test_a_broken_entry_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"own\.yaml: hand .*{message}"):
        read(tmp_path, **changes)
