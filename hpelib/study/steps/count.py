"""Count the networks of the papers: parameters and multiply-accumulates, at the papers' size and input.

    python -m hpelib.study.steps.count OUT.csv

Counted are all rows of `data/paper_sizes.csv`, and all networks whose size a claim (`data/claims.csv`) or a table
(`data/paper_results.csv`) states. Networks that are named several times are counted once for each input. Nothing is
computed, so networks of any size are counted in less than a second. `hpelib.study.counts` reads the file.
"""

import json
import sys
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from hpelib.formats import FORMATS
from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.study.config import load_params
from hpelib.study.counts import COUNTS, ENTRY, PART, WHOLE, read_printed, write_counts
from hpelib.study.entries import Entry, full_size

CLAIMS, RESULTS = Path("data/claims.csv"), Path("data/paper_results.csv")
PRINTED_METRICS = (*COUNTS, "GFLOPs")  # sizes in a paper's table; GFLOPs are compared with MACs and legacy GFLOPs


def wanted_entries(claims: Path = CLAIMS, results: Path = RESULTS) -> pd.DataFrame:
    """The entries whose sizes claims and tables state, each once: the columns `ENTRY`, as text."""
    claimed, printed = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (claims, results))
    claimed = claimed[claimed["metric"].isin(COUNTS)]
    printed = printed[printed["metric"].isin(PRINTED_METRICS) & (printed["kind"] == "network")]
    sides = [claimed.rename(columns={side: "entry"}) for side in ("better", "worse")]
    return pd.concat([*sides, printed])[ENTRY].drop_duplicates(ignore_index=True)


def count(params: dict, entries: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Count entries and printed rows: the columns `ENTRY`, `PART` and `COUNTS`, for `write_counts`.

    Args:
        entries: what `wanted_entries` returns.
        printed: what `hpelib.study.counts.read_printed` returns.

    Raises:
        ValueError: an entry, dataset, input or model that is not there; the message names it.
    """
    parts = printed[PART].drop_duplicates().assign(entry="", dataset="")
    rows = pd.concat([pd.DataFrame([_whole(params, *row) for row in entries[ENTRY].to_numpy()]), parts])
    rows = rows.reset_index(drop=True)
    built = rows.groupby(["model", rows["options"].map(_normal), "keypoints"], sort=False)
    counted = [_count(rows, *network) for network, rows in built]
    return rows.join(pd.concat(counted)) if counted else rows.reindex(columns=[*rows.columns, *COUNTS])


def _whole(params: dict, entry: str, dataset: str, size: str) -> dict:
    """The row to count for one entry."""
    if dataset not in FORMATS:
        raise ValueError(f"{entry}: a size needs a number of keypoints, but no format is called {dataset!r}")
    model, options = full_size(params, Entry.parse(entry))
    keypoints = FORMATS[dataset].skeleton.num_keypoints
    part = dict(zip(PART, (model, json.dumps(options), keypoints, WHOLE, size), strict=True))
    return {"entry": entry, "dataset": dataset} | part


def _normal(options: str) -> str:
    """The same text for equal options."""
    return json.dumps(json.loads(options), sort_keys=True)


def _count(rows: pd.DataFrame, model: str, options: str, keypoints: int) -> pd.DataFrame:
    """The counts of all rows that are about one network, by their index."""
    with torch.device("meta"):  # sizes need no weights
        network = create_model(model, keypoints, **json.loads(options))
    params = {name or WHOLE: sum(p.numel() for p in module.parameters()) for name, module in network.named_modules()}
    _remove_norms(network)
    found = {}
    for size, of_size in rows.groupby("input", sort=False):
        cost = complexity(network, _parse_size(size))
        macs = cost.macs_by_module | {WHOLE: cost.macs}
        for index, module in of_size["module"].items():
            legacy_gflops = cost.legacy_gflops if module == WHOLE else float("nan")
            found[index] = (_size_of(module, params) / 1e6, _size_of(module, macs) / 1e9, legacy_gflops)
    return pd.DataFrame.from_dict(found, orient="index", columns=COUNTS)


def _parse_size(text: str) -> tuple[int, int]:
    """Width and height of an input such as "256x192", which has its height first."""
    height, x, width = text.partition("x")
    if not (height.isdecimal() and x and width.isdecimal()):
        raise ValueError(f"input {text!r} is no size; it must be like 256x192 (height x width)")
    return int(width), int(height)


def _remove_norms(network: nn.Module) -> None:
    """Batch norms have no MACs, but half of the time of counting would be spent in them."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, nn.Identity())


def _size_of(module: str, sizes: dict[str, int]) -> int:
    """The size of a module without the others that are named after it: of "ditm - ditm.cab", ditm without its CAB."""
    whole, *others = module.split(" - ")
    if unknown := {whole, *others} - sizes.keys():
        raise ValueError(f"module {module!r}: the network has no part {', '.join(sorted(unknown))}")
    return sizes[whole] - sum(sizes[other] for other in others)


if __name__ == "__main__":
    write_counts(count(load_params(), wanted_entries(), read_printed()), Path(sys.argv[1]))
