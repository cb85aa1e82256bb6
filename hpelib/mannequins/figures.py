"""Dressed bodies around a 3D skeleton: what a mannequin looks like, and where its keypoints are."""

from dataclasses import dataclass

import numpy as np

from hpelib.mannequins.meshes import Mesh, Tube, ellipsoid, face_angles, marks, straight_tube, surface
from hpelib.mannequins.poses import SIDES, Skeleton3D, rotation

Colour = tuple[float, float, float]

# Profiles: half sizes across and in depth as fractions of the stature. Limbs count 0 at the upper joint, 1 at
# elbow or knee, 2 at wrist or ankle.
ARM = np.array(
    [
        *([-0.13, 0.002, 0.002], [-0.09, 0.017, 0.018], [0.04, 0.031, 0.033], [0.25, 0.029, 0.031]),
        *([0.60, 0.024, 0.026], [0.88, 0.021, 0.023], [1.00, 0.021, 0.021], [1.20, 0.022, 0.023]),
        *([1.50, 0.019, 0.019], [1.85, 0.013, 0.016], [2.00, 0.012, 0.015], [2.05, 0.006, 0.008]),
    ]
)
LEG = np.array(
    [
        *([-0.13, 0.010, 0.010], [-0.06, 0.040, 0.044], [0.10, 0.051, 0.055], [0.35, 0.047, 0.052]),
        *([0.70, 0.037, 0.041], [0.92, 0.031, 0.035], [1.00, 0.030, 0.034], [1.15, 0.029, 0.034]),
        *([1.35, 0.031, 0.036], [1.60, 0.025, 0.028], [1.88, 0.018, 0.021], [2.00, 0.018, 0.021]),
        *([2.10, 0.016, 0.018], [2.14, 0.004, 0.004]),
    ]
)
# frame, height above its joint, half width, half depth, shift to the front
TORSO = (
    ("pelvis", -0.055, 0.030, 0.030, 0.000),
    ("pelvis", -0.040, 0.070, 0.050, -0.004),
    ("pelvis", -0.005, 0.092, 0.062, -0.008),
    ("pelvis", 0.025, 0.093, 0.064, -0.006),
    ("pelvis", 0.058, 0.084, 0.058, 0.000),
    ("waist", 0.030, 0.077, 0.054, 0.002),
    ("waist", 0.065, 0.079, 0.056, 0.003),
    ("chest", 0.000, 0.085, 0.060, 0.003),
    ("chest", 0.035, 0.091, 0.065, 0.004),
    ("chest", 0.068, 0.096, 0.066, 0.003),
    ("chest", 0.098, 0.095, 0.058, 0.000),
    ("chest", 0.118, 0.085, 0.048, -0.002),
    ("chest", 0.137, 0.060, 0.038, -0.002),
    ("chest", 0.146, 0.031, 0.032, 0.000),
)
TORSO_START = {"pelvis": "pelvis", "waist": "lumbar", "chest": "ribs"}
# height from chin to crown, half width, half depth, shift to the front; all as fractions of the head's height
HEAD = np.array(
    [
        *([0.00, 0.08, 0.08, 0.34], [0.05, 0.18, 0.20, 0.27], [0.18, 0.27, 0.33, 0.18], [0.35, 0.32, 0.39, 0.14]),
        *([0.50, 0.345, 0.42, 0.12], [0.65, 0.35, 0.43, 0.11], [0.80, 0.32, 0.39, 0.10], [0.90, 0.25, 0.31, 0.10]),
        *([0.97, 0.14, 0.17, 0.10], [1.00, 0.02, 0.02, 0.10]),
    ]
)
HAIRLINE_DEG = (0, 35, 62, 92, 115, 180)  # from the middle of the face to the nape
HAIRLINE = {
    "short": (0.80, 0.80, 0.74, 0.46, 0.20, 0.14),
    "long": (0.82, 0.80, 0.70, 0.10, -0.30, -0.40),
    "bun": (0.80, 0.80, 0.72, 0.50, 0.22, 0.16),
    "fringe": (0.70, 0.70, 0.66, 0.34, 0.10, 0.02),
    "cap": (0.68, 0.68, 0.68, 0.66, 0.60, 0.55),
    "bald": (2.00, 2.00, 2.00, 2.00, 2.00, 2.00),
}
DARK: Colour = (0.10, 0.08, 0.08)
# height above the wrist, half thickness, half width; as fractions of the hand's length
HAND = np.array([[-1.0, 0.04, 0.07], [-0.8, 0.09, 0.18], [-0.5, 0.11, 0.22], [-0.25, 0.11, 0.20], [0.05, 0.10, 0.08]])
# ahead of the ankle in lengths of the foot, half height in heights of the ankle / 2, half width in lengths of the foot
SHOE = np.array(
    [
        *([-0.29, 0.30, 0.05], [-0.26, 0.90, 0.14], [-0.10, 1.35, 0.165], [0.10, 1.25, 0.17]),
        *([0.35, 0.80, 0.20], [0.60, 0.62, 0.21], [0.74, 0.45, 0.15], [0.78, 0.15, 0.04]),
    ]
)
BRIM = np.array([[-0.26, 0.70, 0.46], [0.26, 0.70, 0.46], [0.20, 0.68, 0.82], [-0.20, 0.68, 0.82]])


