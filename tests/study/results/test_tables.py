import dataclasses
import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from hpelib.figures.style import FAMILY_STYLES
from hpelib.metrics.statistics import bootstrap, bootstrap_difference
from hpelib.skeletons import MPII16
from hpelib.study.evaluation import Evaluation, load, save
from hpelib.study.results import tables
from hpelib.study.results.index import index
from hpelib.study.results.measurements import oks_recall

SEEDS = (0, 1, 2)
WEAK, STRONG = (50.0, 52.0, 60.0), (70.0, 71.0, 75.0)  # of each seed; means 54 and 72, sd 5.2915 and 2.6458


def make_evaluation(network: str, values: tuple[float, ...], skill: float = 0.5, random_seed: int = 0) -> Evaluation:
    random = np.random.default_rng(random_seed)
    scores = (random.uniform(size=(len(values), 20, 16)) < skill).astype(np.float32)
    scores[:, random.uniform(size=(20, 16)) < 0.2] = np.nan  # not labelled, whatever the seed
    scores[:, :, list(MPII16.unscored)] = np.nan
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
    summary = {
        "network": network,
        "dataset": "mpii",
        "format": "mpii",
        "source": "noise",
        "skeleton": "mpii16",
        "profile": "tiny",
        "codec": "dark",
        "precision": "fp32",
        "test": {"precision": "bf16"},
        "input_size": [32, 48],
        "seeds": list(range(len(values))),
        "epochs": 3,
        "persons": 20,
        "params": 1_234_567,
        "macs": 89_100_000,
        "legacy_gflops": 0.0831,
    }
    keypoints = random.uniform(0, 64, (*scores.shape, 2)).astype(np.float32)
    return Evaluation(pd.DataFrame(figures), pd.DataFrame(curves), scores, keypoints, np.ones_like(scores), summary)


@pytest.fixture
def evaluations() -> tables.Evaluations:
    return {"weak": make_evaluation("weak", WEAK), "absent": None, "strong": make_evaluation("strong", STRONG, 0.8, 1)}


def test_results_are_means_and_deviations_over_seeds(evaluations):
    table = tables.results_table(evaluations)
    assert list(table.index) == ["weak", "absent", "strong"], "in the order of params.yaml"
    assert list(table.loc["weak"]) == ["54.0 ± 5.3", "14.0 ± 5.3", "not run", "34.0 ± 5.3", "1.235", "89.1", "0.0831"]
    assert table.loc["strong", "PCKh@0.5"] == "72.0 ± 2.6"
    assert set(table.loc["absent"]) == {"not run"}
    assert table.columns[0] == "PCKh@0.5"


def test_a_single_seed_has_no_deviation():
    table = tables.results_table({"alone": make_evaluation("alone", (61.04,))})
    assert table.loc["alone", "PCKh@0.5"] == "61.0"


def test_what_cannot_be_computed_says_so(evaluations):
    table = tables.joint_table(evaluations)
    assert table.loc["weak", "Head"] == "59.0 ± 5.3"
    assert table.loc["weak", "Wrist"] == "undefined"
    assert table.loc["weak", "Ankle"] == "not run"
    assert set(table.loc["absent"]) == {"not run"}


def test_intervals_are_the_bootstrap_of_the_mean_over_seeds(evaluations):
    table = tables.intervals(evaluations).set_index("name")
    assert list(table.index) == ["weak", "strong"]
    for network in table.index:
        scores = evaluations[network].keypoint_scores
        mean = sum(scores[seed] for seed in SEEDS) / 3
        found = bootstrap(mean)
        assert table.loc[network].tolist() == pytest.approx([found.value, found.low, found.high], abs=1e-4)
        assert table.loc[network, "value"] == pytest.approx(100 * np.nanmean(mean), abs=1e-4)


