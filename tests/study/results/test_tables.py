import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from hpelib.metrics.statistics import NOT_TESTABLE, NOTHING, OPPOSITE, SEEN, bootstrap
from hpelib.records import records
from hpelib.skeletons import MPII16
from hpelib.study.config import study_runs
from hpelib.study.evaluation import Evaluation, save
from hpelib.study.results import comparisons, tables
from hpelib.study.results.comparisons import Study, judge
from hpelib.study.results.tables import Comparison, calibrated

WEAK, STRONG = (50.0, 52.0, 60.0), (70.0, 71.0, 75.0)  # of each seed; means 54 and 72, sd 5.2915 and 2.6458


@pytest.fixture
def make_evaluation(summary, complete_evaluation):
    """An evaluation on MPII with one value of PCKh@0.5 for each seed, and scores that have nothing to do with it."""

    def make(values, skill: float = 0.5, random_seed: int = 0, scores: np.ndarray | None = None) -> Evaluation:
        if scores is None:
            random = np.random.default_rng(random_seed)
            scores = (random.uniform(size=(len(values), 20, 16)) < skill).astype(np.float32)
            scores[:, random.uniform(size=(20, 16)) < 0.2] = np.nan  # not labelled, whatever the seed
        figures = [
            {"seed": seed, "metric": metric, "value": value + offset}
            for seed, value in enumerate(values)
            for metric, offset in {"PCKh@0.5": 0, "PCKh@0.1": -40, "AUC": -20, "Head": 5, "Wrist": math.nan}.items()
        ]
        curves = [
            {"seed": seed, "threshold": threshold, "correct": threshold * value}
            for seed, value in enumerate(values)
            for threshold in (0.0, 0.5)
        ]
        about = dataclasses.replace(summary, seeds=tuple(range(len(values))))
        parts = {"keypoint_scores": scores, "keypoints": scores[..., None], "confidences": scores}
        return complete_evaluation(figures=pd.DataFrame(figures), curves=pd.DataFrame(curves), **parts, summary=about)

    return make


@pytest.fixture
def compared(params, monkeypatch):
    """`compared(evaluations)` is a comparison of these on MPII, of networks that all train alike."""
    monkeypatch.setattr(comparisons, "mean_pose", lambda params, dataset: {"PCKh@0.5": 5.0, "AUC": 2.0})

    def make(evaluations, networks=()):
        params["networks"] = networks or list(evaluations)
        params["profiles"]["tiny"]["networks"] |= {name: {"model": "hourglass"} for name in params["networks"]}
        study = Study(params)
        study.find = lambda entry, dataset: evaluations.get(entry)
        return Comparison.read(study, "mpii")

    return make


@pytest.fixture
def comparison(make_evaluation, compared) -> Comparison:
    evaluations = {"weak": make_evaluation(WEAK), "strong": make_evaluation(STRONG, 0.8, 1)}
    return compared(evaluations, ["weak", "absent", "strong"])


def test_results_are_means_and_deviations_over_seeds(comparison):
    table = comparison.results_table()
    assert list(table.index) == ["weak", "absent", "strong", "mean pose"], "in the order of params.yaml"
    assert table.loc["mean pose", ["PCKh@0.5", "AUC"]].tolist() == ["5.0", "2.0"]
    assert table.columns[0] == "PCKh@0.5"
    assert list(table.loc["weak"]) == ["54.0 ± 5.3", "14.0 ± 5.3", "not run", "34.0 ± 5.3", "1.235", "89.1", "0.0831"]
    assert table.loc["strong", "PCKh@0.5"] == "72.0 ± 2.6"
    assert set(table.loc["absent"]) == {"not run"}


def test_joints_that_cannot_be_computed_say_so(comparison):
    table = comparison.over_seeds(tuple(comparison.summary.form.skeleton.groups))
    assert table.loc["weak", ["Head", "Wrist", "Ankle"]].tolist() == ["59.0 ± 5.3", "undefined", "not run"]
    assert set(table.loc["absent"]) == {"not run"}


