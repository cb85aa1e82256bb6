"""The sizes that papers print of their networks, beside what the same networks count here."""

import numpy as np
import pandas as pd


def measure(counts: pd.DataFrame) -> pd.DataFrame:
    """The rows of `data/paper_sizes.csv` with our counts, and with the differences in percent of the printed figures.

    Added to what `hpelib.study.entries.read_counts` returns are `gflops`, our count in the unit that the paper prints,
    `params_difference` and `gflops_difference`. They are NaN where the printed figure or its unit is not known.
    """
    sizes = counts[counts["entry"] == ""].reset_index(drop=True)
    macs, legacy = sizes["MACs (G)"], sizes["legacy GFLOPs"]
    binary = {f"MACs / 2^{power}": macs * 1e9 / 2**power for power in (20, 30)}
    ours = {"MACs / 1e9": macs, "legacy / 2^30": legacy} | binary
    sizes["gflops"] = np.select([sizes["printed_unit"] == unit for unit in ours], [*ours.values()], np.nan)
    sizes["params_difference"] = 100 * (sizes["params (M)"] / sizes["printed_params_M"] - 1)
    sizes["gflops_difference"] = 100 * (sizes["gflops"] / sizes["printed_gflops"] - 1)
    return sizes


def within(rows: pd.DataFrame, column: str) -> tuple[int, int]:
    """How many differences are at most 2 %, and how many there are."""
    found = rows[column].dropna()
    return int((found.abs() <= 2).sum()), len(found)


def table(sizes: pd.DataFrame) -> pd.DataFrame:
    """What `measure` returns, or the rows of one paper, as cells for a reader: "printed → counted (difference)"."""
    macs = _cells(sizes["MACs (G)"], "{:#.4g} G MACs")
    gflops = _pairs(sizes["printed_gflops"], sizes["gflops"], sizes["gflops_difference"])
    unknown = sizes["printed_gflops"].notna() & sizes["gflops"].isna()
    gflops = gflops.mask(unknown, _cells(sizes["printed_gflops"], "{:g}") + " → " + macs)
    params = _pairs(sizes["printed_params_M"], sizes["params (M)"], sizes["params_difference"])
    return pd.DataFrame(
        {
            "network": sizes["row"],
            "source": sizes["table"],
            "kind": sizes["kind"],
            "input": sizes["input"],
            "params (M)": params.where(params != "", _cells(sizes["params (M)"], "{:#.4g}")),
            "GFLOPs": gflops.where(gflops != "", macs),
            "unit": sizes["printed_unit"],
            "note": sizes["note"],
        }
    )


def _pairs(printed: pd.Series, counted: pd.Series, difference: pd.Series) -> pd.Series:
    cells = _cells(printed, "{:g}") + " → " + _cells(counted, "{:#.4g}") + _cells(difference, " ({:+z.1f} %)")
    return cells.where(difference.notna(), "")


def ratio_table(ratios: pd.DataFrame) -> pd.DataFrame:
    """What `hpelib.study.steps.count.count_ratios` found, as cells, and what is within a quarter of full size."""
    cells = ratios[["network", "than"]].rename(columns={"than": "compared with"})
    for figure in ("params", "MACs"):
        here, full = ratios[figure], ratios[f"{figure}, full"]
        cells[f"{figure}, here"], cells[f"{figure}, full size"] = _cells(here, "{:.2f}"), _cells(full, "{:.2f}")
        cells[f"{figure}, within a quarter"] = np.where((here / full).between(0.75, 1.25), "yes", "**no**")
    return cells


def _cells(values: pd.Series, form: str) -> pd.Series:
    return values.map(form.format, na_action="ignore").astype(object).fillna("")
