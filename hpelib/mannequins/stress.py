"""The stress set: the same people again and again, each time with one thing about the picture made harder.

In the easy picture a person stands alone, upright and facing the viewer. Every other picture changes one factor to one
of the `LEVELS`. All the rest stays: pose, clothes, camera, light, background, and the region that a network is shown.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from math import asin, degrees, sqrt
from pathlib import Path

import cv2
import numpy as np
import yaml

from hpelib.data.coco import read_coco
from hpelib.data.mpii import read_mpii
from hpelib.data.people import People
from hpelib.mannequins.figures import PersonSpec, pose_person
from hpelib.mannequins.raster import Camera
from hpelib.mannequins.render import KEYPOINTS, Labels, PersonTruth, Scene, box_iou, labels_inside, render
from hpelib.mannequins.scenes import SceneSpec, ThingSpec, sample_scene
from hpelib.skeletons import COCO17, MPII16

EASY = "easy"
LEVELS = {  # of each factor, from the level of the easy picture to the hardest; stress.yaml says what they are
    factor: tuple(levels) for factor, levels in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()).items()
}
STATURE_PX = LEVELS["height"][0]
CANVAS_PX = 320  # side of the rendered scene, and of the pictures for "scale"
PICTURE_PX = 224  # side of all other pictures, which are cut out of the scene
WIDEST_PX = 172  # greatest extent of a body, so that the region shown lies within the picture
BEHIND_M = 0.6  # distance of the companion behind the person
JPEG_QUALITY = 95
FIRST_SCENE = 1_000_000  # scenes below this number may be part of a split
LIMBS = COCO17.keypoints[5:]  # shoulders to ankles


@dataclass(frozen=True)
class Subject:
    """A person of the stress set in the easy scene, and the companion for the overlapping pictures."""

    spec: SceneSpec
    scene: Scene
    companion: PersonSpec  # straight behind the person
    companion_box: np.ndarray  # (4,) x, y, w, h px of the companion when nobody is in front
    anchor_m: np.ndarray  # (3,) the joint about which the panel grows

    @property
    def truth(self) -> PersonTruth:
        return self.scene.persons[0]


@dataclass(frozen=True)
class Shot(Labels):
    """One picture of a subject, and the labels in it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB


def pictures() -> list[tuple[str, float]]:
    """Factor and level of the pictures of each person, in the order of the files; the first is (EASY, 0)."""
    return [(EASY, 0.0), *((factor, level) for factor, levels in LEVELS.items() for level in levels[1:])]


def recruit(recipe: dict, seed: int, index: int) -> Subject | None:
    """The first person of a random scene as a subject, with the second as companion; None if they do not suit.

    They suit if the trunk is upright and not seen from high above or below, the body fits into the picture, and the
    boxes of the two can overlap by the hardest level.
    """
    sampled = sample_scene(recipe, seed, "test", FIRST_SCENE + index)
    person = sampled.persons[0]
    if len(sampled.persons) < 2 or max(abs(person.angles[name]) for name in ("pelvis_tilt", "pelvis_roll")) >= 45:
        return None
    focal_px = CANVAS_PX * sampled.camera.focal_px / sampled.camera.width
    distance = focal_px * person.stature_m / STATURE_PX
    heights = [point[1] for point in pose_person(person).points.values()]
    eye = sampled.camera.height_m
    drop = eye - (min(heights) + max(heights)) / 2  # of the body's middle below the camera
    if abs(drop) > distance / 2:
        return None
    depth = sqrt(distance**2 - drop**2)
    person = replace(person, position_m=(0.0, -depth), yaw_deg=0.0)
    companion = replace(sampled.persons[1], position_m=(0.0, -depth - BEHIND_M))
    spec = SceneSpec(
        camera=Camera(CANVAS_PX, CANVAS_PX, focal_px, eye, degrees(asin(drop / distance)), roll_deg=0.0),
        persons=(person,),
        crowd=(),
        things=(),
        backdrop=replace(sampled.backdrop, wall_m=max(sampled.backdrop.wall_m, depth + 2 * BEHIND_M)),
        exposure=replace(sampled.exposure, light=1.0, blur_px=0.0, noise=0.0, jpeg_quality=JPEG_QUALITY),
    )
    scene = render(spec)
    box, companion_box = scene.persons[0].box, render(replace(spec, persons=(companion,))).persons[0].box
    if box[2:].max() > WIDEST_PX or box_iou(box[None], _centred(companion_box, box)) < LEVELS["overlap"][-1]:
        return None
    anchor = LIMBS[np.random.default_rng([seed, index]).integers(len(LIMBS))]
    return Subject(spec, scene, companion, companion_box, scene.persons[0].points_m[KEYPOINTS.index(anchor)])


def photograph(subject: Subject, factor: str, level: float) -> Shot:
    """The easy picture with one factor at a level, which need not be one of `LEVELS`."""
    spec = _vary(subject, factor, level)
    scene = subject.scene if spec is subject.spec else render(spec)
    side_px = CANVAS_PX if factor == "scale" else PICTURE_PX
    box = subject.truth.box
    centre_px = np.floor(box[:2] + box[2:] / 2) - 0.5  # the middle of the easy body, where four pixels meet
    shot = _cut_out(scene, centre_px, side_px, level if factor == "rotation" else 0.0)
    if factor == "truncation":
        return _truncate(shot, level)
    return _shrink(shot, level / STATURE_PX) if factor == "height" else shot


