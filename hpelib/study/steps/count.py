"""Count the networks of the papers: parameters and multiply-accumulates, at the papers' size and input.

    python -m hpelib.study.steps.count OUT.csv RATIOS.csv

Counted are all rows of `data/paper_sizes.csv`, and all networks whose size a claim (`data/claims.csv`) or a table
(`data/paper_results.csv`) states. A network that is named several times is built once, and counted once for each input.
Nothing is computed, so a network takes less than a second. `hpelib.study.entries` reads the file.

RATIOS.csv says whether the networks of the current profile stand to each other as at full size.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpelib.data.files import write_csv
from hpelib.formats import FORMATS
from hpelib.layers.choices import require_choice
from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.records import baselines
from hpelib.study.ablations import ablation_runs
from hpelib.study.command import call
from hpelib.study.config import load_params, make_run, profile_params
from hpelib.study.entries import COUNTS, ENTRY, full_size, read_table

CLAIMS, RESULTS, PRINTED = (Path("data") / f"{name}.csv" for name in ("claims", "paper_results", "paper_sizes"))
COLUMNS = (
    *("paper", "table", "row", "kind"),  # where the paper has the row, its name there, and one of KINDS
    *("model", "options", "module", "keypoints"),  # for `create_model`, options as JSON; which part: see `_size_of`
    *("input_width", "input_height"),  # px
    *("printed_params_M", "printed_gflops", "printed_unit"),  # empty where the paper prints none; one of UNITS
    "note",
)
KINDS = ("printed", "reading")  # a reading is another way to read what the paper leaves open, or a row without figures
UNITS = ("MACs / 1e9", "MACs / 2^20", "MACs / 2^30", "legacy / 2^30", "unknown")
WHOLE = "all"  # the module that is the network itself


def read_printed(path: Path = PRINTED) -> pd.DataFrame:
    """Read the table of printed sizes: the columns `COLUMNS` and `input`, such as "256x192".

    Raises:
        ValueError: a column is unknown or missing, or a cell has a value that is not allowed there.
    """
    table = read_table(path, COLUMNS)
    for line, row in enumerate(table.to_dict("records"), start=2):
        try:
            _normal(row["options"])
            require_choice("kind", row["kind"], KINDS)
            require_choice("printed_unit", row["printed_unit"], UNITS if row["printed_gflops"] > 0 else ("",))
        except ValueError as error:
            raise ValueError(f"{path}, line {line} ({row['paper']}, {row['row']}): {error}") from error
    return table.assign(input=table["input_height"].astype(str) + "x" + table["input_width"].astype(str))


def _normal(options: str) -> str:
    """The same text for equal options."""
    try:
        return json.dumps(dict(**json.loads(options)), sort_keys=True)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"options {options!r} are no JSON object; without options write {{}}") from error


def read_entries(params: dict, claims: Path = CLAIMS, results: Path = RESULTS) -> pd.DataFrame:
    """The networks whose sizes claims and tables state, each once, for `count`. They have the columns `ENTRY`, too.

    Raises:
        ValueError: an entry, dataset or input that is not there; the message names it.
    """
    claimed, stated = read_table(claims), read_table(results)
    claimed = claimed[claimed["metric"].isin(COUNTS)]
    stated = stated[stated["metric"].isin(("params (M)", "GFLOPs")) & (stated["kind"] == "network")]
    sides = [claimed.rename(columns={side: "entry"}) for side in ("better", "worse")]
    entries = pd.concat([*sides, stated])[ENTRY].drop_duplicates()
    return pd.DataFrame([_describe(params, *entry) for entry in entries.to_numpy()])


def _describe(params: dict, entry: str, dataset: str, size: str) -> dict:
    """One row of `read_entries`."""
    height, x, width = size.partition("x")
    if dataset not in FORMATS or not (x and height.isdecimal() and width.isdecimal()):
        raise ValueError(f"{entry}: {dataset!r} is no dataset, or input {size!r} is not like 256x192 (height x width)")
    model, options = full_size(params, entry)
    network = {"model": model, "options": json.dumps(options), "keypoints": FORMATS[dataset].skeleton.num_keypoints}
    size_px = {"input_width": int(width), "input_height": int(height)}
    return {"entry": entry, "dataset": dataset, "input": size, "module": WHOLE} | network | size_px


def count(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` of `read_printed` or `read_entries` with the columns `COUNTS`, as `read_counts` describes them.

    Raises:
        ValueError: a model, option or module that is not there; the message names it.
    """
    networks = rows.groupby(["model", rows["options"].map(_normal), "keypoints"], sort=False)
    return rows.join(pd.concat(_count(of_network, *network) for network, of_network in networks))