def _on_face(x, y) -> np.ndarray:
    """Points (..., 3) just off the face, x to the left and y above the chin, in heights of the head."""
    half_width, half_depth, forward = (np.interp(y, HEAD[:, 0], HEAD[:, i]) for i in (1, 2, 3))
    z = forward + half_depth * np.sqrt(np.maximum(0.0, 1 - (x / half_width) ** 2)) + 0.01
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def _face_corners() -> np.ndarray:
    """(7, 4, 3): mouth, then white, iris and brow of the left and of the right eye."""
    rows = [(0.0, 0.20, 0.12, 0.028)]  # x, y, half width, half height
    for sign in SIDES.values():
        rows += [
            (sign * 0.15, 0.54, 0.075, 0.045),
            (sign * 0.15, 0.54, 0.038, 0.045),
            (sign * 0.15, 0.65, 0.085, 0.018),
        ]
    x, y, half_width, half_height = np.array(rows).T[:, :, None]
    return _on_face(x + half_width * np.array([-1, 1, 1, -1]), y + half_height * np.array([-1, -1, 1, 1]))


def _hair_rings() -> np.ndarray:
    """(R, 5): height as in HEAD, half width, half depth, shift, height of the ring, which lies above the skull's."""
    at = np.array([-0.4, -0.15, 0.05, 0.15, 0.3, 0.42, 0.5, 0.58, 0.66, 0.72, 0.8, 0.87, 0.93, 0.98, 1.01])
    width, depth, forward = (np.interp(at, HEAD[:, 0], HEAD[:, i]) for i in (1, 2, 3))
    hanging = at < 0.5  # hair that hangs keeps the width of the head
    width, depth = np.where(hanging, 0.35, width * 1.08 + 0.01), np.where(hanging, 0.39, depth * 1.08 + 0.01)
    return np.stack(
        [at, width, depth, np.where(hanging, 0.08, forward), np.where(hanging, at, 1.07 * at - 0.035)], axis=1
    )


FACE_CORNERS, HAIR = _face_corners(), _hair_rings()
HEAD_POINTS = {
    "nose": np.array([0.0, 0.37, 0.60]),
    **{f"{side}_eye": _on_face(np.array(sign * 0.15), np.array(0.54)) for side, sign in SIDES.items()},
    **{f"{side}_ear": np.array([sign * 0.345, 0.48, 0.08]) for side, sign in SIDES.items()},
}


@dataclass(frozen=True)
class Outfit:
    skin: Colour
    hair: Colour
    hair_style: str  # a key of HAIRLINE
    beard: bool
    top: Colour
    bottom: Colour
    accent: Colour
    shoes: Colour
    pattern: str  # plain, stripes, jacket, logo, panels
    sleeve: float  # 0.3 short ... 2 long, in the units of ARM
    leg: float  # 0.5 shorts ... 2 long, in the units of LEG
    skirt: float  # 0 none, otherwise its length in the units of LEG


@dataclass(frozen=True)
class Build:
    """Thickness of the body relative to the profiles."""

    girth: float
    shoulders: float
    hips: float


