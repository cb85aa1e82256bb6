"""What a claim compares and a row of a paper's table is about, and the tables that name it.

An entry is a whole network, or one row of its ablations. `hpelib.study.steps.count` counts what entries cost at the
papers' size, as one file. This module needs no torch, so that a page of results starts fast.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hpelib.records import records
from hpelib.study.ablations import row_entry

ENTRY = ["entry", "dataset", "input"]  # what claims and tables look sizes up by; input is "256x192", height first
COUNTS = ("params (M)", "MACs (G)", "legacy GFLOPs")
FIGURES = (*COUNTS, "printed_params_M", "printed_gflops")  # columns of numbers that are NaN where a cell is empty
WHOLE_NUMBERS = ("keypoints", "input_width", "input_height")


@dataclass(frozen=True, order=True)
class Entry:
    """A network of the study, or one row of its ablations. As text: `ditn` or `ditn:full`."""

    network: str  # its name in params.yaml, or a preset of `create_model` that only has its size counted
    row: str = ""  # of `ablations` in params.yaml; empty for the whole network

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """Read an entry from its text.

        Raises:
            ValueError: the text is neither `network` nor `network:row`.
        """
        network, colon, row = text.partition(":")
        if not network or bool(colon) != bool(row) or ":" in row:
            raise ValueError(f"entry {text!r} is neither network nor network:row")
        return cls(network, row)

    def __str__(self) -> str:
        return f"{self.network}:{self.row}" if self.row else self.network


def full_size(params: dict, entry: Entry) -> tuple[str, dict]:
    """Name and options, for `create_model`, of an entry's model at the size that its paper reports.

    Example: the entry `daunet:ibn` gives `("daunet_resnet50", {"scru": False})`.
    """
    changes = params["ablations"][entry.network]["rows"][entry.row] if entry.row else {}
    networks = {record.name: {"model": record.full_size} for record in records().values()}
    chosen = row_entry({entry.network: {"model": entry.network}} | networks, entry.network, changes)
    return chosen["model"], chosen.get("options", {})


def read_table(path: Path, columns: Sequence[str] = (), entries: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of `data/`, or what was counted. `FIGURES` and `WHOLE_NUMBERS` are numbers, other cells are text.

    Args:
        columns: those that the table must have; nothing is checked without them.
        entries: the columns that hold an `Entry`, or None where a cell is empty.

    Raises:
        ValueError: a column is unknown or missing, or an entry cannot be read.
    """
    types = dict.fromkeys(FIGURES, float) | dict.fromkeys(WHOLE_NUMBERS, int)
    empty = {name: [""] for name in FIGURES}
    table = pd.read_csv(path, dtype=defaultdict(lambda: str, types), keep_default_na=False, na_values=empty)
    if columns and (wrong := sorted(set(table) ^ set(columns))):
        raise ValueError(f"{path}: unknown or missing columns {', '.join(wrong)}; expected are {', '.join(columns)}")
    try:
        for name in entries:
            table[name] = table[name].map(lambda text: Entry.parse(text) if text else None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
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


def counted_size(counts: pd.DataFrame, entry: Entry, dataset: str, size: str) -> dict[str, float]:
    """What an entry costs at the papers' size: the figures `COUNTS` by their names.

    Args:
        counts: what `read_counts` returns.
        size: of the input in px, such as "256x192", height first.

    Raises:
        ValueError: the entry was not counted at this size.
    """
    found = counts.loc[(counts[ENTRY] == [str(entry), dataset, size]).all(axis=1), [*COUNTS]]
    if found.empty:
        raise ValueError(f"no size was counted of {entry}, {dataset}, {size}; run: dvc repro count")
    return found.iloc[0].to_dict()
