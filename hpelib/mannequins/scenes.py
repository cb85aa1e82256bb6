"""What a scene is made of, as explicit numbers, and how such scenes are drawn at random.

A `SceneSpec` says everything that `render.render` needs: one factor can be changed by `dataclasses.replace`
with all the rest held fixed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hpelib.mannequins.figures import Build, Colour, Outfit
from hpelib.mannequins.poses import ANGLES, SIDES, sample_angles
from hpelib.mannequins.raster import Camera

SPLITS = ("train", "val", "test")
SUPPORTS = ("planted", "lowest", "air", "seat")
SKINS = ((0.96, 0.80, 0.70), (0.90, 0.71, 0.58), (0.78, 0.57, 0.42), (0.58, 0.39, 0.27), (0.40, 0.26, 0.19))
HAIRS = (
    (0.10, 0.08, 0.07),
    (0.26, 0.16, 0.10),
    (0.42, 0.27, 0.15),
    (0.80, 0.65, 0.38),
    (0.62, 0.60, 0.58),
    (0.55, 0.22, 0.10),
)
PATTERNS = ("plain", "plain", "stripes", "jacket", "logo", "panels")


@dataclass(frozen=True)
class PersonSpec:
    stature_m: float
    childness: float  # 0 an adult's proportions, 1 those of a child of four
    build: Build
    outfit: Outfit
    angles: dict[str, float]  # degrees, by the names in poses.ANGLES
    support: str  # one of SUPPORTS
    lift_m: float  # above the ground, for support "air"
    position_m: tuple[float, float]  # x, z on the ground
    yaw_deg: float


@dataclass(frozen=True)
class ThingSpec:
    kind: str  # box, pole, bush, ball
    centre_m: tuple[float, float, float]
    half_sizes_m: tuple[float, float, float]
    yaw_deg: float
    colours: tuple[Colour, ...]
    seed: int


@dataclass(frozen=True)
class BackdropSpec:
    kind: str  # room, street, field, studio, clutter
    wall_m: float  # distance of the far wall
    colours: tuple[Colour, ...]
    grain: float  # contrast of the texture
    seed: int


@dataclass(frozen=True)
class ExposureSpec:
    light: float  # 1 is well lit
    tint: Colour
    sun_deg: tuple[float, float]  # azimuth from the viewer's right, elevation
    ambient: float
    blur_px: float  # Gaussian sigma
    noise: float  # sigma in grey levels
    jpeg_quality: int
    seed: int


@dataclass(frozen=True)
class SceneSpec:
    camera: Camera
    persons: tuple[PersonSpec, ...]
    crowd: tuple[PersonSpec, ...]  # far away, annotated as one group
    things: tuple[ThingSpec, ...]
    backdrop: BackdropSpec
    exposure: ExposureSpec


def read_recipe(path: str | Path) -> dict:
    """The recipe as nested dicts; ValueError names a pose whose support, arms or angles do not exist."""
    recipe = yaml.safe_load(Path(path).read_text())
    known = set(ANGLES) | {name.partition("_")[2] if name.partition("_")[0] in SIDES else name for name in ANGLES}
    for name, pose in recipe["poses"].items():
        for arms in pose["arms"]:
            if arms not in recipe["arms"]:
                raise ValueError(f"{path}: pose '{name}' asks for arms '{arms}'; there are {', '.join(recipe['arms'])}")
        if pose["support"] not in SUPPORTS:
            raise ValueError(f"{path}: pose '{name}' has support '{pose['support']}'; use one of {', '.join(SUPPORTS)}")
        unknown = set(pose) - known - {"weight", "support", "skirt", "arms"}
        if unknown:
            raise ValueError(
                f"{path}: pose '{name}' sets {', '.join(sorted(unknown))}; joints are {', '.join(sorted(known))}"
            )
    return recipe


def sample_scene(recipe: dict, seed: int, split: str, index: int) -> SceneSpec:
    """Scene number `index` of a split; a function of its arguments alone, so that scenes can be made in any order."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got '{split}'")
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    width, height = (
        int(rng.integers(low, high + 1)) for low, high in (recipe["image"]["width"], recipe["image"]["height"])
    )
    focal = width * rng.uniform(*recipe["camera"]["focal"])
    low, high = recipe["people"]["height_px"]
    count = 1 + rng.choice(5, p=recipe["people"]["count"])

    statures = [_sample_stature(rng, recipe) for _ in range(count)]
    height_px = np.exp(rng.uniform(np.log(low), np.log(high), count))
    height_px[0] = rng.uniform(0.35 * (low + high), high)
    depths = [focal * stature / size for (stature, _), size in zip(statures, height_px, strict=True)]
    camera = _aim(rng, recipe, width, height, focal, depths[0], height_px[0])
    spots = _place(rng, recipe, camera, depths, statures)
    persons = tuple(
        _sample_person(rng, recipe, stature, childness, spot)
        for (stature, childness), spot in zip(statures, spots, strict=True)
    )
    wall = max(depths) + rng.uniform(0.8, 5.0)
    return SceneSpec(
        camera=camera,
        persons=persons,
        crowd=_sample_crowd(rng, recipe, camera, wall) if rng.random() < recipe["people"]["crowd"] else (),
        things=_sample_things(rng, recipe, camera, spots, wall),
        backdrop=BackdropSpec(
            kind=str(rng.choice(["room", "street", "field", "studio", "clutter"], p=[0.32, 0.22, 0.18, 0.1, 0.18])),
            wall_m=wall,
            colours=tuple(_colour(rng) for _ in range(6)),
            grain=rng.uniform(0.03, 0.22),
            seed=int(rng.integers(2**31)),
        ),
        exposure=_sample_exposure(rng, recipe["exposure"]),
    )