def dress(
    skeleton: Skeleton3D, lengths: dict[str, float], stature_m: float, build: Build, outfit: Outfit, sides: int
) -> Mesh:
    """The visible surface of one person; `sides` faces around torso and limbs, half as many around small parts."""
    head = lengths["head"]
    large = [
        _torso(skeleton, stature_m, build, outfit, sides),
        _neck(skeleton, stature_m * build.girth, outfit.skin),
        _yoke(skeleton, stature_m * build.girth, outfit.top),
        _skull(skeleton, head, outfit, sides),
    ]
    small = _nose_and_ears(skeleton, head, outfit)
    if outfit.hair_style == "bun":
        small.append(
            ellipsoid(
                _in_head(skeleton, head, (0, 0.85, -0.38)),
                skeleton.frames["head"],
                np.full(3, 0.17 * head),
                outfit.hair,
            )
        )
    if outfit.skirt:
        large.append(_skirt(skeleton, stature_m, build, outfit))
    sleeve = (outfit.sleeve, outfit.top, outfit.skin)
    trousers = (min(outfit.leg, 0.3) if outfit.skirt else outfit.leg, outfit.bottom, outfit.skin)
    for side, sign in SIDES.items():
        girth = stature_m * build.girth
        large.append(
            _limb(skeleton, side, ("shoulder", "elbow", "wrist"), ("upper_arm", "forearm"), ARM, girth, sleeve)
        )
        large.append(_limb(skeleton, side, ("hip", "knee", "ankle"), ("thigh", "shin"), LEG, girth, trousers))
        small.extend(_hand(skeleton, side, lengths["hand"], outfit.skin))
        small.append(_shoe(skeleton, side, sign, lengths, outfit.shoes, max(6, sides // 2)))
    parts = [surface(large, sides), surface(small, max(6, sides // 2)), _hair(skeleton, head, outfit, sides)]
    return Mesh.join([*parts, _face(skeleton, head, outfit)])


def _limb(skeleton, side, joints, segments, profile, scale, clothing) -> Tube:
    """One tube from the lower joint to the upper, bent at the middle joint, clothed as far as `clothing` says."""
    cloth_end, cloth, skin = clothing
    at = np.sort(np.concatenate([profile[:, 0], [cloth_end, cloth_end + 0.004]]))[::-1]
    half_sizes = np.stack([np.interp(at, profile[:, 0], profile[:, i]) for i in (1, 2)], axis=1) * scale
    covered = (at <= cloth_end)[:, None]
    half_sizes = np.where(covered, half_sizes * 1.10 + 0.006, half_sizes)
    upper, middle, lower = (skeleton.points[f"{side}_{joint}"] for joint in joints)
    along = at[:, None]
    origins = np.where(along < 1, upper + along * (middle - upper), middle + (along - 1) * (lower - middle))
    first, second = (skeleton.frames[f"{side} {segment}"] for segment in segments)
    bend = np.minimum(np.maximum((at - 0.9) / 0.2, 0), 1)[:, None, None]  # around the joint the rings turn gradually
    frames = first + bend * (second - first)
    frames /= np.sqrt((frames * frames).sum(axis=1, keepdims=True)) + 1e-9
    return Tube(origins, frames, half_sizes, np.where(covered[:-1], cloth, skin))


def _torso(skeleton, stature_m, build, outfit, sides) -> Tube:
    rows = np.array([row[1:] for row in TORSO]) * stature_m
    frames = np.stack([skeleton.frames[row[0]] for row in TORSO])
    origins = np.stack([skeleton.points[TORSO_START[row[0]]] for row in TORSO]) + rows[:, :1] * frames[:, :, 1]
    level = np.linspace(0, 1, len(TORSO))
    half_sizes = rows[:, 1:3] * build.girth + 0.008
    half_sizes[:, 0] *= np.interp(level, [0, 0.3, 0.45, 0.75, 1], [build.hips, build.hips, 1, build.shoulders, 1])
    return Tube(origins, frames, half_sizes, _shirt(outfit, sides), rows[:, 3])


def _shirt(outfit: Outfit, sides: int) -> np.ndarray:
    """Colours of the torso's faces, (rings - 1, sides, 3): trousers below the hem, then the top with its pattern."""
    colours = np.empty((len(TORSO) - 1, sides, 3))
    colours[:3], colours[3:] = outfit.bottom, outfit.top
    angle = face_angles(sides)
    if outfit.pattern == "stripes":
        colours[4::2] = outfit.accent
    elif outfit.pattern == "jacket":
        colours[3:, angle < 22] = outfit.accent
    elif outfit.pattern == "logo":
        colours[8:10, angle < 40] = outfit.accent
    elif outfit.pattern == "panels":
        colours[3:, (angle > 60) & (angle < 120)] = outfit.accent
    colours[11:, angle < 50] = outfit.skin  # the neckline is open in front
    colours[12:] = outfit.skin
    return colours


def _neck(skeleton, girth, colour) -> Tube:
    start = skeleton.points["neck_base"]
    origins = start + np.array([[-0.1], [0.3], [0.8], [1.3]]) * (skeleton.points["upper_neck"] - start)
    half_sizes = np.array([[0.033, 0.034], [0.028, 0.031], [0.027, 0.030], [0.026, 0.030]]) * girth
    return Tube(origins, np.repeat(skeleton.frames["neck"][None], 4, axis=0), half_sizes, colour)


def _yoke(skeleton, girth, colour) -> Tube:
    """From shoulder to shoulder below the neck; keeps raised arms attached."""
    right, left = skeleton.points["right_shoulder"], skeleton.points["left_shoulder"]
    middle = skeleton.points["neck_base"] - 0.028 * girth * skeleton.frames["chest"][:, 1]
    origins = np.stack([right, 0.9 * right + 0.1 * middle, middle, 0.9 * left + 0.1 * middle, left])
    frame = skeleton.frames["chest"] @ rotation(z_deg=-90.0)  # its y runs to the left shoulder
    radius = np.array([0.015, 0.026, 0.024, 0.026, 0.015])[:, None] * girth + 0.004
    return Tube(origins, np.repeat(frame[None], 5, axis=0), np.repeat(radius, 2, axis=1), colour)


def _skirt(skeleton, stature_m, build, outfit) -> Tube:
    """A cone around both thighs from the waist down."""
    at = np.array([1.4, 1.0, 0.7, 0.4, 0.1, -0.1, -0.28])
    at = np.concatenate([[outfit.skirt], at[at < outfit.skirt]])
    hips, knees, ankles = (
        np.stack([skeleton.points[f"{side}_{joint}"] for side in SIDES]) for joint in ("hip", "knee", "ankle")
    )
    along = at[:, None, None]
    legs = np.where(along < 1, hips + along * (knees - hips), knees + (along - 1) * (ankles - knees))  # (R, 2, 3)
    up = hips.mean(axis=0) - knees.mean(axis=0)
    x = skeleton.frames["pelvis"][:, 0]
    y = up - (up @ x) * x
    y /= np.linalg.norm(y) + 1e-9
    frame = np.stack([x, y, np.cross(x, y)], axis=1)
    apart = np.abs((legs[:, 0] - legs[:, 1]) @ frame) / 2  # (R, 3)
    flare = stature_m * (0.052 + 0.016 * np.maximum(at + 0.3, 0))
    half_sizes = np.stack([apart[:, 0] * 0.95 + flare * build.hips, apart[:, 2] + flare * 1.25], axis=1) * build.girth
    half_sizes[at < -0.2] = np.array([0.084 * build.hips, 0.060]) * stature_m * build.girth + 0.012
    return Tube(legs.mean(axis=1), np.repeat(frame[None], len(at), axis=0), half_sizes, outfit.bottom)


def _hand(skeleton, side, length, skin) -> list[Tube]:
    """A flat hand with the palm to the thigh and the thumb in front when the arm hangs."""
    frame, wrist = skeleton.frames[f"{side} hand"], skeleton.points[f"{side}_wrist"]
    rows = HAND * length
    root = wrist + frame @ (0.0, -0.38 * length, 0.28 * length)
    thumb = ellipsoid(root, frame @ rotation(-40), np.array([0.07, 0.27, 0.08]) * length, skin, rings=4)
    return [straight_tube(wrist, frame, rows[:, 0], rows[:, 1:], skin), thumb]


def _shoe(skeleton, side, sign, lengths, colour, sides) -> Tube:
    """From heel to toe; the sole of a flat foot is level with the ground, and the toes point a little outwards."""
    frame = skeleton.frames[f"{side} foot"] @ rotation(90.0, 0.0, -sign * 6.0)  # its y runs to the toes, its z down
    along, heights, widths = SHOE.T * np.array([[lengths["foot"]], [lengths["ankle"] / 2], [lengths["foot"]]])
    colours = np.empty((len(SHOE) - 1, sides, 3))
    colours[:], colours[:, face_angles(sides) < 40] = colour, DARK
    shifts = lengths["ankle"] - heights  # all rings end at the level of the sole
    return straight_tube(
        skeleton.points[f"{side}_ankle"], frame, along, np.stack([widths, heights], axis=1), colours, shifts
    )


def _in_head(skeleton: Skeleton3D, height: float, local) -> np.ndarray:
    """World position of points (..., 3) given in heights of the head, from the chin."""
    return skeleton.points["upper_neck"] + height * np.asarray(local) @ skeleton.frames["head"].T


def _skull(skeleton, height, outfit, sides) -> Tube:
    rows = HEAD * height
    colours = np.empty((len(HEAD) - 1, sides, 3))
    colours[:] = outfit.skin
    if outfit.beard:
        angle = face_angles(sides)
        colours[:2, angle < 100] = outfit.hair
        colours[2, (angle > 45) & (angle < 100)] = outfit.hair
    chin, frame = skeleton.points["upper_neck"], skeleton.frames["head"]
    return straight_tube(chin, frame, rows[:, 0], rows[:, 1:3], colours, rows[:, 3])


def _nose_and_ears(skeleton, height, outfit) -> list[Tube]:
    frame = skeleton.frames["head"]
    nose = _in_head(skeleton, height, (0.0, 0.42, 0.545))
    tubes = [ellipsoid(nose, frame @ rotation(-18), np.array([0.05, 0.12, 0.055]) * height, outfit.skin, rings=4)]
    for side in SIDES:
        ear = _in_head(skeleton, height, HEAD_POINTS[f"{side}_ear"])
        tubes.append(
            ellipsoid(ear, frame, np.array([0.03, 0.11, 0.07]) * height, np.multiply(outfit.skin, 0.9), rings=4)
        )
    return tubes


def _face(skeleton, height, outfit) -> Mesh:
    """Mouth, eyes, brows and, with a cap, its brim."""
    corners, nearer, colours = [FACE_CORNERS], [0.010, *[0.010, 0.012, 0.010] * 2], [(0.62, 0.25, 0.25)]
    colours += [(0.95, 0.95, 0.93), DARK, np.multiply(outfit.hair, 0.8)] * 2
    if outfit.hair_style == "cap":
        corners += [BRIM[None], BRIM[None, ::-1]]
        nearer, colours = [*nearer, 0.0, 0.0], [*colours, outfit.hair, outfit.hair]
    return marks(_in_head(skeleton, height, np.concatenate(corners)), np.array(colours), np.array(nearer))


def _hair(skeleton, height, outfit, sides) -> Mesh:
    """A shell around the skull, left out where the face is."""
    chin, frame = skeleton.points["upper_neck"], skeleton.frames["head"]
    sizes, forward, heights = HAIR[:, 1:3] * height, HAIR[:, 3] * height, HAIR[:, 4] * height
    shell = surface([straight_tube(chin, frame, heights, sizes, outfit.hair, forward)], sides)
    line = np.interp(face_angles(sides), HAIRLINE_DEG, HAIRLINE[outfit.hair_style])
    grown = ((HAIR[:-1, :1] + HAIR[1:, :1]) / 2 > line).reshape(-1)
    return Mesh(shell.vertices, shell.faces[grown], shell.colours[grown], shell.nearer_m[grown])


def head_surface(skeleton: Skeleton3D, height: float) -> np.ndarray:
    """Points all over the skull without hair, world metres, (P, 3)."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    y, a, b, forward = HEAD.T[:, :, None]
    rings = np.stack(np.broadcast_arrays(a * np.sin(turn), y, forward + b * np.cos(turn)), axis=-1)
    return _in_head(skeleton, height, rings.reshape(-1, 3))


def keypoints_3d(skeleton: Skeleton3D, head_height_m: float) -> dict[str, np.ndarray]:
    """World metres of every name in COCO-17, MPII-16, LSP-14; thorax and pelvis are middles, neck is the upper neck."""
    names = [f"{side}_{joint}" for side in SIDES for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
    points = {name: skeleton.points[name] for name in (*names, "upper_neck", "head_top")}
    points["neck"] = points["upper_neck"]
    points["pelvis"] = (points["left_hip"] + points["right_hip"]) / 2
    points["thorax"] = (points["left_shoulder"] + points["right_shoulder"]) / 2
    return points | {name: _in_head(skeleton, head_height_m, local) for name, local in HEAD_POINTS.items()}