def test_intervals_are_the_bootstrap_of_the_mean_over_seeds(comparison):
    found = comparison.intervals.set_index(["joint", "name"])
    elbow = [MPII16.index("left_elbow"), MPII16.index("right_elbow")]
    for network, evaluation in comparison.evaluations.items():
        mean = sum(evaluation.keypoint_scores) / 3
        for joint, members in (("PCKh@0.5", slice(None)), ("Elbow", elbow)):
            expected = bootstrap(mean[:, members], evaluation.image_ids)
            assert found.loc[joint, network].tolist() == pytest.approx([expected.value, expected.low, expected.high])
            assert expected.value == pytest.approx(100 * np.nanmean(mean[:, members]), abs=1e-4)
    assert len(found) == 2 * (1 + 7)


@pytest.mark.parametrize(
    ("weak", "statement"),
    [
        (WEAK, "The order of networks is the same under all 3 seeds: strong > weak."),
        (
            (50.0, 52.0, 76.0),
            "The order of networks is **not stable** over the 3 seeds: 0 of 1 pairs keep theirs under every seed, "
            "which is no test. Pairs that change places: strong and weak.",
        ),
    ],
)
def test_order_is_stable_or_not(make_evaluation, compared, weak, statement):
    both = compared({"weak": make_evaluation(weak), "strong": make_evaluation(STRONG)})
    assert both.order_statement() == statement


def test_one_seed_has_no_order(make_evaluation, compared):
    alone = compared({"weak": make_evaluation((50.0,)), "strong": make_evaluation((70.0,))})
    assert alone.order_statement().startswith("One seed only")
    assert alone.results_table().loc["weak", "PCKh@0.5"] == "50.0"


def test_a_training_that_went_another_way_is_named(make_evaluation, compared):
    """The worst group of joints of each network whose seeds lie more than eight points apart."""
    one_off, steady = make_evaluation((70.0, 70.0, 70.0)), make_evaluation((60.0, 61.0, 62.0))
    head = one_off.figures["metric"] == "Head"
    assert head.sum() == 3
    one_off.figures.loc[head, "value"] = [56.5, 68.4, 68.7]
    found = compared({"steady": steady, "unsteady": one_off})
    assert found.unsteady() == "Seeds disagree most about unsteady, Head: 56.5, 68.4, 68.7."
    assert compared({"steady": steady}).unsteady() == ""
    assert compared({"alone": make_evaluation((50.0,))}).unsteady() == "", "one seed"


def test_pairs_count_the_seeds_won(make_evaluation, compared):
    values = {"a": (1.0, 5.0, 5.0), "b": (2.0, 4.0, 5.0), "c": (9.0, 9.0, 9.0)}
    found = compared({network: make_evaluation(figures) for network, figures in values.items()})
    won = found.seeds_won
    assert list(won.index) == list(won.columns) == ["c", "a", "b"], "by mean, equals in the order of params.yaml"
    for row in won.index:
        for column in won.columns:
            expected = sum(ours > theirs for ours, theirs in zip(values[row], values[column], strict=True))
            assert row == column or won.loc[row, column] == expected
    assert (
        "2 of 3 pairs keep theirs under every seed, which is no test. Pairs that change places: a and b."
        in found.order_statement()
    )


@pytest.mark.parametrize(
    ("gain", "verdict", "words"),
    [
        ((20, 20, 20), SEEN, "Better than the baseline beyond chance: ditn (+20.0 against hrnet)"),
        ((-20, -20, -20), OPPOSITE, "Worse beyond chance: ditn (-20.0 against hrnet)"),
        ((-4, 0, 5), NOTHING, "Not told from chance: ditn"),
    ],
)
def test_a_difference_is_of_the_same_pictures(make_evaluation, compared, gain, verdict, words):
    random = np.random.default_rng(0)
    before = 0.5 + random.uniform(-0.1, 0.1, (1, 400, 16)) + np.array([-0.01, 0, 0.01])[:, None, None]
    after = before + np.array(gain)[:, None, None] / 100
    sides = {
        network: make_evaluation(100 * scores.mean(axis=(1, 2)), scores=scores)
        for network, scores in (("hrnet", before), ("ditn", after))
    }
    found = compared(sides)
    (row,) = found.differences.itertuples()
    assert (row.name, row.baseline, row.verdict) == ("ditn", "hrnet", verdict)
    assert row.picture_sd == pytest.approx(0, abs=1e-9), "what is hard for both cancels out"
    assert row.ours == pytest.approx(np.mean(gain))
    assert row.low < row.ours < row.high, "seeds differ"
    (cells,) = found.difference_table().to_dict("records")
    assert (cells["network"], cells["baseline"], cells["verdict"]) == ("ditn", "hrnet", verdict)
    assert cells["difference"] == f"{row.ours:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
    assert (cells["detectable"], cells["p (Holm)"]) == (
        f"{row.detectable:.1f}",
        "<0.001" if row.p_holm < 0.0005 else f"{row.p_holm:.3f}",
    )
    assert words in found.conclusion()
    assert f"in points: {row.detectable:.1f} (ditn)." in found.detectable()


