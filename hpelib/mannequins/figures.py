"""One person: who it is and what it does (`PersonSpec`), the posed and dressed body, and where its keypoints are."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from hpelib.mannequins.meshes import Mesh, Tube, ellipsoid, face_angles, patches, straight_tube, surface
from hpelib.mannequins.poses import SIDES, Body, articulate, plant_feet, rotation, segment_lengths

Colour = tuple[float, float, float]  # RGB in 0..1

_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
# Profiles of tubes, a ring in each column; figures.yaml says what their rows are
ARM, LEG, TORSO, NECK, HEAD, HAND, SHOE = (
    np.array(_TABLES[name]) for name in ("arm", "leg", "torso", "neck", "head", "hand", "shoe")
)
DARK: Colour = (0.10, 0.08, 0.08)


@dataclass(frozen=True)
class Outfit:
    skin: Colour
    hair: Colour
    hair_style: str  # a hairline of figures.yaml
    beard: bool
    top: Colour
    bottom: Colour
    accent: Colour
    shoes: Colour
    pattern: str  # plain, stripes, jacket, logo, panels
    sleeve: float  # how far it reaches along ARM: 0.3 is short, 2 long
    leg: float  # how far it reaches along LEG: 0.5 are shorts, 2 is long
    skirt: float  # how far it reaches along LEG; 0 is no skirt


@dataclass(frozen=True)
class PersonSpec:
    stature_m: float
    childness: float  # 0 has an adult's proportions, 1 those of a child of four
    girth: float  # factor on the thickness of body and limbs
    shoulders: float  # factor on the width of the shoulders
    hips: float  # factor on the width of the hips
    outfit: Outfit
    angles: dict[str, float]  # degrees, by the names in poses.ANGLES
    support: str  # planted: both soles flat; lowest: what is lowest touches the ground; seat: on a block; air: jumps
    lift_m: float  # above the ground, for support "air"
    position_m: tuple[float, float]  # x, z on the ground
    yaw_deg: float  # 0 looks towards the camera's side of the scene (+z)


def pose_person(person: PersonSpec) -> Body:
    """The skeleton where the person stands, sits, lies or flies; its lowest point is `lift_m` above the ground."""
    lengths = segment_lengths(person.stature_m, person.childness)
    body = articulate(lengths, person.angles, person.yaw_deg)
    if person.support in ("planted", "seat"):
        body = plant_feet(body)
    s = person.stature_m * person.girth
    reach = {"ankle": lengths["ankle"], "knee": 0.035 * s, "hip": 0.06 * s, "wrist": 0.03 * s, "shoulder": 0.05 * s}
    lowest = [body.points["head_top"][1] - 0.04 * s]
    for side in SIDES:
        lowest += [body.points[f"{side}_{joint}"][1] - below for joint, below in reach.items()]
        for ahead in (-0.27, 0.74):  # heel and toes
            sole = body.frames[f"{side} foot"] @ (0.0, -lengths["ankle"], ahead * lengths["foot"])
            lowest.append((body.points[f"{side}_ankle"] + sole)[1])
    x, z = person.position_m
    offset = np.array([x, person.lift_m - min(lowest), z])
    return replace(body, points={name: point + offset for name, point in body.points.items()})


def dress(person: PersonSpec, body: Body, sides: int) -> Mesh:
    """The visible surface of a person; `sides` faces around torso and limbs, half as many around small parts."""
    outfit, girth_m, few = person.outfit, person.stature_m * person.girth, max(6, sides // 2)
    large = [*_trunk(person, body, sides), _skull(body, outfit, sides)]
    small = _on_head(body, outfit)
    if outfit.skirt:
        large.append(_skirt(person, body))
    leg = min(outfit.leg, 0.3) if outfit.skirt else outfit.leg
    for side in SIDES:
        arm = [f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist")], (f"{side} upper_arm", f"{side} forearm")
        large.append(_limb(body, *arm, ARM, girth_m, outfit.sleeve, outfit.top, outfit.skin))
        bones = [f"{side}_{joint}" for joint in ("hip", "knee", "ankle")], (f"{side} thigh", f"{side} shin")
        large.append(_limb(body, *bones, LEG, girth_m, leg, outfit.bottom, outfit.skin))
        small.extend(_hand(body, side, outfit.skin))
        small.append(_shoe(body, side, outfit.shoes, few))
    return Mesh.join([surface(large, sides), surface(small, few), _hair(body, outfit, sides), _face(body, outfit)])


def _limb(body, joints, segments, profile, girth_m, cloth_end, cloth, skin) -> Tube:
    """One tube from the lower joint to the upper one, bent at the middle joint, covered with cloth to `cloth_end`."""
    at = np.sort(np.concatenate([profile[0], [cloth_end, cloth_end + 0.004]]))[::-1]
    half_sizes = np.stack([np.interp(at, profile[0], row) for row in profile[1:]], axis=1) * girth_m
    covered = (at <= cloth_end)[:, None]
    half_sizes = np.where(covered, half_sizes * 1.10 + 0.006, half_sizes)
    upper, middle, lower = (body.points[joint] for joint in joints)
    along = at[:, None]
    origins = np.where(along < 1, upper + along * (middle - upper), middle + (along - 1) * (lower - middle))
    first, second = (body.frames[segment] for segment in segments)
    bend = np.minimum(np.maximum((at - 0.9) / 0.2, 0), 1)[:, None, None]  # around the joint the rings turn gradually
    frames = first + bend * (second - first)
    frames /= np.sqrt((frames * frames).sum(axis=1, keepdims=True)) + 1e-9
    return Tube(origins, frames, half_sizes, np.where(covered[:-1], cloth, skin))


def _trunk(person, body, sides) -> list[Tube]:
    """Torso, neck, and a bar from shoulder to shoulder that joins raised arms to the torso."""
    heights, widths, depths, shifts = TORSO * person.stature_m
    segments, starts = _TABLES["torso_segments"], _TABLES["torso_start"]
    frames = np.stack([body.frames[segment] for segment in segments])
    origins = np.stack([body.points[starts[segment]] for segment in segments])
    origins += heights[:, None] * frames[:, :, 1]
    half_sizes = np.stack([widths, depths], axis=1) * person.girth + 0.008
    factors = [person.hips, person.hips, 1, person.shoulders, 1]
    half_sizes[:, 0] *= np.interp(np.linspace(0, 1, len(heights)), [0, 0.3, 0.45, 0.75, 1], factors)
    torso = Tube(origins, frames, half_sizes, _shirt(person.outfit, sides), shifts)

    girth_m, base = person.stature_m * person.girth, body.points["neck_base"]
    origins = base + NECK[0, :, None] * (body.points["upper_neck"] - base)
    neck = Tube(origins, body.frames["neck"], NECK[1:].T * girth_m, person.outfit.skin)

    right, left = body.points["right_shoulder"], body.points["left_shoulder"]
    middle = base - 0.028 * girth_m * body.frames["chest"][:, 1]
    origins = np.stack([right, 0.9 * right + 0.1 * middle, middle, 0.9 * left + 0.1 * middle, left])
    radius = np.array(_TABLES["shoulder_bar"])[:, None] * girth_m + 0.004
    frame = body.frames["chest"] @ rotation(z_deg=-90.0)  # its y runs to the left shoulder
    return [torso, neck, Tube(origins, frame, np.repeat(radius, 2, axis=1), person.outfit.top)]


def _shirt(outfit: Outfit, sides: int) -> np.ndarray:
    """Colours of the torso's faces, (rings - 1, sides, 3): trousers below the hem, the patterned top above."""
    colours = np.full((TORSO.shape[1] - 1, sides, 3), outfit.top)
    colours[:3] = outfit.bottom
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


