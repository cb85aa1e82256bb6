"""From a `SceneSpec` to pixels and to the truth about everybody in them."""

from dataclasses import dataclass
from math import cos, radians, sin

import cv2
import numpy as np

from hpelib.mannequins.backdrops import ground_position, paint_backdrop
from hpelib.mannequins.figures import dress, head_surface, keypoints_3d
from hpelib.mannequins.meshes import Mesh, box, ellipsoid, leaves, straight_tube, surface
from hpelib.mannequins.poses import Skeleton3D, articulate, plant_feet, rotation, segment_lengths
from hpelib.mannequins.raster import NOBODY, OVERSAMPLING, Camera, Light, Picture, Silhouette, draw
from hpelib.mannequins.scenes import ExposureSpec, PersonSpec, SceneSpec, ThingSpec, sample_scene
from hpelib.skeletons import COCO17, LSP14, MPII16, Skeleton

KEYPOINTS = tuple(dict.fromkeys(COCO17.keypoints + MPII16.keypoints + LSP14.keypoints))
# How far the body's surface may lie in front of a joint that still counts as visible, as fractions of the stature
_COVER = {"shoulder": 0.065, "elbow": 0.085, "wrist": 0.060, "hip": 0.105, "knee": 0.100, "ankle": 0.075}
_COVER |= {"pelvis": 0.105, "thorax": 0.085, "neck": 0.080, "top": 0.060, "nose": 0.025, "eye": 0.025, "ear": 0.035}
COVER = np.array([_COVER[name.rpartition("_")[2]] for name in KEYPOINTS])  # (P,)
CHAIR_M = 0.21  # half the width of a seat


