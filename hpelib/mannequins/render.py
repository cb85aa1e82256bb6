"""From a `SceneSpec` to the pixels, and to the truth about everybody in them."""

from dataclasses import dataclass
from math import cos, radians, sin

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from hpelib.mannequins.backdrops import ground_position, paint_backdrop
from hpelib.mannequins.figures import PersonSpec, dress, head_surface, keypoints_3d, pose_person
from hpelib.mannequins.meshes import Mesh, box, ellipsoid, leaves, straight_tube, surface
from hpelib.mannequins.poses import Body, rotation
from hpelib.mannequins.raster import NOBODY, OVERSAMPLING, Camera, Light, Picture, Silhouette, draw
from hpelib.mannequins.scenes import ExposureSpec, SceneSpec, ThingSpec
from hpelib.skeletons import COCO17, LSP14, MPII16, Skeleton

KEYPOINTS = tuple(dict.fromkeys(COCO17.keypoints + MPII16.keypoints + LSP14.keypoints))
# How far the body's own surface may lie in front of a joint that still counts as visible, in fractions of the stature
_COVER = {"shoulder": 0.065, "elbow": 0.085, "wrist": 0.060, "hip": 0.105, "knee": 0.100, "ankle": 0.075}
_COVER |= {"pelvis": 0.105, "thorax": 0.085, "neck": 0.080, "top": 0.060, "nose": 0.025, "eye": 0.025, "ear": 0.035}
COVER = np.array([_COVER[name.rpartition("_")[2]] for name in KEYPOINTS])  # (P,)
CHAIR_M = 0.21  # half the width of a seat