def _skirt(person, body) -> Tube:
    """A cone around both thighs from the waist down."""
    at = np.array(_TABLES["skirt"])
    at = np.concatenate([[person.outfit.skirt], at[at < person.outfit.skirt]])
    hips, knees, ankles = (
        np.stack([body.points[f"{side}_{joint}"] for side in SIDES]) for joint in ("hip", "knee", "ankle")
    )
    along = at[:, None, None]
    legs = np.where(along < 1, hips + along * (knees - hips), knees + (along - 1) * (ankles - knees))  # (R, 2, 3)
    up = hips.mean(axis=0) - knees.mean(axis=0)
    x = body.frames["pelvis"][:, 0]
    y = up - (up @ x) * x
    y /= np.linalg.norm(y) + 1e-9
    frame = np.stack([x, y, np.cross(x, y)], axis=1)
    apart = np.abs((legs[:, 0] - legs[:, 1]) @ frame) / 2  # (R, 3)
    flare = person.stature_m * (0.052 + 0.016 * np.maximum(at + 0.3, 0))
    half_sizes = np.stack([apart[:, 0] * 0.95 + flare * person.hips, apart[:, 2] + flare * 1.25], axis=1) * person.girth
    half_sizes[at < -0.2] = np.array([0.084 * person.hips, 0.060]) * person.stature_m * person.girth + 0.012
    return Tube(legs.mean(axis=1), frame, half_sizes, person.outfit.bottom)


