from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hpelib.study.config import load_params, make_run, profile_params, study_runs
from hpelib.study.entries import COUNTS
from hpelib.study.evaluation import save
from hpelib.study.results import claims, headlines, papers
from hpelib.study.results.comparisons import Study
from hpelib.study.results.measurements import entry_at
from hpelib.study.results.papers import COLUMNS, NO_STUDY, read_results, table

ROOT = Path(__file__).resolve().parents[3]
NOTHING_COUNTED = pd.DataFrame(columns=["entry", "dataset", "input", *COUNTS])


def make_results(*rows: tuple[str, ...], dataset: str = "mpii") -> pd.DataFrame:
    """Rows of row, entry, metric, value, of one table."""
    kinds = {True: "network", False: "quoted"}
    lines = [
        ("ditn", "2", "val", row, kinds[bool(entry)], entry, dataset, "val", "64x64", metric, value, "")
        for row, entry, metric, value in rows
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def measure(params: dict, *rows: tuple[str, ...], counts: pd.DataFrame = NOTHING_COUNTED, dataset: str = "mpii"):
    return papers.measure(Study(params), make_results(*rows, dataset=dataset), counts)


def test_ours_stands_beside_the_printed_figure_and_never_in_its_place(study, params):
    study("hourglass", "mpii", [50, 60])
    measured = measure(
        params,
        ("Newell et al.", "hourglass", "Head", "96.50"),
        ("Newell et al.", "hourglass", "PCKh@0.5", "89.2"),
        ("Yang et al.", "", "Head", "96.8"),
        ("Yang et al.", "", "PCKh@0.5", ""),
        ("HRNet", "hrnet", "Head", ""),
        ("HRNet", "hrnet", "PCKh@0.5", "90.3"),
    )
    assert measured["ours"].dropna().tolist() == [55, 55]
    assert measured["seeds"].dropna().tolist() == [2, 2]
    interval = measured.iloc[1]
    assert interval["low"] < interval["high"]
    cells = table(measured).set_index("row")
    assert list(cells.index) == ["Newell et al.", "*Yang et al. (quoted)*", "HRNet"]
    assert cells["Head, paper"].tolist() == ["96.50", "*96.8*", ""], "with the digits that are printed"
    assert cells["Head, ours"].tolist() == ["55.0 ± 7.1", "", "not run"]
    ours = f"55.0 ± 7.1 [{interval['low']:.1f}, {interval['high']:.1f}]"
    assert cells["PCKh@0.5, ours"].tolist() == [ours, "", "not run"]


def test_rows_of_ablations_are_marked_and_trained_by_their_papers_recipe(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass:full", "mpii", [55])
    params["profiles"]["tiny"]["paper_recipes"] = {"hourglass": {"epochs": 1}}
    rows = ("network", "hourglass", "Head", "96.5"), ("all parts", "hourglass:full", "Head", "97")
    measured = measure(params, *rows, ("none", "hourglass:flat", "Head", "96"))
    own = "1 epoch by the paper's own optimizer and scaled schedule"
    assert measured["training"].tolist()[:2] == ["1 epoch", own]
    assert own in measured["run"].iloc[1]
    cells = table(measured)
    assert cells["row"].tolist() == ["network", "all parts †", "none"]
    assert cells["Head, ours"].tolist() == ["55.0 ± 7.1", "55.0", "not run"]


def test_average_precision_has_its_own_interval(study, params):
    study("hourglass", "coco", [50, 60])
    rows = ("a", "hourglass", "AP_det", "66.9"), ("b", "hrnet", "AP_det", "70")
    measured = measure(params, *rows, dataset="coco")
    found = measured.iloc[0]
    expected = Study(params).interval("hourglass", "coco", "AP_det")
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    cells = table(measured)
    assert cells["AP_det, ours"].tolist() == [f"55.0 ± 7.1 [{expected.low:.1f}, {expected.high:.1f}]", "not run"]


def test_sizes_are_those_that_were_counted(study, params):
    counts = pd.DataFrame([("big", "mpii", "64x64", 25.4937, 5.0, 8.9)], columns=NOTHING_COUNTED.columns)
    rows = ("SimpleBaseline", "big", "params (M)", "34"), ("SimpleBaseline", "big", "GFLOPs", "")
    cells = table(measure(params, *rows, ("CPN", "", "GFLOPs", "6.2"), counts=counts)).set_index("row")
    assert cells.loc["SimpleBaseline"].to_dict() == {
        "params (M), paper": "34",
        "params (M), ours": "25.49",
        "GFLOPs, paper": "",
        "MACs (G), ours": "5.000",
        "legacy GFLOPs, ours": "8.900",
        "note": "",
    }
    assert cells.loc["*CPN (quoted)*"].tolist() == ["", "", "*6.2*", "", "", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.assign(kind="ours"), "line 2: kind='ours' is none of 'network', 'quoted'"),
        (lambda r: r.assign(entry=""), r"line 2 \(a\): a network has an entry"),
        (lambda r: r.assign(entry=":b"), r"results.csv: entry ':b' is neither network nor network:row"),
        (lambda r: r.drop(columns="note"), "expected are paper, table"),
    ],
)
def test_a_broken_table_of_results_is_refused(tmp_path, change, message):
    change(make_results(("a", "hrnet", "Head", "1"))).to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "results.csv")