def test_an_interval_without_zero_and_no_verdict_is_explained(make_evaluation, compared):
    values = {"hrnet": (50, 50.1, 50.2), "ditn": (44, 47, 46), "simple_baseline": (50, 53, 52), "daunet": (51, 52, 53)}
    scores = np.full((3, 20, 16), 0.5)
    found = compared({name: make_evaluation(each, scores=scores) for name, each in values.items()})
    row = found.differences.set_index("name").loc["ditn"]
    assert row["high"] < 0, "alone it would be a loss"
    assert (row["verdict"], row["p_holm"] > 0.05) == (NOTHING, True)
    assert f"ditn (p {row['p_holm']:.3f})" in found.correction()
    assert "corrected for 2 comparisons (Holm)" in found.correction()
    assert found.correction() in found.conclusion()
    assert "here 2;" in found.detectable()
    assert "seen three times in five, in points" in found.detectable()


def test_what_cannot_be_tested_has_no_size_that_would_be_seen():
    rows = pd.DataFrame(
        {"ours": [1.0, 2.0], "p": 0.5, "detectable": 1.8, "picture_sd": 0.3, "seed_sd": 0.3, "freedom": 2, "seeds": 3}
    ).assign(verdict=[np.nan, NOT_TESTABLE])
    judged = judge(rows)
    assert judged["detectable"].notna().tolist() == [True, False]
    assert judged.loc[0, "detectable"] == judge(rows[:1]).loc[0, "detectable"], "corrected for what is tested alone"


def test_mechanisms_that_are_off_stand_beside_their_network(make_evaluation, compared):
    lines = [(seed, "a_kernel", 8, 0.0, 0.0, "off at this input") for seed in range(3)]
    lines += [(seed, "a_gate", 8, 0.5, 0.5, "acts") for seed in range(3)]
    after = make_evaluation(STRONG)
    alive = pd.DataFrame(lines, columns=after.liveness.columns)
    found = compared({"hrnet": make_evaluation(WEAK), "ditn": dataclasses.replace(after, liveness=alive)})
    assert found.difference_table()["not acting"].tolist() == ["a kernel: off at this input"]
    assert "against hrnet; a kernel: off at this input)" in found.conclusion()
    without = compared({"hrnet": make_evaluation(WEAK), "ditn": after})
    assert "not acting" not in without.difference_table()


def test_maxima_of_heatmaps_are_held_against_scores():
    maxima, scores = np.array([[0.2, 0.24, 0.9, 2.0]]), np.array([[0.0, 1.0, np.nan, 0.9]])
    found = calibrated(maxima, scores)
    assert found["heatmap maximum"] == pytest.approx(1.44 / 3), "beyond 1 is 1, and what is not labelled does not count"
    assert found["score"] == pytest.approx(1.9 / 3)
    assert found["error"] == pytest.approx((2 * abs(0.22 - 0.5) + 0.1) / 3)
    assert found["rank correlation"] == pytest.approx(0.5)


def test_without_a_baseline_beside_it_nothing_is_compared(make_evaluation, compared):
    alone = compared({"ditn": make_evaluation(STRONG)}, ["ditn", "hrnet"])
    assert alone.conclusion() == "The highest mean PCKh@0.5 is that of ditn."
    assert alone.differences.empty
    assert alone.difference_table().empty


def test_a_single_seed_is_not_judged(make_evaluation, compared):
    found = compared({name: make_evaluation((value,)) for name, value in (("hrnet", 50.0), ("ditn", 70.0))})
    (cells,) = found.difference_table().to_dict("records")
    assert (cells["difference"], cells["verdict"]) == ("+20.0", f"not testable here: {comparisons.ONE_SEED}")
    assert "No network was run beside its baseline from two seeds" in found.detectable()