def _hand(body, side, skin) -> list[Tube]:
    """A flat hand. When the arm hangs, the palm is at the thigh and the thumb in front."""
    frame, wrist, length = body.frames[f"{side} hand"], body.points[f"{side}_wrist"], body.lengths["hand"]
    root = wrist + frame @ (0.0, -0.38 * length, 0.28 * length)
    thumb = ellipsoid(root, frame @ rotation(-40), np.array([0.07, 0.27, 0.08]) * length, skin, rings=4)
    return [straight_tube(wrist, frame, HAND * length, skin), thumb]


def _shoe(body, side, colour, sides) -> Tube:
    """From heel to toe. The sole of a flat foot is level with the ground; the toes point a little outwards."""
    foot, ankle = body.lengths["foot"], body.lengths["ankle"]
    frame = body.frames[f"{side} foot"] @ rotation(90.0, 0.0, -SIDES[side] * 6.0)  # its y runs to the toes, its z down
    profile = SHOE * np.array([[foot], [foot], [ankle / 2]])
    colours = np.full((SHOE.shape[1] - 1, sides, 3), colour)
    colours[:, face_angles(sides) < 40] = DARK
    shifts = ankle - profile[2]  # all rings end at the level of the sole
    return straight_tube(body.points[f"{side}_ankle"], frame, (*profile, shifts), colours)


def _in_head(body: Body, local) -> np.ndarray:
    """World position of points (..., 3) that are given in heights of the head, from the chin."""
    return body.points["upper_neck"] + body.lengths["head"] * np.asarray(local) @ body.frames["head"].T


def _skull(body, outfit, sides) -> Tube:
    colours = np.full((HEAD.shape[1] - 1, sides, 3), outfit.skin)
    if outfit.beard:
        angle = face_angles(sides)
        colours[:2, angle < 100] = outfit.hair
        colours[2, (angle > 45) & (angle < 100)] = outfit.hair
    return straight_tube(body.points["upper_neck"], body.frames["head"], HEAD * body.lengths["head"], colours)


def _on_face(x, y) -> np.ndarray:
    """Points (..., 3) just off the face, `x` to the left and `y` above the chin, in heights of the head."""
    half_width, half_depth, forward = (np.interp(y, HEAD[0], row) for row in HEAD[1:])
    z = forward + half_depth * np.sqrt(np.maximum(0.0, 1 - (x / half_width) ** 2)) + 0.01
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def _face_corners() -> np.ndarray:
    """(7, 4, 3): mouth, then white, iris and brow of the left and of the right eye."""
    rows = [_TABLES["mouth"], *((sign * x, *rest) for sign in SIDES.values() for x, *rest in _TABLES["eye"])]
    x, y, half_width, half_height = np.array(rows).T[:, :, None]
    return _on_face(x + half_width * np.array([-1, 1, 1, -1]), y + half_height * np.array([-1, -1, 1, 1]))


