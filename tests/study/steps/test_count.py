"""Counts of the networks of the papers, against what the papers print and what the official models have."""

import json
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
import torch

from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.study.counts import COUNTS, ENTRY, PART, read_printed
from hpelib.study.results.sizes import measure
from hpelib.study.steps.count import count, wanted_entries

DATA = Path(__file__).resolve().parents[3] / "data"
NOBODY = pd.DataFrame(columns=ENTRY)
NARROW = '{"width": 8, "depths": [1, 1, 1, 1], "deconv_widths": [16, 16, 16]}'
PARAMS = {"ablations": {"simple_baseline": {"dataset": "mpii", "rows": {"thin": {"options": json.loads(NARROW)}}}}}


def part(options: str = NARROW, module: str = "all", size: str = "96x64") -> dict:
    return dict(zip(PART, ("simple_baseline_resnet34", options, 17, module, size), strict=True))


def narrow_cost(size: tuple[int, int] = (64, 96)):
    return complexity(create_model("simple_baseline_resnet34", 17, **json.loads(NARROW)), size)


@pytest.fixture(scope="module")
def sizes() -> pd.DataFrame:
    """Every printed row, and the one of SADI-Net that predicts."""
    printed = read_printed(DATA / "paper_sizes.csv").query("kind == 'printed' or row == 'RFM'")
    return measure(printed, count(PARAMS, NOBODY, printed))


def test_counts_are_those_of_the_untouched_network():
    rows = pd.DataFrame([part(), part(size="64x64"), part(NARROW.replace(" ", "")), part(module="layer1")])
    with patch("hpelib.study.steps.count.complexity", wraps=complexity) as counter:
        found = count(PARAMS, NOBODY, rows)
    sizes = [call.args[1] for call in counter.call_args_list]
    assert sizes == [(64, 96), (64, 64)], "each network once at each input (width, height), however it is written"
    cost, square = narrow_cost(), narrow_cost((64, 64))
    assert found["params (M)"][0] * 1e6 == pytest.approx(cost.params)
    assert found["MACs (G)"].tolist()[:3] == [cost.macs / 1e9, square.macs / 1e9, cost.macs / 1e9]
    assert found["legacy GFLOPs"].tolist()[:3] == [cost.legacy_gflops, square.legacy_gflops, cost.legacy_gflops]
    assert found["MACs (G)"][3] == cost.macs_by_module["layer1"] / 1e9
    assert pd.isna(found["legacy GFLOPs"][3])


def test_a_module_is_counted_without_the_others_named_after_it():
    rows = [part(module=module) for module in ("all", "layer1", "all - layer1")]
    whole, first, rest = count(PARAMS, NOBODY, pd.DataFrame(rows))[["params (M)", "MACs (G)"]].to_numpy()
    assert rest == pytest.approx(whole - first)


def test_entries_are_counted_at_the_papers_size_for_the_keypoints_of_their_dataset():
    entries = pd.DataFrame([("simple_baseline_resnet34", "mpii", "96x64"), ("simple_baseline:thin", "mpii", "96x64")])
    found = count(PARAMS, entries.set_axis(ENTRY, axis=1), pd.DataFrame(columns=PART))
    assert found[ENTRY].to_numpy().tolist() == entries.to_numpy().tolist()
    networks = (
        create_model("simple_baseline_resnet34", 16),
        create_model("simple_baseline_resnet50", 16, **json.loads(NARROW)),
    )
    expected = [
        (cost.params / 1e6, cost.macs / 1e9) for cost in (complexity(network, (64, 96)) for network in networks)
    ]
    assert found[["params (M)", "MACs (G)"]].to_numpy().tolist() == [pytest.approx(values) for values in expected]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("hrnet", "cocoa", "96x64"), "hrnet: .*no format is called 'cocoa'"),
        (("hrnet", "coco", ""), "input '' is no size; it must be like 256x192"),
        (("hrnet_w99", "coco", "96x64"), "hrnet_w99"),
    ],
)
def test_what_cannot_be_counted_is_named(entry, message):
    with pytest.raises(ValueError, match=message):
        count(PARAMS, pd.DataFrame([entry], columns=ENTRY), pd.DataFrame(columns=PART))


def test_a_part_that_the_network_does_not_have_is_named():
    with pytest.raises(ValueError, match="module 'layer1 - neck': the network has no part neck"):
        count(PARAMS, NOBODY, pd.DataFrame([part(module="layer1 - neck")]))


def test_all_sizes_that_claims_and_tables_state_are_wanted_once():
    wanted = wanted_entries(DATA / "claims.csv", DATA / "paper_results.csv")
    assert not wanted.duplicated().any()
    have = set(wanted.itertuples(index=False, name=None))
    claims = pd.read_csv(DATA / "claims.csv", dtype=str).query("metric in @COUNTS")
    assert {(row.worse, row.dataset, row.input) for row in claims.itertuples()} <= have
    tables = pd.read_csv(DATA / "paper_results.csv", dtype=str).query("kind == 'network' and metric == 'GFLOPs'")
    assert {(row.entry, row.dataset, row.input) for row in tables.itertuples()} <= have


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
        ("ours", "256x192", "params (M)", 33, 3.5),
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
    assert networks["params_difference"].abs().max() < 3.5
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