@dataclass(frozen=True)
class Labels:
    """What an annotation says of one person in a picture. P is the number of names in KEYPOINTS, in that order."""

    points_px: np.ndarray  # (P, 2), inside the picture or not
    visibility: np.ndarray  # (P,) uint8: 2 visible, 1 hidden by anything, 0 outside the picture
    mask: np.ndarray  # (H, W) bool, what is seen of the person
    factors: dict[str, float]  # what makes the person hard to see

    def of(self, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (K, 2) in px and visibility (K,) of one keypoint set."""
        chosen = [KEYPOINTS.index(name) for name in skeleton.keypoints]
        return self.points_px[chosen], self.visibility[chosen]


@dataclass(frozen=True)
class PersonTruth(Labels):
    points_m: np.ndarray  # (P, 3) world
    head_box: np.ndarray  # (4,) x1, y1, x2, y2 in px of the whole skull, hidden or not
    box: np.ndarray  # (4,) x, y, w, h in px of what is seen


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  # (H, W, 3) uint8 RGB
    persons: tuple[PersonTruth, ...]  # those of whom at least one px is seen
    crowd_mask: np.ndarray | None  # (H, W) bool


def render(spec: SceneSpec) -> Scene:
    """The picture of a scene and the truth about it; the same specification gives the same bits."""
    camera, exposure = spec.camera, spec.exposure
    azimuth, elevation = map(radians, exposure.sun_deg)
    sun = np.array([cos(azimuth) * cos(elevation), sin(elevation), sin(azimuth) * cos(elevation)])
    light = Light(sun, exposure.ambient)
    picture = Picture(camera.width, camera.height)
    people, count = spec.persons + spec.crowd, len(spec.persons)
    bodies = [pose_person(person) for person in people]
    figures = [_figure(person, body, camera) for person, body in zip(people, bodies, strict=True)]
    silhouettes = [draw(figure, camera, light) for figure in figures]
    for number, silhouette in enumerate(silhouettes):
        picture.add(silhouette, owner=min(number, count))  # the whole crowd is one owner
    things = [thing_mesh(thing) for thing in spec.things]
    things += [_chair(person, bodies[i]) for i, person in enumerate(spec.persons) if person.support == "seat"]
    for mesh in things:
        picture.add(draw(mesh, camera, light), owner=NOBODY - 1)

    masks = [_pixels(picture.owner == number) for number in range(count + 1)]
    background = paint_backdrop(spec.backdrop, camera)
    cv2.multiply(background, _shadows(camera, bodies), dst=background)
    persons = [
        _truth(spec, number, bodies[number], silhouettes[:count], picture, masks[number])
        for number in range(count)
        if masks[number].any()
    ]
    image = _expose(picture, background, exposure)
    return Scene(image, tuple(persons), crowd_mask=masks[-1] if masks[-1].any() else None)


def _figure(person: PersonSpec, body: Body, camera: Camera) -> Mesh:
    """The dressed person, with more faces the larger it appears."""
    height_px = camera.focal_px * person.stature_m / max(-person.position_m[1], 0.5)
    return dress(person, body, sides=int(np.clip(2 * round(height_px / 26), 6, 14)))


def thing_mesh(thing: ThingSpec) -> Mesh:
    """The surface of a piece of furniture, a pole, a bush or a ball."""
    frame = rotation(y_deg=thing.yaw_deg)
    centre, half, colours = np.array(thing.centre_m), np.array(thing.half_sizes_m), np.array(thing.colours)
    if thing.kind == "box":
        return box(centre, frame, half, colours)
    if thing.kind == "ball":
        return surface([ellipsoid(centre, frame, half, np.resize(colours, (9, 3)), rings=10)], 16)
    if thing.kind == "bush":
        return leaves(centre, half, 0.09, colours * (0.5, 0.8, 0.4), thing.seed)
    profile = np.broadcast_arrays(np.linspace(-centre[1], centre[1], 12), *half[:2])
    return surface([straight_tube(centre, frame, profile, np.resize(colours, (11, 3)))], 12)


def _chair(person: PersonSpec, body: Body) -> Mesh:
    """A block under the pelvis that turns with the person."""
    hips, frame = body.points["pelvis"], rotation(y_deg=person.yaw_deg)
    half_height = (hips[1] - 0.062 * person.stature_m * person.girth) / 2
    x, _, z = hips + frame @ (0.0, 0.0, 0.06)
    half_sizes = np.array([CHAIR_M, max(half_height, 0.05), CHAIR_M])
    return box(np.array([x, half_height, z]), frame, half_sizes, np.array([person.outfit.accent, person.outfit.shoes]))


def _shadows(camera: Camera, bodies: list[Body]) -> np.ndarray:
    """Factors that darken the ground below each body, (H, W, 3) float32. Shadows are soft: a coarse grid will do."""
    x, distance, below = ground_position(camera, step_px=4)
    shade = np.ones_like(x)
    for body in bodies:
        for name in ("pelvis", "left_ankle", "right_ankle"):
            centre = body.points[name]
            away = ((x - np.float32(centre[0])) ** 2 + (distance + np.float32(centre[2])) ** 2) / np.float32(0.06)
            shade *= 1 - np.float32(0.3) * np.exp(-np.minimum(away, 20)) * below
    return cv2.resize(cv2.merge((shade, shade, shade)), (camera.width, camera.height))


def _pixels(covered: np.ndarray) -> np.ndarray:
    """Subpixels (bool) to pixels (H, W): those of which half or more is covered."""
    height, width = (side // OVERSAMPLING for side in covered.shape)
    share = cv2.resize(covered.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    return share >= 127


def _truth(
    spec: SceneSpec, number: int, body: Body, silhouettes: list[Silhouette], picture: Picture, mask: np.ndarray
) -> PersonTruth:
    camera, stature_m, named = spec.camera, spec.persons[number].stature_m, keypoints_3d(body)
    points = np.stack([named[name] for name in KEYPOINTS])
    in_camera = camera.to_camera(points)
    pixels, depths = camera.to_image(in_camera), in_camera[:, 2]
    rows, columns = picture.depth.shape
    x, y = np.clip((pixels + 0.5) * OVERSAMPLING, 0, (columns - 1, rows - 1)).astype(int).T
    # Hidden: anything else is in front of the joint, or more of the own body than COVER allows
    hidden = picture.depth[y, x] < np.where(picture.owner[y, x] == number, depths - stature_m * COVER, depths)
    skull = camera.project(head_surface(body))
    return PersonTruth(
        points_px=pixels,
        visibility=labels_inside(pixels, np.where(hidden, 1, 2), camera.width, camera.height),
        mask=mask,
        factors=_factors(spec, number, body, silhouettes, picture),
        points_m=points,
        box=extent(mask),
        head_box=np.concatenate([skull.min(axis=0), skull.max(axis=0)]),
    )


def labels_inside(points_px: np.ndarray, visibility: np.ndarray, width: int, height: int) -> np.ndarray:
    """The visibility (P,) of points (P, 2), but 0 for those outside the picture, which starts at -0.5."""
    inside = ((points_px >= -0.5) & (points_px < (width - 0.5, height - 0.5))).all(axis=1)
    return np.where(inside, visibility, 0).astype(np.uint8)


def _factors(
    spec: SceneSpec, number: int, body: Body, silhouettes: list[Silhouette], picture: Picture
) -> dict[str, float]:
    """What makes this person hard to see, each a plain number."""
    whole = np.count_nonzero(silhouettes[number].face)
    inside = np.count_nonzero(silhouettes[number].within(picture.depth.shape)[0])
    seen = np.count_nonzero(picture.owner == number)
    boxes = np.array([(*silhouette.corner, *silhouette.face.shape[::-1]) for silhouette in silhouettes], float)
    x, _, z = body.points["pelvis"]
    view = spec.persons[number].yaw_deg - np.degrees(np.arctan2(-x, -z))
    depth = spec.camera.to_camera(body.points["pelvis"])[2]
    values = {
        "occluded_fraction": 1 - seen / max(inside, 1),  # of what is within the picture
        "truncation": 1 - inside / max(whole, 1),
        "height_px": spec.camera.focal_px * spec.persons[number].stature_m / depth,
        "overlap": np.delete(box_iou(boxes, boxes[number]), number).max(initial=0.0),  # with the closest neighbour
        "view_deg": (view + 180) % 360 - 180,  # 0 from the front, 90 from the person's right
        "blur_px": spec.exposure.blur_px,
        "noise": spec.exposure.noise,
        "light": spec.exposure.light,
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def box_iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union (N,) of boxes (N, 4) with one box (4,), all x, y, w, h."""
    return coco_mask.iou(boxes, box[None], [0])[:, 0]


def extent(mask: np.ndarray) -> np.ndarray:
    """(4,) x, y, w, h in px of the true pixels of a mask; at least one must be true."""
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
        # The channels share one field of random numbers, read at three places: cheaper, and the eye sees no difference
        lag = 7 * width
        field = np.random.default_rng(exposure.seed).standard_normal(width * height + 2 * lag, dtype=np.float32)
        field *= np.float32(exposure.noise)
        shifted = [field[channel * lag :][: width * height].reshape(height, width) for channel in range(3)]
        cv2.add(image, cv2.merge(shifted), dst=image)
    return cv2.convertScaleAbs(cv2.max(image, 0, dst=image))