def test_the_papers_tables_hold_every_row_of_the_ablations_and_possible_values():
    ablations = load_params(ROOT / "params.yaml")["ablations"]
    results = read_results(ROOT / "data/paper_results.csv")
    known = {f"{paper}:{row}" for paper, ablation in ablations.items() for row in ablation["rows"]}
    assert {entry for entry in results["entry"] if ":" in entry} == known
    assert set(results["paper"]) == set(ablations)
    assert not results.duplicated(["paper", "table", "title", "row", "entry", "metric"]).any()
    values = pd.to_numeric(results.loc[results["value"] != "", "value"])
    accuracy = ~results.loc[values.index, "metric"].isin([*papers.PRINTED_SIZES, papers.TIME])
    assert values.gt(0).all()
    assert values[accuracy].between(50, 100).all()


def test_every_training_says_whether_its_mechanisms_act(study, params):
    study("hourglass", "coco", [50, 60])
    study("hourglass:full", "mpii", [55])
    evaluation = Study(params).find("hourglass", "coco")
    seen = [(0, "a_gate", 8, 0.5, 0.25, "acts"), (1, "a_gate", 8, 0.0, 0.0, "constant")]
    alive = pd.DataFrame(seen, columns=evaluation.liveness.columns)
    save(replace(evaluation, liveness=alive), study_runs(params, "hourglass", "coco")[0].evaluation)
    counts = Path("work/tiny/sizes/counts.csv")
    counts.parent.mkdir(parents=True)
    NOTHING_COUNTED.to_csv(counts, index=False)
    assert "does not say that it is used or helps" in papers.Paper(params, "hourglass").acting()
    (row,) = papers.acting(Study(params), "hourglass").to_dict("records")
    assert list(row.values()) == ["hourglass on coco", "a gate", "acts or constant", "8", "25%", "12.5%", "2"]


def test_a_row_is_measured_at_its_input_where_the_profile_has_that(study, params):
    study("hourglass", "mpii", [50, 60])
    row = ("whole", "hourglass", "PCKh@0.5", "96.5")
    assert measure(params, row)["ours"].tolist() == [55]
    params["profiles"]["tiny"]["networks"]["hourglass_64"] = params["profiles"]["tiny"]["networks"]["hourglass"]
    assert measure(params, row)["ours"].isna().all(), "the row's input is 64x64, which is not run"


def test_a_figure_stands_once_in_a_table_and_says_at_which_input_it_is(study, params):
    study("hourglass", "mpii", [50, 60])
    rows = make_results(("small", "hourglass", "Head", "96"), ("large", "hourglass", "Head", "97"))
    measured = papers.measure(Study(params), rows.assign(input=["64x64", "96x96"]), NOTHING_COUNTED)
    assert measured["ours"].notna().tolist() == [True, False]
    cells = table(measured)
    assert cells["Head, ours"].tolist() == ["55.0 ± 7.1", ""]
    assert cells["note"].tolist() == ["", "ours: 48x32 for both inputs, see above"]
    other = papers.measure(Study(params), rows.assign(input=["64x64", "96x96"], table=["2", "3"]), NOTHING_COUNTED)
    assert other["ours"].tolist() == [55, 55], "each table has its own"


