import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hpelib.figures.curves import (
    accuracy_against_cost,
    accuracy_against_minutes,
    joint_bars,
    learning_curves,
    pareto_front,
    pck_curves,
)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def a_history(seeds):
    random = np.random.default_rng(0)
    rows = [
        {
            "name": name,
            "seed": seed,
            "epoch": epoch,
            "loss": random.random(),
            "ap": random.random() if epoch % 2 else np.nan,
        }
        for name in ("hrnet_w32", "hourglass")
        for seed in range(seeds)
        for epoch in range(1, 6)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("metric", ["loss", "ap"])
def test_curves_are_mean_and_standard_deviation_over_seeds(metric):
    history = a_history(seeds=3)
    figure = learning_curves(history, {metric: "label"})
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "label")
    assert [line.get_label() for line in axes.lines] == ["hrnet_w32", "hourglass"]
    epochs = [1, 2, 3, 4, 5] if metric == "loss" else [1, 3, 5]
    for line, band in zip(axes.lines, axes.collections, strict=True):
        rows = history[history["name"] == line.get_label()]
        values = [rows.loc[rows["epoch"] == epoch, metric].to_numpy() for epoch in epochs]
        np.testing.assert_allclose(line.get_xydata(), [(e, np.mean(v)) for e, v in zip(epochs, values, strict=True)])
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(9)}
        for epoch, value in zip(epochs, values, strict=True):
            for sign in (-1, 1):
                assert (epoch, (value.mean() + sign * value.std(ddof=1)).round(9)) in corners


def test_one_seed_has_no_band():
    (axes,) = learning_curves(a_history(seeds=1), {"loss": "loss"}).axes
    outline = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(np.sort(np.unique(outline[:, 1])), np.sort(axes.lines[0].get_ydata()))


def test_pck_curves_span_thresholds_and_percent():
    table = a_history(seeds=2).rename(columns={"epoch": "threshold", "loss": "wrist", "ap": "hip"})
    figure = pck_curves(table, {"wrist": "wrist PCKh (%)", "hip": "hip PCKh (%)"}, "threshold / head size")
    assert [axes.get_ylabel() for axes in figure.axes] == ["wrist PCKh (%)", "hip PCKh (%)"]
    for axes in figure.axes:
        assert (axes.get_xlabel(), axes.get_xlim(), axes.get_ylim()) == ("threshold / head size", (0, 5), (0, 10))


@pytest.mark.parametrize(("highest", "limit"), [(41.5, 50), (40, 40), (100, 100), (0, 10)])
def test_pck_curves_are_as_high_as_they_need(highest, limit):
    table = pd.DataFrame({"name": "hrnet", "seed": 0, "threshold": [0, 0.5], "correct": [0, highest]})
    (axes,) = pck_curves(table, {"correct": "within (%)"}, "1 - keypoint similarity").axes
    assert axes.get_ylim() == (0, limit)
    assert axes.get_xlabel() == "1 - keypoint similarity"


def test_joint_bars_have_the_heights_and_intervals_of_the_table():
    table = pd.DataFrame(
        [("a", "wrist", 60, 55, 70), ("a", "knee", 80, 75, 82), ("b", "wrist", 50, np.nan, np.nan)],
        columns=["name", "joint", "value", "low", "high"],
    )
    (axes,) = joint_bars(table, "PCK (%)").axes
    first, first_error, second, _ = axes.containers
    np.testing.assert_allclose([bar.get_height() for bar in first], [60, 80])
    np.testing.assert_allclose([bar.get_height() for bar in second], [50, np.nan])
    ends = [segment[:, 1] for segment in first_error.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [(55, 70), (75, 82)])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in first]
    np.testing.assert_allclose(first_error.lines[2][0].get_segments()[0][:, 0], centres[0])
    assert first[0].get_x() + first[0].get_width() == pytest.approx(second[0].get_x())


def test_cost_figure_places_networks_in_giga_macs_and_million_parameters():
    table = pd.DataFrame(
        {"name": ["hrnet_w32", "ditn_w32"], "value": [74.0, 75.0], "low": [73.0, np.nan], "high": [74.5, np.nan]}
        | {"macs": [7.1e9, 9.2e9], "params": [28.5e6, 30e6]}
    )
    macs, params = accuracy_against_cost(table, "AP (%)").axes
    for axes, costs in ((macs, (7.1, 9.2)), (params, (28.5, 30.0))):
        points = [container.lines[0].get_xydata()[0] for container in axes.containers]
        np.testing.assert_allclose(points, list(zip(costs, (74, 75), strict=True)))
    np.testing.assert_allclose(macs.containers[0].lines[2][0].get_segments()[0][:, 1], (73, 74.5))


def test_every_network_is_a_point_at_its_minutes():
    table = pd.DataFrame({"name": ["HRNet", "DITN"], "value": [40.0, 38.0], "minutes": [2.0, 3.0]})
    (axes,) = accuracy_against_minutes(table, "AP (%)").axes
    points = [container.lines[0].get_xydata()[0].tolist() for container in axes.containers]
    assert points == [[2.0, 40.0], [3.0, 38.0]]


def test_markers_of_curves_that_coincide_do_not():
    (axes,) = learning_curves(a_history(seeds=1), {"loss": "loss"}).axes
    first, second = (line.get_markevery() for line in axes.lines)
    assert first != second


@pytest.mark.parametrize("seed", range(5))
def test_pareto_front_equals_brute_force(seed):
    random = np.random.default_rng(seed)
    costs, accuracies = random.integers(0, 6, 12), random.integers(0, 6, 12)
    front = pareto_front(pd.DataFrame({"macs": costs, "value": accuracies.astype(float)}), "macs")
    points = set(front[["macs", "value"]].itertuples(index=False, name=None))
    expected = {
        (c, a)
        for c, a in zip(costs, accuracies, strict=True)
        if not any(d <= c and b >= a and (d, b) != (c, a) for d, b in zip(costs, accuracies, strict=True))
    }
    assert points == expected
    assert len(front) == len(points)
    assert (np.diff(front["macs"]) > 0).all()


@pytest.mark.parametrize("table", [a_history(1).drop(columns="seed"), a_history(1).iloc[:0]], ids=["column", "empty"])
def test_missing_column_or_rows_are_an_error(table):
    with pytest.raises(ValueError, match=r"need rows with .*seed.*got [0-9]+ rows"):
        learning_curves(table, {"loss": "loss"})
