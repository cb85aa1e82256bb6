"""Counts of the networks of the papers, against what the papers print and what the official models have."""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch

from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.study.config import load_params
from hpelib.study.entries import ENTRY
from hpelib.study.results.sizes import measure
from hpelib.study.steps.count import count, count_ratios, read_entries, read_printed

DATA = Path(__file__).resolve().parents[3] / "data"
NARROW = '{"width": 8, "depths": [1, 1, 1, 1], "deconv_widths": [16, 16, 16]}'
ROWS = {"thin": {"options": json.loads(NARROW)}}
PARAMS = {"profiles": {}, "ablations": {"simple_baseline": {"datasets": ["mpii"], "rows": ROWS}}}
ROW = {
    "paper": "Anon.",
    "table": "Table 1",
    "row": "ours",
    "kind": "printed",
    "model": "simple_baseline_resnet34",
    "options": NARROW,
    "module": "all",
    "keypoints": "17",
    "input_width": "64",
    "input_height": "96",
    "printed_params_M": "0.1",
    "printed_gflops": "0.5",
    "printed_unit": "MACs / 1e9",
    "note": "",
}


@pytest.fixture
def write_table(tmp_path):
    def write(*changes):
        pd.DataFrame([ROW | change for change in changes]).to_csv(tmp_path / "sizes.csv", index=False)
        return tmp_path / "sizes.csv"

    return write


def test_a_row_is_read_with_its_input_and_what_is_not_printed_stays_unknown(write_table):
    table = read_printed(write_table({}, {"row": "None", "printed_gflops": "", "printed_unit": ""}))
    assert table["input"].tolist() == ["96x64"] * 2
    assert table["row"].tolist() == ["ours", "None"]
    assert table["note"].tolist() == table["printed_unit"].tolist()[1:] * 2 == ["", ""]
    np.testing.assert_array_equal(table["printed_gflops"], [0.5, np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gflops": "8.9"}, "unknown or missing columns gflops"),
        ({"options": "{width: 8}"}, r"line 3 \(Anon\., ours\): options '{width: 8}' are no JSON object"),
        ({"options": "[8]"}, r"line 3 .*'\[8\]' are no JSON object"),
        ({"kind": "guess"}, "line 3 .*kind='guess' is none of 'printed', 'reading'"),
        ({"printed_unit": "FLOPs"}, "line 3 .*printed_unit='FLOPs' is none of 'MACs / 1e9'"),
        ({"printed_gflops": ""}, "line 3 .*printed_unit='MACs / 1e9' is none of ''"),
    ],
)
def test_bad_tables_are_refused_by_name(write_table, change, message):
    with pytest.raises(ValueError, match=message):
        read_printed(write_table({}, change))


def test_missing_columns_are_named(write_table):
    path = write_table({})
    pd.read_csv(path).drop(columns="options").to_csv(path, index=False)
    with pytest.raises(ValueError, match="missing columns options"):
        read_printed(path)


@pytest.fixture
def read_rows(write_table):
    return lambda *changes: read_printed(write_table(*changes))


