import math
from pathlib import Path

import pandas as pd
import pytest

from hpelib.metrics.statistics import seed_difference
from hpelib.study.config import load_params, study_runs
from hpelib.study.results import claims, papers
from hpelib.study.results.claims import COLUMNS, read_claims
from hpelib.study.results.measurements import find

ROOT = Path(__file__).resolve().parents[3]
FULL, FLAT, HOURGLASS, HRNET = "hourglass:full", "hourglass:flat", "hourglass", "hrnet"
COUNTS = pd.DataFrame(
    [("big", "coco", "64x64", 31.25, 4.0), ("small", "coco", "64x64", 20.0, 3.0)],
    columns=["entry", "dataset", "input", "params (M)", "MACs (G)"],
).assign(**{"legacy GFLOPs": 1.0})


def make_claims(*rows: tuple, unit: str = "points") -> pd.DataFrame:
    """Rows of better, worse, dataset, metric, difference."""
    table = [
        (f"c-{i}", "c", "Table 1", "it helps", "claim", better, worse, dataset, "64x64", metric, difference, unit, "")
        for i, (better, worse, dataset, metric, difference) in enumerate(rows)
    ]
    found = pd.DataFrame(table, columns=COLUMNS)
    return found.assign(claimed=pd.to_numeric(found["difference"]))


def ledger(params: dict, *rows: tuple, unit: str = "points") -> pd.DataFrame:
    return claims.ledger(params, make_claims(*rows, unit=unit), COUNTS)


def test_a_gain_beyond_noise_and_interval_is_supported(study, params):
    study("hourglass:full", "mpii", [80, 82])
    study("hourglass:flat", "mpii", [40, 41])
    found = ledger(params, (FULL, FLAT, "mpii", "PCKh@0.5", "0.3")).iloc[0]
    assert found["verdict"] == "supported"
    assert found["ours"] == pytest.approx(40.5)
    expected = seed_difference(*(find(params, entry, "mpii").keypoint_scores for entry in (FULL, FLAT)))
    assert (found["low"], found["gain"], found["high"]) == (expected.low, expected.gain, expected.high)
    assert (found["sd"], found["noise_floor"]) == (expected.sd, expected.noise_floor)
    assert found["gain"] == pytest.approx(40.5, abs=2), "the share among labelled keypoints"
    assert (found["seeds"], found["profile"], found["judged_by"]) == (2, "tiny", "PCKh@0.5")


@pytest.mark.parametrize(
    ("better", "worse", "noise_floor"),
    [([60, 60], [40, 70], 30 / math.sqrt(2)), ([45, 75], [40, 41], 29 / math.sqrt(2))],
    ids=["restless baseline", "restless network"],
)
def test_a_difference_within_the_spread_over_seeds_is_no_gain(study, params, better, worse, noise_floor):
    study("hourglass:full", "mpii", better)
    study("hourglass:flat", "mpii", worse)
    found = ledger(params, (FULL, FLAT, "mpii", "PCKh@0.5", "0.3")).iloc[0]
    assert found["gain"] < found["noise_floor"] == pytest.approx(noise_floor, abs=2)
    assert found["verdict"] == "undecided"


def test_only_seeds_of_both_sides_are_compared(study, params):
    study("hourglass", "mpii", [80, 10])
    study("hourglass:flat", "mpii", [40])
    found = ledger(params, (HOURGLASS, FLAT, "mpii", "PCKh@0.5", "0.3")).iloc[0]
    assert (found["seeds"], found["ours"], found["verdict"]) == (1, 40, "undecided")


