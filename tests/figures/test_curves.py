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
    row_intervals,
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


def test_the_floor_is_drawn_where_a_score_is_an_axis():
    history = a_history(seeds=2)
    loss, score = learning_curves(history, {"loss": "loss", "ap": "AP (%)"}, floor=20.0).axes
    assert len(loss.lines) == len(score.lines) - 1
    assert set(score.lines[-1].get_ydata()) == {20.0}
    table = history.rename(columns={"epoch": "threshold", "loss": "correct"})
    floor = pd.DataFrame({"threshold": [0.0, 5.0], "correct": [1.0, 23.0]})
    (axes,) = pck_curves(table, {"correct": "within (%)"}, "threshold", floor).axes
    np.testing.assert_array_equal(axes.lines[-1].get_xydata(), floor)
    assert axes.get_ylim() == (0, 30), "it is not cut off"
    bars = pd.DataFrame(
        [("a", "wrist", 60, 55, 70), ("a", "knee", 80, 75, 82)], columns=["name", "joint", "value", "low", "high"]
    )
    (axes,) = joint_bars(bars, "PCK (%)", {"knee": 12.0}).axes
    (line,) = axes.collections[-1].get_segments()
    np.testing.assert_allclose(line, [(0.55, 12), (1.45, 12)])


def test_rows_of_an_ablation_have_their_interval_their_seeds_and_the_first_row_beside_them():
    nan = np.nan
    rows = [("mpii", "baseline", 50.0, nan, nan), ("mpii", "full", 60.0, 55.0, 66.0), ("coco", "full", 20.0, nan, nan)]
    table = pd.DataFrame(rows, columns=["dataset", "row", "value", "low", "high"])
    seeds = pd.DataFrame({"dataset": "mpii", "row": ["baseline", "full", "full"], "value": [50.0, 58.0, 62.0]})
    mpii, coco = row_intervals(table, seeds, {"mpii": "PCKh (%)", "coco": "AP (%)"}, {"mpii": 29.0}).axes
    assert (mpii.get_title(), mpii.get_xlabel(), coco.get_xlabel()) == ("mpii", "PCKh (%)", "AP (%)")
    assert [label.get_text() for label in mpii.get_yticklabels()] == ["baseline", "full"]
    bar = mpii.collections[0].get_segments()[1]
    np.testing.assert_allclose(bar, [(55, 1), (66, 1)])
    lines = [line.get_xydata().tolist() for line in mpii.lines]
    assert [[50, 0], [58, 1], [62, 1]] in lines
    assert [[50, 0], [60, 1]] in lines
    assert [[29, 0], [29, 1]] in lines, "the floor"
    assert len(coco.lines) == len(mpii.lines) - 1
    top, bottom = (axes.get_ylim() for axes in (mpii, coco))
    assert top[0] > top[1], "the first row is on top"
    assert bottom[0] > bottom[1]


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
