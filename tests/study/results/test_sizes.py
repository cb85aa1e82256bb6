import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpelib.study.entries import COUNTS
from hpelib.study.results.sizes import measure, table, within

PRINTED = {
    "paper": "Anon.",
    "table": "Table 1",
    "row": "HRNet",
    "kind": "printed",
    "model": "hrnet_w32",
    "options": "{}",
    "module": "all",
    "keypoints": 17,
    "printed_params_M": 28.5,
    "printed_gflops": 7.1,
    "printed_unit": "MACs / 1e9",
    "note": "",
}
UNPRINTED = {"row": "None", "kind": "reading", "printed_params_M": np.nan, "printed_gflops": np.nan, "printed_unit": ""}


def counted(*changes: dict) -> pd.DataFrame:
    """What is measured of printed rows whose network has 30 M params, 8 G MACs and 9 legacy GFLOPs."""
    entry = {"entry": "hrnet", "dataset": "coco"}
    counts = pd.DataFrame([entry, *({"entry": "", "dataset": ""} | PRINTED | change for change in changes)])
    return measure(counts.assign(input="256x192", **dict(zip(COUNTS, (30.0, 8.0, 9.0), strict=True))))


@pytest.mark.parametrize(
    ("unit", "gflops"),
    [
        ("MACs / 1e9", 8),
        ("MACs / 2^20", 8e9 / 2**20),
        ("MACs / 2^30", 8e9 / 2**30),
        ("legacy / 2^30", 9),
        ("unknown", np.nan),
    ],
)
def test_differences_are_taken_in_the_printed_unit(unit, gflops):
    (row,) = counted({"printed_unit": unit}).to_dict("records")
    assert row["params_difference"] == pytest.approx(100 * (30 / 28.5 - 1))
    assert row["gflops_difference"] == pytest.approx(100 * (gflops / 7.1 - 1), nan_ok=True)
    assert [row[count] for count in COUNTS] == [30, 8, 9]


def test_cells_keep_quoted_figures_apart_and_are_ours_alone_where_nothing_is_printed():
    sizes = counted({"printed_params_M": 123, "printed_gflops": 456}, UNPRINTED, {"printed_unit": "unknown"})
    first, second, third = table(sizes).to_dict("records")
    assert (first["params (M)"], first["GFLOPs"]) == ("123 → 30.00 (-75.6 %)", "456 → 8.000 (-98.2 %)")
    assert (second["network"], second["params (M)"], second["GFLOPs"]) == ("None", "30.00", "8.000 G MACs")
    assert third["GFLOPs"] == "7.1 → 8.000 G MACs", "a unit that is not known is not compared"
    assert within(sizes, "params_difference") == (0, 2)
    assert within(counted({}, {"printed_params_M": 29.5}), "params_difference") == (1, 2)


def test_pages_of_results_need_no_torch():
    folder = Path(__file__).resolve().parents[3] / "hpelib" / "study" / "results"
    modules = ", ".join(f"hpelib.study.results.{path.stem}" for path in folder.glob("*.py"))
    check = f"import sys, {modules}; print(*[m for m in sys.modules if m in ('torch', 'hpelib.study.steps')])"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).split() == []
