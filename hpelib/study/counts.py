"""What networks cost at the papers' size, as one file. A step counts them and writes it, and pages of results read it.

This module needs no torch, so that a page of results starts fast.
"""

from pathlib import Path

import pandas as pd

ENTRY = ["entry", "dataset", "input"]  # what claims and tables look sizes up by; input is "256x192", height first
COUNTS = ("params (M)", "MACs (G)", "legacy GFLOPs")
FIGURES = (*COUNTS, "printed_params_M", "printed_gflops")  # are numbers: an empty cell there is NaN, elsewhere text


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file. Empty cells are NaN in the columns `FIGURES` and text elsewhere; a row may be named "None"."""
    empty = {name: [""] for name in FIGURES}
    return pd.read_csv(path, keep_default_na=False, na_values=empty)


def read_counts(path: Path) -> pd.DataFrame:
    """Read what `hpelib.study.steps.count` counted for one image of each network.

    Params are in 10^6 and MACs in 10^9. Legacy GFLOPs are what the tool of the official HRNet code prints; they are NaN
    for a part of a network. A row has either an entry and a dataset, or the columns of a row of `data/paper_sizes.csv`.

    Raises:
        FileNotFoundError: nothing was counted yet.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} not found; run: dvc repro count")
    return read_table(path)
