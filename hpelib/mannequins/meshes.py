"""Solid shapes out of which bodies and things are made: tubes with elliptical rings, boxes, marks, leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hpelib.mannequins.poses import rotation


@dataclass(frozen=True)
class Mesh:
    """Quadrilaterals, counter-clockwise as seen from outside."""

    vertices: np.ndarray  # (V, 3) world metres
    faces: np.ndarray  # (F, 4) positions in `vertices`
    colours: np.ndarray  # (F, 3) RGB in 0..1
    nearer_m: np.ndarray  # (F,) taken off the depth when faces are sorted: for marks that lie on a surface

    @staticmethod
    def join(meshes: Sequence["Mesh"]) -> "Mesh":
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
        return Mesh(
            np.concatenate([mesh.vertices for mesh in meshes]),
            np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
            np.concatenate([mesh.colours for mesh in meshes]),
            np.concatenate([mesh.nearer_m for mesh in meshes]),
        )


@dataclass(frozen=True)
class Tube:
    """Elliptical rings, joined one to the next along +y of their frames."""

    origins: np.ndarray  # (R, 3)
    frames: np.ndarray  # (R, 3, 3)
    half_sizes: np.ndarray  # (R, 2) along x and z
    colours: np.ndarray  # (3,), (R - 1, 3) or (R - 1, sides, 3)
    shifts: np.ndarray | None = None  # (R,) of the ring's centre along z


def straight_tube(start: np.ndarray, frame: np.ndarray, heights: np.ndarray, half_sizes, colours, shifts=None) -> Tube:
    """A tube along y of one frame; `heights` (R,) count from `start`."""
    frames = np.repeat(frame[None], len(heights), axis=0)
    return Tube(start + heights[:, None] * frame[:, 1], frames, half_sizes, colours, shifts)


def ellipsoid(centre: np.ndarray, frame: np.ndarray, half_sizes: np.ndarray, colours, rings: int = 6) -> Tube:
    """half_sizes (3,) along x, y, z of the frame."""
    latitude = np.linspace(-0.48 * np.pi, 0.48 * np.pi, rings)
    return straight_tube(
        centre, frame, half_sizes[1] * np.sin(latitude), np.cos(latitude)[:, None] * half_sizes[[0, 2]], colours
    )


def face_angles(sides: int) -> np.ndarray:
    """(sides,) absolute angle of each face of a ring from the front (+z), in degrees."""
    return np.abs((360 * np.arange(sides) / sides + 180) % 360 - 180)


def surface(tubes: Sequence[Tube], sides: int) -> Mesh:
    """All tubes as one mesh; face 0 of each ring looks to +z, the next ones turn to +x."""
    lengths = np.array([len(tube.origins) for tube in tubes])
    frames = np.concatenate([tube.frames for tube in tubes])
    half_sizes = np.concatenate([tube.half_sizes for tube in tubes])
    shifts = np.concatenate([np.zeros(len(t.origins)) if t.shifts is None else t.shifts for t in tubes])
    origins = np.concatenate([tube.origins for tube in tubes]) + shifts[:, None] * frames[:, :, 2]
    angle = 2 * np.pi * (np.arange(sides) - 0.5) / sides
    across = half_sizes[:, :1] * frames[:, :, 0]  # (R, 3)
    ahead = half_sizes[:, 1:] * frames[:, :, 2]
    vertices = (
        origins[:, None] + np.sin(angle)[:, None] * across[:, None] + np.cos(angle)[:, None] * ahead[:, None]
    )  # (R, sides, 3)

    faces = _faces(tuple(lengths.tolist()), sides)
    colours = np.empty((lengths.sum() - len(tubes), sides, 3))
    for tube, start in zip(tubes, np.cumsum(lengths - 1) - (lengths - 1), strict=True):
        part = np.asarray(tube.colours)
        colours[start : start + len(tube.origins) - 1] = part[:, None] if part.ndim == 2 else part
    return Mesh(vertices.reshape(-1, 3), faces, colours.reshape(-1, 3), np.zeros(len(faces)))


@cache
def _faces(lengths: tuple[int, ...], sides: int) -> np.ndarray:
    """(F, 4) vertices of the faces of tubes with that many rings."""
    lower = np.delete(np.arange(sum(lengths)), np.cumsum(lengths) - 1)[:, None] * sides  # last rings start nothing
    here, there = np.arange(sides), (np.arange(sides) + 1) % sides
    return np.stack([lower + here, lower + there, lower + sides + there, lower + sides + here], axis=-1).reshape(-1, 4)


def marks(corners: np.ndarray, colours: np.ndarray, nearer_m: np.ndarray) -> Mesh:
    """Loose quadrilaterals on or off a surface, corners (F, 4, 3), counter-clockwise as seen from outside."""
    return Mesh(corners.reshape(-1, 3), np.arange(4 * len(corners)).reshape(-1, 4), colours, nearer_m)


def box(centre: np.ndarray, frame: np.ndarray, half_sizes: np.ndarray, colours: np.ndarray, cells: int = 6) -> Mesh:
    """Six faces of `cells` x `cells` quadrilaterals, small enough to sort by depth; striped in `colours` (C, 3)."""
    grid = np.linspace(-1, 1, cells + 1)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    quads = []
    for axis in range(3):
        for sign in (-1, 1):
            corner = np.empty((*u.shape, 3))
            corner[..., axis] = sign
            corner[..., (axis + 1) % 3], corner[..., (axis + 2) % 3] = (u, v) if sign > 0 else (v, u)
            steps = [corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]]
            quads.append(np.stack(steps, axis=2).reshape(-1, 4, 3))
    corners = centre + (np.concatenate(quads) * half_sizes) @ frame.T
    stripe = np.tile(np.arange(cells * cells) // cells % len(colours), 6)
    return marks(corners, colours[stripe], np.zeros(len(corners)))


def leaves(centre: np.ndarray, spread: np.ndarray, size_m: float, colours: np.ndarray, seed: int) -> Mesh:
    """A bush: 90 loose quadrilaterals around `centre`, normally distributed with `spread` (3,) metres."""
    rng = np.random.default_rng(seed)
    middles = centre + spread * rng.standard_normal((90, 3))
    square = size_m * np.array([[-1, -0.5, 0], [1, -0.5, 0], [1, 0.5, 0], [-1, 0.5, 0]], dtype=float)
    turns = np.stack([rotation(*angles) for angles in rng.uniform(-60, 60, (90, 3))])
    corners = middles[:, None] + square @ turns.transpose(0, 2, 1)
    return marks(corners, colours[rng.integers(len(colours), size=90)], np.zeros(90))
