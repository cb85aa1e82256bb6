import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hpelib.data.crops import Crop, Picture
from hpelib.figures.errors import ErrorExample, error_sheet, share_bars
from hpelib.metrics.errors import KINDS
from hpelib.skeletons import COCO17


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_bars_are_means_over_seeds_stacked_in_the_order_of_kinds():
    random = np.random.default_rng(0)
    shares = {(joint, name): 100 * random.dirichlet(np.ones(5)) for joint in ("All", "Knee") for name in ("b", "a")}
    rows = [
        (joint, name, kind, share + change)
        for (joint, name), of in shares.items()
        for kind, share in zip(KINDS, of, strict=True)
        for change in (-1, 1)  # of two seeds
    ]
    figure = share_bars(pd.DataFrame(rows, columns=["joint", "name", "kind", "share"]))
    assert [axes.get_title() for axes in figure.axes] == ["All", "Knee"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    for axes in figure.axes:
        assert [container.get_label() for container in axes.containers] == list(KINDS)
        for row, name in enumerate(("b", "a")):
            expected = shares[axes.get_title(), name]
            bars = [container[row] for container in axes.containers]
            np.testing.assert_allclose([bar.get_width() for bar in bars], expected)
            np.testing.assert_allclose([bar.get_x() for bar in bars], np.cumsum(expected) - expected, atol=1e-9)


PIXELS = np.zeros((48, 40, 3), np.uint8)


def test_an_example_ties_the_prediction_to_the_truth():
    keypoints = np.arange(34.0).reshape(17, 2)
    crop = Crop(PIXELS, keypoints, np.full(17, 2), np.eye(2, 3), Picture(PIXELS, 1, 0))
    example = ErrorExample("swap", 9, crop, np.array([3.0, 40.0]))
    (axes,) = error_sheet([example], COCO17).axes
    assert axes.get_title() == "swap: left wrist"
    way, point = axes.lines
    np.testing.assert_array_equal(way.get_xydata(), [keypoints[9], example.predicted])
    np.testing.assert_array_equal(point.get_xydata(), [example.predicted])


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match="no examples"):
        error_sheet([], COCO17)
