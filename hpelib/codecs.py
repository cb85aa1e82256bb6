"""Codecs: keypoints to heatmaps and back. One object holds the encoder, crop transform, decoder and flip shift.

These four belong together. With the crop of one codec and the decoder of another, perfect heatmaps lose 4 to 7 AP.
All coordinates are (x, y) in px, pixel centres at integers. *Crop px* are pixels of the network's input.

`msra`  Gaussian about the rounded centre; decoded by the maximum and a quarter px: Xiao et al., ECCV 2018 (arXiv
        1804.06208), Sun et al., CVPR 2019 (arXiv 1902.09212). Equals the official HRNet code.
`dark`  Gaussian about the true centre; decoded by one Newton step on the logarithm of the heatmap: Zhang et al., CVPR
        2020 (arXiv 1910.06278), equations 3 to 12.
`udp`   As `dark`, but every length runs from pixel centre to pixel centre, w - 1 in place of w, and targets end where
        those of `msra` end: Huang et al., CVPR 2020 (arXiv 1911.07524), section 4, and the official UDP code.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hpelib.data.crops import crop_matrix
from hpelib.layers.choices import require_choice

CODECS = ("msra", "dark", "udp")
FLOOR = 1e-10  # smallest value of which a logarithm is taken


@dataclass(frozen=True)
class Codec:
    """What `make_codec` returns. Sizes are (width, height), `sigma` is in heatmap px."""

    name: str
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    sigma: float

    def __post_init__(self):
        require_choice("codec", self.name, CODECS)
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
        """Whether the heatmaps of a mirrored crop, mirrored back, must move one heatmap px to the right.

        Mirroring takes crop px x to W - 1 - x. With `msra` and `dark` the maps then lie 1 - w / W heatmap px too far
        left: 0.75 at stride 4, 0 at full resolution. The shift is made where that is half a px or more. With `udp` the
        maps lie in place.
        """
        return self.name != "udp" and 1 - self.heatmap_size[0] / self.input_size[0] >= 0.5

    def encode(self, keypoints: np.ndarray | Tensor, visible: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Target heatmaps (N, K, h, w) in [0, 1] with peaks of 1, and weights (N, K) of 0 or 1, both float32.

        `keypoints` (N, K, 2) are in crop px; `visible` (N, K) is above 0 where a keypoint is labelled. The results lie
        on the device of the keypoints. Weight 0 and an empty map have: a keypoint without label, one that is not
        finite, and one that lies more than 3 sigma outside the map.

        Raises:
            ValueError: the shapes do not belong together.
        """
        keypoints = torch.as_tensor(keypoints).float()  # (N, K, 2)
        visible = torch.as_tensor(visible, device=keypoints.device)  # (N, K)
        if keypoints.ndim != 3 or keypoints.shape != (*visible.shape, 2):
            raise ValueError(
                f"need keypoints (N, K, 2) and visible (N, K), got {tuple(keypoints.shape)} and {tuple(visible.shape)}"
            )
        labelled = (visible > 0) & keypoints.isfinite().all(-1)
        centers = keypoints.where(labelled[..., None], 0) / keypoints.new_tensor(self.stride)
        rounded = (centers + 0.5).trunc()  # as int() in the official code, also below zero
        if self.name == "msra":
            centers = rounded
        # the official code of msra and udp draws within 3 sigma of the rounded centre, that of dark on the whole map
        middles, reach = centers if self.name == "dark" else rounded, 3 * self.sigma
        # the official test, whose upper bound is exclusive: a window that ends one px before the map still counts
        touches = (middles - reach < middles.new_tensor(self.heatmap_size)) & (middles + reach + 1 >= 0)
        weights = (labelled & touches.all(-1)).float()

        profiles = []
        for axis, side in enumerate(self.heatmap_size):
            cells = torch.arange(side, device=centers.device)
            profile = torch.exp(-((cells - centers[..., axis, None]) ** 2) / (2 * self.sigma**2))  # (N, K, side)
            if self.name != "dark":
                profile = profile * ((cells - middles[..., axis, None]).abs() <= reach)
            profiles.append(profile)
        across, down = profiles
        return (down * weights[..., None])[..., None] * across[..., None, :], weights  # (N, K, h, w), (N, K)

    @torch.no_grad()
    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (N, K, 2) in crop px and scores (N, K), the maxima of the maps; float32, on the maps' device.

        A map without a positive value gives (0, 0), as in the official HRNet code, and its score is not positive.

        Raises:
            ValueError: `heatmaps` are not (N, K, h, w) with the heatmap size of this codec.
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

    def _windows(self, heatmaps: Tensor, peaks: Tensor, reach: int) -> Tensor:
        """The maps within `reach` px of their peaks, zeros beyond the border: (N, K, 2 reach + 1, 2 reach + 1)."""
        width, side = self.heatmap_size[0] + 2 * reach, 2 * reach + 1
        steps = torch.arange(side, device=peaks.device)
        places = peaks[..., 1, None] * width + peaks[..., :1] + (steps[:, None] * width + steps).flatten()
        return F.pad(heatmaps, [reach] * 4).flatten(-2).gather(-1, places).unflatten(-1, (side, side))

    def _quarter_offsets(self, heatmaps: Tensor, peaks: Tensor) -> Tensor:
        """A quarter px towards the higher neighbour on each axis, (N, K, 2)."""
        near = self._windows(heatmaps, peaks, reach=1)
        gradient = torch.stack((near[..., 1, 2] - near[..., 1, 0], near[..., 2, 1] - near[..., 0, 1]), -1)
        return 0.25 * gradient.sign() * self._inside(peaks, margin=1)[..., None]

    def _newton(self, heatmaps: Tensor, peaks: Tensor) -> Tensor:
        """One Newton step from the peak on the logarithm of the smoothed map (DARK, equations 5 to 8), (N, K, 2).

        In float64: with TF32 or autocast, which leave float64 alone, second differences of logarithms are too coarse.
        """
        blur = self._blur_matrix(5, heatmaps.device)  # (2 reach + 1, 5)
        windows = self._windows(heatmaps, peaks, reach=len(blur) // 2).double()
        smooth = ((windows @ blur).mT @ blur).mT  # DARK, equation 11, at the 5x5 px about the peaks
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

    def _gain(self, heatmaps: Tensor) -> Tensor:
        """The factor that gives blurred maps their maxima back (DARK, equation 12), (M, h, w) -> (M,).

        Differences of logarithms do not change by a factor, except where values fall below `FLOOR`.
        """
        pad = len(self._kernel) // 2
        across, down = (self._blur_matrix(side, heatmaps.device)[pad : pad + side] for side in self.heatmap_size)
        smooth_maxima = (down @ heatmaps.double() @ across).amax((-2, -1))
        return heatmaps.amax((-2, -1)) / smooth_maxima.where(smooth_maxima > 0, 1)

    @property
    def _kernel(self) -> np.ndarray:
        radius = int(6 * self.sigma - 1) // 2  # 11 px wide for sigma 2, 17 px for sigma 3
        return cv2.getGaussianKernel(2 * radius + 1, 0).ravel()

    def _blur_matrix(self, side: int, device: torch.device) -> Tensor:
        """Weights (side + kernel - 1, side): column i gathers the px about px i of a padded row."""
        columns = [np.pad(self._kernel, (i, side - 1 - i)) for i in range(side)]
        return torch.from_numpy(np.stack(columns, axis=1)).to(device)


def make_codec(name: str, input_size: tuple[int, int], heatmap_size: tuple[int, int], sigma: float = 2.0) -> Codec:
    """The codec `msra`, `dark` or `udp` for these (width, height); `sigma` in heatmap px.

    The papers use sigma 2 for heatmaps of 48x64 and 64x64, sigma 3 for 72x96.

    Raises:
        ValueError: the name is unknown, a heatmap side is larger than the input's, or sigma is not positive.

    >>> codec = make_codec("dark", input_size=(192, 256), heatmap_size=(48, 64))
    >>> heatmaps, weights = codec.encode([[[100.7, 50.2]]], [[2]])
    >>> keypoints, scores = codec.decode(heatmaps)
    >>> [round(x, 1) for x in keypoints[0, 0].tolist()]
    [100.7, 50.2]
    """
    return Codec(name, tuple(input_size), tuple(heatmap_size), float(sigma))