def test_group_intervals_are_of_the_groups_keypoints_alone(evaluations):
    table = tables.group_intervals(evaluations)
    assert len(table) == 7 * 2
    elbows = table[(table["joint"] == "Elbow") & (table["name"] == "strong")]["value"].item()
    members = [MPII16.index("left_elbow"), MPII16.index("right_elbow")]
    assert elbows == pytest.approx(
        100 * np.nanmean(evaluations["strong"].keypoint_scores.mean(0)[:, members]), abs=1e-4
    )


def test_order_is_stable_or_not(evaluations):
    assert tables.seed_order(evaluations).iloc[:, 0].tolist() == ["strong > weak"] * 3
    assert tables.order_statement(evaluations).endswith("the same under all 3 seeds: strong > weak.")
    evaluations["weak"] = make_evaluation("weak", (50.0, 52.0, 76.0))
    assert tables.seed_order(evaluations).iloc[:, 0].tolist() == ["strong > weak"] * 2 + ["weak > strong"]
    assert tables.order_statement(evaluations) == (
        "The order of networks is **not stable** over the 3 seeds: 0 of 1 pairs keep theirs under every seed. "
        "Not told apart: strong and weak."
    )
    alone = {"weak": make_evaluation("weak", (50.0,)), "strong": make_evaluation("strong", (70.0,))}
    assert tables.order_statement(alone).startswith("One seed only")


def test_pairs_count_the_seeds_won():
    values = {"a": (1.0, 5.0, 5.0), "b": (2.0, 4.0, 5.0), "c": (9.0, 9.0, 9.0)}
    evaluations = {network: make_evaluation(network, figures) for network, figures in values.items()}
    won = tables.seeds_won(evaluations)
    assert list(won.index) == list(won.columns) == ["c", "a", "b"], "by mean, equals in the order of params.yaml"
    for row in won.index:
        for column in won.columns:
            expected = sum(ours > theirs for ours, theirs in zip(values[row], values[column], strict=True))
            assert row == column or won.loc[row, column] == expected
    assert "2 of 3 pairs keep theirs under every seed. Not told apart: a and b." in tables.order_statement(evaluations)
    assert tables.pair_table(evaluations).loc["b"].tolist() == ["0 of 3", "1 of 3", ""]


def with_scores(network: str, scores: np.ndarray, values: tuple[float, ...] = STRONG) -> Evaluation:
    return dataclasses.replace(make_evaluation(network, values), keypoint_scores=scores)


