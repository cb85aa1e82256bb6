"""What a claim compares and a row of a paper's table is about, and the tables that name it.

An entry is a whole network, such as `ditn`, or one row of its ablations, such as `ditn:full`. The network is a name in
params.yaml, or a preset of `create_model` that only has its size counted. `hpelib.study.steps.count` counts what
entries cost at the papers' size, as one file. This module needs no torch, so that a page of results starts fast.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpelib.records import presets, records
from hpelib.study.ablations import row_entry
from hpelib.study.config import profile_params

ENTRY = ["entry", "dataset", "input"]  # what claims and tables look sizes up by; input is "256x192", height first
COUNTS = ("params (M)", "MACs (G)", "legacy GFLOPs")
FIGURES = (*COUNTS, "printed_params_M", "printed_gflops")  # columns of numbers that are NaN where a cell is empty
WHOLE_NUMBERS = ("keypoints", "input_width", "input_height")


def full_size(params: dict, entry: str) -> tuple[str, dict]:
    """Name and options, for `create_model`, of an entry's model at the size that its paper reports.

    Example: the entry `daunet:ibn` gives `("daunet_resnet50", {"scru": False})`.
    """
    network, _, row = entry.partition(":")
    changes = params["ablations"][network]["rows"][row] if row else {}
    networks = {name: {"model": model} for name, model in full_size_models(params).items()}
    chosen = row_entry({network: {"model": network}} | networks, network, changes)
    return chosen["model"], chosen.get("options", {})


def full_size_models(params: dict) -> dict[str, str]:
    """For each name that may stand for a whole network, its model for `create_model` at the size of its paper.

    Such names are records, presets, and networks of any profile, such as `fr_sbn_384`.
    """
    profiles = [profile_params(params | {"profile": name})["networks"] for name in params["profiles"]]
    listed = {name: network["model"] for networks in profiles for name, network in networks.items()}
    full = {record.name: record.full_size for record in records().values()}
    return {name: name for name in presets()} | listed | full


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of `data/`, or what was counted. `FIGURES` and `WHOLE_NUMBERS` are numbers, other cells are text.

    Args:
        columns: those that the table must have; nothing is checked without them.

    Raises:
        ValueError: a column is unknown or missing, or an entry is neither empty nor `network` nor `network:row`.
    """
    types = dict.fromkeys(FIGURES, float) | dict.fromkeys(WHOLE_NUMBERS, int)
    empty = {name: [""] for name in FIGURES}
    table = pd.read_csv(path, dtype=defaultdict(lambda: str, types), keep_default_na=False, na_values=empty)
    if columns and (wrong := sorted(set(table) ^ set(columns))):
        raise ValueError(f"{path}: unknown or missing columns {', '.join(wrong)}; expected are {', '.join(columns)}")
    for name in {"entry", "better", "worse"} & set(table):
        if (wrong := table.loc[~table[name].str.fullmatch("([^:]+(:[^:]+)?)?"), name]).size:
            raise ValueError(f"{path}: entry {wrong.iloc[0]!r} is neither network nor network:row")
    return table


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


def counted_size(counts: pd.DataFrame, entry: str, dataset: str, size: str) -> dict[str, float]:
    """What an entry costs at the papers' size: the figures `COUNTS` by their names.

    Args:
        counts: what `read_counts` returns.
        size: of the input in px, such as "256x192", height first.

    Raises:
        ValueError: the entry was not counted at this size.
    """
    found = counts.loc[(counts[ENTRY] == [entry, dataset, size]).all(axis=1), [*COUNTS]]
    if found.empty:
        raise ValueError(f"no size was counted of {entry}, {dataset}, {size}; run: dvc repro count")
    return found.iloc[0].to_dict()
