"""The sizes that papers print of their networks, beside what the same networks count here."""

import numpy as np
import pandas as pd


def measure(counts: pd.DataFrame) -> pd.DataFrame:
    """The rows of `data/paper_sizes.csv` with our counts, and with the differences in percent of the printed figures.

    Added to what `hpelib.study.entries.read_counts` returns are `params_difference` and `gflops_difference`, the latter
    in the unit that the paper prints. A difference is NaN where the printed figure or its unit is not known.
    """
    sizes = counts[counts["entry"] == ""].reset_index(drop=True)
    macs, legacy = sizes["MACs (G)"], sizes["legacy GFLOPs"]
    binary = {f"MACs / 2^{power}": macs * 1e9 / 2**power for power in (20, 30)}
    ours = {"MACs / 1e9": macs, "legacy / 2^30": legacy} | binary
    in_unit = np.select([sizes["printed_unit"] == unit for unit in ours], [*ours.values()], np.nan)
    sizes["params_difference"] = 100 * (sizes["params (M)"] / sizes["printed_params_M"] - 1)
    sizes["gflops_difference"] = 100 * (in_unit / sizes["printed_gflops"] - 1)
    return sizes


def table(sizes: pd.DataFrame) -> pd.DataFrame:
    """What `measure` returns, or the rows of one paper, as cells for a reader. Unknown figures are empty cells."""
    return pd.DataFrame(
        {
            "network": sizes["row"],
            "source": sizes["table"],
            "kind": sizes["kind"],
            "input": sizes["input"],
            "keypoints": sizes["keypoints"],
            "params (M), paper": _cells(sizes["printed_params_M"], "{:g}"),
            "params (M)": _cells(sizes["params (M)"], "{:#.4g}"),
            "params, difference": _cells(sizes["params_difference"], "{:+z.1f} %"),
            "GFLOPs, paper": _cells(sizes["printed_gflops"], "{:g}"),
            "unit, paper": sizes["printed_unit"],
            "MACs (G)": _cells(sizes["MACs (G)"], "{:#.4g}"),
            "legacy GFLOPs": _cells(sizes["legacy GFLOPs"], "{:#.4g}"),
            "GFLOPs, difference": _cells(sizes["gflops_difference"], "{:+z.1f} %"),
            "note": sizes["note"],
        }
    )


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