def _sample_stature(rng, recipe) -> tuple[float, float]:
    """Stature in m and childness."""
    if rng.random() < recipe["people"]["child"]:
        childness = rng.uniform(0.25, 1.0)
        return 1.62 - 0.58 * childness + rng.normal(0, 0.04), childness
    return rng.normal(1.71, 0.085), 0.0


def _aim(rng, recipe, width, height, focal, depth, height_px) -> Camera:
    """A camera that has the first person in view, cut off by the frame now and then."""
    truncated = rng.random() < recipe["framing"]["truncated"]
    offset_px = (
        rng.choice([-1, 1]) * rng.uniform(0.3, 0.55) * height_px
        if truncated
        else rng.uniform(-0.4, 0.4) * max(height - 1.1 * height_px, 0.0)
    )
    eye = rng.uniform(*recipe["camera"]["height_m"])
    pitch = np.degrees(np.arctan((eye - 0.85) / depth) + np.arctan(offset_px / focal))
    roll = rng.normal(0, recipe["camera"]["roll_deg"])
    return Camera(width, height, focal, eye, float(pitch), float(roll))


def _place(rng, recipe, camera, depths, statures) -> list[tuple[float, float]]:
    """Ground positions x, z: the first within the frame, companions beside somebody, the rest anywhere in view."""
    spots: list[tuple[float, float]] = []
    for i, depth in enumerate(depths):
        for _ in range(12):
            half_view = depth * camera.width / 2 / camera.focal_px
            x = rng.uniform(-0.75, 0.75) * half_view if i == 0 else rng.uniform(-1.05, 1.05) * half_view
            z = -depth
            if i and rng.random() < recipe["framing"]["companion"]:
                near = spots[rng.integers(len(spots))]
                x, z = near[0] + rng.choice([-1, 1]) * rng.uniform(0.3, 0.9), near[1] + rng.normal(0, 0.5)
            z = min(z, -0.9 * camera.focal_px * statures[i][0] / recipe["people"]["height_px"][1])
            if all((x - other[0]) ** 2 + (z - other[1]) ** 2 > 0.55**2 for other in spots):
                break
        spots.append((float(x), float(z)))
    return spots


def _sample_person(rng, recipe, stature, childness, spot) -> PersonSpec:
    poses = recipe["poses"]
    weights = np.array([pose["weight"] for pose in poses.values()], dtype=float)
    pose = poses[str(rng.choice(list(poses), p=weights / weights.sum()))]
    arms = recipe["arms"][str(rng.choice(pose["arms"]))]
    woman = rng.random() < 0.5
    adult = 1.0 - 0.6 * childness
    frontal = rng.random() < recipe["framing"]["facing_share"]
    yaw = rng.normal(0, recipe["framing"]["facing_sd_deg"]) if frontal else rng.uniform(-180, 180)
    return PersonSpec(
        stature_m=stature,
        childness=childness,
        build=Build(
            girth=float(np.clip(rng.normal(1.10 + 0.08 * childness, 0.10), 0.9, 1.45)),
            shoulders=1.0 + adult * (rng.uniform(-0.10, 0.0) if woman else rng.uniform(-0.02, 0.10)),
            hips=1.0 + adult * (rng.uniform(0.0, 0.12) if woman else rng.uniform(-0.04, 0.04)),
        ),
        outfit=_sample_outfit(rng, woman, bool(pose.get("skirt")), adult),
        angles=sample_angles(rng, arms | pose, recipe["limits"]),
        support=pose["support"],
        lift_m=float(rng.uniform(0.08, 0.55)) if pose["support"] == "air" else 0.0,
        position_m=spot,
        yaw_deg=float(yaw),
    )


def _sample_outfit(rng, woman, may_wear_skirt, adult) -> Outfit:
    skin = SKINS[rng.integers(len(SKINS))]
    styles = ["short", "fringe", "long", "bun", "cap", "bald"]
    style = str(
        rng.choice(styles, p=[0.14, 0.22, 0.36, 0.2, 0.08, 0.0] if woman else [0.52, 0.2, 0.02, 0.0, 0.16, 0.1])
    )
    hair = _colour(rng) if style == "cap" else HAIRS[rng.integers(len(HAIRS))]
    skirt = may_wear_skirt and woman and rng.random() < 0.5
    top = _colour(rng)
    return Outfit(
        skin=tuple(float(c) for c in np.clip(np.array(skin) + rng.normal(0, 0.025, 3), 0, 1)),
        hair=hair,
        hair_style=style,
        beard=bool(not woman and adult == 1.0 and rng.random() < 0.25),
        top=top,
        bottom=top if skirt and rng.random() < 0.5 else _colour(rng),
        accent=_colour(rng),
        shoes=_colour(rng),
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        sleeve=float(rng.choice([0.12, 0.42, 0.6, 1.5, 1.93], p=[0.1, 0.3, 0.2, 0.1, 0.3])),
        leg=float(rng.choice([0.35, 0.65, 0.9, 1.5, 1.93], p=[0.1, 0.15, 0.1, 0.1, 0.55])),
        skirt=float(rng.uniform(0.5, 1.4)) if skirt else 0.0,
    )


