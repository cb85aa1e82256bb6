"""What a direct implementation does, loop by loop: the reference of the codec and evaluation benchmarks.

The official HRNet code's `generate_target`, `get_final_preds` before its back-transform, and `oks_nms`, on the same
arguments as the library's. A test holds each to the library's results.
"""

import math

import numpy as np

from hpelib.skeletons import COCO17


def targets(
    keypoints: np.ndarray, visible: np.ndarray, heatmap_size: tuple[int, int], stride: tuple[float, float], sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (N, K, h, w) and weights (N, K), a patch of Gaussian pasted joint by joint."""
    (width, height), radius = heatmap_size, int(3 * sigma)
    heatmaps = np.zeros((*visible.shape, height, width), np.float32)
    weights = (visible > 0).astype(np.float32)
    size = 2 * radius + 1
    x = np.arange(size, dtype=np.float32)
    patch = np.exp(-((x - radius) ** 2 + (x[:, None] - radius) ** 2) / (2 * sigma**2))
    for n in range(len(keypoints)):
        for k in range(keypoints.shape[1]):
            mu_x, mu_y = (int(value / step + 0.5) for value, step in zip(keypoints[n, k], stride, strict=True))
            left, top, right, bottom = mu_x - radius, mu_y - radius, mu_x + radius + 1, mu_y + radius + 1
            if left >= width or top >= height or right < 0 or bottom < 0:
                weights[n, k] = 0
            if weights[n, k]:
                x0, x1, y0, y1 = max(0, left), min(right, width), max(0, top), min(bottom, height)
                heatmaps[n, k, y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    return heatmaps, weights


def peaks(heatmaps: np.ndarray, stride: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, K, 2) in crop px and scores (N, K): argmax and a quarter px joint by joint."""
    height, width = heatmaps.shape[2:]
    flat = heatmaps.reshape(*heatmaps.shape[:2], -1)
    places, scores = flat.argmax(2), flat.max(2)
    keypoints = np.stack((places % width, places // width), 2) * (scores > 0)[..., None].astype(np.float32)
    for n in range(len(heatmaps)):
        for k in range(heatmaps.shape[1]):
            heatmap = heatmaps[n, k]
            px, py = (math.floor(value + 0.5) for value in keypoints[n, k])
            if 1 < px < width - 1 and 1 < py < height - 1:
                difference = (heatmap[py, px + 1] - heatmap[py, px - 1], heatmap[py + 1, px] - heatmap[py - 1, px])
                keypoints[n, k] += np.sign(difference) * 0.25
    return keypoints * np.array(stride, np.float32), scores


def oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float = 0.9) -> list[int]:
    """Indices of one image's persons that stay, OKS person by person."""
    variances = (2 * np.array(COCO17.sigmas)) ** 2
    order, kept = scores.argsort(kind="stable")[::-1], []
    while order.size:
        best = order[0]
        kept.append(int(best))
        similarities = np.zeros(len(order) - 1)
        for i, other in enumerate(order[1:]):
            dx = keypoints[other, :, 0] - keypoints[best, :, 0]
            dy = keypoints[other, :, 1] - keypoints[best, :, 1]
            error = (dx**2 + dy**2) / variances / ((areas[best] + areas[other]) / 2 + np.spacing(1)) / 2
            similarities[i] = np.sum(np.exp(-error)) / len(error)
        order = order[1:][similarities <= threshold]
    return kept
