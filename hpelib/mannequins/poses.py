"""Joint angles of the mannequins and the forward kinematics that turns them into a 3D skeleton.

Body axes: x to the person's left, y up, z to where the person looks. All angles are zero when the person
stands upright with hanging arms; they are anatomical (flexion, abduction, external rotation) and in degrees,
so that the same number means the same on both sides. Segment lengths follow Winter, "Biomechanics and Motor
Control of Human Movement", fig. 4.1 (after Drillis and Contini), as fractions of the stature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

SIDES = {"left": 1.0, "right": -1.0}  # sign of the body's x axis
TRUNK_ANGLES = (
    *("pelvis_tilt", "pelvis_roll", "spine_flexion", "spine_bend", "spine_twist"),
    *("head_flexion", "head_bend", "head_twist"),
)
LIMB_ANGLES = (
    *("shoulder_flexion", "shoulder_abduction", "shoulder_rotation", "elbow_flexion", "wrist_twist"),
    *("hip_flexion", "hip_abduction", "hip_rotation", "knee_flexion", "ankle_flexion"),
)
ANGLES = TRUNK_ANGLES + tuple(f"{side}_{angle}" for side in SIDES for angle in LIMB_ANGLES)

# name: fraction of the stature of an adult, of a child of about four years
SEGMENTS = {
    "pelvis": (0.060, 0.060),  # mid hip to lumbar spine
    "waist": (0.095, 0.090),
    "chest": (0.130, 0.125),  # to the height of the shoulders
    "neck": (0.052, 0.040),  # from there to the skull
    "head": (0.133, 0.185),
    "half_shoulders": (0.108, 0.104),
    "half_hips": (0.053, 0.050),
    "upper_arm": (0.172, 0.158),
    "forearm": (0.146, 0.132),
    "hand": (0.100, 0.090),
    "thigh": (0.245, 0.225),
    "shin": (0.246, 0.215),
    "ankle": (0.045, 0.045),  # ankle to sole
    "foot": (0.150, 0.150),
}


def rotation(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> np.ndarray:
    """(3, 3) matrix Rx(x) Ry(y) Rz(z), right-handed, of columns."""
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
    """Metres per name in `SEGMENTS`; childness 0 is an adult's proportions, 1 those of a child of four."""
    return {name: stature_m * (adult + (child - adult) * childness) for name, (adult, child) in SEGMENTS.items()}


@dataclass(frozen=True)
class Skeleton3D:
    """A posed skeleton in metres. `points` are joint centres, `frames` the (3, 3) axes of each segment."""

    points: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]

    def moved(self, offset: np.ndarray) -> "Skeleton3D":
        return Skeleton3D({name: point + offset for name, point in self.points.items()}, self.frames)


def sample_angles(rng: np.random.Generator, prior: Mapping, limits: Mapping) -> dict[str, float]:
    """One value per name in `ANGLES`, normal around the prior's [mean, sd] and clipped to the joint's limits.

    A limb's entry without a side holds for both sides, which are drawn one by one; left and right then
    change places half of the time.
    """
    swap = rng.random() < 0.5
    angles = {}
    for name, normal in zip(ANGLES, rng.standard_normal(len(ANGLES)).tolist(), strict=True):
        side, _, joint = name.partition("_")
        kind = joint if side in SIDES else name
        mean, sd = prior.get(name, prior.get(kind, (0.0, 4.0)))
        angles[name] = min(max(mean + sd * normal, limits[kind][0]), limits[kind][1])
    if swap:
        mirrored = {"spine_bend", "spine_twist", "head_bend", "head_twist", "pelvis_roll"}
        other = {"left": "right", "right": "left"}
        names = {name: f"{other[name.split('_')[0]]}_{name.split('_', 1)[1]}" for name in ANGLES[len(TRUNK_ANGLES) :]}
        angles = {
            name: angles[names[name]] if name in names else -angles[name] if name in mirrored else angles[name]
            for name in ANGLES
        }
    return angles


