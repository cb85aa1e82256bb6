"""What is behind the people: floors in perspective, walls, streets, meaningless shapes, texture."""

import cv2
import numpy as np

from hpelib.mannequins.raster import Camera
from hpelib.mannequins.scenes import BackdropSpec

FAR_M = 60.0  # distance of the horizon


def paint_backdrop(spec: BackdropSpec, camera: Camera) -> np.ndarray:
    """The background without light or people, (H, W, 3) float32 RGB, about 0..1."""
    rng = np.random.default_rng(spec.seed)
    colours = np.array(spec.colours, np.float32)
    size = (camera.height, camera.width)
    if spec.kind == "clutter":
        picture = np.broadcast_to(colours[0], (*size, 3)).copy()
        _scatter_shapes(rng, picture, colours, count=24)
    elif spec.kind == "studio":
        ramp = np.linspace(0, 1, camera.height, dtype=np.float32)[:, None, None]
        picture = np.broadcast_to(colours[0] * (1 - ramp) + colours[1] * ramp, (*size, 3)).copy()
    else:
        picture = _ground_and_wall(spec, camera, rng, colours)
    texture = 1 + spec.grain * _texture(rng, size, octaves=5)
    return cv2.multiply(picture, cv2.merge((texture, texture, texture)), dst=picture)


