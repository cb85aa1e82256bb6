"""What the library is timed against does the same work: equal targets, keypoints, kept persons and figures."""

import numpy as np
import pytest
import torch

from benchmarks import evaluation, plain
from hpelib.codecs import make_codec
from hpelib.metrics.coco import oks_nms

CODEC = make_codec("msra", (192, 256), (48, 64), 2.0)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_targets_equal_the_codecs(random):
    keypoints = random.uniform((-40, -40), (230, 300), (6, 17, 2)).astype(np.float32)
    visible = random.integers(0, 3, (6, 17))
    heatmaps, weights = plain.targets(keypoints, visible, CODEC.heatmap_size, CODEC.stride, CODEC.sigma)
    expected, expected_weights = CODEC.encode(keypoints, visible)
    np.testing.assert_array_equal(weights, expected_weights)
    np.testing.assert_allclose(heatmaps * weights[..., None, None], expected, atol=1e-6)


def test_decoded_keypoints_equal_the_codecs(random):
    heatmaps = random.random((6, 17, 64, 48), np.float32)
    heatmaps[0, 0] = -1
    heatmaps[1, 1, 63, 20] = heatmaps[2, 2, 30, 47] = 2  # on the border
    keypoints, scores = plain.peaks(heatmaps, CODEC.stride)
    expected, expected_scores = CODEC.decode(torch.from_numpy(heatmaps))
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_allclose(keypoints, expected, atol=1e-5)


def test_nms_keeps_whom_the_library_keeps(random):
    keypoints = random.uniform(0, 100, (3, 17, 2))[np.arange(30) % 3] + random.normal(0, 2, (30, 17, 2))
    scores, areas = random.random(30), random.uniform(3000, 5000, 30)
    with_scores = np.concatenate([keypoints, np.ones((30, 17, 1))], 2)
    kept = plain.oks_nms(keypoints, scores, areas)
    assert kept == oks_nms(with_scores, scores, areas).tolist()
    assert 3 <= len(kept) < 30


def test_both_paths_of_the_evaluation_come_to_the_same_figures(tmp_path):
    detections = evaluation.synthetic(400, tmp_path / "truth.json")
    figures = list(evaluation.by_library(detections).values())
    np.testing.assert_allclose(figures, 100 * np.array(evaluation.by_plain_path(detections)), atol=1e-9)
    assert 20 < figures[0] < 95, "neither perfect nor lost"
