"""Boxes of the detector that misses nobody, against the deviations that they are drawn with."""

import numpy as np
import pytest

from hpelib.mannequins.detections import detect

SETTINGS = {"missed": -1.0, "duplicates": 0.0, "false_alarms": 0.0, "jitter": 0.05}
BOX = np.array([4000.0, 3000.0, 200.0, 400.0])


@pytest.mark.parametrize(("hidden", "deviation"), [(0.0, 0.05), (0.5, 0.1), (1.0, 0.15)])
def test_boxes_of_hidden_people_are_up_to_three_times_less_exact(hidden, deviation):
    annotation = {"bbox": BOX.tolist(), "factors": {"occluded_fraction": hidden}}
    found = detect(np.random.default_rng(0), SETTINGS, [annotation] * 2000, 7, (8000, 6000))
    assert len(found) == 2000
    boxes = np.array([detection["bbox"] for detection in found])
    start, end = boxes[:, :2] - BOX[:2], boxes[:, :2] + boxes[:, 2:] - BOX[:2] - BOX[2:]
    errors = np.concatenate([start, end], axis=1) / np.tile(BOX[2:], 2)
    np.testing.assert_allclose(errors.std(axis=0), deviation, rtol=0.07)  # four standard errors
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=0.1 * deviation)