@pytest.fixture
def entries(tmp_path):
    """`entries(rows)` reads entries from a table of papers' results, and from no claims."""

    def read(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
        columns = [*ENTRY, "metric", "kind"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "results.csv", index=False)
        pd.DataFrame(columns=["better", "worse", *ENTRY[1:], "metric"]).to_csv(tmp_path / "claims.csv", index=False)
        return read_entries(PARAMS, tmp_path / "claims.csv", tmp_path / "results.csv")

    return read


@pytest.fixture(scope="module")
def sizes() -> pd.DataFrame:
    """Every printed row, and the one of SADI-Net that predicts."""
    printed = read_printed(DATA / "paper_sizes.csv").query("kind == 'printed' or row == 'RFM'")
    return measure(count(printed).assign(entry=""))


def narrow_cost(size: tuple[int, int] = (64, 96)):
    return complexity(create_model("simple_baseline_resnet34", 17, **json.loads(NARROW)), size)


def test_counts_are_those_of_the_untouched_network(read_rows):
    spaced = {"options": NARROW.replace(" ", "")}
    with patch("hpelib.study.steps.count.complexity", wraps=complexity) as counter:
        found = count(read_rows({}, {"input_height": "64"}, spaced, {"module": "layer1"}))
    sizes = [call.args[1] for call in counter.call_args_list]
    assert sizes == [(64, 96), (64, 64)], "each network once at each input (width, height), however it is written"
    cost, square = narrow_cost(), narrow_cost((64, 64))
    assert found["params (M)"][0] * 1e6 == pytest.approx(cost.params)
    assert found["MACs (G)"].tolist()[:3] == [cost.macs / 1e9, square.macs / 1e9, cost.macs / 1e9]
    assert found["legacy GFLOPs"].tolist()[:3] == [cost.legacy_gflops, square.legacy_gflops, cost.legacy_gflops]
    assert found["MACs (G)"][3] == cost.macs_by_module["layer1"] / 1e9
    assert pd.isna(found["legacy GFLOPs"][3])


def test_a_module_is_counted_without_the_others_named_after_it(read_rows):
    rows = read_rows(*({"module": module} for module in ("all", "layer1", "all - layer1")))
    whole, first, rest = count(rows)[["params (M)", "MACs (G)"]].to_numpy()
    assert rest == pytest.approx(whole - first)
    with pytest.raises(ValueError, match="module 'layer1 - neck': the network has no part neck"):
        count(read_rows({"module": "layer1 - neck"}))


def test_entries_are_counted_at_the_papers_size_for_the_keypoints_of_their_dataset(entries):
    names = ("simple_baseline_resnet34", "simple_baseline:thin")
    found = count(entries(*((name, "mpii", "96x64", "GFLOPs", "network") for name in names)))
    assert found[ENTRY].to_numpy().tolist() == [[name, "mpii", "96x64"] for name in names]
    networks = create_model(names[0], 16), create_model("simple_baseline_resnet50", 16, **json.loads(NARROW))
    costs = [complexity(network, (64, 96)) for network in networks]
    expected = [pytest.approx((cost.params / 1e6, cost.macs / 1e9)) for cost in costs]
    assert found[["params (M)", "MACs (G)"]].to_numpy().tolist() == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("hrnet", "cocoa", "96x64"), "hrnet: 'cocoa' is no dataset"),
        (("hrnet", "coco", ""), "hrnet: .*input '' is not like 256x192"),
        (("hrnet:", "coco", "96x64"), "entry 'hrnet:' is neither network nor network:row"),
    ],
)
def test_entries_that_cannot_be_counted_are_named(entries, entry, message):
    with pytest.raises(ValueError, match=message):
        entries((*entry, "params (M)", "network"))


def test_all_sizes_that_claims_and_tables_state_are_read_once():
    with patch("hpelib.study.steps.count.full_size", return_value=("any", {})):
        found = read_entries(PARAMS, DATA / "claims.csv", DATA / "paper_results.csv")
    have = set(found[ENTRY].itertuples(index=False, name=None))
    assert len(have) == len(found)
    claims = pd.read_csv(DATA / "claims.csv", dtype=str)
    claims = claims[claims["metric"].isin(["params (M)", "MACs (G)", "legacy GFLOPs"])]
    tables = pd.read_csv(DATA / "paper_results.csv", dtype=str)
    tables = tables[tables["metric"].isin(["params (M)", "GFLOPs"]) & (tables["kind"] == "network")]
    sides = [claims[["better", "dataset", "input"]], claims[["worse", "dataset", "input"]], tables[ENTRY]]
    assert have == {row for side in sides for row in side.itertuples(index=False, name=None)}


def find(sizes: pd.DataFrame, row: str, size: str) -> pd.Series:
    return sizes[(sizes["input"] == size) & (sizes["row"] == row)].iloc[0]


