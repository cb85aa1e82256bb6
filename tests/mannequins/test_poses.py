"""Bones, joint angles and feet of posed skeletons, against formulas by hand."""

from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest

from hpelib.mannequins.poses import (
    ANGLES,
    LIMB_ANGLES,
    SEGMENTS,
    articulate,
    plant_feet,
    sample_angles,
    segment_lengths,
)
from hpelib.mannequins.scenes import read_recipe

LENGTHS = segment_lengths(1.75, 0.0)


@pytest.fixture(scope="module")
def recipe() -> dict:
    return read_recipe(Path(__file__).resolve().parents[2] / "data" / "mannequins.yaml")


def angles_of(**changed) -> dict[str, float]:
    return dict.fromkeys(ANGLES, 0.0) | changed


@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.parametrize("childness", [0.0, 0.8])
def test_bones_keep_their_lengths_in_every_pose(recipe, planted, childness):
    rng = np.random.default_rng(4)
    lengths = segment_lengths(1.6, childness)
    for name in ("upper_arm", "shin"):
        adult, child = SEGMENTS[name]
        assert lengths[name] == pytest.approx(1.6 * (adult * (1 - childness) + child * childness))
    bones = {"upper_arm": ("shoulder", "elbow"), "forearm": ("elbow", "wrist"), "thigh": ("hip", "knee")}
    bones |= {"shin": ("knee", "ankle")}
    for pose in recipe["poses"].values():
        angles = sample_angles(rng, recipe["arms"][pose["arms"][0]] | pose, recipe["limits"])
        skeleton = articulate(lengths, angles, yaw_deg=rng.uniform(-180, 180))
        if planted:
            skeleton = plant_feet(skeleton)
        for bone, (start, end) in bones.items():
            for side in ("left", "right"):
                measured = np.linalg.norm(skeleton.points[f"{side}_{start}"] - skeleton.points[f"{side}_{end}"])
                assert measured == pytest.approx(lengths[bone])
        shoulders = skeleton.points["left_shoulder"] - skeleton.points["neck_base"]
        assert np.linalg.norm(shoulders) == pytest.approx(lengths["half_shoulders"])


def test_joint_angles_mean_what_they_say():
    skeleton = articulate(LENGTHS, angles_of(left_elbow_flexion=90.0, right_knee_flexion=60.0), yaw_deg=0.0)
    forearm = skeleton.points["left_wrist"] - skeleton.points["left_elbow"]
    shin = skeleton.points["right_ankle"] - skeleton.points["right_knee"]
    np.testing.assert_allclose(forearm, [0, 0, LENGTHS["forearm"]], atol=1e-9)  # forwards
    expected = LENGTHS["shin"] * np.array([0, -cos(radians(60)), -sin(radians(60))])  # backwards
    np.testing.assert_allclose(shin, expected, atol=1e-9)
    raised = articulate(LENGTHS, angles_of(left_shoulder_abduction=90.0, right_hip_flexion=90.0), yaw_deg=0.0)
    assert raised.points["left_elbow"][0] - raised.points["left_shoulder"][0] == pytest.approx(LENGTHS["upper_arm"])
    assert raised.points["right_knee"][2] - raised.points["right_hip"][2] == pytest.approx(LENGTHS["thigh"])


def test_sampled_angles_follow_the_prior_within_the_limits_and_are_mirrored_half_of_the_time():
    limits = dict.fromkeys(ANGLES, (-60, 60)) | dict.fromkeys(LIMB_ANGLES, (-60, 60))
    prior = {"spine_bend": [20, 0], "knee_flexion": [30, 10], "left_elbow_flexion": [50, 0], "elbow_flexion": [90, 0]}
    rng = np.random.default_rng(0)
    drawn = [sample_angles(rng, prior, limits) for _ in range(2000)]
    assert all(set(angles) == set(ANGLES) for angles in drawn)
    columns = {name: np.array([angles[name] for angles in drawn]) for name in ANGLES}
    assert max(np.abs(column).max() for column in columns.values()) == 60
    turned = columns["spine_bend"] == -20
    assert turned.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(columns["spine_bend"], np.where(turned, -20, 20))
    np.testing.assert_array_equal(columns["left_elbow_flexion"], np.where(turned, 60, 50))  # 90 is clipped
    np.testing.assert_array_equal(columns["right_elbow_flexion"], np.where(turned, 50, 60))
    knees = columns["left_knee_flexion"], columns["right_knee_flexion"]
    assert [knee.mean() for knee in knees] == pytest.approx([30, 30], abs=1)
    assert [knee.std() for knee in knees] == pytest.approx([10, 10], abs=0.7)
    assert np.corrcoef(*knees)[0, 1] == pytest.approx(0, abs=0.1)  # drawn one by one
    assert columns["head_flexion"].std() == pytest.approx(4, abs=0.3)  # not in the prior


def test_planted_feet_are_level_and_flat():
    skeleton = articulate(LENGTHS, angles_of(left_hip_flexion=30.0, left_knee_flexion=50.0, pelvis_roll=5.0), 70.0)
    planted = plant_feet(skeleton)
    assert skeleton.points["left_ankle"][1] - skeleton.points["right_ankle"][1] > 0.05
    assert planted.points["left_ankle"][1] == pytest.approx(planted.points["right_ankle"][1], abs=2e-3)
    for side in ("left", "right"):
        np.testing.assert_allclose(planted.frames[f"{side} foot"][:, 1], [0, 1, 0], atol=1e-9)
