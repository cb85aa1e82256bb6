"""What a scene is made of, as plain numbers, and how such scenes are drawn at random from a recipe.

A `SceneSpec` holds everything that `render.render` needs. So one thing can be changed by `dataclasses.replace`, and all
the rest stays as it was.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hpelib.layers.choices import require_choice
from hpelib.mannequins.figures import Colour, Outfit, PersonSpec
from hpelib.mannequins.poses import LIMB_ANGLES, SIDES, TRUNK_ANGLES, sample_angles
from hpelib.mannequins.raster import Camera

SPLITS = ("train", "val", "test")
_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


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
    kind: str  # a backdrop of scenes.yaml
    wall_m: float  # distance of the far wall
    colours: tuple[Colour, ...]
    grain: float  # contrast of the texture
    seed: int


@dataclass(frozen=True)
class ExposureSpec:
    light: float  # 1 is well lit
    tint: Colour  # factors on red, green, blue
    sun_deg: tuple[float, float]  # azimuth from the viewer's right, elevation
    ambient: float  # 0..1, the part of the light that comes from everywhere
    blur_px: float  # sigma of the Gaussian
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


def read_recipe(path: str | Path, level: str = "everyday", scale: float = 1.0) -> dict:
    """The recipe of one level of difficulty as nested dicts, for example of data/mannequins.yaml.

    `scale` is a factor on the size of pictures and of everybody in them: a network with a small input needs no more.

    Raises:
        ValueError: there is no such level or pose, or a pose names arms, a support or a joint that does not exist; the
            message lists those that do.
    """
    recipe = yaml.safe_load(Path(path).read_text())
    for name, pose in recipe["poses"].items():
        require_choice(f"{path}: support of pose {name}", pose["support"], _TABLES["supports"])
        for arms in pose["arms"]:
            require_choice(f"{path}: arms of pose {name}", arms, recipe["arms"])
    for name, angles in (recipe["poses"] | {f"arms {name}": arms for name, arms in recipe["arms"].items()}).items():
        for joint in sorted(set(angles) - {"weight", "support", "skirt", "arms"}):
            side, _, kind = joint.partition("_")
            known = (kind, LIMB_ANGLES) if side in SIDES else (joint, TRUNK_ANGLES + LIMB_ANGLES)
            require_choice(f"{path}: joint of {name}", *known)
    require_choice(f"{path}: level", level, recipe["levels"])
    chosen = recipe["levels"][level]
    for name in chosen["without"]:
        require_choice(f"{path}: pose that {level} leaves out", name, recipe["poses"])
    recipe |= {section: chosen[section] for section in ("people", "framing", "things", "exposure")}
    recipe["poses"] = {name: pose for name, pose in recipe["poses"].items() if name not in chosen["without"]}
    recipe["image"] = {side: [round(scale * px) for px in limits] for side, limits in recipe["image"].items()}
    for section, name in (("people", "height_px"), ("exposure", "blur_px")):
        recipe[section][name] = [scale * px for px in recipe[section][name]]
    return recipe


def sample_scene(recipe: dict, seed: int, split: str, index: int) -> SceneSpec:
    """Scene number `index` of a split. It depends on the arguments alone, so scenes can be made in any order.

    Raises:
        ValueError: there is no such split.
    """
    require_choice("split", split, SPLITS)
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    image, people = recipe["image"], recipe["people"]
    width, height = (int(rng.integers(low, high + 1)) for low, high in (image["width"], image["height"]))
    focal = width * rng.uniform(*recipe["camera"]["focal"])
    low, high = people["height_px"]
    count = 1 + rng.choice(5, p=people["count"])

    statures = [_sample_stature(rng, recipe) for _ in range(count)]
    height_px = np.exp(rng.uniform(np.log(low), np.log(high), count))
    height_px[0] = rng.uniform(0.35 * (low + high), high)
    depths = [focal * stature / size for (stature, _), size in zip(statures, height_px, strict=True)]
    camera = _aim(rng, recipe, width, height, focal, depths[0], height_px[0])
    spots = _place(rng, recipe, camera, depths, statures)
    persons = tuple(_sample_person(rng, recipe, *person) for person in zip(statures, spots, strict=True))
    wall = max(depths) + rng.uniform(0.8, 5.0)
    return SceneSpec(
        camera=camera,
        persons=persons,
        crowd=_sample_crowd(rng, recipe, camera, wall) if rng.random() < people["crowd"] else (),
        things=_sample_things(rng, recipe, camera, spots, wall),
        backdrop=BackdropSpec(
            kind=_choose(rng, _TABLES["backdrops"]),
            wall_m=wall,
            colours=tuple(_colour(rng) for _ in range(6)),
            grain=rng.uniform(0.03, 0.22),
            seed=_seed(rng),
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
    """A camera that has the first person in view; now and then the upper or lower edge cuts the person off."""
    if rng.random() < recipe["framing"]["truncated"]:
        offset_px = rng.choice([-1, 1]) * rng.uniform(0.3, 0.55) * height_px
    else:
        offset_px = rng.uniform(-0.4, 0.4) * max(height - 1.1 * height_px, 0.0)
    eye = rng.uniform(*recipe["camera"]["height_m"])
    pitch = np.degrees(np.arctan((eye - 0.85) / depth) + np.arctan(offset_px / focal))
    roll = rng.normal(0, recipe["camera"]["roll_deg"])
    return Camera(width, height, focal, eye, float(pitch), float(roll))


def _place(rng, recipe, camera, depths, statures) -> list[tuple[float, float]]:
    """Places x, z on the ground: the first within the frame, companions beside somebody, the rest anywhere in view."""
    spots: list[tuple[float, float]] = []
    for i, depth in enumerate(depths):
        half_view = depth * camera.width / 2 / camera.focal_px
        for _ in range(12):  # tries to find a place that is free
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


def _sample_person(rng, recipe, body, spot) -> PersonSpec:
    """Somebody of a given stature and childness (`body`) at a given place (`spot`)."""
    stature, childness = body
    poses, framing = recipe["poses"], recipe["framing"]
    weights = np.array([pose["weight"] for pose in poses.values()], dtype=float)
    pose = poses[str(rng.choice(list(poses), p=weights / weights.sum()))]
    arms = recipe["arms"][str(rng.choice(pose["arms"]))]
    woman = rng.random() < 0.5
    adult = 1.0 - 0.6 * childness
    faces_camera = rng.random() < framing["facing_share"]
    yaw = rng.normal(0, framing["facing_sd_deg"]) if faces_camera else rng.uniform(-180, 180)
    return PersonSpec(
        stature_m=stature,
        childness=childness,
        girth=float(np.clip(rng.normal(1.10 + 0.08 * childness, 0.10), 0.9, 1.45)),
        shoulders=1.0 + adult * (rng.uniform(-0.10, 0.0) if woman else rng.uniform(-0.02, 0.10)),
        hips=1.0 + adult * (rng.uniform(0.0, 0.12) if woman else rng.uniform(-0.04, 0.04)),
        outfit=_sample_outfit(rng, woman, bool(pose.get("skirt")), adult),
        angles=sample_angles(rng, arms | pose, recipe["limits"]),
        support=pose["support"],
        lift_m=rng.uniform(0.08, 0.55) if pose["support"] == "air" else 0.0,
        position_m=spot,
        yaw_deg=yaw,
    )


def _sample_outfit(rng, woman, may_wear_skirt, adult) -> Outfit:
    skin = _TABLES["skins"][rng.integers(len(_TABLES["skins"]))]
    style = _choose(rng, {name: shares[0 if woman else 1] for name, shares in _TABLES["hair_styles"].items()})
    hair = _colour(rng) if style == "cap" else tuple(_TABLES["hairs"][rng.integers(len(_TABLES["hairs"]))])
    skirt = may_wear_skirt and woman and rng.random() < 0.5
    top = _colour(rng)
    return Outfit(
        skin=tuple(np.clip(np.array(skin) + rng.normal(0, 0.025, 3), 0, 1).tolist()),
        hair=hair,
        hair_style=style,
        beard=not woman and adult == 1.0 and rng.random() < 0.25,
        top=top,
        bottom=top if skirt and rng.random() < 0.5 else _colour(rng),
        accent=_colour(rng),
        shoes=_colour(rng),
        pattern=_TABLES["patterns"][rng.integers(len(_TABLES["patterns"]))],
        sleeve=_choose(rng, _TABLES["sleeves"]),
        leg=_choose(rng, _TABLES["legs"]),
        skirt=rng.uniform(0.5, 1.4) if skirt else 0.0,
    )


def _sample_crowd(rng, recipe, camera, wall) -> tuple[PersonSpec, ...]:
    """A few people side by side in front of the wall, about 40 px tall."""
    depth = min(wall - 0.3, camera.focal_px * 1.7 / rng.uniform(32, 48))
    middle = rng.uniform(-0.3, 0.3) * depth * camera.width / camera.focal_px
    spots = [
        (middle + 0.42 * i + rng.normal(0, 0.08), -depth + rng.normal(0, 0.25)) for i in range(rng.integers(5, 10))
    ]
    upright = recipe | {"poses": {"standing": recipe["poses"]["standing"]}}
    return tuple(_sample_person(rng, upright, _sample_stature(rng, recipe), spot) for spot in spots)


def _sample_things(rng, recipe, camera, spots, wall) -> tuple[ThingSpec, ...]:
    """Furniture between the people and the wall, and now and then something in front of somebody."""
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
        kind = _choose(rng, _TABLES["occluders"])
        half, height = {  # half the size, and the height of the centre if it does not stand on the ground
            "box": ((rng.uniform(0.1, 0.45), rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.3)), None),
            "pole": ((rng.uniform(0.03, 0.07),) * 2 + (1.6,), 1.6),
            "bush": ((rng.uniform(0.12, 0.3), rng.uniform(0.15, 0.3), 0.12), rng.uniform(0.2, 1.3)),
            "ball": ((rng.uniform(0.1, 0.22),) * 3, rng.uniform(0.2, 1.5)),
        }[kind]
        things.append(_thing(rng, kind, (x, half[1] if height is None else height, -depth), half))
    return tuple(things)


def _thing(rng, kind, centre, half_sizes) -> ThingSpec:
    base = np.array(_colour(rng))
    shades = [base, *(base * rng.uniform(0.6, 1.0, (int(rng.integers(3)), 1)))]  # planks of one material
    colours = tuple(tuple(shade.tolist()) for shade in shades)
    return ThingSpec(kind, centre, half_sizes, rng.uniform(-45, 45), colours, _seed(rng))


def _sample_exposure(rng, limits) -> ExposureSpec:
    low, high = limits["jpeg_quality"]
    tint = 1 + rng.normal(0, 0.05, 3)
    return ExposureSpec(
        light=rng.uniform(*limits["light"]) if rng.random() < limits["dim"] else rng.uniform(0.95, 1.2),
        tint=tuple(tint.tolist()),
        sun_deg=(rng.uniform(20, 160), rng.uniform(20, 75)),
        ambient=rng.uniform(0.5, 0.8),
        blur_px=rng.uniform(*limits["blur_px"]) if rng.random() < limits["blurred"] else 0.0,
        noise=rng.uniform(*limits["noise"]) if rng.random() < limits["noisy"] else 0.0,
        jpeg_quality=int(rng.integers(low, high + 1)),
        seed=_seed(rng),
    )


def _choose(rng, shares: dict):
    """One of the keys, each with its probability."""
    return rng.choice(list(shares), p=list(shares.values())).item()


def _colour(rng) -> Colour:
    """Any colour; dull ones are more frequent than bright ones."""
    hue, saturation, value = rng.random(), rng.random() ** 1.8, rng.uniform(0.12, 0.98)
    wheel = np.clip(np.abs((6 * hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return tuple((value * (1 - saturation + saturation * wheel)).tolist())


def _seed(rng) -> int:
    return int(rng.integers(2**31))
