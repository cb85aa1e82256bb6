"""Pictures and their truth, against formulas by hand and rays through the scene."""

from dataclasses import replace
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest

from hpelib.mannequins.figures import dress, pose_person
from hpelib.mannequins.poses import ANGLES
from hpelib.mannequins.raster import Camera
from hpelib.mannequins.render import COVER, KEYPOINTS, extent, render, thing_mesh
from hpelib.mannequins.scenes import SceneSpec, ThingSpec, read_recipe, sample_scene
from hpelib.skeletons import COCO17, LSP14, MPII16


@pytest.fixture(scope="module")
def recipe() -> dict:
    return read_recipe(Path(__file__).resolve().parents[2] / "data" / "mannequins.yaml")


def angles_of(**changed) -> dict[str, float]:
    return dict.fromkeys(ANGLES, 0.0) | changed


def lone_person(recipe: dict, **changed) -> SceneSpec:
    """Somebody who stands 4 m in front of a level camera, arms a little away from the body, nothing else around."""
    sampled = sample_scene(recipe, 0, "train", 0)
    stance = angles_of(left_shoulder_abduction=25.0, right_shoulder_abduction=25.0)
    fixed = {"stature_m": 1.75, "childness": 0.0, "angles": stance, "support": "planted", "lift_m": 0.0}
    fixed |= {"position_m": (0.0, -4.0), "yaw_deg": 0.0}
    person = replace(sampled.persons[0], **fixed | changed)
    camera = Camera(320, 256, focal_px=450.0, height_m=0.9, pitch_deg=0.0, roll_deg=0.0)
    exposure = replace(sampled.exposure, blur_px=0.0, noise=0.0, light=1.0)
    return replace(sampled, camera=camera, persons=(person,), crowd=(), things=(), exposure=exposure)


def keypoints(truth, skeleton=COCO17) -> dict[str, np.ndarray]:
    return dict(zip(skeleton.keypoints, truth.of(skeleton)[0], strict=True))


def test_projection_is_a_pinhole_camera_turned_by_pitch_and_roll():
    camera = Camera(320, 240, focal_px=400.0, height_m=1.5, pitch_deg=12.0, roll_deg=7.0)
    points = np.array([[0.3, 1.2, -4.0], [-1.0, 0.0, -6.0], [0.5, 2.5, -3.0]])
    for point, pixel in zip(points, camera.to_image(camera.to_camera(points)), strict=True):
        right, down, ahead = point[0], 1.5 - point[1], -point[2]
        p, r = radians(12.0), radians(7.0)
        down, ahead = down * cos(p) - ahead * sin(p), down * sin(p) + ahead * cos(p)
        right, down = right * cos(r) - down * sin(r), right * sin(r) + down * cos(r)
        assert pixel == pytest.approx([159.5 + 400 * right / ahead, 119.5 + 400 * down / ahead])


def test_left_is_on_the_right_of_the_image_for_somebody_who_faces_the_camera(recipe):
    front = render(lone_person(recipe)).persons[0]
    back = render(lone_person(recipe, yaw_deg=180.0)).persons[0]
    for joint in ("shoulder", "hip", "knee", "ankle", "wrist", "ear", "eye"):
        assert keypoints(front)[f"left_{joint}"][0] > keypoints(front)[f"right_{joint}"][0] + 1
        assert keypoints(back)[f"left_{joint}"][0] < keypoints(back)[f"right_{joint}"][0] - 1
    nose = KEYPOINTS.index("nose")
    assert (front.visibility[nose], back.visibility[nose]) == (2, 1)
    assert (front.factors["view_deg"], abs(back.factors["view_deg"])) == (0.0, 180.0)


def test_a_mirrored_scene_has_mirrored_truth(recipe):
    angles = angles_of(left_shoulder_flexion=80.0, right_knee_flexion=30.0, spine_bend=10.0, head_twist=20.0)
    spec = lone_person(recipe, angles=angles, support="lowest", position_m=(0.4, -4.0), yaw_deg=35.0)
    mirrored_angles = angles_of(right_shoulder_flexion=80.0, left_knee_flexion=30.0, spine_bend=-10.0, head_twist=-20.0)
    mirrored = replace(spec.persons[0], angles=mirrored_angles, position_m=(-0.4, -4.0), yaw_deg=-35.0)
    truth = render(spec).persons[0]
    other = render(replace(spec, persons=(mirrored,))).persons[0]
    for skeleton in (COCO17, MPII16, LSP14):
        points, visibility = truth.of(skeleton)
        flipped, other_visibility = (column[list(skeleton.flip_permutation)] for column in other.of(skeleton))
        np.testing.assert_allclose(points, flipped * (-1, 1) + (319, 0), atol=1e-6)
        assert (visibility != other_visibility).sum() <= 1  # a ray may graze an edge
    assert (truth.mask != other.mask[:, ::-1]).mean() < 0.003


