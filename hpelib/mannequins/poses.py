"""From joint angles to a skeleton in 3D (forward kinematics).

The axes of the body: x points to the person's left, y up, and z to where the person looks. All angles are in degrees
and zero when the person stands upright with hanging arms. They have anatomical names (flexion, abduction, external
rotation), so the same number means the same movement on the left and on the right. Their names, and the lengths of the
segments, are in poses.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import yaml

SIDES = {"left": 1.0, "right": -1.0}  # the sign of x on each side of the body
_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
TRUNK_ANGLES, LIMB_ANGLES = tuple(_TABLES["trunk_angles"]), tuple(_TABLES["limb_angles"])
SEGMENTS = _TABLES["segments"]  # fractions of the stature of an adult and of a child, by name
ANGLES = TRUNK_ANGLES + tuple(f"{side}_{angle}" for side in SIDES for angle in LIMB_ANGLES)
DOWN = np.array([0.0, -1.0, 0.0])


def rotation(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> np.ndarray:
    """The right-handed rotation matrix Rx(x) Ry(y) Rz(z), (3, 3); it turns column vectors."""
    a, b, c = radians(x_deg), radians(y_deg), radians(z_deg)
    ca, sa, cb, sb, cc, sc = cos(a), sin(a), cos(b), sin(b), cos(c), sin(c)
    return np.array(
        [
            [cb * cc, -cb * sc, sb],
            [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb],
            [sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb],
        ]
    )


def segment_lengths(stature_m: float, childness: float) -> dict[str, float]:
    """Length in m of every segment in `SEGMENTS`.

    `childness` 0 gives the proportions of an adult, 1 those of a child of four, 0.5 the middle of both.
    """
    return {name: stature_m * (adult + (child - adult) * childness) for name, (adult, child) in SEGMENTS.items()}


@dataclass(frozen=True)
class Body:
    """A posed skeleton in metres."""

    lengths: dict[str, float]  # of the segments, by the names in SEGMENTS
    points: dict[str, np.ndarray]  # (3,) joint centres, for example "left_knee"
    frames: dict[str, np.ndarray]  # (3, 3) axes of each segment as columns, for example "left shin"


def sample_angles(rng: np.random.Generator, prior: Mapping, limits: Mapping) -> dict[str, float]:
    """Random joint angles in degrees, one for each name in `ANGLES`.

    `prior` maps a joint to the mean and standard deviation of a normal distribution; `limits` maps it to the least
    and the greatest angle, and values beyond are clipped. A name without a side, such as `knee_flexion`, holds for
    both knees, which get a random number each; `left_knee_flexion` overrides it. Joints that the prior leaves out get
    mean 0 and deviation 4. Half of all poses are mirrored at the end.
    """
    mirror = rng.random() < 0.5
    angles = {}
    for name, normal in zip(ANGLES, rng.standard_normal(len(ANGLES)).tolist(), strict=True):
        side, _, joint = name.partition("_")
        kind = joint if side in SIDES else name
        mean, sd = prior.get(name, prior.get(kind, (0.0, 4.0)))
        angles[name] = min(max(mean + sd * normal, limits[kind][0]), limits[kind][1])
    return mirrored(angles) if mirror else angles


def mirrored(angles: Mapping[str, float]) -> dict[str, float]:
    """The same pose as a mirror shows it: left and right change places."""
    other = {"left": "right", "right": "left"}
    result = {}
    for name, value in angles.items():
        side, _, joint = name.partition("_")
        result[f"{other[side]}_{joint}" if side in other else name] = -value if name in _TABLES["sideways"] else value
    return result


def articulate(lengths: Mapping[str, float], angles: Mapping[str, float], yaw_deg: float) -> Body:
    """The skeleton with these angles. The middle of the hips is the origin; with `yaw_deg` 0 it looks along +z."""
    half_bend = rotation(angles["spine_flexion"] / 2, angles["spine_twist"] / 2, angles["spine_bend"] / 2)
    half_nod = rotation(angles["head_flexion"] / 2, angles["head_twist"] / 2, angles["head_bend"] / 2)
    frames = {"pelvis": rotation(y_deg=yaw_deg) @ rotation(angles["pelvis_tilt"], 0.0, angles["pelvis_roll"])}
    frames["waist"] = frames["pelvis"] @ half_bend
    frames["chest"] = frames["waist"] @ half_bend
    frames["neck"] = frames["chest"] @ half_nod
    frames["head"] = frames["neck"] @ half_nod
    points = {"pelvis": np.zeros(3)}

    for start, segment, end, direction in _TABLES["trunk"]:
        points[end] = points[start] + frames[segment] @ (lengths[segment] * np.array(direction))
    for side, sign in SIDES.items():
        angle = {name: angles[f"{side}_{name}"] for name in LIMB_ANGLES}
        raised = max(0.0, max(angle["shoulder_flexion"], angle["shoulder_abduction"]) - 60.0)
        clavicle = frames["chest"] @ rotation(z_deg=sign * 0.2 * raised)  # the shoulder blade follows a raised arm
        points[f"{side}_shoulder"] = points["neck_base"] + clavicle @ (sign * lengths["half_shoulders"], 0.0, 0.0)
        points[f"{side}_hip"] = frames["pelvis"] @ (sign * lengths["half_hips"], 0.0, 0.0)
        for trunk, joint, segment in (("chest", "shoulder", "upper_arm"), ("pelvis", "hip", "thigh")):
            swing = rotation(-angle[f"{joint}_flexion"], 0.0, sign * angle[f"{joint}_abduction"])
            frames[f"{side} {segment}"] = frames[trunk] @ swing @ rotation(y_deg=sign * angle[f"{joint}_rotation"])
        frames[f"{side} forearm"] = frames[f"{side} upper_arm"] @ rotation(-angle["elbow_flexion"])
        frames[f"{side} hand"] = frames[f"{side} forearm"] @ rotation(y_deg=sign * angle["wrist_twist"])
        frames[f"{side} shin"] = frames[f"{side} thigh"] @ rotation(angle["knee_flexion"])
        frames[f"{side} foot"] = frames[f"{side} shin"] @ rotation(-angle["ankle_flexion"])
        for start, segment, end in _TABLES["limbs"]:
            along = frames[f"{side} {segment}"] @ (lengths[segment] * DOWN)
            points[f"{side}_{end}"] = points[f"{side}_{start}"] + along
    return Body(dict(lengths), points, frames)


def plant_feet(body: Body) -> Body:
    """The same body with both soles flat on one level.

    The lower ankle sets the level, as far as the other leg can reach it. Each leg then bends anew: its ankle moves
    straight up or down to that level (and nearer to the hip if it is out of reach), the law of cosines gives the angle
    of the knee, and the leg swings about the hip to where the ankle has to be.
    """
    points, frames = dict(body.points), dict(body.frames)
    thigh, shin = body.lengths["thigh"], body.lengths["shin"]
    longest = 0.999 * (thigh + shin)
    ankles, hips = ([points[f"{side}_{joint}"][1] for side in SIDES] for joint in ("ankle", "hip"))
    level = max(min(ankles), max(hips) - longest)
    for side in SIDES:
        hip = points[f"{side}_hip"]
        target = points[f"{side}_ankle"] - hip
        target[1] = level - hip[1]
        away = np.sqrt(target[0] ** 2 + target[2] ** 2)
        target[[0, 2]] *= min(1.0, np.sqrt(max(longest**2 - target[1] ** 2, 0.0)) / max(away, 1e-9))
        reach = max(np.linalg.norm(target), abs(thigh - shin) + 1e-3)
        bent = rotation(np.degrees(np.arccos((reach**2 - thigh**2 - shin**2) / (2 * thigh * shin))))
        ankle = np.array([0.0, -thigh, 0.0]) + bent @ (0.0, -shin, 0.0)  # in the axes of the thigh
        upper = _swing(frames[f"{side} thigh"] @ ankle, target) @ frames[f"{side} thigh"]
        lower = upper @ bent
        frames[f"{side} thigh"], frames[f"{side} shin"] = upper, lower
        points[f"{side}_knee"] = hip + upper @ (0.0, -thigh, 0.0)
        points[f"{side}_ankle"] = points[f"{side}_knee"] + lower @ (0.0, -shin, 0.0)
        ahead = upper[:, 2] + lower[:, 2]
        frames[f"{side} foot"] = rotation(y_deg=np.degrees(np.arctan2(ahead[0], ahead[2])))
    return replace(body, points=points, frames=frames)


def _swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the direction `start` to `end` (Rodrigues' formula)."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + start @ end)