def scores_of_mean(values: tuple[float, ...], labelled: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Scores (seeds, N, K) of labelled keypoints, whose mean under every seed is the value in percent."""
    scores = labelled * random.uniform(-0.1, 0.1, (len(values), *labelled.shape))
    means = np.nanmean(scores, axis=(1, 2), keepdims=True)
    return scores - means + np.array(values)[:, None, None] / 100


@pytest.mark.parametrize(
    ("gain", "of_baseline", "of_network", "noise", "verdict"),
    [
        (20, (50.0, 51.0, 52.0), (70.0, 71.0, 72.0), 1.0, "gain"),
        (20, (20.0, 50.0, 80.0), (40.0, 70.0, 100.0), 30.0, "none shown"),
        (20, (50.0, 50.0, 50.0), (40.0, 70.0, 100.0), 30.0, "none shown"),  # a restless network
        (20, (50.0, 51.0, 52.0), (72.0, 71.0, 70.0), 2.0, "gain"),
        (-20, (50.0, 51.0, 52.0), (30.0, 31.0, 32.0), 1.0, "loss"),
        (0, (50.0, 50.0, 50.0), (50.0, 50.0, 50.0), 0.0, "none shown"),
        (20, (50.0,), (70.0,), math.nan, "none shown"),
    ],
)
def test_a_difference_is_called_a_gain_only_beyond_noise_and_zero(gain, of_baseline, of_network, noise, verdict):
    random = np.random.default_rng(0)
    labelled = np.where(random.uniform(size=(400, 16)) < 0.2, np.nan, 1)
    before, after = (scores_of_mean(values, labelled, random) for values in (of_baseline, of_network))
    evaluations = {"hrnet": with_scores("hrnet", before, of_baseline)}
    evaluations["ditn"] = with_scores("ditn", after, of_network)
    (row,) = tables.differences(evaluations).itertuples()
    found = bootstrap_difference(after.mean(0), before.mean(0))
    assert (row.name, row.baseline, row.verdict) == ("ditn", "hrnet", verdict)
    assert (row.value, row.low, row.high) == (found.value, found.low, found.high)
    assert row.value == pytest.approx(gain, abs=1e-9)
    assert row.noise == pytest.approx(noise, nan_ok=True)
    table = tables.results_table(evaluations)
    assert table.loc["ditn", "gain or loss in PCKh@0.5"] == verdict
    assert table.loc["hrnet", "gain or loss in PCKh@0.5"] == ""


@pytest.mark.parametrize(("ap", "verdict"), [((3.0, 3.1, 3.2), "gain"), ((1.0, 1.1, 1.2), "none shown")])
def test_on_coco_a_gain_is_of_recall_and_agrees_with_average_precision(ap, verdict):
    random = np.random.default_rng(0)
    persons = random.uniform(size=(60, 1)) < 0.5
    before = np.where(persons, 0.45, 0.9) + random.uniform(0, 0.01, (3, 60, 17))
    after = np.where(persons, 0.55, 0.6) + random.uniform(0, 0.01, (3, 60, 17))  # more reach 0.5, fewer anything else
    after[:, ~persons[:, 0]] = np.nan
    before[:, ~persons[:, 0]] = np.nan
    sides = {}
    for network, scores, values in (("hrnet", before, (2.0, 2.1, 2.2)), ("ditn", after, ap)):
        one = with_scores(network, scores, values)
        figures = one.figures.assign(metric=one.figures["metric"].replace("PCKh@0.5", "AP_gt"))
        sides[network] = dataclasses.replace(one, figures=figures, summary=one.summary | {"format": "coco"})
    (row,) = tables.differences(sides).itertuples()
    assert row.verdict == verdict
    assert row.value == pytest.approx(100 * (oks_recall(after) - oks_recall(before))[:, persons[:, 0]].mean(), abs=1e-9)
    table = tables.results_table(sides)
    assert table.loc["ditn", "gain or loss in OKS recall"] == verdict
    assert table.loc["ditn", "OKS recall, difference"].startswith("+")
    assert "of OKS recall" in tables.describe(sides)


def test_an_interval_that_contains_zero_is_no_gain_however_small_the_noise():
    before = np.full((3, 30, 16), 0.5)
    after = before + np.where(np.arange(30) % 2, 0.3, -0.2)[:, None]  # better for half of the persons, worse for half
    evaluations = {"hrnet": with_scores("hrnet", before, (50.0, 50.0, 50.0))}
    evaluations["ditn"] = with_scores("ditn", after, (55.0, 55.0, 55.0))
    (row,) = tables.differences(evaluations).itertuples()
    assert row.low < 0 < row.high
    assert abs(row.value) > row.noise
    assert row.verdict == "none shown"


def test_without_a_baseline_beside_it_nothing_is_compared():
    alone = {"ditn": make_evaluation("ditn", STRONG), "hrnet": None}
    assert tables.differences(alone).empty
    assert "baseline" not in tables.results_table(alone)


def test_cost_stands_beside_the_interval(evaluations):
    table = tables.cost_table(evaluations).set_index("name")
    assert table.loc["weak", ["macs", "params"]].tolist() == [89_100_000, 1_234_567]
    assert table.loc["weak", "value"] == tables.intervals(evaluations).set_index("name").loc["weak", "value"]


def test_curves_keep_network_and_seed(evaluations):
    table = tables.threshold_curves(evaluations)
    assert len(table) == 2 * 3 * 2
    assert table.query("name == 'strong' and seed == 1 and threshold == 0.5")["correct"].item() == 35.5


def test_a_table_says_what_it_is_of(evaluations):
    text = tables.describe(evaluations)
    for said in (
        "noise",
        "mpii format",
        "20 persons",
        "32x48 px",
        "dark",
        "3 epochs",
        "3 seeds (0, 1, 2)",
        "tiny",
        "trained in fp32",
        "flip test in bf16",
    ):
        assert said in text
    assert "OKS recall" not in text
    assert "nterval" not in tables.describe_cells(evaluations)
    assert "Cells: one seed (0), in percent." in tables.describe({"weak": make_evaluation("weak", (50.0,))})


def test_nothing_evaluated_is_an_error_that_says_what_to_run():
    with pytest.raises(ValueError, match=r"none of a, b was evaluated; run: dvc repro evaluate"):
        tables.describe({"a": None, "b": None})


def refuse_constant(constant: str):
    raise AssertionError(f"{constant} is no JSON")


def test_metrics_hold_the_leading_figure_of_every_network(evaluations, tmp_path):
    tables_folder, metrics = tmp_path / "tables", tmp_path / "metrics.json"
    tables.save(evaluations, "The control fails.", tables_folder, metrics)
    found = json.loads(metrics.read_text(), parse_constant=refuse_constant)
    assert found == {"mpii": {"weak": 54.0, "strong": 72.0}}


def test_metrics_of_eight_networks_fit_a_terminal(tmp_path):
    evaluations = {network: make_evaluation(network, WEAK) for network in FAMILY_STYLES}
    tables.save(evaluations, "", tmp_path, tmp_path / "metrics.json")
    (columns,) = json.loads((tmp_path / "metrics.json").read_text()).values()
    assert len(columns) == 8
    assert max(map(len, columns)) == 2


def test_saved_tables_hold_every_value(evaluations, tmp_path):
    tables.save(evaluations, "The control fails.", tmp_path, tmp_path / "metrics.json")
    results = pd.read_csv(tmp_path / "results.csv")
    assert results.columns.tolist() == ["network", "seed", "metric", "value"]
    assert results.query("network == 'strong' and seed == 2 and metric == 'AUC'")["value"].item() == 55.0
    page = (tmp_path / "results.md").read_text()
    assert "The control fails." in page
    assert re.search(r"\| weak +\| 54\.0 ± 5\.3", page)
    assert re.search(r"\| absent +\| not run", page)
    value = tables.intervals(evaluations).set_index("name").loc["weak"]
    assert f"{value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}]" in page
    for row in tables.group_intervals(evaluations).itertuples():
        assert f"| {row.value:.1f} [{row.low:.1f}, {row.high:.1f}]" in page, (row.name, row.joint)


def put(params: dict, dataset: str, evaluation: Evaluation, **run) -> None:
    save(evaluation, tables.study_runs(params, "hourglass", dataset, **run)[0].evaluation)


def test_evaluations_are_collected_for_the_networks_of_the_study(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params["profiles"]["tiny"]["networks"]["hrnet"] = {"model": "hrnet_w32"}
    params["networks"] = ["hrnet", "hourglass"]
    put(params, "mpii", make_evaluation("hourglass", WEAK))
    collected = tables.collect(params, "mpii")
    assert list(collected) == ["hrnet", "hourglass"]
    assert collected["hrnet"] is None
    assert tables.results_table(collected).loc["hourglass", "PCKh@0.5"] == "54.0 ± 5.3"


def test_a_half_written_evaluation_is_refused(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(params, "mpii", make_evaluation("hourglass", WEAK))
    (tables.study_runs(params, "hourglass", "mpii")[0].evaluation / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"work/eval/mpii/hourglass holds no finished evaluation; run: dvc"):
        tables.collect(params, "mpii")


def test_saved_and_loaded_evaluations_are_the_same(tmp_path):
    evaluation = make_evaluation("weak", (12.345678, *WEAK[1:]))
    save(evaluation, tmp_path / "weak")
    loaded = load(tmp_path / "weak")
    pd.testing.assert_frame_equal(loaded.figures, evaluation.figures, rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(loaded.curves, evaluation.curves)
    for name in ("keypoint_scores", "keypoints", "confidences"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(evaluation, name), strict=True)
    assert loaded.summary == evaluation.summary
    assert loaded.groups == MPII16.groups


def test_the_index_shows_every_dataset_and_the_control(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params |= {"datasets": ["mpii"], "profile": "tiny"}
    put(params, "mpii", make_evaluation("hourglass", WEAK))
    put(params, "mpii", make_evaluation("hourglass", (3.21,)), labels="shuffled")
    assert tables.control_statement(params, "mpii") == (
        "Control: hourglass trained on shuffled labels scores PCKh@0.5 3.2."
    )
    (tmp_path / "reports/claims").mkdir(parents=True)
    claims = pd.DataFrame({"metric": ["PCKh@0.5", "params (M)"], "verdict": ["undecided", "supported"]})
    claims = claims.assign(better="hourglass:full", worse="hourglass:flat", seeds=1, gain=[1.0, math.nan])
    claims.to_csv(tmp_path / "reports/claims/claims.csv")
    page = index(params)
    assert "Of 1 gains in accuracy: 0 supported, 0 not supported, 1 undecided" in page
    assert "\n## mpii\n" in page
    assert "54.0 ± 5.3" in page
    assert "scores PCKh@0.5 3.2." in page
    assert "Of 1 undecided, 1 have a single seed" in page
    assert "not comparable to any" not in page, "that caveat is about the quick profile"
    assert "real people" not in page
    (tmp_path / "reports/lspet/tables").mkdir(parents=True)
    (tmp_path / "reports/lspet/tables/results.md").write_text("")
    assert "but for those on [real people](lspet/tables/results.md)" in index(params)
    params["ablations"] = {"ditn": {}}
    for link in ("papers/ditn/tables.md", "figures/ditn/paper_figures.ipynb", "../docs/ledger_ditn.md"):
        assert f"]({link})" in index(params)
    evaluation = make_evaluation("hourglass", WEAK)
    for source, linked in (("LSP", False), ("mannequins", True)):
        put(params, "mpii", dataclasses.replace(evaluation, summary=evaluation.summary | {"source": source}))
        assert ("(mpii/data/contact_sheet.png)" in index(params)) == linked, "photographs stay where they were made"


def test_no_control_is_claimed_on_a_dataset_beside_the_study(params):
    params["extra"] = {"datasets": ["lspet"], "networks": ["hourglass"]}
    assert tables.control_statement(params, "lspet") == "No control was trained on this dataset."


def test_histories_are_of_all_runs(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run, losses in zip(tables.study_runs(params, "hourglass", "mpii"), ((4.0, 2.0), (2.0, 1.0)), strict=True):
        run.folder.mkdir(parents=True)
        pd.DataFrame({"epoch": [1, 2], "loss": losses}).to_csv(run.folder / "history.csv", index=False)
    history = tables.histories(params, "mpii")
    assert history.columns.tolist() == ["name", "seed", "epoch", "loss"]
    assert history["seed"].tolist() == [0, 0, 1, 1]


def test_plots_are_of_means_over_seeds(evaluations, tmp_path):
    history = pd.DataFrame(
        {
            "name": ["weak", "weak", "strong"],
            "seed": [0, 1, 0],
            "epoch": [1, 1, 1],
            "learning_rate": [0.1, 0.1, 0.1],
            "loss": [4.0, 2.0, 1.0],
            "PCKh@0.5": [10.0, 30.0, 50.0],
        }
    )
    tables.save_plots(evaluations, history, tmp_path)
    learning = pd.read_csv(tmp_path / "learning" / "weak.csv")
    assert learning.to_dict("list") == {"epoch": [1], "learning_rate": [0.1], "loss": [3.0], "score": [20.0]}
    threshold = pd.read_csv(tmp_path / "threshold" / "strong.csv")
    assert threshold["correct"].tolist() == [0.0, 36.0]
    assert len(pd.read_csv(tmp_path / "joints" / "weak.csv")) == 7