def ground_position(camera: Camera, step_px: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the line of sight of every `step_px`-th pixel meets the ground.

    Returns:
        World x in m, distance in m, and whether it meets the ground at all (bool), (H / step_px, W / step_px) each.
    """
    u = np.arange(0, camera.width, step_px, dtype=np.float32) - (camera.width - 1) / 2
    v = np.arange(0, camera.height, step_px, dtype=np.float32)[:, None] - (camera.height - 1) / 2
    axes = camera.axes.astype(np.float32)
    x, y, z = (u * axes[0, i] + v * axes[1, i] + np.float32(camera.focal_px) * axes[2, i] for i in range(3))
    below = y < -1e-3
    reach = np.float32(camera.height_m) / np.where(below, -y, np.float32(1))
    return x * reach, -z * reach, below


def _ground_and_wall(spec, camera, rng, colours) -> np.ndarray:
    """A striped or tiled ground in perspective, up to the wall of a room or to the horizon."""
    indoors = spec.kind == "room"
    sky = colours[0] if indoors else np.array([0.62, 0.76, 0.92], np.float32) * np.float32(rng.uniform(0.7, 1.05))
    ramp = np.linspace(0, 1, camera.height, dtype=np.float32)[:, None, None]
    column = sky * (0.85 + 0.15 * ramp) if indoors else sky + (1 - sky) * 0.4 * ramp
    picture = np.repeat(column, camera.width, axis=1)
    end_m = spec.wall_m if indoors else FAR_M
    base = int(camera.project(np.array([0.0, 0.0, -end_m]))[1])  # the row where the ground ends
    if indoors:
        _mark_wall(rng, picture, colours, base)
    else:
        _build_skyline(rng, picture, colours, base, buildings=spec.kind == "street")

    x, distance, floor = ground_position(camera)
    floor &= distance < end_m
    tile = rng.uniform(0.25, 1.2)
    odd = np.floor(x / tile).astype(np.int32)  # counts stripes, or tiles once their rows are added
    if rng.random() < 0.6:
        odd += np.floor(distance / tile).astype(np.int32)
    green = np.array([0.36, 0.52, 0.24]) * rng.uniform(0.7, 1.3)
    ground = green if spec.kind == "field" else 0.35 + 0.6 * colours[1]
    haze = np.linspace(0, 0 if indoors else 0.6, 32)[:, None]  # the farther the ground, the more it looks like sky
    dark = ground * (1 - rng.uniform(0, 0.35) * (1 - haze)) * (1 - haze) + sky * haze
    tones = np.concatenate([ground * (1 - haze) + sky * haze, dark]).astype(np.float32)
    tone = (odd & 1) * 32 + np.minimum(distance * (31 / 40), 31).astype(np.int32)
    cv2.copyTo(tones.take(np.clip(tone, 0, 63), axis=0), floor.view(np.uint8), picture)
    return picture


def _mark_wall(rng, picture, colours, base) -> None:
    """Stripes of a wallpaper, a skirting board, pictures, windows and doors."""
    width = picture.shape[1]
    if rng.random() < 0.4:
        period = int(rng.integers(8, 40))
        picture[:, (np.arange(width) % period) < period // 2] *= rng.uniform(0.75, 0.95)
    cv2.rectangle(picture, (0, base - 5), (width, base), (colours[2] * 0.8).tolist(), -1)
    for _ in range(rng.integers(1, 6)):
        left, top = int(rng.integers(-20, width)), int(rng.integers(-30, max(base - 30, 1)))
        right, bottom = left + int(rng.integers(15, 90)), top + int(rng.integers(20, 100))
        cv2.rectangle(picture, (left, top), (right, bottom), colours[rng.integers(2, 6)].tolist(), -1)
        cv2.rectangle(picture, (left, top), (right, bottom), (colours[rng.integers(2, 6)] * 0.7).tolist(), 2)
        if rng.random() < 0.5:
            cv2.line(picture, ((left + right) // 2, top), ((left + right) // 2, bottom), (colours[2] * 0.7).tolist(), 2)


def _build_skyline(rng, picture, colours, base, buildings: bool) -> None:
    """Houses with windows, or else trees, along the horizon."""
    height, width = picture.shape[:2]
    windows = (np.arange(height)[:, None] % 14 < 7) & (np.arange(width) % 11 < 5)
    for _ in range(rng.integers(6, 14)):
        left, extent = int(rng.integers(-40, width)), int(rng.integers(15, 90))
        colour = 0.25 + 0.6 * colours[rng.integers(2, 6)]
        if buildings:
            top = base - int(rng.integers(30, 160))
            cv2.rectangle(picture, (left, top), (left + extent, base + 2), colour.tolist(), -1)
            house = (slice(max(top, 0), max(base, 0)), slice(max(left, 0), max(left + extent, 0)))
            picture[house][windows[house]] = colour * 0.55
        else:
            green = np.array([0.18, 0.34, 0.14]) * rng.uniform(0.6, 1.5)
            top = base - int(rng.integers(10, 70))
            cv2.line(picture, (left, base), (left, top), (0.3, 0.2, 0.12), 3)
            cv2.ellipse(picture, (left, top), (extent // 2, extent // 3 + 4), 0, 0, 360, green.tolist(), -1)


def _scatter_shapes(rng, picture, colours, count) -> None:
    """Overlapping polygons, discs and rods: edges that mean nothing, some as long and thin as limbs."""
    height, width = picture.shape[:2]
    for _ in range(count):
        colour = np.clip(colours[rng.integers(len(colours))] * rng.uniform(0.6, 1.3), 0, 1).tolist()
        x, y = int(rng.integers(width)), int(rng.integers(height))
        kind, reach = rng.integers(3), int(rng.integers(8, 80))
        if kind == 0:
            corners = np.array([x, y]) + rng.integers(-reach, reach + 1, (4, 2))
            cv2.fillConvexPoly(picture, cv2.convexHull(corners.astype(np.int32)), colour)
        elif kind == 1:
            cv2.circle(picture, (x, y), reach // 2, colour, -1)
        else:
            end = (np.array([x, y]) + rng.integers(-reach, reach + 1, 2)).tolist()
            cv2.line(picture, (x, y), end, colour, int(rng.integers(2, 14)))


def _texture(rng, size, octaves) -> np.ndarray:
    """Random spots, coarse and ever finer (value noise), (H, W) float32, about -1..1."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        cells = 3 * 2**octave
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) / (1 + 0.5 * octave)
    return total / 1.6
