import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hpelib.metrics.statistics import seed_difference
from hpelib.study.results import claims, papers
from hpelib.study.results.claims import COLUMNS, ledger, read_claims
from hpelib.study.results.measurements import find

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def make_claims(*rows: tuple[str, ...]) -> pd.DataFrame:
    """Rows of better, worse, dataset, metric, difference."""
    return pd.DataFrame(
        [
            (f"c-{i}", "c", "Table 1", "it helps", better, worse, dataset, "", metric, difference, "points")
            for i, (better, worse, dataset, metric, difference) in enumerate(rows)
        ],
        columns=COLUMNS,
    )


def test_a_gain_beyond_noise_and_interval_is_supported(study, params):
    study("hourglass:full", "mpii", [80, 82])
    study("hourglass:flat", "mpii", [40, 41])
    found = ledger(params, make_claims(("hourglass:full", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"))).iloc[0]
    assert found["verdict"] == "supported"
    assert found["ours"] == pytest.approx(40.5)
    sides = [find(params, entry, "mpii").keypoint_scores for entry in ("hourglass:full", "hourglass:flat")]
    expected = seed_difference(*sides, level=0.95).interval
    assert (found["low"], found["gain"], found["high"]) == (expected.low, expected.value, expected.high)
    assert found["low"] < found["gain"] < found["high"]
    assert found["gain"] == pytest.approx(40.5, abs=2), "the share among labelled keypoints"
    assert (found["seeds"], found["profile"], found["judged_by"]) == (2, "tiny", "PCKh@0.5")


def test_a_difference_within_the_spread_of_the_baseline_is_not_a_gain(study, params):
    study("hourglass:full", "mpii", [60, 60])
    study("hourglass:flat", "mpii", [40, 70])
    found = ledger(params, make_claims(("hourglass:full", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"))).iloc[0]
    assert found["gain"] < found["noise_floor"] == pytest.approx(30 / math.sqrt(2), abs=2)
    assert found["verdict"] == "undecided"


def test_nor_is_one_within_the_spread_of_the_network_itself(study, params):
    study("hourglass:full", "mpii", [45, 75])
    study("hourglass:flat", "mpii", [40, 41])
    found = ledger(params, make_claims(("hourglass:full", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"))).iloc[0]
    assert found["low"] > 0
    assert found["gain"] < found["noise_floor"] == pytest.approx(29 / math.sqrt(2), abs=2)
    assert found["verdict"] == "undecided"


def test_only_seeds_of_both_sides_are_compared(study, params):
    study("hourglass", "mpii", [80, 10])
    study("hourglass:flat", "mpii", [40])
    found = ledger(params, make_claims(("hourglass", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"))).iloc[0]
    assert (found["ours"], found["seeds"]) == (40, 1)
    assert found["verdict"] == "undecided", "one seed says nothing about noise"


def test_what_is_missing_is_not_run_and_not_zero(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass:flat", "mpii", [math.nan, 40])
    rows = [
        ("hourglass", "hrnet", "mpii", "PCKh@0.5", "0.3"),
        ("hourglass", "hourglass_w48", "mpii", "PCKh@0.5", ""),
        ("hourglass:full", "hourglass", "mpii", "PCKh@0.5", "0.3"),
        ("hourglass", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"),
    ]
    found = ledger(params, make_claims(*rows))
    assert found["verdict"].tolist() == ["not run"] * 4
    assert found[["ours", "gain", "low", "high", "noise_floor"]].isna().all().all()
    text = claims.markdown(found)
    assert text.count("**not run**") == 4
    assert "nan" not in text


def test_average_precision_is_judged_by_recall_and_must_itself_rise(study, params):
    study("hourglass", "coco", [80, 81])
    study("hrnet", "coco", [40, 41])
    claimed = make_claims(
        ("hourglass", "hrnet", "coco", "AP_det", "0.3"), ("hourglass", "hrnet", "coco", "APM_det", "1")
    )
    whole, medium = ledger(params, claimed).to_dict("records")
    assert (whole["verdict"], whole["judged_by"]) == ("supported", "OKS recall")
    assert medium["verdict"] == "undecided", "no interval can be taken of it"
    assert medium["ours"] == 40
    folder = Path("work/eval/coco/hourglass/figures.csv")
    figures = pd.read_csv(folder)
    figures["value"] = 10.0
    figures.to_csv(folder, index=False)
    assert ledger(params, claimed).iloc[0]["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("difference", "unit", "metric", "expected"),
    [
        ("11.2", "M", "params (M)", "supported"),
        ("11.26", "M", "params (M)", "supported"),  # one unit of the last digit off 11.25
        ("11.27", "M", "params (M)", "not supported"),
        ("11.31", "M", "params (M)", "not supported"),
        ("-50", "% or less", "MACs (G)", "not supported"),
        ("", "G", "MACs (G)", "not supported"),
    ],
)
def test_sizes_are_answered_exactly(monkeypatch, difference, unit, metric, expected):
    def count(params, wanted):
        costs = {"big": (31.25, 4.0), "small": (20.0, 3.0)}
        return pd.DataFrame([costs[entry] for entry in wanted["entry"]], wanted.index, ["params (M)", "MACs (G)"])

    monkeypatch.setattr(claims, "full_sizes", count)
    claim = make_claims(("big", "small", "coco", metric, difference)).assign(unit=unit, input="64x64")
    found = ledger({}, claim).iloc[0]
    assert (found["verdict"], found["profile"]) == (expected, "full size")
    other_way = ledger({}, claim.assign(better="small", worse="big", difference="")).iloc[0]
    assert (other_way["verdict"] == "supported") == (unit != "% or less")


@pytest.mark.parametrize(("difference", "expected"), [("-25", "supported"), ("-26", "not supported")])
def test_a_relative_size_is_a_share_of_the_larger_network(monkeypatch, difference, expected):
    def count(params, wanted):
        return pd.DataFrame({"MACs (G)": wanted["entry"].map({"small": 3.0, "big": 4.0})})

    monkeypatch.setattr(claims, "full_sizes", count)
    claim = make_claims(("small", "big", "coco", "MACs (G)", difference)).assign(unit="% or less", input="64x64")
    found = ledger({}, claim).iloc[0]
    assert (found["ours"], found["verdict"]) == (-25, expected)


def test_a_claimed_gain_has_its_sign(study, params):
    rows = [("hourglass", "hrnet", "mpii", "Head", difference) for difference in ("0.3", "-0.3")]
    text = claims.markdown(ledger(params, make_claims(*rows)))
    assert "| +0.3 Head" in text
    assert "| -0.3 Head" in text


def test_the_tally_counts_every_claim_once(study, params):
    study("hourglass:full", "mpii", [80, 82])
    study("hourglass:flat", "mpii", [40, 41])
    rows = [
        ("hourglass:full", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"),
        ("hourglass:flat", "hourglass:full", "mpii", "PCKh@0.5", "0.3"),
        ("hourglass", "hourglass:flat", "mpii", "PCKh@0.5", "0.3"),
    ]
    found = ledger(params, make_claims(*rows))
    assert claims.answer(found) == "Of 3 gains in accuracy: 1 supported, 1 not supported, 0 undecided, 1 not run."
    assert claims.counts(found).loc[("accuracy", "c")].tolist() == [1, 1, 0, 1]


def test_sizes_are_counted_apart():
    verdicts = {"metric": ["params (M)", "Head", "Head"], "paper": ["b", "b", "a"], "verdict": ["supported"] * 3}
    found = claims.counts(pd.DataFrame(verdicts))
    assert found.index.tolist() == [("accuracy", "b"), ("accuracy", "a"), ("size", "b")], "papers in their order"
    assert found["supported"].tolist() == [1, 1, 1]


def test_undecided_for_want_of_seeds_is_counted_and_said(study, params):
    row = ("hourglass:full", "hourglass:flat", "mpii", "PCKh@0.5", "0.3")
    network = ("hourglass", "hrnet", "coco", "AP_det", "0.3")
    no_interval = ("hourglass", "hrnet", "coco", "APM_det", "0.3")
    study("hourglass:full", "mpii", [60])
    study("hourglass:flat", "mpii", [40])
    study("hourglass", "coco", [80])
    study("hrnet", "coco", [40])
    assert claims.answer(ledger(params, make_claims(row, row, network, no_interval))).endswith(
        " Of 4 undecided, 3 have a single seed, whose noise is unknown; `ablation_seeds: [0, 1, 2]` and "
        "`seeds: [0, 1, 2]` in `params.yaml` would give them more."
    )
    assert "`ablation_seeds: [0, 1, 2]` in" in claims.answer(ledger(params, make_claims(row)))
    study("hourglass:full", "mpii", [50, 50])
    study("hourglass:flat", "mpii", [40, 70])
    found = ledger(params, make_claims(row))
    assert found["verdict"].tolist() == ["undecided"]
    assert "seed" not in claims.answer(found), "two seeds, and still undecided"


def test_rows_of_ablations_are_told_apart_from_whole_networks(study, params):
    params["profiles"]["tiny"]["paper_recipes"] = {"hourglass": {"epochs": 1}}
    study("hourglass:full", "mpii", [60])
    study("hourglass:flat", "mpii", [40])
    study("hourglass", "coco", [80, 81])
    study("hrnet", "coco", [40, 41])
    rows = [("hourglass:full", "hourglass:flat", "mpii", "Head", "0.3"), ("hourglass", "hrnet", "coco", "Head", "0.3")]
    found = ledger(params, make_claims(*rows))
    own = "1 epoch by the paper's own optimizer and scaled schedule"
    assert found["training"].tolist() == [own, "1 epoch"]
    assert f"trainings of their own: {own}, 1 seed; whole networks: 1 epoch, 2 seeds." in claims.training_note(found)
    assert claims.training_note(found.iloc[1:]) == "", "no rows"
    assert claims.training_note(found.assign(training="1 epoch", seeds=3)) == "", "no difference"


def test_the_rule_says_what_the_verdicts_are_about():
    assert "*Supported* is about the direction of a gain alone" in claims.RULE
    assert "smaller than the claimed one by more than the noise" in claims.RULE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.assign(id="c-0"), "id c-0 is there twice"),
        (lambda c: c.assign(difference="much"), "c-0: difference 'much' is no number"),
        (lambda c: c.drop(columns="unit"), "expected are id, paper"),
    ],
)
def test_a_broken_table_of_claims_is_refused(tmp_path, change, message):
    row = ("hourglass", "hrnet", "mpii", "PCKh@0.5", "0.3")
    change(make_claims(row, row)).to_csv(tmp_path / "claims.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "claims.csv")


def test_the_papers_claims_are_about_entries_that_exist_and_follow_from_the_printed_figures():
    found = read_claims(ROOT / "data/claims.csv")
    printed = papers.read_results(ROOT / "data/paper_results.csv")
    entries = set(printed["entry"])
    for claim in found.itertuples():
        for entry in (claim.better, claim.worse):
            network, _, row = entry.partition(":")
            assert entry in entries or row in PARAMS["ablations"].get(network, {"rows": {}})["rows"], claim.id
        if claim.unit != "points" or not claim.difference or "control" in claim.source:
            continue
        table = printed[(printed["paper"] == claim.paper) & (printed["metric"] == claim.metric)]
        table = table[table["dataset"] == claim.dataset]
        numbers = [table.loc[table["entry"] == entry, "value"] for entry in (claim.better, claim.worse)]
        differences = {round(float(a) - float(b), 3) for a in numbers[0] if a for b in numbers[1] if b}
        assert float(claim.difference) in differences, claim.id