@dataclass(frozen=True)
class PersonTruth:
    points_m: np.ndarray  # (P, 3) world, in the order of KEYPOINTS
    points_px: np.ndarray  # (P, 2), where they project to, inside the image or not
    visibility: np.ndarray  # (P,) uint8: 2 visible, 1 hidden by anything, 0 outside the image
    mask: np.ndarray  # (H, W) bool, what is seen of the person
    box: np.ndarray  # (4,) x, y, w, h of the mask
    head_box: np.ndarray  # (4,) x1, y1, x2, y2 of the whole skull, hidden or not
    factors: dict[str, float]

    def of(self, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (K, 2) and visibility (K,) of one keypoint set."""
        chosen = [KEYPOINTS.index(name) for name in skeleton.keypoints]
        return self.points_px[chosen], self.visibility[chosen]


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  # (H, W, 3) uint8 RGB
    jpeg_quality: int
    persons: tuple[PersonTruth, ...]  # those of whom at least one px is seen
    crowd_mask: np.ndarray | None  # (H, W) bool


def render_scene(recipe: dict, seed: int, split: str, index: int) -> Scene:
    """Scene number `index` of a split; the same arguments give the same pixels and the same truth."""
    return render(sample_scene(recipe, seed, split, index))


def render(spec: SceneSpec) -> Scene:
    camera, exposure = spec.camera, spec.exposure
    azimuth, elevation = map(radians, exposure.sun_deg)
    sun = np.array([cos(azimuth) * cos(elevation), sin(elevation), sin(azimuth) * cos(elevation)])
    light = Light(sun, exposure.ambient)
    picture = Picture(camera.width, camera.height)
    bodies = [pose_person(person) for person in spec.persons]
    silhouettes = []
    for number, (person, body) in enumerate(zip(spec.persons, bodies, strict=True)):
        silhouettes.append(draw(_figure(person, body, camera), camera, light))
        picture.add(silhouettes[-1], owner=number)
    crowd = [pose_person(person) for person in spec.crowd]
    for person, body in zip(spec.crowd, crowd, strict=True):
        picture.add(draw(_figure(person, body, camera), camera, light), owner=len(bodies))
    things = [thing_mesh(thing) for thing in spec.things]
    things += [
        _chair(person, body) for person, body in zip(spec.persons, bodies, strict=True) if person.support == "seat"
    ]
    for mesh in things:
        picture.add(draw(mesh, camera, light), owner=NOBODY - 1)

    masks = [_pixels(picture.owner == number) for number in range(len(bodies) + 1)]
    background = paint_backdrop(spec.backdrop, camera)
    cv2.multiply(background, _shadows(camera, bodies + crowd), dst=background)
    persons = [
        _truth(spec, number, bodies[number], silhouettes, picture, masks)
        for number in range(len(bodies))
        if masks[number].any()
    ]
    return Scene(
        image=_expose(picture, background, exposure),
        jpeg_quality=exposure.jpeg_quality,
        persons=tuple(persons),
        crowd_mask=masks[-1] if masks[-1].any() else None,
    )


def pose_person(person: PersonSpec) -> Skeleton3D:
    """The skeleton where it stands, sits, lies or flies: its lowest point touches the ground or its feet do."""
    lengths = segment_lengths(person.stature_m, person.childness)
    skeleton = articulate(lengths, person.angles, person.yaw_deg)
    if person.support in ("planted", "seat"):
        skeleton = plant_feet(skeleton, lengths)
    s = person.stature_m * person.build.girth
    reach = {"ankle": lengths["ankle"], "knee": 0.035 * s, "hip": 0.06 * s, "wrist": 0.03 * s, "shoulder": 0.05 * s}
    lowest = [
        skeleton.points[f"{side}_{joint}"][1] - below for side in ("left", "right") for joint, below in reach.items()
    ]
    for side in ("left", "right"):
        foot, ankle = skeleton.frames[f"{side} foot"], skeleton.points[f"{side}_ankle"]
        for ahead in (-0.27, 0.74):
            lowest.append((ankle + foot @ (0.0, -lengths["ankle"], ahead * lengths["foot"]))[1])
    lowest.append(skeleton.points["head_top"][1] - 0.04 * s)
    x, z = person.position_m
    return skeleton.moved(np.array([x, person.lift_m - min(lowest), z]))


def _figure(person: PersonSpec, body: Skeleton3D, camera: Camera) -> Mesh:
    height_px = camera.focal_px * person.stature_m / max(-person.position_m[1], 0.5)
    sides = int(np.clip(2 * round(height_px / 26), 6, 14))
    lengths = segment_lengths(person.stature_m, person.childness)
    return dress(body, lengths, person.stature_m, person.build, person.outfit, sides)


def thing_mesh(thing: ThingSpec) -> Mesh:
    frame = rotation(y_deg=thing.yaw_deg)
    centre, half, colours = np.array(thing.centre_m), np.array(thing.half_sizes_m), np.array(thing.colours)
    if thing.kind == "box":
        return box(centre, frame, half, colours)
    if thing.kind == "ball":
        return surface([ellipsoid(centre, frame, half, np.resize(colours, (9, 3)), rings=10)], 16)
    if thing.kind == "bush":
        return leaves(centre, half, 0.09, colours * (0.5, 0.8, 0.4), thing.seed)
    heights = np.linspace(-centre[1], centre[1], 12)
    return surface([straight_tube(centre, frame, heights, np.tile(half[:2], (12, 1)), np.resize(colours, (11, 3)))], 12)


def _chair(person: PersonSpec, body: Skeleton3D) -> Mesh:
    """A block under the pelvis, turned with the person, of the colour of the accent."""
    hips = body.points["pelvis"]
    top = hips[1] - 0.062 * person.stature_m * person.build.girth
    frame = rotation(y_deg=person.yaw_deg)
    middle = hips + frame @ (0.0, 0.0, 0.06)
    colours = np.array([person.outfit.accent, person.outfit.shoes])
    return box(
        np.array([middle[0], top / 2, middle[2]]), frame, np.array([CHAIR_M, max(top / 2, 0.05), CHAIR_M]), colours
    )


def _shadows(camera: Camera, bodies: list[Skeleton3D]) -> np.ndarray:
    """Darkening of the ground below each body, (H, W, 3) float32 factors; soft, hence computed on a coarse grid."""
    x, distance, below = ground_position(camera, step_px=4)
    shade = np.ones_like(x)
    for body in bodies:
        for name in ("pelvis", "left_ankle", "right_ankle"):
            centre = body.points[name]
            away = ((x - np.float32(centre[0])) ** 2 + (distance + np.float32(centre[2])) ** 2) / np.float32(0.06)
            shade *= 1 - np.float32(0.3) * np.exp(-np.minimum(away, 20)) * below
    return cv2.resize(cv2.merge((shade, shade, shade)), (camera.width, camera.height))


def _pixels(covered: np.ndarray) -> np.ndarray:
    """Subpixels (bool) to pixels: those covered by half or more."""
    height, width = (side // OVERSAMPLING for side in covered.shape)
    share = cv2.resize(covered.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    return share >= 127


def _truth(
    spec: SceneSpec,
    number: int,
    body: Skeleton3D,
    silhouettes: list[Silhouette],
    picture: Picture,
    masks: list[np.ndarray],
) -> PersonTruth:
    person, camera = spec.persons[number], spec.camera
    lengths = segment_lengths(person.stature_m, person.childness)
    named = keypoints_3d(body, lengths["head"])
    points = np.stack([named[name] for name in KEYPOINTS])
    in_camera = camera.to_camera(points)
    pixels = camera.to_image(in_camera)
    skull = camera.to_image(camera.to_camera(head_surface(body, lengths["head"])))
    visibility = _visibility(pixels, in_camera[:, 2], person.stature_m, number, picture)
    return PersonTruth(
        points_m=points,
        points_px=pixels,
        visibility=visibility,
        mask=masks[number],
        box=extent(masks[number]),
        head_box=np.concatenate([skull.min(axis=0), skull.max(axis=0)]),
        factors=_factors(spec, number, body, silhouettes, picture),
    )


def _visibility(pixels: np.ndarray, depths: np.ndarray, stature_m: float, number: int, picture: Picture) -> np.ndarray:
    """A joint is hidden where somebody or something else is in front, or more of the own body than covers it anyway."""
    height, width = (side // OVERSAMPLING for side in picture.depth.shape)
    inside = ((pixels >= -0.5) & (pixels < (width - 0.5, height - 0.5))).all(axis=1)
    columns, rows = np.clip((pixels + 0.5) * OVERSAMPLING, 0, np.array(picture.depth.shape)[::-1] - 1).astype(int).T
    own = picture.owner[rows, columns] == number
    hidden = picture.depth[rows, columns] < np.where(own, depths - stature_m * COVER, depths)
    return np.where(inside, np.where(hidden, 1, 2), 0).astype(np.uint8)


def _factors(spec, number, body, silhouettes, picture) -> dict[str, float]:
    """What makes this person hard, each a plain number."""
    person, camera = spec.persons[number], spec.camera
    whole = np.count_nonzero(silhouettes[number].face)
    inside = _in_picture(silhouettes[number], picture)
    seen = np.count_nonzero(picture.owner == number)
    boxes = [_whole_box(silhouette) for silhouette in silhouettes]
    others = [_iou(boxes[number], other) for i, other in enumerate(boxes) if i != number]
    x, _, z = body.points["pelvis"]
    view = person.yaw_deg - np.degrees(np.arctan2(-x, -z))
    depth = camera.to_camera(body.points["pelvis"])[2]
    values = {
        "occluded_fraction": 1 - seen / max(inside, 1),
        "truncation": 1 - inside / max(whole, 1),
        "height_px": camera.focal_px * person.stature_m / depth,
        "overlap": max(others, default=0.0),
        "view_deg": (view + 180) % 360 - 180,
        "blur_px": spec.exposure.blur_px,
        "noise": spec.exposure.noise,
        "light": spec.exposure.light,
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def _in_picture(silhouette: Silhouette, picture: Picture) -> int:
    """Subpixels of the whole silhouette that lie within the picture."""
    (left, top), (height, width) = silhouette.corner, picture.depth.shape
    inside = silhouette.face[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    return np.count_nonzero(inside)


def _whole_box(silhouette: Silhouette) -> np.ndarray:
    (left, top), (height, width) = silhouette.corner, silhouette.face.shape
    return np.array([left, top, left + width, top + height], dtype=float)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(shared / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared, 1e-9))


def extent(mask: np.ndarray) -> np.ndarray:
    """(4,) x, y, w, h of the pixels of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], dtype=float)


def _expose(picture: Picture, background: np.ndarray, exposure: ExposureSpec) -> np.ndarray:
    """Bodies over the background, then what the lens and the sensor do to it, (H, W, 3) uint8."""
    height, width = background.shape[:2]
    solid = cv2.resize(picture.rgba, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    through = 255 - solid[..., 3]
    image = cv2.multiply(background, cv2.merge((through, through, through)), dst=background)
    cv2.add(image, cv2.cvtColor(solid, cv2.COLOR_RGBA2RGB), dst=image)
    cv2.transform(image, np.diag(exposure.tint) * exposure.light, dst=image)
    if exposure.blur_px:
        image = cv2.GaussianBlur(image, (0, 0), exposure.blur_px, dst=image)
    if exposure.noise:
        lag = 7 * width  # the channels share one field of noise at different places: cheaper, and no less random to see
        field = np.random.default_rng(exposure.seed).standard_normal(width * height + 2 * lag, dtype=np.float32)
        for channel in range(3):
            shifted = field[channel * lag :][: width * height].reshape(height, width)
            image[..., channel] += np.float32(exposure.noise) * shifted
    return cv2.convertScaleAbs(cv2.max(image, 0, dst=image))
