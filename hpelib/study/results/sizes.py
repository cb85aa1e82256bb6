"""The sizes that papers print of their networks, beside what the same networks count here."""

from pathlib import Path

import pandas as pd

from hpelib.study.counts import COUNTS, ENTRY


def measure(counts: pd.DataFrame) -> pd.DataFrame:
    """The rows of `data/paper_sizes.csv` with our counts, and with the differences in percent of the printed figures.

    Added to what `hpelib.study.counts.read_counts` returns are `params_difference` and `gflops_difference`, the latter
    in the unit that the paper prints. A difference is NaN where the printed figure or its unit is not known.
    """
    sizes = counts[counts["entry"] == ""].reset_index(drop=True)
    unit, macs = sizes["printed_unit"], sizes["MACs (G)"]
    ours = macs.where(unit == "MACs / 1e9")
    ours = ours.where(unit != "MACs / 2^30", macs * 1e9 / 2**30)
    ours = ours.where(unit != "legacy / 2^30", sizes["legacy GFLOPs"])
    sizes["params_difference"] = 100 * (sizes["params (M)"] / sizes["printed_params_M"] - 1)
    sizes["gflops_difference"] = 100 * (ours / sizes["printed_gflops"] - 1)
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


def _cells(values: pd.Series, form: str) -> pd.Series:
    return values.map(form.format, na_action="ignore").astype(object).fillna("")


def save(sizes: pd.DataFrame, folder: Path) -> None:
    """Write sizes.csv, what `measure` returned, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = dict(zip(COUNTS, ("params_M", "macs_G", "legacy_gflops"), strict=True))
    sizes.drop(columns=ENTRY).rename(columns=names).to_csv(folder / "sizes.csv", index=False, float_format="%.6g")
