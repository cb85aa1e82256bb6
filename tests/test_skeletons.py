"""Indices of the skeletons against the names that they stand for."""

import pytest

from hpelib.skeletons import SKELETONS

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