def test_an_undefined_figure_is_not_called_not_run(study, params):
    study("hourglass", "mpii", [50, 60])
    folder = study_runs(params, "hourglass", "mpii")[0].evaluation
    evaluation = Study(params).find("hourglass", "mpii")
    figures = evaluation.figures
    figures.loc[figures["metric"] == "Knee", "value"] = float("nan")
    save(replace(evaluation, figures=figures), folder)
    rows = ("a", "hourglass", "Knee", "96"), ("a", "hourglass", "AUC", "60"), ("b", "hrnet", "Knee", "97")
    cells = table(measure(params, *rows)).set_index("row")
    assert cells["Knee, ours"].to_dict() == {"a": "undefined", "b": "not run"}
    assert cells.loc["a", "AUC, ours"] == "not measured"


def test_the_profile_paper_has_every_network_of_the_tables_of_hrnet_de_hrnet_and_ditn():
    params = load_params(ROOT / "params.yaml") | {"profile": "paper"}
    results = read_results(ROOT / "data/paper_results.csv")
    rows = results[results["paper"].isin(["de_hrnet", "ditn"]) & (results["kind"] == "network")]
    whole = rows[~rows["entry"].str.contains(":")].itertuples()
    needed = {entry_at(params, row.entry, row.input) for row in whole}
    assert needed <= profile_params(params)["networks"].keys()
    inputs = {name: make_run(params, name, "coco", 0).inputs for name in ("hrnet_384", "de_hrnet_w48_384")}
    assert {(found.input_size, found.sigma) for found in inputs.values()} == {((288, 384), 3.0)}


def test_a_paper_without_a_study_says_what_makes_one(study, params, tmp_path):
    paper = papers.Paper(params, "hourglass")
    assert {paper.answer(), paper.claims(), paper.acting(), paper.ablation(), paper.tables(tmp_path)} == {NO_STUDY}
    assert "make study" in NO_STUDY
    assert not (tmp_path / "tables.csv").exists()


def test_a_paper_with_a_study_shows_its_own_rows_only(study, params, tmp_path, monkeypatch):
    study("hourglass", "mpii", [50, 60])
    counts = tmp_path / "work/tiny/sizes/counts.csv"
    counts.parent.mkdir(parents=True)
    NOTHING_COUNTED.to_csv(counts, index=False)
    monkeypatch.setattr(papers, "read_results", lambda: make_results(("ours", "hourglass", "Head", "96.5")))
    assert papers.Paper(params, "hourglass").tables(tmp_path).strip() == ""
    assert papers.Paper(params, "hourglass").ablation().startswith("Not run under this profile")
    assert "|" not in papers.Paper(params, "hourglass").ablation()
    study("hourglass:flat", "mpii", [40])
    assert "`widths` is `[8, 4]`" in papers.Paper(params, "hourglass").ablation()
    text = papers.Paper(params, "ditn").tables(tmp_path)
    assert "### Table 2: val" in text
    assert pd.read_csv(tmp_path / "tables.csv")["ours"].tolist() == [55]


def test_a_page_starts_with_what_was_measured_before_it_counts_claims(study, params, monkeypatch):
    study("hrnet", "mpii", [70])
    study("hourglass", "mpii", [60])
    params["all_datasets"] = params["datasets"] = ["mpii"]
    counts = Path("work/tiny/sizes/counts.csv")
    counts.parent.mkdir(parents=True)
    NOTHING_COUNTED.to_csv(counts, index=False)
    claim = dict.fromkeys((*claims.COLUMNS, "claimed"), "")
    claim |= {"paper": "hrnet", "kind": "claim", "better": "hrnet", "worse": "hourglass", "dataset": "mpii"}
    claim |= {"id": "hrnet-01", "metric": "Head", "input": "64x64", "difference": "0.3", "claimed": 0.3}
    monkeypatch.setattr(claims, "read_claims", lambda: pd.DataFrame([claim]))
    monkeypatch.setattr(headlines, "baselines", lambda: {"hrnet": "hourglass"})
    first, second = papers.Paper(params, "hrnet").answer().split("\n\n")
    assert "one seed: hrnet 70.0, hourglass 60.0 (+10.0 PCKh@0.5). One seed gives no verdict." in first
    assert "1 cannot be judged (1 for one seed)." in second