@pytest.mark.parametrize(
    ("row", "size", "column", "expected", "percent"),
    [
        ("DE-HRNet-W32", "384x288", "params (M)", 33.6, 0.5),
        ("DE-HRNet-W32", "384x288", "legacy GFLOPs", 17.7, 1),
        ("DE-HRNet-W48", "384x288", "params (M)", 74.8, 0.5),
        ("DITN-W32", "256x192", "params (M)", 28.6, 0.5),
        ("DITN-W32", "256x192", "legacy GFLOPs", 7.26, 1),
        ("ours", "256x192", "params (M)", 33, 5.5),
        ("ours", "256x192", "MACs (G)", 21.3, 1),
        ("ours", "384x288", "MACs (G)", 48.0, 1),
        ("DAUNet", "256x192", "params (M)", 38.6, 1),
        ("DAUNet", "256x192", "MACs (G)", 10.8, 1.5),
        ("RFM", "256x256", "params (M)", 62.5, 0.5),
        ("RFM", "256x256", "MACs (G)", 10.0, 0.5),
        ("8-stage hourglass", "256x192", "params (M)", 25.1, 2.5),
    ],
)
def test_networks_have_the_sizes_of_their_papers(sizes, row, size, column, expected, percent):
    assert find(sizes, row, size)[column] == pytest.approx(expected, rel=percent / 100)


@pytest.mark.parametrize(
    ("row", "size", "params_m", "macs_g", "legacy_gflops"),
    [  # the official models, counted by hooks on their layers
        ("pose_hrnet_w32", "256x192", 28.54, 7.65, 7.12),
        ("pose_hrnet_w32", "384x288", 28.54, 17.20, 16.02),
        ("pose_hrnet_w48", "256x192", 63.60, 15.69, 14.61),
        ("pose_hrnet_w48", "384x288", 63.60, 35.31, 32.88),
        ("pose_resnet_50", "256x192", 34.00, 5.43, 8.99),
        ("pose_resnet_50", "384x288", 34.00, 12.21, 20.23),
        ("pose_resnet_101", "256x192", 52.99, 9.06, 12.38),
        ("pose_resnet_101", "384x288", 52.99, 20.39, 27.85),
        ("pose_resnet_152", "256x192", 68.64, 12.70, 15.76),
        ("pose_resnet_152", "384x288", 68.64, 28.57, 35.47),
    ],
)
def test_baselines_have_the_sizes_of_the_official_models(sizes, row, size, params_m, macs_g, legacy_gflops):
    found = find(sizes, row, size)
    assert found["params (M)"] == pytest.approx(params_m, abs=0.01)
    assert found["MACs (G)"] == pytest.approx(macs_g, rel=0.005)
    assert found["legacy GFLOPs"] == pytest.approx(legacy_gflops, rel=0.005)


def test_printed_sizes_differ_little_in_their_unit(sizes):
    networks = sizes.query("module == 'all' and kind == 'printed'")
    assert networks["params_difference"].abs().max() < 5.5, "FR-SBN's, whose context blocks have a real bottleneck"
    assert networks["gflops_difference"].abs().max() < 1.5


def test_the_rows_of_table_8_are_ditn_whole(sizes):
    parts = sizes.query("paper == 'DITN' and module != 'all'")
    with torch.device("meta"):
        network = create_model("ditn_w32", 16)
    whole = complexity(network, (256, 256))
    assert parts["params (M)"].sum() * 1e6 == pytest.approx(whole.params)
    assert parts["MACs (G)"].sum() * 1e9 == pytest.approx(whole.macs)
    adapter, transfer = (parts[parts["row"] == name].iloc[0] for name in ("Parameter adapter", "Transfer module"))
    assert adapter["params (M)"] * 1e6 == pytest.approx(15 * 3 * 36)
    assert transfer["params (M)"] * 1e6 == pytest.approx(16 * 16)
    assert transfer["MACs (G)"] * 1e9 == pytest.approx(64 * 64 * (16 * 16 + 30 * 7 * 7))


@pytest.mark.parametrize("profile", ["quick", "standard"])  # night has the networks of quick, paper those of standard
def test_networks_of_a_profile_stand_to_each_other_as_at_full_size(profile):
    found = count_ratios(load_params(DATA.parent / "params.yaml") | {"profile": profile})
    assert len(found) == 12
    hourglasses = (found[["network", "than"]] == "hourglass").any(axis=1)  # one stack of eight: the page says so
    for figure in ("params", "MACs"):
        change = found[figure] / found[f"{figure}, full"]
        assert change[~hourglasses].between(0.75, 1.25).all(), found.assign(change=change)
        assert profile == "quick" or change.to_numpy() == pytest.approx(1, rel=0.01)