def _hair_rings() -> np.ndarray:
    """Rows as in HEAD, then the height in the skull that a ring lies above, (5, R)."""
    at = np.array(_TABLES["hair_rings"])
    width, depth, forward = (np.interp(at, HEAD[0], row) for row in HEAD[1:])
    above = np.stack([1.07 * at - 0.035, width * 1.08 + 0.01, depth * 1.08 + 0.01, forward, at])
    hanging = np.stack(np.broadcast_arrays(at, 0.35, 0.39, 0.08, at))  # hair that hangs keeps the width of the head
    return np.where(at < 0.5, hanging, above)


FACE_CORNERS, HAIR = _face_corners(), _hair_rings()
HEAD_POINTS = {
    "nose": np.array([0.0, 0.37, 0.60]),
    **{f"{side}_eye": _on_face(np.array(sign * 0.15), np.array(0.54)) for side, sign in SIDES.items()},
    **{f"{side}_ear": np.array([sign * 0.345, 0.48, 0.08]) for side, sign in SIDES.items()},
}


def _on_head(body, outfit) -> list[Tube]:
    """Nose, ears, and the bun of a hair style."""
    parts = [((0.0, 0.42, 0.545), -18, (0.05, 0.12, 0.055), outfit.skin, 4)]  # place, tilt, half sizes, colour, rings
    ear = np.multiply(outfit.skin, 0.9)
    parts += [(HEAD_POINTS[f"{side}_ear"], 0, (0.03, 0.11, 0.07), ear, 4) for side in SIDES]
    if outfit.hair_style == "bun":
        parts.append(((0, 0.85, -0.38), 0, (0.17, 0.17, 0.17), outfit.hair, 6))
    frame, height = body.frames["head"], body.lengths["head"]
    return [
        ellipsoid(_in_head(body, place), frame @ rotation(tilt), np.array(sizes) * height, colour, rings)
        for place, tilt, sizes, colour, rings in parts
    ]


def _face(body, outfit) -> Mesh:
    """Mouth, eyes, brows and the brim of a cap."""
    corners, nearer_m, colours = FACE_CORNERS, [0.010, *[0.010, 0.012, 0.010] * 2], [(0.62, 0.25, 0.25)]
    colours += [(0.95, 0.95, 0.93), DARK, np.multiply(outfit.hair, 0.8)] * 2
    if outfit.hair_style == "cap":
        brim = _TABLES["brim"]
        corners = np.concatenate([corners, [brim], [brim[::-1]]])
        nearer_m, colours = [*nearer_m, 0.0, 0.0], [*colours, outfit.hair, outfit.hair]
    return patches(_in_head(body, corners), np.array(colours), np.array(nearer_m))


def _hair(body, outfit, sides) -> Mesh:
    """A shell around the skull, left out where the face is."""
    profile, at = HAIR[:4] * body.lengths["head"], HAIR[4]
    shell = surface([straight_tube(body.points["upper_neck"], body.frames["head"], profile, outfit.hair)], sides)
    line = np.interp(face_angles(sides), _TABLES["hairline_deg"], _TABLES["hairline"][outfit.hair_style])
    grown = ((at[:-1, None] + at[1:, None]) / 2 > line).reshape(-1)
    return Mesh(shell.vertices, shell.faces[grown], shell.colours[grown], shell.nearer_m[grown])


def head_surface(body: Body) -> np.ndarray:
    """Points all over the skull without hair, (P, 3) world metres."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    y, a, b, forward = HEAD[:, :, None]
    rings = np.stack(np.broadcast_arrays(a * np.sin(turn), y, forward + b * np.cos(turn)), axis=-1)
    return _in_head(body, rings.reshape(-1, 3))


def keypoints_3d(body: Body) -> dict[str, np.ndarray]:
    """World metres of every keypoint of COCO, MPII and LSP, and of a few more joints, by name.

    Pelvis and thorax are the middles of hips and shoulders; the neck is the upper neck.
    """
    points = body.points
    pelvis, thorax = ((points[f"left_{joint}"] + points[f"right_{joint}"]) / 2 for joint in ("hip", "shoulder"))
    in_head = {name: _in_head(body, local) for name, local in HEAD_POINTS.items()}
    return points | in_head | {"pelvis": pelvis, "thorax": thorax, "neck": points["upper_neck"]}
