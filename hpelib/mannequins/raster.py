"""A pinhole camera and a small z-buffer rasteriser on top of OpenCV's polygon filling.

Everything solid is a `Mesh` of shaded quadrilaterals. Each mesh is first drawn on a canvas of its own, far
faces first, which gives its whole silhouette whatever stands in front; then its pixels enter the picture
where they are nearer than what is there. Canvases have `OVERSAMPLING` subpixels per pixel and side.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hpelib.mannequins.meshes import Mesh
from hpelib.mannequins.poses import rotation

OVERSAMPLING = 2
NEAR_M = 0.25
NOBODY = 255
_FRACTION_BITS = 4


@dataclass(frozen=True)
class Camera:
    """Stands at (0, height_m, 0) in the world (x right, y up, z towards the viewer's back) and looks along -z."""

    width: int
    height: int
    focal_px: float
    height_m: float
    pitch_deg: float  # positive looks down
    roll_deg: float

    @property
    def axes(self) -> np.ndarray:
        """(3, 3), rows right, down, ahead in world coordinates."""
        return rotation(z_deg=self.roll_deg) @ rotation(self.pitch_deg) @ np.diag([1.0, -1.0, -1.0])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World metres to camera metres: right, down, ahead (the depth), (..., 3)."""
        return (points - (0.0, self.height_m, 0.0)) @ self.axes.T

    def to_image(self, camera_points: np.ndarray) -> np.ndarray:
        """Camera metres to px, pixel centres at integers, (..., 2)."""
        centre = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        return centre + self.focal_px * camera_points[..., :2] / camera_points[..., 2:]


@dataclass(frozen=True)
class Light:
    direction: np.ndarray  # (3,) unit, towards the light, world axes
    ambient: float  # 0..1, the part that comes from everywhere


@dataclass(frozen=True)
class Silhouette:
    """Where a mesh would be seen if nothing else were there; may reach beyond the picture."""

    corner: tuple[int, int]  # x, y of the canvas in subpixels of the picture
    face: np.ndarray  # (h, w) uint16, 0 outside, otherwise 1 + position in `depths`
    depths: np.ndarray  # (F,) float32 metres
    colours: np.ndarray  # (F, 3) uint8, shaded


class Picture:
    """Colour, depth and owner per subpixel, empty at first."""

    def __init__(self, width: int, height: int):
        size = (height * OVERSAMPLING, width * OVERSAMPLING)
        self.rgba = np.zeros((*size, 4), np.uint8)
        self.depth = np.full(size, np.inf, np.float32)
        self.owner = np.full(size, NOBODY, np.uint8)

    def add(self, silhouette: Silhouette, owner: int) -> None:
        rows, columns, inside = _overlap(silhouette, self.depth.shape)
        patch, depth = silhouette.face[inside], self.depth[rows, columns]
        if not patch.size:
            return
        nearest = np.concatenate([[np.float32(np.inf)], silhouette.depths]).take(patch)
        opaque = np.full((len(silhouette.colours) + 1, 4), 255, np.uint8)
        opaque[1:, :3] = silhouette.colours
        shown = nearest < depth
        mask = shown.view(np.uint8)
        cv2.copyTo(nearest, mask, depth)
        cv2.copyTo(opaque.view(np.int32)[:, 0].take(patch), mask, self.rgba.view(np.int32)[rows, columns, 0])
        self.owner[rows, columns][shown] = owner


def _overlap(silhouette: Silhouette, size: tuple[int, int]) -> tuple[slice, slice, tuple[slice, slice]]:
    """Rows and columns of the picture that the canvas covers, and the same place on the canvas."""
    picture, canvas = [], []
    for start, length, limit in zip(silhouette.corner[::-1], silhouette.face.shape, size, strict=True):
        low, high = min(max(start, 0), limit), max(min(start + length, limit), 0)
        picture.append(slice(low, max(low, high)))
        canvas.append(slice(low - start, max(low, high) - start))
    return picture[0], picture[1], tuple(canvas)


def draw(mesh: Mesh, camera: Camera, light: Light) -> Silhouette:
    """Project, drop the faces that look away, shade, sort by depth and fill."""
    vertices = camera.to_camera(mesh.vertices)
    subpixels = (camera.to_image(vertices) + 0.5) * OVERSAMPLING - 0.5
    size = OVERSAMPLING * np.array([camera.width, camera.height])
    corners = np.clip(subpixels, -size, 2 * size)[mesh.faces]  # (F, 4, 2); farther outside nobody looks
    (ax, ay), (bx, by) = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    depths = vertices[:, 2][mesh.faces]
    kept = np.flatnonzero((ax * by - ay * bx < 0) & (depths.min(axis=1) > NEAR_M))  # y runs down: the turn is reversed
    depths = depths[kept].mean(axis=1)
    order = np.argsort(mesh.nearer_m[kept] - depths, kind="stable")
    kept, depths = kept[order], depths[order].astype(np.float32)
    if not len(kept):
        return Silhouette((0, 0), np.zeros((0, 0), np.uint16), depths, np.zeros((0, 3), np.uint8))

    corners = corners[kept]
    low = np.floor(corners.min(axis=(0, 1))).astype(int) - 1
    width, height = np.ceil(corners.max(axis=(0, 1))).astype(int) + 2 - low
    face = np.zeros((height, width), np.uint16)
    fill = cv2.fillConvexPoly
    for number, polygon in enumerate(np.rint((corners - low) * (1 << _FRACTION_BITS)).astype(np.int32), start=1):
        fill(face, polygon, number, 8, _FRACTION_BITS)
    return Silhouette((int(low[0]), int(low[1])), face, depths, _shade(mesh, kept, light))


def _shade(mesh: Mesh, kept: np.ndarray, light: Light) -> np.ndarray:
    """Lambert's law plus light from the sky, (F, 3) uint8."""
    a, b, c, d = mesh.vertices[mesh.faces[kept].T]
    (ax, ay, az), (bx, by, bz) = (c - a).T, (d - b).T
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)
    normals /= np.maximum(np.sqrt((normals * normals).sum(axis=1, keepdims=True)), 1e-12)
    direct = np.maximum(normals @ light.direction, 0.0)
    brightness = light.ambient * (0.75 + 0.25 * normals[:, 1]) + (1.0 - light.ambient) * direct
    return np.minimum(np.rint(255 * mesh.colours[kept] * brightness[:, None]), 255).astype(np.uint8)
