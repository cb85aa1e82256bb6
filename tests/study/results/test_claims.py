import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpelib.metrics.statistics import (
    NOT_RUN,
    NOT_TESTABLE,
    NOTHING,
    OPPOSITE,
    SEEN,
    SMALLER,
    detectable,
    persons_needed,
    seeds_needed,
)
from hpelib.study.config import load_params, study_runs
from hpelib.study.results import claims, papers
from hpelib.study.results.claims import COLUMNS, COUNTED, COUNTED_OTHERWISE, read_claims
from hpelib.study.results.comparisons import Study
from hpelib.study.tools.power import power

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
    return claims.ledger(Study(params), make_claims(*rows, unit=unit), COUNTS)


def test_verdicts_follow_from_the_comparison(study, params):
    study(FULL, "mpii", [80, 80.1])
    study(FLAT, "mpii", [40, 40.1])
    study(HOURGLASS, "mpii", [60, 60.1])
    study(HRNET, "mpii", [60.05, 60.05])
    rows = [
        (FULL, FLAT, "mpii", "PCKh@0.5", "0.3"),
        (FLAT, FULL, "mpii", "PCKh@0.5", "0.3"),
        (HOURGLASS, HRNET, "mpii", "PCKh@0.5", "40"),
        (HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3"),
        (HOURGLASS, HRNET, "coco", "AP_det", "0.3"),
        (HOURGLASS, HRNET, "mpii", "AUC", "0.3"),
    ]
    found = ledger(params, *rows)
    wanted = [SEEN, OPPOSITE, SMALLER, NOTHING, NOT_RUN, NOT_TESTABLE]
    assert found["verdict"].tolist() == wanted
    assert found["ours"].tolist()[:4] == pytest.approx([40, -40, 0, 0])
    expected = Study(params).compare(FULL, FLAT, "mpii", "PCKh@0.5")
    row = found.iloc[0]
    assert row["detectable"] == pytest.approx(
        detectable(row["picture_sd"], row["seed_sd"], row["freedom"], 2, tests=3)
    ), "three measurements are tested"
    assert found.iloc[0][["low", "high", "p"]].tolist() == pytest.approx([expected[n] for n in ("low", "high", "p")])
    text = claims.answer(found)
    assert "6 differences in accuracy (5 measurements; 1 claim repeats one of them)" in text
    assert "3 could be tested at this size: 1 seen, 1 opposite, 1 smaller than claimed." in text
    assert "1 cannot be judged (1 because this study does not measure AUC); 1 compares networks" in text
    assert claims.table(found)["id"].tolist()[2:4] == ["c-2", "c-3 (= c-2)"]
    assert (
        "### Smaller than claimed\n\nA true gain as large as claimed would probably have shown otherwise"
        in claims.page(found)
    )
    tested = found["detectable"].iloc[:3]
    assert f"{tested.median():.1f} points to be detected three times in five" in claims.detectable(found)
    (row,) = claims.detectable_table(found).itertuples()
    assert (row.tested, row.claimed, row.seeds, row.persons) == (3, 0.3, 2, 20)


def test_one_measurement_is_tested_and_counted_once_and_controls_stand_apart(study, params):
    study(FULL, "mpii", [52, 52])
    study(FLAT, "mpii", [40, 40])
    once = FULL, FLAT, "mpii", "PCKh@0.5"
    single, twice = ledger(params, (*once, "0.3")), ledger(params, (*once, "0.3"), (*once, "0.5"))
    assert twice["p_holm"].tolist() == [single["p"].iloc[0]] * 2, "one test, however many claims read it"
    both = ledger(params, (*once, "0.3"), (FULL, FLAT, "mpii", "Knee", "0.3"))
    assert both["p_holm"].max() >= 2 * both["p"].min() or both["p_holm"].max() == 1
    assert claims.tally(twice).to_numpy().sum() == 1
    control = make_claims((*once, ""), (*once, "0.3")).assign(kind=["control", "claim"])
    found = claims.ledger(Study(params), control, COUNTS)
    assert found["p_holm"].tolist() == found["p"].tolist(), "families of their own"
    assert claims.tally(found).to_numpy().sum() == 1
    assert "### Controls of ours: " in claims.page(found)


def test_claims_at_inputs_that_the_profile_tells_apart_are_two_measurements(study, params):
    study(HOURGLASS, "mpii", [80, 80.1])
    study(HRNET, "mpii", [40, 40.1])
    rows = make_claims(*[(HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3")] * 2).assign(input=["32x32", "48x48"])
    alike = claims.ledger(Study(params), rows, COUNTS)
    assert alike["measurement"].tolist() == ["c-0", "c-0"]
    networks = params["profiles"]["tiny"]["networks"]
    networks |= {f"{name}_48": networks[name] for name in (HOURGLASS, HRNET)}
    params["networks"] += ["hourglass_48", "hrnet_48"]
    study("hourglass_48", "mpii", [60, 60.1])
    study("hrnet_48", "mpii", [60, 60.2])
    found = claims.ledger(Study(params), rows, COUNTS)
    assert found["measurement"].tolist() == ["c-0", "c-1"]
    assert found["better_at"].tolist() == [HOURGLASS, "hourglass_48"]
    assert found["p_holm"].tolist() == pytest.approx([2 * found["p"].iloc[0], found["p"].iloc[1]])
    assert claims.tally(found).to_numpy().sum() == 2
    assert "2 differences in accuracy; " in claims.answer(found), "nothing is repeated"


def test_a_measurement_counts_for_the_claim_that_was_tested(study, params):
    study(HOURGLASS, "mpii", [80, 80.1])
    study(HRNET, "mpii", [40, 40.1])
    alive = "seed,mechanism,units,alive_share,person_share,state\n0,gate,8,0,0,constant\n1,gate,8,0,0,constant\n"
    (study_runs(params, HOURGLASS, "mpii")[0].evaluation / "liveness.csv").write_text(alive)
    rows = make_claims(*[(HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3")] * 2).assign(needs=["gate", ""])
    found = claims.ledger(Study(params), rows, COUNTS)
    assert found["measurement"].tolist() == ["c-1", "c-1"]
    assert claims.tally(found)[SEEN].tolist() == [1]


def test_where_nothing_can_be_judged_the_reasons_are_counted(study, params):
    study(HOURGLASS, "mpii", [80])
    study(HRNET, "mpii", [40])
    pair = HOURGLASS, HRNET, "mpii"
    rows = [(*pair, "PCKh@0.5", "0.3"), (*pair, "Head", "0.3"), (*pair, "AUC", "1"), (FULL, FLAT, "mpii", "Head", "1")]
    found = ledger(params, *rows)
    text = claims.answer(found)
    assert "4 differences in accuracy; none could be tested" in text
    assert "3 cannot be judged (2 for one seed, 1 because this study does not measure AUC); 1 compares" in text
    assert claims.detectable(found) == ""


def test_one_size_as_counted_is_a_singular():
    found = ledger({}, ("big", "small", "coco", "params (M)", "11.25"), ("big", "small", "coco", "MACs (G)", "5"))
    assert claims.size_answer(found) == "Of 2 claims about parameters and compute, 1 is as counted here."


def test_a_claim_of_a_mechanism_that_is_off_is_not_tested(study, params):
    study(HOURGLASS, "mpii", [80, 82])
    study(HRNET, "mpii", [40, 41])
    folder = study_runs(params, HOURGLASS, "mpii")[0].evaluation
    alive = "seed,mechanism,units,alive_share,person_share,state\n0,gate,8,0,0,constant\n1,gate,8,0,0,constant\n"
    (folder / "liveness.csv").write_text(alive)
    rows = make_claims((HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3")).assign(needs="gate")
    found = claims.ledger(Study(params), rows, COUNTS).iloc[0]
    assert (found["verdict"], found["reason"]) == (NOT_TESTABLE, "gate: constant under 2 of 2 seeds")
    assert np.isnan(found["p_holm"])
    assert "1 cannot be judged (1 because gate is constant)." in claims.answer(found.to_frame().T)


@pytest.mark.parametrize(
    ("better", "worse", "metric", "difference", "unit", "ours", "verdict"),
    [
        ("big", "small", "params (M)", "11.2", "M", 11.25, COUNTED),
        ("big", "small", "params (M)", "11.26", "M", 11.25, COUNTED),  # one unit of the last digit off
        ("big", "small", "params (M)", "11.27", "M", 11.25, COUNTED_OTHERWISE),
        ("big", "small", "params (M)", "11.31", "M", 11.25, COUNTED_OTHERWISE),
        ("big", "small", "MACs (G)", "", "G", 1, COUNTED_OTHERWISE),
        ("small", "big", "MACs (G)", "", "G", -1, COUNTED),
        ("small", "big", "MACs (G)", "-25", "% or less", -25, COUNTED),
        ("small", "big", "MACs (G)", "-26", "% or less", -25, COUNTED_OTHERWISE),
    ],
)
def test_sizes_are_answered_exactly(better, worse, metric, difference, unit, ours, verdict):
    found = ledger({}, (better, worse, "coco", metric, difference), unit=unit).iloc[0]
    assert (found["ours"], found["verdict"], found["profile"]) == (ours, verdict, "full size")


def test_cells_of_a_claim(study, params):
    study(FULL, "mpii", [80, 82])
    study(FLAT, "mpii", [40, 41])
    found = ledger(params, *((FULL, FLAT, "mpii", "Head", difference) for difference in ("0.30", "-0.3", "")))
    cells = claims.table(found)
    assert len(cells.columns) <= 8
    assert cells["paper"].tolist() == ["+0.30", "-0.3", "no figure"], "with the printed digits"
    row, shown = found.iloc[0], cells.iloc[0]
    assert shown["ours"] == f"+40.50 [{row['low']:+.2f}, {row['high']:+.2f}]"
    assert (shown["compared"], shown["figure"]) == ("hourglass:full with hourglass:flat", "Head, mpii")
    assert (shown["detectable"], shown["p (Holm)"]) == (f"{row['detectable']:.1f}", f"{row['p_holm']:.3f}")
    missing = claims.table(ledger(params, (HOURGLASS, HRNET, "mpii", "PCKh@0.5", "0.3"))).iloc[0]
    assert (missing["ours"], missing["detectable"]) == ("", "")
    assert missing["reason"].startswith("hourglass on mpii: not run yet (`make study PROFILE=tiny`)")


def test_power_is_of_the_variances_that_were_measured(study, params):
    study(FULL, "mpii", [80, 82])
    study(FLAT, "mpii", [40, 41])
    found = ledger(params, (FULL, FLAT, "mpii", "PCKh@0.5", "0.3"), (FULL, FLAT, "mpii", "PCKh@0.5", "5"))
    row = found.iloc[0]
    small, large = claims.power_table(found).to_dict("records")
    assert (small["claimed"], large["claimed"]) == (0.3, 5)
    assert math.isinf(small["persons, 10 seeds"]), "seeds alone hide it"
    expected = persons_needed(5, row["picture_sd"] * 20**0.5, row["seed_sd"], 10)
    assert large["persons, 10 seeds"] == expected
    own = power(found, 5.0, "mpii", "PCKh@0.5").iloc[0]
    assert own["persons, 10 seeds"] == expected
    with pytest.raises(ValueError, match="no difference of AP_gt on coco was tested; tested are: PCKh@0"):
        power(found, 5.0, "coco", "AP_gt")
    noisy = found.iloc[[1]].assign(seed_sd=99.0, id="other", measurement="other", verdict=NOT_TESTABLE)
    beside = pd.concat([found, noisy])
    pd.testing.assert_frame_equal(claims.power_table(beside), claims.power_table(found))
    assert power(beside, 5.0, "mpii", "PCKh@0.5").iloc[0].equals(own), "what was not tested says nothing of its noise"


def test_claims_of_time_are_no_differences_in_accuracy(study, params):
    study(FULL, "mpii", [50, 54, 56])
    study(FLAT, "mpii", [49, 53, 57])
    found = ledger(params, (FULL, FLAT, "mpii", "PCKh@0.5", "4"), (FULL, FLAT, "mpii", claims.TIME, "-3"))
    assert "1 difference in accuracy" in claims.answer(found)
    assert claims.tally(found).to_numpy().sum() == 1
    assert "### Speed: not measured by this study" in claims.page(found)


def test_what_would_decide_is_worked_out_for_the_real_val_split(study, params):
    study(FULL, "mpii", [50, 54, 56])
    study(FLAT, "mpii", [49, 53, 57])
    found = ledger(params, (FULL, FLAT, "mpii", "PCKh@0.5", "4"), (FULL, FLAT, "mpii", "Head", "0"))
    row = found.iloc[0]
    (line,) = claims.to_decide(found).to_dict("records")
    seeds = seeds_needed(4, row["picture_sd"] * (row["persons"] / 2958) ** 0.5, row["seed_sd"], tests=2)
    assert 3 < seeds < 100
    assert (line["gains left open"], line["seeds a side"], line["trainings"]) == (1, str(seeds), str(2 * seeds))
    (hidden,) = claims.to_decide(found.assign(claimed=0.001)[:1]).to_dict("records")
    assert hidden["seeds a side"] == "more persons are needed"
    assert claims.to_decide(found.assign(verdict="seen")).empty


def test_what_a_new_seed_changes_is_shown_network_by_network(study, params):
    params["all_datasets"] = ["mpii", "coco"]
    study(HOURGLASS, "mpii", [50, 60])
    study(HRNET, "mpii", [50])
    found = claims.seed_spread(Study(params))
    assert found.loc[HOURGLASS, "PCKh@0.5, mpii"] == pytest.approx(math.sqrt(50))
    assert np.isnan(found.loc[HRNET, "PCKh@0.5, mpii"])
    assert found["AP_gt, coco"].isna().all()


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
