"""The shapes of which bodies and things are made: tubes with elliptical rings, boxes, single patches, leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hpelib.mannequins.poses import rotation


@dataclass(frozen=True)
class Mesh:
    """Quadrilaterals in space. Seen from outside, their corners run counter-clockwise."""

    vertices: np.ndarray  # (V, 3) world metres
    faces: np.ndarray  # (F, 4) positions in `vertices`
    colours: np.ndarray  # (F, 3) RGB in 0..1
    nearer_m: np.ndarray  # (F,) metres by which a face counts as nearer: lifts a patch above the surface it lies on

    @staticmethod
    def join(meshes: Sequence["Mesh"]) -> "Mesh":
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
        return Mesh(
            np.concatenate([mesh.vertices for mesh in meshes]),
            np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
            np.concatenate([mesh.colours for mesh in meshes]),
            np.concatenate([mesh.nearer_m for mesh in meshes]),
        )


@dataclass(frozen=True)
class Tube:
    """Elliptical rings. Faces join each ring to the next; rings follow each other along +y of their frames."""

    origins: np.ndarray  # (R, 3) world metres
    frames: np.ndarray  # (R, 3, 3) axes of each ring as columns, or (3, 3) for all
    half_sizes: np.ndarray  # (R, 2) m along x and z
    colours: np.ndarray  # (3,), (R - 1, 3) or (R - 1, sides, 3)
    shifts: np.ndarray | float = 0.0  # (R,) m, moves the centre of each ring along z


def straight_tube(start: np.ndarray, frame: np.ndarray, profile: Sequence[np.ndarray], colours: np.ndarray) -> Tube:
    """A tube along the y axis of one frame (3, 3).

    `profile` has a row (R,) in m for: height above `start`, half the size along x, along z, and perhaps shift along z.
    """
    heights, widths, depths, *shifts = profile
    return Tube(start + heights[:, None] * frame[:, 1], frame, np.stack([widths, depths], axis=1), colours, *shifts)


def ellipsoid(centre: np.ndarray, frame: np.ndarray, half_sizes: np.ndarray, colours, rings: int = 6) -> Tube:
    """A tube in the shape of an ellipsoid; `half_sizes` (3,) in m along x, y, z of the frame."""
    latitude = np.linspace(-0.48 * np.pi, 0.48 * np.pi, rings)
    x, y, z = half_sizes
    return straight_tube(centre, frame, (y * np.sin(latitude), x * np.cos(latitude), z * np.cos(latitude)), colours)


def face_angles(sides: int) -> np.ndarray:
    """Angle between the front (+z) and each face of a ring, (sides,) degrees in 0..180."""
    return np.abs((360 * np.arange(sides) / sides + 180) % 360 - 180)


def surface(tubes: Sequence[Tube], sides: int) -> Mesh:
    """All tubes as one mesh, `sides` faces around each. Face 0 of a ring looks to +z, the next ones turn to +x."""
    rings = [len(tube.origins) for tube in tubes]
    frames = np.empty((sum(rings), 3, 3))
    shifts = np.empty((sum(rings), 1))
    colours = np.empty((sum(rings) - len(tubes), sides, 3))
    start = 0
    for number, (tube, count) in enumerate(zip(tubes, rings, strict=True)):
        frames[start : start + count] = tube.frames
        shifts[start : start + count, 0] = tube.shifts
        part = np.asarray(tube.colours)
        colours[start - number : start - number + count - 1] = part[:, None] if part.ndim == 2 else part
        start += count
    half_sizes = np.concatenate([tube.half_sizes for tube in tubes])
    origins = np.concatenate([tube.origins for tube in tubes]) + shifts * frames[:, :, 2]
    angle = 2 * np.pi * (np.arange(sides)[:, None] - 0.5) / sides
    across, ahead = half_sizes[:, :1] * frames[:, :, 0], half_sizes[:, 1:] * frames[:, :, 2]  # (R, 3)
    vertices = origins[:, None] + np.sin(angle) * across[:, None] + np.cos(angle) * ahead[:, None]  # (R, sides, 3)
    faces = _faces(tuple(rings), sides)
    return Mesh(vertices.reshape(-1, 3), faces, colours.reshape(-1, 3), np.zeros(len(faces)))


@cache
def _faces(rings: tuple[int, ...], sides: int) -> np.ndarray:
    """(F, 4) vertices of the faces of tubes with so many rings each."""
    lower = np.delete(np.arange(sum(rings)), np.cumsum(rings) - 1)[:, None] * sides  # no face starts at a last ring
    here, there = np.arange(sides), (np.arange(sides) + 1) % sides
    return np.stack([lower + here, lower + there, lower + sides + there, lower + sides + here], axis=-1).reshape(-1, 4)


def patches(corners: np.ndarray, colours: np.ndarray, nearer_m: np.ndarray | float = 0.0) -> Mesh:
    """Single quadrilaterals with corners (F, 4, 3), counter-clockwise as seen from outside."""
    faces = np.arange(4 * len(corners)).reshape(-1, 4)
    return Mesh(corners.reshape(-1, 3), faces, colours, np.broadcast_to(nearer_m, len(corners)))


def box(centre: np.ndarray, frame: np.ndarray, half_sizes: np.ndarray, colours: np.ndarray, cells: int = 6) -> Mesh:
    """A box, striped in `colours` (C, 3).

    Each side is cut into `cells` x `cells` quadrilaterals, because faces are sorted by the depth of their middle and
    large ones would be drawn in a wrong order.
    """
    grid = np.linspace(-1, 1, cells + 1)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    low, high = np.stack([-np.ones_like(u), v, u], axis=-1), np.stack([np.ones_like(u), u, v], axis=-1)
    sides = np.stack([np.roll(side, axis, axis=-1) for axis in range(3) for side in (low, high)])  # (6, n, n, 3)
    corners = np.stack([sides[:, :-1, :-1], sides[:, 1:, :-1], sides[:, 1:, 1:], sides[:, :-1, 1:]], axis=3)
    stripe = np.tile(np.arange(cells * cells) // cells % len(colours), 6)
    return patches(centre + (corners.reshape(-1, 4, 3) * half_sizes) @ frame.T, colours[stripe])


def leaves(centre: np.ndarray, spread: np.ndarray, size_m: float, colours: np.ndarray, seed: int) -> Mesh:
    """A bush: 90 leaves around `centre`, normally distributed with the standard deviations `spread` (3,) in m."""
    rng = np.random.default_rng(seed)
    middles = centre + spread * rng.standard_normal((90, 3))
    square = size_m * np.array([[-1, -0.5, 0], [1, -0.5, 0], [1, 0.5, 0], [-1, 0.5, 0]], dtype=float)
    turns = np.stack([rotation(*angles) for angles in rng.uniform(-60, 60, (90, 3))])
    return patches(middles[:, None] + square @ turns.transpose(0, 2, 1), colours[rng.integers(len(colours), size=90)])
