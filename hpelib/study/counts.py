"""The sizes that papers print and the sizes that were counted here, as files.

`data/paper_sizes.csv` quotes the papers. The step `hpelib.study.steps.count` counts every network there, and every
network that a claim or a paper's table needs, and writes one CSV file. Pages of results read both.

This module needs no torch, so that a page of results starts fast.
"""

import json
from pathlib import Path

import pandas as pd

from hpelib.layers.choices import require_choice

PRINTED = Path("data/paper_sizes.csv")
PRINTED_COLUMNS = {
    "paper": str,
    "table": str,  # where the paper has the row
    "row": str,  # its name there
    "kind": str,  # one of KINDS
    "model": str,  # for `create_model`
    "options": str,  # for `create_model`, as a JSON object
    "module": str,  # which part of the network: WHOLE, a submodule, or one without others as in "ditm - ditm.cab"
    "keypoints": int,
    "input_width": int,  # px
    "input_height": int,  # px
    "printed_params_M": float,  # empty where the paper prints none
    "printed_gflops": float,  # empty where the paper prints none
    "printed_unit": str,  # of printed_gflops, one of UNITS
    "note": str,
}
KINDS = (
    "printed",
    "reading",  # the paper leaves something open and this is another reading of it, or it prints no size
)
UNITS = ("MACs / 1e9", "MACs / 2^30", "legacy / 2^30", "unknown")
WHOLE = "all"  # the module that is the network itself

ENTRY = ["entry", "dataset", "input"]  # what claims and tables look sizes up by; input is "256x192", height first
PART = ["model", "options", "keypoints", "module", "input"]  # what printed sizes are looked up by
COUNTS = ("params (M)", "MACs (G)", "legacy GFLOPs")


def read_printed(path: Path = PRINTED) -> pd.DataFrame:
    """Read the table of printed sizes. It has the columns `PRINTED_COLUMNS` and `input`, such as "256x192".

    Raises:
        ValueError: a column is unknown or missing, or a cell has a value that is not allowed there.
    """
    header = pd.read_csv(path, nrows=0).columns
    if wrong := sorted(set(header) ^ PRINTED_COLUMNS.keys()):
        known = ", ".join(PRINTED_COLUMNS)
        raise ValueError(f"{path}: unknown or missing columns {', '.join(wrong)}; expected are {known}")
    table = pd.read_csv(path, dtype=PRINTED_COLUMNS, keep_default_na=False, na_values=[""])  # a row may be named "None"
    table = table.fillna({name: "" for name, kind in PRINTED_COLUMNS.items() if kind is str})
    for line, row in enumerate(table.to_dict("records"), start=2):
        try:
            _check(row)
        except ValueError as error:
            raise ValueError(f"{path}, line {line} ({row['paper']}, {row['row']}): {error}") from error
    return table.assign(input=table["input_height"].astype(str) + "x" + table["input_width"].astype(str))


def _check(row: dict) -> None:
    try:
        is_object = isinstance(json.loads(row["options"]), dict)
    except json.JSONDecodeError:
        is_object = False
    if not is_object:
        raise ValueError(f"options {row['options']!r} are no JSON object; without options write {{}}")
    require_choice("kind", row["kind"], KINDS)
    require_choice("printed_unit", row["printed_unit"], UNITS if row["printed_gflops"] > 0 else ("",))


def write_counts(counts: pd.DataFrame, path: Path) -> None:
    """Write a table with the columns `ENTRY`, `PART` and `COUNTS`. Every number reads back to the last bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    counts[[*dict.fromkeys([*ENTRY, *PART, *COUNTS])]].to_csv(path, index=False)


def read_counts(path: Path) -> pd.DataFrame:
    """Read what networks cost, counted for one image: the columns `ENTRY`, `PART` and `COUNTS`.

    Look a size up either by the columns `ENTRY` or by the columns `PART`. Rows that only stand for a printed size have
    no entry: entry and dataset are empty. Params are in 10^6, MACs in 10^9. Legacy GFLOPs are what the tool of the
    official HRNet code prints; they are NaN for parts of a network.

    Raises:
        FileNotFoundError: nothing was counted yet.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} not found; run: dvc repro count")
    empty = {name: [""] for name in COUNTS}
    return pd.read_csv(path, keep_default_na=False, na_values=empty, float_precision="round_trip")
