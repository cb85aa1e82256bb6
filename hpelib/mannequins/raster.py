"""A pinhole camera, and a small rasteriser with a depth buffer, built on OpenCV's polygon filling.

Each mesh is first drawn on a canvas of its own, far faces first. This gives its silhouette, the whole area that it
would cover if nothing stood in front. Its pixels then enter the picture wherever they are nearer than what is there.
Canvases have `OVERSAMPLING` subpixels per pixel and axis, so that edges come out smooth.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from hpelib.mannequins.meshes import Mesh
from hpelib.mannequins.poses import rotation

OVERSAMPLING = 2
NEAR_M = 0.25  # faces nearer than this to the camera are not drawn
NOBODY = 255  # owner of a subpixel that is empty
_FRACTION_BITS = 4


@dataclass(frozen=True)
class Camera:
    """Stands at (0, height_m, 0) and looks along -z. World axes: x to the right, y up, z towards the viewer."""

    width: int  # px
    height: int  # px
    focal_px: float
    height_m: float
    pitch_deg: float  # positive looks down
    roll_deg: float

    @cached_property
    def axes(self) -> np.ndarray:
        """(3, 3): rows right, down, ahead in world coordinates."""
        return rotation(z_deg=self.roll_deg) @ rotation(self.pitch_deg) @ np.diag([1.0, -1.0, -1.0])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World metres (..., 3) to camera metres (..., 3): right, down, ahead. The last one is the depth."""
        return (points - (0.0, self.height_m, 0.0)) @ self.axes.T

    def to_image(self, camera_points: np.ndarray) -> np.ndarray:
        """Camera metres (..., 3) to px (..., 2); the centres of pixels are integers."""
        centre = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        return centre + self.focal_px * camera_points[..., :2] / camera_points[..., 2:]

    def project(self, points: np.ndarray) -> np.ndarray:
        """World metres (..., 3) to px (..., 2)."""
        return self.to_image(self.to_camera(points))


@dataclass(frozen=True)
class Light:
    direction: np.ndarray  # (3,) unit vector towards the light, world axes
    ambient: float  # 0..1, the part that comes from everywhere


@dataclass(frozen=True)
class Silhouette:
    """The whole area that a mesh would cover if nothing stood in front; it may reach beyond the picture."""

    corner: tuple[int, int]  # x, y of the canvas in subpixels of the picture
    face: np.ndarray  # (h, w) uint16: 0 outside, otherwise 1 + position in `depths`
    depths: np.ndarray  # (F,) float32 metres
    colours: np.ndarray  # (F, 3) uint8, shaded

    def within(self, size: tuple[int, int]) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The part of `face` inside a picture of `size` (rows, columns) subpixels, and where in the picture it is."""
        (left, top), (height, width) = self.corner, size
        part = self.face[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
        top, left = max(top, 0), max(left, 0)
        return part, (slice(top, top + part.shape[0]), slice(left, left + part.shape[1]))


class Picture:
    """Colour, depth and owner of every subpixel; empty at first."""

    def __init__(self, width: int, height: int):
        size = (height * OVERSAMPLING, width * OVERSAMPLING)
        self.rgba = np.zeros((*size, 4), np.uint8)
        self.depth = np.full(size, np.inf, np.float32)
        self.owner = np.full(size, NOBODY, np.uint8)

    def add(self, silhouette: Silhouette, owner: int) -> None:
        """Draw a silhouette where it is nearer than what is there, and note its owner."""
        part, place = silhouette.within(self.depth.shape)
        if not part.size:
            return
        depth = self.depth[place]
        face = part.astype(np.intp)
        nearest = np.concatenate([[np.float32(np.inf)], silhouette.depths]).take(face)
        opaque = np.full((len(silhouette.colours) + 1, 4), 255, np.uint8)
        opaque[1:, :3] = silhouette.colours
        shown = nearest < depth
        mask = shown.view(np.uint8)
        cv2.copyTo(nearest, mask, depth)
        cv2.copyTo(opaque.view(np.int32)[:, 0].take(face), mask, self.rgba.view(np.int32)[..., 0][place])
        self.owner[place][shown] = owner


def draw(mesh: Mesh, camera: Camera, light: Light) -> Silhouette:
    """Project a mesh, drop the faces that look away, shade the others and fill them from far to near."""
    vertices = camera.to_camera(mesh.vertices)
    subpixels = (camera.to_image(vertices) + 0.5) * OVERSAMPLING - 0.5
    size = OVERSAMPLING * np.array([camera.width, camera.height])
    corners = np.clip(subpixels, -size, 2 * size)[mesh.faces]  # (F, 4, 2); what is farther outside is not needed
    (ax, ay), (bx, by) = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    depths = vertices[:, 2][mesh.faces]
    kept = np.flatnonzero((ax * by - ay * bx < 0) & (depths.min(axis=1) > NEAR_M))  # y runs down: clockwise is in front
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
    """Colours of the faces `kept`, (F, 3) uint8: Lambert's law for the lamp, plus light from the sky."""
    a, b, c, d = mesh.vertices[mesh.faces[kept].T]
    (ax, ay, az), (bx, by, bz) = (c - a).T, (d - b).T
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)
    normals /= np.maximum(np.sqrt((normals * normals).sum(axis=1, keepdims=True)), 1e-12)
    direct = np.maximum(normals @ light.direction, 0.0)
    brightness = light.ambient * (0.75 + 0.25 * normals[:, 1]) + (1.0 - light.ambient) * direct
    return np.minimum(np.rint(255 * mesh.colours[kept] * brightness[:, None]), 255).astype(np.uint8)