def _vary(subject: Subject, factor: str, level: float) -> SceneSpec:
    """The scene at a level. It is the easy scene itself if the factor only changes how the picture is cut out."""
    spec = subject.spec
    match factor:
        case "occlusion":
            return replace(spec, things=(_panel(subject, level),))
        case "overlap":
            return replace(spec, persons=(*spec.persons, _beside(subject, level)))
        case "yaw":
            return replace(spec, persons=(replace(spec.persons[0], yaw_deg=level),))
        case "blur" | "noise" | "light":
            field = "blur_px" if factor == "blur" else factor
            return replace(spec, exposure=replace(spec.exposure, **{field: level}))
    return spec


def _panel(subject: Subject, share: float) -> ThingSpec:
    """A square panel between viewer and anchor that hides this share of the body."""
    camera, mask = subject.spec.camera, subject.truth.mask
    eye = np.array([0.0, camera.height_m, 0.0])
    centre = eye + 0.7 * (subject.anchor_m - eye)
    signs = np.array(list(product((-1, 1), repeat=3)))

    def hidden(half_m: float) -> float:
        corners = camera.project(centre + signs * (half_m, half_m, 0.02))
        hull = cv2.convexHull(np.rint(corners).astype(np.int32))
        panel = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), hull, 1)
        return np.count_nonzero(mask & (panel > 0)) / np.count_nonzero(mask)

    half_m = _solve(hidden, share, 2.0)
    outfit = subject.companion.outfit
    return ThingSpec("box", tuple(centre), (half_m, half_m, 0.02), 0.0, (outfit.accent, outfit.shoes), seed=0)


def _beside(subject: Subject, overlap: float) -> PersonSpec:
    """The companion, moved to the side until the boxes overlap as asked."""
    box, middle = subject.truth.box, _centred(subject.companion_box, subject.truth.box)
    apart_px = (box[2] + middle[2]) / 2

    def overlap_at(nearer_px: float) -> float:
        return box_iou(box[None], middle + np.array([apart_px - nearer_px, 0, 0, 0]))[0]

    nearer_px = _solve(overlap_at, overlap, apart_px)
    shift_px = apart_px - nearer_px + middle[0] - subject.companion_box[0]
    _, z = subject.companion.position_m
    return replace(subject.companion, position_m=(float(shift_px * -z / subject.spec.camera.focal_px), z))


def _centred(box: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The box, moved sideways until its middle is that of the other."""
    return np.array([other[0] + (other[2] - box[2]) / 2, *box[1:]])


def _solve(measure: Callable[[float], float], target: float, high: float) -> float:
    """Where between 0 and `high` a rising function reaches the target, by halving the interval."""
    low = 0.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < target else (low, middle)
    return high


def _cut_out(scene: Scene, centre_px: np.ndarray, side_px: int, rotation_deg: float) -> Shot:
    """The square about a point of the scene, turned counterclockwise about it."""
    truth = scene.persons[0]
    matrix = cv2.getRotationMatrix2D(centre_px.tolist(), rotation_deg, 1.0)
    matrix[:, 2] += (side_px - 1) / 2 - centre_px
    points = truth.points_px @ matrix[:, :2].T + matrix[:, 2]
    size, border = (side_px, side_px), cv2.BORDER_REFLECT_101
    return Shot(
        points_px=points,
        visibility=labels_inside(points, truth.visibility, *size),
        mask=cv2.warpAffine(truth.mask.view(np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0,
        factors=truth.factors,
        image=cv2.warpAffine(scene.image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border),
    )


def _truncate(shot: Shot, share: float) -> Shot:
    """The picture without the rows at the bottom that hold this share of the body."""
    above = shot.mask.sum(axis=1).cumsum() / shot.mask.sum()
    rows = int(np.searchsorted(above, 1 - share)) + 1
    return replace(
        shot,
        visibility=labels_inside(shot.points_px, shot.visibility, PICTURE_PX, rows),
        mask=shot.mask[:rows],
        factors=shot.factors | {"truncation": round(1 - float(above[rows - 1]), 4)},
        image=shot.image[:rows],
    )


def _shrink(shot: Shot, ratio: float) -> Shot:
    """The picture as a sensor with fewer, larger pixels would have taken it."""
    size = (round(ratio * PICTURE_PX),) * 2
    return replace(
        shot,
        points_px=(shot.points_px + 0.5) * ratio - 0.5,
        mask=cv2.resize(shot.mask.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) >= 127,
        factors=shot.factors | {"height_px": round(ratio * shot.factors["height_px"], 4)},
        image=cv2.resize(shot.image, size, interpolation=cv2.INTER_AREA),
    )


def read_stress(root: str | Path) -> tuple[People, np.ndarray]:
    """The persons in a stress set, read as MPII, and which of their keypoints are hidden, (N, 16) bool.

    `People.factors` has person, factor, level, and what was measured in each picture. The hidden keypoints are taken
    from the COCO file, for shoulders to ankles only: the other keypoints of the two formats differ.

    Raises:
        FileNotFoundError, ValueError: a file is missing or broken, or the two annotation files do not fit together.
    """
    root = Path(root)
    people = read_mpii(root / "mpii.json", root / "images", root / "mpii.mat")
    coco = read_coco(root / "coco.json", root / "images")
    if len(coco) != len(people):
        raise ValueError(f"{root}: coco.json has {len(coco)} persons and mpii.json {len(people)}; render them again")
    hidden = np.zeros((len(people), MPII16.num_keypoints), bool)
    for name in LIMBS:
        hidden[:, MPII16.index(name)] = coco.visibility[:, COCO17.index(name)] == 1
    return people, hidden