def test_what_was_not_measured_is_not_run(study, params):
    study("hourglass", "mpii", [50, 60])
    rows = [
        (HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3"),
        (HOURGLASS, "hourglass_w48", "mpii", "PCKh@0.5", ""),
        (FULL, HOURGLASS, "mpii", "PCKh@0.5", "0.3"),
    ]
    found = ledger(params, *rows)
    assert found["verdict"].tolist() == ["not run"] * 3
    assert found[["ours", "gain", "low", "high", "noise_floor"]].isna().all().all()
    cells = claims.table(found)
    assert cells["ours"].tolist() == ["not run"] * 3
    assert not cells.map(lambda cell: "nan" in cell).any().any()


def test_average_precision_is_judged_by_recall_and_must_itself_rise(study, params):
    study("hourglass", "coco", [80, 81])
    study("hrnet", "coco", [40, 41])
    rows = (HOURGLASS, HRNET, "coco", "AP_det", "0.3"), (HOURGLASS, HRNET, "coco", "APM_det", "1")
    whole, medium = ledger(params, *rows).to_dict("records")
    assert (whole["verdict"], whole["judged_by"]) == ("supported", "OKS recall")
    assert (medium["verdict"], medium["ours"]) == ("undecided", 40), "no interval can be taken of it"
    path = study_runs(params, "hourglass", "coco")[0].evaluation / "figures.csv"
    pd.read_csv(path).assign(value=10.0).to_csv(path, index=False)
    assert ledger(params, *rows).iloc[0]["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("better", "worse", "metric", "difference", "unit", "ours", "verdict"),
    [
        ("big", "small", "params (M)", "11.2", "M", 11.25, "supported"),
        ("big", "small", "params (M)", "11.26", "M", 11.25, "supported"),  # one unit of the last digit off
        ("big", "small", "params (M)", "11.27", "M", 11.25, "not supported"),
        ("big", "small", "params (M)", "11.31", "M", 11.25, "not supported"),
        ("big", "small", "MACs (G)", "", "G", 1, "not supported"),
        ("small", "big", "MACs (G)", "", "G", -1, "supported"),
        ("small", "big", "MACs (G)", "-25", "% or less", -25, "supported"),
        ("small", "big", "MACs (G)", "-26", "% or less", -25, "not supported"),
    ],
)
def test_sizes_are_answered_exactly(better, worse, metric, difference, unit, ours, verdict):
    found = ledger({}, (better, worse, "coco", metric, difference), unit=unit).iloc[0]
    assert (found["ours"], found["verdict"], found["profile"]) == (ours, verdict, "full size")


def test_cells_of_a_claim(study, params):
    study("hourglass:full", "mpii", [80, 82])
    study("hourglass:flat", "mpii", [40, 41])
    found = ledger(params, *((FULL, FLAT, "mpii", "Head", difference) for difference in ("0.30", "-0.3", "")))
    cells = claims.table(found)
    assert cells["paper"].tolist() == ["+0.30 Head", "-0.3 Head", "no figure (Head)"], "with the printed digits"
    row = found.iloc[0]
    shown = cells.iloc[0]
    assert shown["95 % over persons"] == f"{row['gain']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] Head"
    assert (shown["compared"], shown["ours"]) == ("hourglass:full with hourglass:flat", "+40.50 Head")
    assert (shown["seeds"], shown["verdict"]) == ("2", "**supported**")


def test_every_claim_is_counted_once(study, params):
    study("hourglass:full", "mpii", [80, 82])
    study("hourglass:flat", "mpii", [40, 41])
    sides = (FULL, FLAT), (FLAT, FULL), (HOURGLASS, FLAT)
    found = ledger(params, *((better, worse, "mpii", "PCKh@0.5", "0.3") for better, worse in sides))
    assert claims.answer(found) == "Of 3 gains in accuracy: 1 supported, 1 not supported, 0 undecided, 1 not run."
    assert claims.tally(found).loc[("accuracy", "c")].tolist() == [1, 1, 0, 1]


def test_sizes_are_counted_apart():
    verdicts = {"metric": ["params (M)", "Head", "Head"], "paper": ["b", "b", "a"], "verdict": ["supported"] * 3}
    found = claims.tally(pd.DataFrame(verdicts))
    assert found.index.tolist() == [("accuracy", "b"), ("accuracy", "a"), ("size", "b")], "papers in their order"
    assert found["supported"].tolist() == [1, 1, 1]


def test_undecided_for_want_of_seeds_is_counted_and_said(study, params):
    row = (FULL, FLAT, "mpii", "PCKh@0.5", "0.3")
    network = (HOURGLASS, HRNET, "coco", "AP_det", "0.3")
    no_interval = (HOURGLASS, HRNET, "coco", "APM_det", "0.3")
    for entry, dataset, value in ((FULL, "mpii", 60), (FLAT, "mpii", 40), (HOURGLASS, "coco", 80), (HRNET, "coco", 40)):
        study(entry, dataset, [value])
    answer = claims.answer(ledger(params, row, row, network, no_interval))
    assert "Of 4 undecided, 3 have a single seed" in answer
    assert "`ablation_seeds: [0, 1, 2]` and `seeds: [0, 1, 2]`" in answer
    assert "`seeds" not in claims.answer(ledger(params, row))
    study("hourglass:full", "mpii", [50, 50])
    study("hourglass:flat", "mpii", [40, 70])
    found = ledger(params, row)
    assert found["verdict"].tolist() == ["undecided"]
    assert "seed" not in claims.answer(found), "two seeds, and still undecided"


def test_a_claim_says_by_whose_recipe_it_was_trained(study, params):
    params["profiles"]["tiny"]["paper_recipes"] = {"hourglass": {"epochs": 1}}
    for entry, dataset in ((FULL, "mpii"), (FLAT, "mpii"), (HOURGLASS, "coco"), (HRNET, "coco")):
        study(entry, dataset, [60])
    found = ledger(params, (FULL, FLAT, "mpii", "Head", "0.3"), (HOURGLASS, HRNET, "coco", "Head", "0.3"))
    assert found["training"].tolist() == ["1 epoch by the paper's own optimizer and scaled schedule", "1 epoch"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.assign(id="c-0"), "claims.csv: id c-0 is there twice"),
        (lambda c: c.assign(difference="much"), "claims.csv: c-0: difference 'much' is no number"),
        (lambda c: c.assign(worse="a:b:c"), "claims.csv: entry 'a:b:c' is neither network nor network:row"),
        (lambda c: c.drop(columns="unit"), "expected are id, paper"),
    ],
)
def test_a_broken_table_of_claims_is_refused(tmp_path, change, message):
    row = (HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3")
    change(make_claims(row, row)[[*COLUMNS]]).to_csv(tmp_path / "claims.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "claims.csv")


def test_the_papers_claims_are_about_entries_that_exist_and_follow_from_the_printed_figures():
    ablations = load_params(ROOT / "params.yaml")["ablations"]
    printed = papers.read_results(ROOT / "data/paper_results.csv")
    rows = {f"{paper}:{row}" for paper, ablation in ablations.items() for row in ablation["rows"]}
    for claim in read_claims(ROOT / "data/claims.csv").itertuples():
        assert {claim.better, claim.worse} <= rows | set(printed["entry"]), claim.id
        if claim.unit != "points" or not claim.difference or "control" in claim.source:
            continue
        table = printed[(printed["paper"] == claim.paper) & (printed["metric"] == claim.metric)]
        table = table[table["dataset"] == claim.dataset]
        numbers = [table.loc[table["entry"] == entry, "value"] for entry in (claim.better, claim.worse)]
        differences = {round(float(a) - float(b), 3) for a in numbers[0] if a for b in numbers[1] if b}
        assert claim.claimed in differences, claim.id