def articulate(lengths: Mapping[str, float], angles: Mapping[str, float], yaw_deg: float) -> Skeleton3D:
    """The skeleton with the middle of the hips at the origin, turned by `yaw_deg` (0 looks along +z)."""
    frames, points = {}, {"pelvis": np.zeros(3)}
    frames["pelvis"] = rotation(y_deg=yaw_deg) @ rotation(angles["pelvis_tilt"], 0.0, angles["pelvis_roll"])
    half_bend = rotation(angles["spine_flexion"] / 2, angles["spine_twist"] / 2, angles["spine_bend"] / 2)
    frames["waist"] = frames["pelvis"] @ half_bend
    frames["chest"] = frames["waist"] @ half_bend
    half_nod = rotation(angles["head_flexion"] / 2, angles["head_twist"] / 2, angles["head_bend"] / 2)
    frames["neck"] = frames["chest"] @ half_nod
    frames["head"] = frames["neck"] @ half_nod

    def step(start: str, segment: str, end: str, direction=(0.0, 1.0, 0.0)) -> None:
        points[end] = points[start] + frames[segment] @ (lengths[segment.rpartition(" ")[2]] * np.asarray(direction))

    step("pelvis", "pelvis", "lumbar")
    step("lumbar", "waist", "ribs")
    step("ribs", "chest", "neck_base")
    step("neck_base", "neck", "upper_neck", (0.0, 1.0, 0.12))
    step("upper_neck", "head", "head_top", (0.0, 1.0, 0.10))
    for side, sign in SIDES.items():
        get = {angle: angles[f"{side}_{angle}"] for angle in LIMB_ANGLES}
        arm, fore, hand, thigh, shin, foot = (
            f"{side} {part}" for part in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")
        )
        raised = max(0.0, max(get["shoulder_flexion"], get["shoulder_abduction"]) - 60.0)
        clavicle = frames["chest"] @ rotation(z_deg=sign * 0.2 * raised)  # the shoulder blade follows a raised arm
        points[f"{side}_shoulder"] = points["neck_base"] + clavicle @ (sign * lengths["half_shoulders"], 0.0, 0.0)
        frames[arm] = (
            frames["chest"]
            @ rotation(-get["shoulder_flexion"], 0.0, sign * get["shoulder_abduction"])
            @ rotation(y_deg=sign * get["shoulder_rotation"])
        )
        frames[fore] = frames[arm] @ rotation(-get["elbow_flexion"])
        frames[hand] = frames[fore] @ rotation(y_deg=sign * get["wrist_twist"])
        points[f"{side}_hip"] = frames["pelvis"] @ (sign * lengths["half_hips"], 0.0, 0.0)
        frames[thigh] = (
            frames["pelvis"]
            @ rotation(-get["hip_flexion"], 0.0, sign * get["hip_abduction"])
            @ rotation(y_deg=sign * get["hip_rotation"])
        )
        frames[shin] = frames[thigh] @ rotation(get["knee_flexion"])
        frames[foot] = frames[shin] @ rotation(-get["ankle_flexion"])
        down = (0.0, -1.0, 0.0)
        step(f"{side}_shoulder", arm, f"{side}_elbow", down)
        step(f"{side}_elbow", fore, f"{side}_wrist", down)
        step(f"{side}_hip", thigh, f"{side}_knee", down)
        step(f"{side}_knee", shin, f"{side}_ankle", down)
    return Skeleton3D(points, frames)


def plant_feet(skeleton: Skeleton3D, lengths: Mapping[str, float]) -> Skeleton3D:
    """Both soles flat on one level: each leg bends anew so that its ankle comes to that level below where it was.

    The lower ankle sets the level, as far as the other leg can reach it. Legs keep their plane; the knee follows
    from the law of cosines, and the leg then swings about the hip. A foot that is too far away comes nearer.
    """
    points, frames = dict(skeleton.points), dict(skeleton.frames)
    thigh, shin = lengths["thigh"], lengths["shin"]
    longest = 0.999 * (thigh + shin)
    level = max(
        min(points[f"{side}_ankle"][1] for side in SIDES), max(points[f"{side}_hip"][1] for side in SIDES) - longest
    )
    for side in SIDES:
        hip = points[f"{side}_hip"]
        target = points[f"{side}_ankle"] - hip
        target[1] = level - hip[1]
        away = np.sqrt(target[0] ** 2 + target[2] ** 2)
        target[[0, 2]] *= min(1.0, np.sqrt(max(longest**2 - target[1] ** 2, 0.0)) / max(away, 1e-9))
        reach = max(np.linalg.norm(target), abs(thigh - shin) + 1e-3)
        knee_deg = np.degrees(np.arccos((reach**2 - thigh**2 - shin**2) / (2 * thigh * shin)))
        bent = rotation(knee_deg)
        straight = np.array([0.0, -thigh, 0.0]) + bent @ (0.0, -shin, 0.0)  # ankle in the thigh's axes
        swing = _swing(frames[f"{side} thigh"] @ straight, target)
        frames[f"{side} thigh"] = swing @ frames[f"{side} thigh"]
        frames[f"{side} shin"] = frames[f"{side} thigh"] @ bent
        points[f"{side}_knee"] = hip + frames[f"{side} thigh"] @ (0.0, -thigh, 0.0)
        points[f"{side}_ankle"] = points[f"{side}_knee"] + frames[f"{side} shin"] @ (0.0, -shin, 0.0)
        ahead = frames[f"{side} thigh"][:, 2] + frames[f"{side} shin"][:, 2]
        frames[f"{side} foot"] = rotation(y_deg=np.degrees(np.arctan2(ahead[0], ahead[2])))
    return Skeleton3D(points, frames)


def _swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes the direction `start` to `end` (Rodrigues' formula)."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + start @ end)