def test_nothing_evaluated_is_an_error_that_says_what_to_run():
    with pytest.raises(ValueError, match=r"none of a, b was evaluated; run: dvc repro evaluate"):
        Comparison(("a", "b"), {}, None)


def test_files_hold_every_value_and_means_over_seeds(comparison, tmp_path):
    columns = ["name", "seed", "epoch", "learning_rate", "loss", "PCKh@0.5"]
    history = pd.DataFrame(
        [("weak", 0, 1, 0.1, 4.0, 10.0), ("weak", 1, 1, 0.1, 2.0, 30.0), ("strong", 0, 1, 0.1, 1.0, 50.0)],
        columns=columns,
    )
    comparison.save(history, tmp_path / "tables", tmp_path / "metrics.json", tmp_path / "plots")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"mpii": {"weak": 54.0, "strong": 72.0}}
    results = pd.read_csv(tmp_path / "tables/results.csv")
    assert results.columns.tolist() == ["network", "seed", "metric", "value"]
    assert results.query("network == 'strong' and seed == 2 and metric == 'AUC'")["value"].item() == 55.0
    joints = pd.read_csv(tmp_path / "tables/joints.csv")
    assert len(joints) == len(joints.drop_duplicates(["joint", "name"])) == 7 * 2
    learning = pd.read_csv(tmp_path / "plots/learning/weak.csv")
    assert learning.to_dict("list") == {"epoch": [1], "learning_rate": [0.1], "loss": [3.0], "score": [20.0]}
    assert pd.read_csv(tmp_path / "plots/threshold/strong.csv")["correct"].tolist() == [0.0, 36.0]
    assert len(pd.read_csv(tmp_path / "plots/joints/weak.csv")) == 7


def test_metrics_of_all_networks_fit_a_terminal(make_evaluation, compared, tmp_path):
    found = compared(dict.fromkeys(records(), make_evaluation(WEAK)))
    columns = ["name", "seed", "epoch", "loss"]
    history = pd.DataFrame([(network, 0, 1, 1.0) for network in records()], columns=columns)
    found.save(history, tmp_path, tmp_path / "metrics.json", tmp_path)
    (names,) = json.loads((tmp_path / "metrics.json").read_text()).values()
    assert len(names) == len(records())
    assert max(map(len, names)) == 2


@pytest.fixture
def put(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def leave(evaluation: Evaluation, **run) -> None:
        save(evaluation, study_runs(params, "hourglass", "mpii", **run)[0].evaluation)

    return leave


def test_evaluations_are_read_for_the_networks_of_the_study(params, put, make_evaluation):
    params["profiles"]["tiny"]["networks"]["hrnet"] = {"model": "hrnet_w32"}
    params["networks"] = ["hrnet", "hourglass"]
    put(make_evaluation(WEAK))
    found = Comparison.read(Study(params), "mpii")
    assert found.networks == ("hrnet", "hourglass")
    assert list(found.evaluations) == ["hourglass"]
    (study_runs(params, "hourglass", "mpii")[0].evaluation / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"none of hrnet, hourglass was evaluated; run: dvc"):
        Comparison.read(Study(params), "mpii")


def test_references_are_the_mean_pose_and_the_control(params, put, make_evaluation, compared):
    put(make_evaluation((3.21,)), labels="shuffled")
    found = compared({"hourglass": make_evaluation(WEAK)})
    assert found.results_table().loc["shuffled labels", "PCKh@0.5"] == "3.2"
    assert found.floor("PCKh@0.5") == 5.0
    assert found.floor("Knee") is None
    assert "PCKh@0.5 is 5.0. Networks differ from that by +49.0 (hourglass) to" in found.floor_statement()


def test_histories_are_of_all_runs(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run, losses in zip(study_runs(params, "hourglass", "mpii"), ((4.0, 2.0), (2.0, 1.0)), strict=True):
        run.folder.mkdir(parents=True)
        pd.DataFrame({"epoch": [1, 2], "loss": losses}).to_csv(run.folder / "history.csv", index=False)
    history = tables.histories(params, "mpii")
    assert history.columns.tolist() == ["name", "seed", "epoch", "loss"]
    assert history["seed"].tolist() == [0, 0, 1, 1]
    assert history["loss"].tolist() == [4, 2, 2, 1]
