import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.study.results.sizes import COLUMNS, markdown, measure, paper_tables, read_printed, save

TABLE = read_printed(Path(__file__).resolve().parents[2] / "data/paper_sizes.csv")
NARROW = {
    "paper": "Anon.",
    "table": "Table 1",
    "row": "ours",
    "kind": "printed",
    "model": "simple_baseline_resnet34",
    "options": '{"width": 8, "depths": [1, 1, 1, 1], "deconv_widths": [16, 16, 16]}',
    "module": "all",
    "keypoints": "17",
    "input_width": "64",
    "input_height": "96",
    "printed_params_M": "0.1",
    "printed_gflops": "0.5",
    "printed_unit": "MACs / 1e9",
    "note": "",
}


def write_table(path, *changes):
    pd.DataFrame([NARROW | change for change in changes]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def counted():
    """Every row whose size is printed, and the one of SADI-Net that predicts."""
    return measure(TABLE.query("kind == 'printed' or row == 'RFM'"))


BUILDS = TABLE.drop_duplicates(["model", "options", "keypoints"])


@pytest.mark.parametrize(
    ("model", "options", "keypoints"),
    BUILDS[["model", "options", "keypoints"]].itertuples(index=False, name=None),
    ids=BUILDS["paper"] + " " + BUILDS["row"],
)
def test_every_row_can_be_built_and_has_the_parts_it_names(model, options, keypoints):
    with torch.device("meta"):
        network = create_model(model, keypoints, **json.loads(options))
    same = TABLE.query("model == @model and options == @options and keypoints == @keypoints")
    for module in same["module"]:
        for part in module.split(" - "):
            network.get_submodule("" if part == "all" else part)


@pytest.mark.parametrize(
    ("row", "size", "column", "expected", "percent"),
    [
        ("DE-HRNet-W32", (288, 384), "params_M", 33.6, 0.5),
        ("DE-HRNet-W32", (288, 384), "legacy_gflops", 17.7, 1),
        ("DE-HRNet-W48", (288, 384), "params_M", 74.8, 0.5),
        ("DITN-W32", (192, 256), "params_M", 28.6, 0.5),
        ("DITN-W32", (192, 256), "legacy_gflops", 7.26, 1),
        ("ours", (192, 256), "params_M", 33, 3.5),
        ("ours", (192, 256), "macs_G", 21.3, 1),
        ("ours", (288, 384), "macs_G", 48.0, 1),
        ("DAUNet", (192, 256), "params_M", 38.6, 1),
        ("DAUNet", (192, 256), "macs_G", 10.8, 1.5),
        ("RFM", (256, 256), "params_M", 62.5, 0.5),
        ("RFM", (256, 256), "macs_G", 10.0, 0.5),
        ("8-stage hourglass", (192, 256), "params_M", 25.1, 2.5),
    ],
)
def test_networks_have_the_sizes_of_their_papers(counted, row, size, column, expected, percent):
    assert find(counted, row, size)[column] == pytest.approx(expected, rel=percent / 100)


@pytest.mark.parametrize(
    ("row", "size", "params_m", "macs_g", "legacy_gflops"),
    [  # the official models, counted by hooks on their layers
        ("pose_hrnet_w32", (192, 256), 28.54, 7.65, 7.12),
        ("pose_hrnet_w32", (288, 384), 28.54, 17.20, 16.02),
        ("pose_hrnet_w48", (192, 256), 63.60, 15.69, 14.61),
        ("pose_hrnet_w48", (288, 384), 63.60, 35.31, 32.88),
        ("pose_resnet_50", (192, 256), 34.00, 5.43, 8.99),
        ("pose_resnet_50", (288, 384), 34.00, 12.21, 20.23),
        ("pose_resnet_101", (192, 256), 52.99, 9.06, 12.38),
        ("pose_resnet_101", (288, 384), 52.99, 20.39, 27.85),
        ("pose_resnet_152", (192, 256), 68.64, 12.70, 15.76),
        ("pose_resnet_152", (288, 384), 68.64, 28.57, 35.47),
    ],
)
def test_baselines_have_the_sizes_of_the_official_models(counted, row, size, params_m, macs_g, legacy_gflops):
    found = find(counted, row, size)
    assert found["params_M"] == pytest.approx(params_m, abs=0.01)
    assert found["macs_G"] == pytest.approx(macs_g, rel=0.005)
    assert found["legacy_gflops"] == pytest.approx(legacy_gflops, rel=0.005)


def find(sizes, row, size):
    of_size = (sizes["input_width"] == size[0]) & (sizes["input_height"] == size[1])
    return sizes[of_size & (sizes["row"] == row)].iloc[0]


def test_printed_sizes_differ_little_in_their_unit(counted):
    networks = counted.query("module == 'all' and kind == 'printed'")
    assert networks["params_difference"].abs().max() < 3.5
    assert networks["gflops_difference"].abs().max() < 1.5


def test_the_rows_of_table_8_are_ditn_whole(counted):
    parts = counted.query("paper == 'DITN' and module != 'all'")
    with torch.device("meta"):
        network = create_model("ditn_w32", 16)
    whole = complexity(network, (256, 256))
    assert parts["params_M"].sum() * 1e6 == pytest.approx(whole.params)
    assert parts["macs_G"].sum() * 1e9 == pytest.approx(whole.macs)
    adapter, transfer = (parts[parts["row"] == name].iloc[0] for name in ("Parameter adapter", "Transfer module"))
    assert adapter["params_M"] * 1e6 == pytest.approx(15 * 3 * 36)
    assert transfer["params_M"] * 1e6 == pytest.approx(16 * 16)
    assert transfer["macs_G"] * 1e9 == pytest.approx(64 * 64 * (16 * 16 + 30 * 7 * 7))


@pytest.mark.parametrize(
    ("unit", "our_figure"),
    [
        ("MACs / 1e9", lambda cost: cost.macs / 1e9),
        ("MACs / 2^30", lambda cost: cost.macs / 2**30),
        ("legacy / 2^30", lambda cost: cost.legacy_gflops),
        ("unknown", lambda cost: math.nan),
    ],
)
def test_counts_are_those_of_the_untouched_network_and_differ_in_the_printed_unit(tmp_path, unit, our_figure):
    sizes = measure(read_printed(write_table(tmp_path / "sizes.csv", {"printed_unit": unit}))).iloc[0]
    cost = complexity(create_model(NARROW["model"], 17, **json.loads(NARROW["options"])), (64, 96))
    assert sizes["params_M"] * 1e6 == pytest.approx(cost.params)
    assert sizes["macs_G"] * 1e9 == pytest.approx(cost.macs)
    assert sizes["legacy_gflops"] == pytest.approx(cost.legacy_gflops)
    assert sizes["params_difference"] == pytest.approx(100 * (cost.params / 1e5 - 1))
    assert sizes["gflops_difference"] == pytest.approx(100 * (our_figure(cost) / 0.5 - 1), nan_ok=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gflops": "8.9"}, "unknown or missing columns gflops"),
        ({"options": "{width: 8}"}, r"line 3 \(Anon\., ours\): options '{width: 8}' are not JSON"),
        ({"options": "[8]"}, r"line 3 .*'\[8\]' are no JSON object"),
        ({"kind": "guess"}, "line 3 .*kind 'guess' is none of printed, reading"),
        ({"printed_unit": "FLOPs"}, "line 3 .*printed_unit 'FLOPs'"),
        ({"printed_gflops": ""}, "line 3 .*printed_unit 'MACs / 1e9'"),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_printed(write_table(tmp_path / "sizes.csv", {}, change))


def test_missing_columns_are_named(tmp_path):
    path = write_table(tmp_path / "sizes.csv", {})
    pd.read_csv(path).drop(columns="options").to_csv(path, index=False)
    with pytest.raises(ValueError, match="missing columns options"):
        read_printed(path)


def test_tables_keep_quoted_figures_apart(tmp_path):
    quoted = {"printed_params_M": "123", "printed_gflops": "456"}
    unprinted = {"row": "None", "kind": "reading", "printed_params_M": "", "printed_gflops": "", "printed_unit": ""}
    sizes = measure(read_printed(write_table(tmp_path / "in.csv", quoted, unprinted, quoted | {"paper": "Other"})))
    save(sizes, tmp_path / "out")
    assert set(pd.read_csv(tmp_path / "out/sizes.csv").columns) > set(COLUMNS)
    tables = paper_tables(sizes)
    assert list(tables) == ["Anon.", "Other"]
    table = tables["Anon."]
    assert [name for name in table if table[name].astype(str).isin(["123", "456"]).any()] == [
        "params (M), paper",
        "GFLOPs, paper",
    ]
    assert table.loc[1, "network"] == "None"
    assert (table.loc[1, ["params (M), paper", "params, difference", "GFLOPs, paper"]] == "").all()
    written = (tmp_path / "out/sizes.md").read_text(encoding="utf-8")
    assert markdown(table) in written
    assert "## Other" in written
