"""Keypoints to heatmaps and back: encoder, crop transform, decoder and flip shift, frozen into one object.

They must change together: a UDP back-transform on another crop costs 4 to 7 AP even with perfect keypoints.
All coordinates are (x, y) in px with pixel centres at integers; *crop px* are pixels of the network input.

`msra`  Gaussian about the rounded centre, decoded by argmax and a quarter px: Xiao et al., ECCV 2018 (arXiv
        1804.06208), Sun et al., CVPR 2019 (arXiv 1902.09212); equals the official HRNet code.
`dark`  Gaussian about the true centre, decoded by one Newton step on the log heatmap: Zhang et al., CVPR 2020
        (arXiv 1910.06278), equations 3 to 12.
`udp`   as `dark`, with every length measured between pixel centres, w - 1 rather than w: Huang et al., CVPR 2020
        (arXiv 1911.07524), section 4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hpelib.data.crops import crop_matrix

CODECS = ("msra", "dark", "udp")
FLOOR = 1e-10  # of a heatmap's values before their logarithm is taken


@dataclass(frozen=True)
class Codec:
    """What `make_codec` returns; sizes are (width, height), `sigma` is in heatmap px."""

    name: str
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    sigma: float

    def __post_init__(self):
        if self.name not in CODECS:
            raise ValueError(f"unknown codec {self.name!r}, choose one of {', '.join(CODECS)}")
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive heatmap px, got {self.sigma}")
        for heatmap_side, input_side in zip(self.heatmap_size, self.input_size, strict=True):
            if not 2 <= heatmap_side <= input_side:
                raise ValueError(
                    f"heatmap size {self.heatmap_size} does not fit input size {self.input_size}: "
                    "each heatmap side must be at least 2 and at most the input side"
                )

    @property
    def stride(self) -> tuple[float, float]:
        """Crop px per heatmap px in x and y: `crop = heatmap * stride`."""
        pairs = zip(self._lengths(self.input_size), self._lengths(self.heatmap_size), strict=True)
        return tuple(float(input_length / heatmap_length) for input_length, heatmap_length in pairs)

    @property
    def flip_shift(self) -> bool:
        """Whether maps of a mirrored crop, put back, must move one heatmap px to the right.

        Mirroring maps crop px x to W - 1 - x. Where lengths are measured in pixels, the maps put back then lie
        1 - w / W heatmap px too far left: 0.75 at stride 4, 0 at full resolution. With UDP they fall in place.
        """
        return self.name != "udp" and 1 - self.heatmap_size[0] / self.input_size[0] >= 0.5

    def encode(self, keypoints: np.ndarray | Tensor, visible: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Target heatmaps (N, K, h, w) in [0, 1] with peak height 1, and weights (N, K) in {0, 1}, both float32.

        `keypoints` (N, K, 2) in crop px, `visible` (N, K) with values above 0 where a keypoint is labelled. The
        results lie on the keypoints' device. A keypoint that is not labelled, not finite, or more than 3 sigma off
        the map has weight 0 and an empty map. Raises ValueError if the shapes do not belong together.
        """
        keypoints = torch.as_tensor(keypoints).float()  # (N, K, 2)
        visible = torch.as_tensor(visible, device=keypoints.device)  # (N, K)
        if keypoints.ndim != 3 or keypoints.shape != (*visible.shape, 2):
            raise ValueError(
                f"need keypoints (N, K, 2) and visible (N, K), got {tuple(keypoints.shape)} and {tuple(visible.shape)}"
            )
        labelled = (visible > 0) & keypoints.isfinite().all(-1)
        centers = keypoints.where(labelled[..., None], 0) / keypoints.new_tensor(self.stride)
        if self.name == "msra":
            centers = (centers + 0.5).trunc()  # as int() in the official code, also below zero
        radius = 3 * self.sigma
        # the official test, whose upper bound is exclusive: a window that ends one px short of the map still counts
        touches = (centers - radius < centers.new_tensor(self.heatmap_size)) & (centers + radius + 1 >= 0)
        weights = (labelled & touches.all(-1)).float()

        profiles = []
        for axis, side in enumerate(self.heatmap_size):
            distances = torch.arange(side, device=centers.device) - centers[..., axis, None]  # (N, K, side)
            profile = torch.exp(-(distances**2) / (2 * self.sigma**2))
            profiles.append(profile * (distances.abs() <= radius) if self.name == "msra" else profile)
        across, down = profiles
        return (down * weights[..., None])[..., None] * across[..., None, :], weights  # (N, K, h, w), (N, K)

    @torch.no_grad()
    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (N, K, 2) in crop px and scores (N, K), the maps' maxima, both float32 on the maps' device.

        A map without a positive value decodes to (0, 0) as in the official HRNet code; its score tells.
        Raises ValueError unless `heatmaps` is (N, K, h, w) with this codec's heatmap size.
        """
        width, height = self.heatmap_size
        if heatmaps.ndim != 4 or heatmaps.shape[-2:] != (height, width):
            raise ValueError(f"need heatmaps (N, K, {height}, {width}), got {tuple(heatmaps.shape)}")
        heatmaps = heatmaps.float()
        scores, places = heatmaps.flatten(-2).max(-1)  # (N, K)
        places = places * (scores > 0)
        peaks = torch.stack((places % width, places // width), -1)  # (N, K, 2)
        offsets = self._quarter_offsets(heatmaps, peaks) if self.name == "msra" else self._newton(heatmaps, peaks)
        return ((peaks + offsets) * offsets.new_tensor(self.stride)).float(), scores

    def crop_matrix(
        self, center: np.ndarray, size_px: np.ndarray, rotation_deg: float | np.ndarray = 0.0
    ) -> np.ndarray:
        """Affine map from image px to crop px, (2, 3) or (N, 2, 3): `hpelib.data.crops.crop_matrix` for this codec."""
        return crop_matrix(center, size_px, self.input_size, rotation_deg, udp=self.name == "udp")

    def _lengths(self, size: tuple[int, int]) -> np.ndarray:
        return np.array(size, np.float64) - (self.name == "udp")

    def _inside(self, peaks: Tensor, margin: int) -> Tensor:
        """Where 1 < p < size - margin on both axes, (N, K)."""
        return ((peaks > 1) & (peaks < peaks.new_tensor(self.heatmap_size) - margin)).all(-1)

    def _neighbours(self, maps: Tensor, peaks: Tensor) -> Callable[[int, int], Tensor]:
        """A function of (dx, dy) that reads every map beside its peak, (N, K)."""
        width, height = self.heatmap_size
        maps = maps.flatten(-2)

        def value(dx: int, dy: int) -> Tensor:
            x = (peaks[..., 0] + dx).clamp(0, width - 1)
            y = (peaks[..., 1] + dy).clamp(0, height - 1)
            return maps.gather(-1, (y * width + x)[..., None])[..., 0]

        return value

    def _quarter_offsets(self, heatmaps: Tensor, peaks: Tensor) -> Tensor:
        """A quarter px towards the higher neighbour on each axis, (N, K, 2)."""
        value = self._neighbours(heatmaps, peaks)
        gradient = torch.stack((value(1, 0) - value(-1, 0), value(0, 1) - value(0, -1)), -1)
        return 0.25 * gradient.sign() * self._inside(peaks, margin=1)[..., None]

    def _newton(self, heatmaps: Tensor, peaks: Tensor) -> Tensor:
        """One Newton step from the peak on the log of the smoothed map (DARK, equations 5 to 8), (N, K, 2)."""
        smooth = self._smooth_around(heatmaps, peaks)
        solvable = self._inside(peaks, margin=2)
        low = solvable & (smooth <= FLOOR).flatten(-2).any(-1)
        smooth[low] *= self._gain(heatmaps[low])[:, None, None]
        logs = smooth.clamp_min(FLOOR).log()

        def value(dx: int, dy: int) -> Tensor:
            return logs[..., dy + 2, dx + 2]

        dx = (value(1, 0) - value(-1, 0)) / 2
        dy = (value(0, 1) - value(0, -1)) / 2
        dxx = (value(2, 0) - 2 * value(0, 0) + value(-2, 0)) / 4
        dyy = (value(0, 2) - 2 * value(0, 0) + value(0, -2)) / 4
        dxy = (value(1, 1) - value(1, -1) - value(-1, 1) + value(-1, -1)) / 4
        determinant = dxx * dyy - dxy**2
        solvable = solvable & (determinant != 0)
        step = torch.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), -1)
        step = step / determinant.where(solvable, 1)[..., None]
        return step.where(solvable[..., None], 0)

    def _smooth_around(self, heatmaps: Tensor, peaks: Tensor) -> Tensor:
        """The maps after a Gaussian blur with zero border (DARK, equation 11), at the 5x5 px about the peaks.

        In float64: TF32 or autocast, which leave float64 alone, would be too coarse for the second differences of
        logarithms. Shape: (N, K, h, w), (N, K, 2) -> (N, K, 5, 5).
        """
        reach = len(self._kernel) // 2 + 2
        blur = self._blur_matrix(5, heatmaps.device)  # (2 reach + 1, 5)
        width = self.heatmap_size[0] + 2 * reach
        steps = torch.arange(len(blur), device=peaks.device)
        window = (steps[:, None] * width + steps).flatten()
        places = peaks[..., 1, None] * width + peaks[..., :1] + window  # of the padded maps
        windows = F.pad(heatmaps, [reach] * 4).flatten(-2).gather(-1, places)
        windows = windows.double().unflatten(-1, (len(steps), len(steps)))  # (N, K, 2 reach + 1, 2 reach + 1)
        return ((windows @ blur).mT @ blur).mT

    def _gain(self, heatmaps: Tensor) -> Tensor:
        """What gives blurred maps their maxima back (DARK, equation 12), (M, h, w) -> (M,).

        Differences of logarithms only see it where `FLOOR` cuts in.
        """
        pad = len(self._kernel) // 2
        across, down = (self._blur_matrix(side, heatmaps.device)[pad : pad + side] for side in self.heatmap_size)
        smooth_maxima = (down @ heatmaps.double() @ across).amax((-2, -1))
        return heatmaps.amax((-2, -1)) / smooth_maxima.where(smooth_maxima > 0, 1)

    @property
    def _kernel(self) -> np.ndarray:
        radius = int(6 * self.sigma - 1) // 2  # kernel 11 for sigma 2, 17 for sigma 3
        return cv2.getGaussianKernel(2 * radius + 1, 0).ravel()

    def _blur_matrix(self, side: int, device: torch.device) -> Tensor:
        """Weights (side + kernel - 1, side): column i gathers the px about px i of a padded row."""
        columns = [np.pad(self._kernel, (i, side - 1 - i)) for i in range(side)]
        return torch.from_numpy(np.stack(columns, axis=1)).to(device)


def make_codec(name: str, input_size: tuple[int, int], heatmap_size: tuple[int, int], sigma: float = 2.0) -> Codec:
    """The codec `msra`, `dark` or `udp` for one pair of (width, height) sizes; `sigma` in heatmap px.

    The papers use sigma 2 for heatmaps of 48x64 and 64x64, 3 for 72x96. Raises ValueError for an unknown name,
    a heatmap larger than the input, or a sigma that is not positive.

    >>> codec = make_codec("dark", input_size=(192, 256), heatmap_size=(48, 64))
    >>> heatmaps, weights = codec.encode([[[100.7, 50.2]]], [[2]])
    >>> keypoints, scores = codec.decode(heatmaps)
    >>> [round(x, 1) for x in keypoints[0, 0].tolist()]
    [100.7, 50.2]
    """
    return Codec(name, tuple(input_size), tuple(heatmap_size), float(sigma))