def _sample_crowd(rng, recipe, camera, wall) -> tuple[PersonSpec, ...]:
    """A few small people side by side, about 40 px tall, in front of the wall."""
    depth = min(wall - 0.3, camera.focal_px * 1.7 / rng.uniform(32, 48))
    middle = rng.uniform(-0.3, 0.3) * depth * camera.width / camera.focal_px
    spots = [
        (middle + 0.42 * i + rng.normal(0, 0.08), -depth + rng.normal(0, 0.25)) for i in range(rng.integers(5, 10))
    ]
    upright = recipe | {"poses": {"standing": recipe["poses"]["standing"]}}
    return tuple(_sample_person(rng, upright, *_sample_stature(rng, recipe), (float(x), float(z))) for x, z in spots)


def _sample_things(rng, recipe, camera, spots, wall) -> tuple[ThingSpec, ...]:
    """Furniture between the people and the wall, and something in front of somebody."""
    things = []
    low, high = recipe["things"]["furniture"]
    nearest = -max(z for _, z in spots)
    for _ in range(rng.integers(low, high + 1)):
        depth = rng.uniform(nearest + 0.6, wall)
        x = rng.uniform(-1, 1) * depth * camera.width / 2 / camera.focal_px
        half = (rng.uniform(0.12, 0.7), rng.uniform(0.2, 0.95), rng.uniform(0.1, 0.35))
        if all((x - a) ** 2 + (depth + b) ** 2 > (0.5 + max(half[0], half[2])) ** 2 for a, b in spots):
            things.append(_thing(rng, "box", (x, half[1], -depth), half))
    if rng.random() < recipe["things"]["occluder"]:
        x, z = spots[rng.integers(len(spots))]
        share = rng.uniform(0.6, 0.85)
        depth, x = -z * share, x * share + rng.normal(0, 0.22)
        kind = str(rng.choice(["box", "pole", "bush", "ball"], p=[0.45, 0.22, 0.15, 0.18]))
        half, centre_height = {
            "box": ((rng.uniform(0.1, 0.45), rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.3)), None),
            "pole": ((rng.uniform(0.03, 0.07),) * 2 + (1.6,), 1.6),
            "bush": ((rng.uniform(0.12, 0.3), rng.uniform(0.15, 0.3), 0.12), rng.uniform(0.2, 1.3)),
            "ball": ((rng.uniform(0.1, 0.22),) * 3, rng.uniform(0.2, 1.5)),
        }[kind]
        things.append(_thing(rng, kind, (x, half[1] if centre_height is None else centre_height, -depth), half))
    return tuple(things)


def _thing(rng, kind, centre, half_sizes) -> ThingSpec:
    base = np.array(_colour(rng))
    shades = [base, *(base * rng.uniform(0.6, 1.0, (int(rng.integers(3)), 1)))]  # planks of one material
    colours = tuple(tuple(shade.tolist()) for shade in shades)
    return ThingSpec(
        kind,
        tuple(map(float, centre)),
        tuple(map(float, half_sizes)),
        float(rng.uniform(-45, 45)),
        colours,
        int(rng.integers(2**31)),
    )


def _sample_exposure(rng, limits) -> ExposureSpec:
    low, high = limits["jpeg_quality"]
    tint = 1 + rng.normal(0, 0.05, 3)
    return ExposureSpec(
        light=float(rng.uniform(*limits["light"]) if rng.random() < limits["dim"] else rng.uniform(0.95, 1.2)),
        tint=tuple(float(c) for c in tint),
        sun_deg=(float(rng.uniform(20, 160)), float(rng.uniform(20, 75))),
        ambient=float(rng.uniform(0.5, 0.8)),
        blur_px=float(rng.uniform(*limits["blur_px"]) if rng.random() < limits["blurred"] else 0.0),
        noise=float(rng.uniform(*limits["noise"]) if rng.random() < limits["noisy"] else 0.0),
        jpeg_quality=int(rng.integers(low, high + 1)),
        seed=int(rng.integers(2**31)),
    )


def _colour(rng) -> Colour:
    """Any colour; dull ones are more frequent than bright ones."""
    hue, saturation, value = rng.random(), rng.random() ** 1.8, rng.uniform(0.12, 0.98)
    wheel = np.clip(np.abs((6 * hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return tuple(float(c) for c in value * (1 - saturation + saturation * wheel))