def rays_blocked(points: np.ndarray, eye: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(P,) distance in m before each point at which its ray from the eye first meets a quadrilateral, 0 for never.

    Moeller and Trumbore's intersection, two triangles per quadrilateral.
    """
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    a, ab, ac = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    gaps = np.zeros(len(points))
    for i, point in enumerate(points):
        ray = point - eye
        p = np.cross(ray, ac)
        determinant = (ab * p).sum(1)
        safe = np.where(np.abs(determinant) < 1e-12, np.inf, determinant)
        u = ((eye - a) * p).sum(1) / safe
        q = np.cross(eye - a, ab)
        v, t = (q @ ray) / safe, (ac * q).sum(1) / safe
        hit = np.isfinite(safe) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1)
        if hit.any():
            gaps[i] = (1 - t[hit].min()) * np.linalg.norm(ray)
    return gaps


def test_visibility_agrees_with_rays_through_the_scene(recipe):
    agreed = []
    for index in (1, 5, 17, 18):
        spec = replace(sample_scene(recipe, 0, "train", index), crowd=())
        spec = replace(spec, persons=tuple(replace(p, support="lowest") for p in spec.persons))  # no chairs
        meshes = [dress(person, pose_person(person), sides=10) for person in spec.persons]
        things = [thing_mesh(thing) for thing in spec.things]
        eye = np.array([0.0, spec.camera.height_m, 0.0])
        shown = render(spec).persons
        assert len(shown) == len(spec.persons)
        for number, truth in enumerate(shown):
            own = meshes[number]
            others = [m for i, m in enumerate(meshes) if i != number] + things
            covered = rays_blocked(truth.points_m, eye, own.vertices[own.faces])
            limit = COVER * spec.persons[number].stature_m
            hidden = covered > limit
            for mesh in others:
                hidden |= rays_blocked(truth.points_m, eye, mesh.vertices[mesh.faces]) > 0
            clear = (truth.visibility > 0) & (np.abs(covered - limit) > 0.03)
            agreed.extend((truth.visibility == 1)[clear] == hidden[clear])
    assert len(agreed) > 150
    assert np.mean(agreed) > 0.97  # what is left are rays along edges


@pytest.mark.parametrize("distance_m", [3.0, 3.84])  # far in front, and touching the body
def test_a_box_in_front_hides_what_is_behind_it(recipe, distance_m):
    spec = lone_person(recipe)
    whole = render(spec).persons[0]
    box = ThingSpec("box", (0.0, 0.8, -distance_m), (0.5, 0.3, 0.03), 0.0, ((0.5, 0.5, 0.5),), 0)
    covered = render(replace(spec, things=(box,))).persons[0]
    for name in ("hip", "knee"):
        for side in ("left", "right"):
            joint = KEYPOINTS.index(f"{side}_{name}")
            assert (whole.visibility[joint], covered.visibility[joint]) == (2, 1)
    assert covered.visibility[KEYPOINTS.index("nose")] == 2
    assert covered.factors["occluded_fraction"] == pytest.approx(1 - covered.mask.sum() / whole.mask.sum(), abs=0.02)
    np.testing.assert_array_equal(whole.points_px, covered.points_px)


def test_who_leaves_the_image_is_truncated_and_his_joints_are_not_labelled(recipe):
    half_view = 4.0 * 160 / 450
    truth = render(lone_person(recipe, position_m=(half_view, -4.0))).persons[0]
    assert truth.factors["truncation"] == pytest.approx(0.5, abs=0.03)
    assert truth.factors["occluded_fraction"] == pytest.approx(0.0, abs=1e-3)
    outside = (truth.points_px < -0.5).any(1) | (truth.points_px >= (319.5, 255.5)).any(1)
    np.testing.assert_array_equal(truth.visibility == 0, outside)
    assert outside.any()


def test_factors_of_somebody_alone(recipe):
    factors = render(lone_person(recipe)).persons[0].factors
    assert factors["height_px"] == pytest.approx(450 * 1.75 / 4.0, rel=1e-3)
    assert (factors["occluded_fraction"], factors["truncation"], factors["overlap"]) == (0.0, 0.0, 0.0)
    turned = render(lone_person(recipe, position_m=(1.0, -4.0), yaw_deg=-30.0)).persons[0].factors
    assert turned["view_deg"] == pytest.approx(-30.0 - np.degrees(np.arctan2(-1.0, 4.0)), abs=1e-3)


def test_exposure_changes_pixels_and_not_the_truth(recipe):
    spec = lone_person(recipe)
    spoiled = replace(spec, exposure=replace(spec.exposure, blur_px=1.5, noise=8.0, light=0.6))
    clean, noisy = render(spec), render(spoiled)
    assert clean.image.mean() > 1.3 * noisy.image.mean()
    np.testing.assert_array_equal(clean.persons[0].points_px, noisy.persons[0].points_px)
    np.testing.assert_array_equal(clean.persons[0].mask, noisy.persons[0].mask)


def test_head_box_holds_the_head_and_the_box_the_mask(recipe):
    for index in range(4):
        for truth in render(sample_scene(recipe, 2, "val", index)).persons:
            points = keypoints(truth)
            low, high = truth.head_box[:2], truth.head_box[2:]
            for name in ("left_eye", "right_eye"):
                assert ((points[name] > low - 1) & (points[name] < high + 1)).all()
            rows, columns = np.nonzero(truth.mask)
            expected = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            np.testing.assert_array_equal(truth.box, expected)
            np.testing.assert_array_equal(extent(truth.mask), expected)


def test_middles_are_middles(recipe):
    truth = render(lone_person(recipe, yaw_deg=50.0)).persons[0]
    points = dict(zip(KEYPOINTS, truth.points_m, strict=True))
    np.testing.assert_allclose(points["pelvis"], (points["left_hip"] + points["right_hip"]) / 2)
    np.testing.assert_allclose(points["thorax"], (points["left_shoulder"] + points["right_shoulder"]) / 2)
    np.testing.assert_array_equal(points["neck"], points["upper_neck"])


def test_a_crowd_is_one_mask_and_nobody_in_it_counts_as_a_person(recipe):
    spec = lone_person(recipe)
    crowd = tuple(replace(spec.persons[0], position_m=(x, -8.0)) for x in (-2.0, 2.0))
    scene = render(replace(spec, crowd=crowd))
    left, right = (render(replace(spec, persons=(person,))).persons[0].mask for person in crowd)
    assert len(scene.persons) == 1
    np.testing.assert_array_equal(scene.crowd_mask, left | right)
    assert render(spec).crowd_mask is None
