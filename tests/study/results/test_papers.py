from pathlib import Path

import pandas as pd
import pytest
import yaml

from hpelib.study.results import claims
from hpelib.study.results.papers import COLUMNS, measure, page, read_results, table

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def make_results(*rows: tuple[str, ...]) -> pd.DataFrame:
    """Rows of row, entry, metric, value, of one table."""
    return pd.DataFrame(
        [
            (
                "ditn",
                "2",
                "MPII val",
                row,
                "network" if entry else "quoted",
                entry,
                "mpii",
                "val",
                "64x64",
                metric,
                value,
                "",
            )
            for row, entry, metric, value in rows
        ],
        columns=COLUMNS,
    )


def test_ours_stands_beside_the_printed_figure_and_never_in_its_place(study, params):
    study("hourglass", "mpii", [50, 60])
    results = make_results(
        ("Newell et al.", "hourglass", "Head", "96.50"),
        ("Newell et al.", "hourglass", "PCKh@0.5", "89.2"),
        ("Yang et al.", "", "Head", "96.8"),
        ("Yang et al.", "", "PCKh@0.5", ""),
        ("HRNet", "hrnet", "Head", ""),
        ("HRNet", "hrnet", "PCKh@0.5", "90.3"),
    )
    measured = measure(params, results)
    assert measured["ours"].dropna().tolist() == [55, 55]
    interval = measured.iloc[1]
    assert interval["low"] < interval["judged"] < interval["high"]
    cells = table(measured).set_index("row")
    assert cells["Head, paper"].tolist() == ["96.50", "*96.8*", ""], "with the digits that are printed"
    assert cells["Head, ours"].tolist() == ["55.0 ± 7.1", "", "not run"]
    assert cells["PCKh@0.5, ours"].tolist()[1:] == ["", "not run"]
    assert cells["PCKh@0.5, ours"].iloc[0] == f"55.0 ± 7.1 [{interval['low']:.1f}, {interval['high']:.1f}]"
    assert list(cells.index) == ["Newell et al.", "*Yang et al. (quoted)*", "HRNet"]


def test_rows_of_ablations_are_marked_and_explained(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass:full", "mpii", [55])
    params["profiles"]["tiny"]["paper_recipes"] = {"hourglass": {"epochs": 1}}
    results = make_results(
        ("Newell et al.", "hourglass", "Head", "96.5"),
        ("all parts", "hourglass:full", "Head", "97"),
        ("none", "hourglass:flat", "Head", "96"),
    )
    measured = measure(params, results)
    assert table(measured)["row"].tolist() == ["Newell et al.", "all parts †", "none"], "nothing was measured of `none`"
    own = "1 epoch by the paper's own optimizer and scaled schedule"
    note = f"† A row of the ablations: {own}, 1 seed (no ±); not comparable with the other rows: 1 epoch, 2 seeds."
    claim = ["ditn-1", "ditn", "Table 2", "it helps", "hrnet", "hourglass", "mpii", "", "Head", "0.5", "points"]
    ledger = claims.ledger(params, pd.DataFrame([claim], columns=claims.COLUMNS))
    text = page("ditn", measured, ledger)
    assert note in text
    assert "(../../../docs/ledger_ditn.md)" in text
    assert "†" not in page("ditn", measured.iloc[[0, 2]], ledger)
    alike = measured.assign(training=measured["training"].mask(measured["training"].notna(), "1 epoch"), seeds=2)
    assert "† A row of the ablations: 1 epoch, 2 seeds." in page("ditn", alike, ledger)


def test_average_precision_has_the_interval_of_recall(study, params):
    study("hourglass", "coco", [50, 60])
    results = make_results(("a", "hourglass", "AP_det", "66.9"), ("b", "hrnet", "AP_det", "70")).assign(dataset="coco")
    cells = table(measure(params, results))
    assert cells["AP_det, ours"].tolist() == ["55.0 ± 7.1", "not run"]
    assert cells["OKS recall, ours"].iloc[0].endswith("]")
    assert cells["OKS recall, ours"].iloc[1] == "not run"


def test_sizes_are_of_the_papers_networks(study, params):
    results = make_results(
        ("SimpleBaseline", "simple_baseline_resnet34", "params (M)", "34"),
        ("SimpleBaseline", "simple_baseline_resnet34", "GFLOPs", ""),
        ("CPN", "", "GFLOPs", "6.2"),
    )
    cells = table(measure(params, results)).set_index("row")
    assert list(cells.columns[2:5]) == ["GFLOPs, paper", "MACs (G), ours", "legacy GFLOPs, ours"]
    assert float(cells["params (M), ours"].iloc[0]) == pytest.approx(25.49, abs=0.01)
    assert cells.loc["*CPN (quoted)*"].tolist() == ["", "", "*6.2*", "", "", ""]


def test_a_page_says_what_was_measured_and_whether_the_gains_hold(study, params):
    study("hourglass", "mpii", [50, 60])
    results = make_results(("Newell et al.", "hourglass", "PCKh@0.5", "89.2"))
    claim = ["ditn-1", "ditn", "Table 2", "it helps", "hrnet", "hourglass", "mpii", "", "PCKh@0.5", "0.5", "points"]
    found = claims.ledger(params, pd.DataFrame([claim], columns=claims.COLUMNS))
    text = page("ditn", measure(params, results), found)
    assert "- mpii: 20 persons of the test split of noise, profile tiny" in text
    assert "## Table 2: MPII val" in text
    assert "Of 1 gains in accuracy: 0 supported, 0 not supported, 0 undecided, 1 not run." in text
    assert "stands in for val and test splits" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.assign(kind="ours"), "line 2: kind 'ours' is none of network, quoted"),
        (lambda r: r.assign(entry=""), r"line 2 \(a\): a network has an entry"),
        (lambda r: r.drop(columns="note"), "expected are paper, table"),
    ],
)
def test_a_broken_table_of_results_is_refused(tmp_path, change, message):
    change(make_results(("a", "hrnet", "Head", "1"))).to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "results.csv")


def test_every_row_of_the_ablations_is_in_its_papers_tables():
    results = read_results(ROOT / "data/paper_results.csv")
    entries = set(results["entry"])
    for paper, ablation in PARAMS["ablations"].items():
        assert {f"{paper}:{row}" for row in ablation["rows"]} <= entries
    assert set(results["paper"]) == set(PARAMS["ablations"])
    rows = {entry for entry in entries if ":" in entry}
    known = {f"{paper}:{row}" for paper, ablation in PARAMS["ablations"].items() for row in ablation["rows"]}
    assert rows == known


def test_printed_values_are_numbers_in_range():
    results = read_results(ROOT / "data/paper_results.csv")
    values = pd.to_numeric(results.loc[results["value"] != "", "value"])
    accuracy = ~results.loc[values.index, "metric"].isin(["params (M)", "GFLOPs"])
    assert values.gt(0).all()
    assert values[accuracy].between(50, 100).all()
    keys = ["paper", "table", "title", "row", "entry", "metric"]
    assert not results.duplicated(keys).any()