def _count(rows: pd.DataFrame, model: str, options: str, keypoints: int) -> pd.DataFrame:
    """The counts of all rows that are about one network, by their index."""
    with torch.device("meta"):  # sizes need no weights
        network = create_model(model, keypoints, **json.loads(options))
    params = {name or WHOLE: sum(p.numel() for p in module.parameters()) for name, module in network.named_modules()}
    found = {}
    for size, of_size in rows.groupby(["input_width", "input_height"], sort=False):
        cost = complexity(network, size)
        macs = cost.macs_by_module | {WHOLE: cost.macs}
        for index, module in of_size["module"].items():
            legacy_gflops = cost.legacy_gflops if module == WHOLE else float("nan")
            found[index] = (_size_of(module, params) / 1e6, _size_of(module, macs) / 1e9, legacy_gflops)
    return pd.DataFrame.from_dict(found, orient="index", columns=COUNTS)


def _size_of(module: str, sizes: dict[str, int]) -> int:
    """The size of a module without the others that are named after it: of "ditm - ditm.cab", ditm without its CAB."""
    whole, *others = module.split(" - ")
    if unknown := {whole, *others} - sizes.keys():
        raise ValueError(f"module {module!r}: the network has no part {', '.join(sorted(unknown))}")
    return sizes[whole] - sum(sizes[other] for other in others)


def count_ratios(params: dict) -> pd.DataFrame:
    """How much larger networks of the current profile are than what they are compared with, and how much at full size.

    Columns: network; `than`, its baseline, or the row `baseline` of its paper's ablations; for params and MACs the
    ratio in this profile and at full size (256x192, 17 keypoints).
    """
    sides = [*baselines().items(), ("simple_baseline", "hrnet"), ("hourglass", "hrnet")]
    sides += [
        (paper, f"{paper}:baseline") for paper, found in params["ablations"].items() if "baseline" in found["rows"]
    ]
    rows = []
    for pair in sides:
        network = pair[1].partition(":")[0]
        if {pair[0], network} <= profile_params(params)["networks"].keys():
            px = make_run(params, network, "coco", 0).inputs.input_size  # of both
            params_here, macs_here = np.divide(*(_size(*_built_here(params, entry), tuple(px)) for entry in pair))
            params_full, macs_full = np.divide(*(_size(*full_size(params, entry), (192, 256)) for entry in pair))
            ratios = {"params": params_here, "params, full": params_full, "MACs": macs_here, "MACs, full": macs_full}
            rows.append({"network": pair[0], "than": pair[1]} | ratios)
    return pd.DataFrame(rows)


def _built_here(params: dict, entry: str) -> tuple[str, dict]:
    """Name and options, for `create_model`, of an entry in the current profile."""
    network, _, row = entry.partition(":")
    run = ablation_runs(params, network, 0)[row] if row else make_run(params, network, "coco", 0)
    return run.model, run.options


def _size(model: str, options: dict, size: tuple[int, int]) -> np.ndarray:
    return np.array(_counted(model, json.dumps(options), size), float)


@cache  # a network is a side of several pairs
def _counted(model: str, options: str, size: tuple[int, int]) -> tuple[int, int]:
    with torch.device("meta"):
        cost = complexity(create_model(model, **json.loads(options)), size)
    return cost.params, cost.macs


def main(counts: str, ratios: str) -> None:
    params = load_params()
    wanted = pd.concat([read_printed(), read_entries(params)], ignore_index=True)
    write_csv(count(wanted), Path(counts))
    write_csv(count_ratios(params), Path(ratios), "%.4f")


if __name__ == "__main__":
    call(main)
