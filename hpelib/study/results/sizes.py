"""Sizes of networks as papers print them, beside what the same networks count here."""

import json
import math
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from hpelib.metrics.cost import complexity
from hpelib.models import create_model

PRINTED = Path("data/paper_sizes.csv")
COLUMNS = {
    "paper": str,
    "table": str,  # where the paper has the row
    "row": str,  # its name there
    "kind": str,  # "printed", or "reading": another reading of a printed row, or a row without printed size
    "model": str,  # for `create_model`
    "options": str,  # the same, as a JSON object
    "module": str,  # what the row is about: "all", a submodule, or that less others as in "ditm - ditm.cab"
    "keypoints": int,
    "input_width": int,
    "input_height": int,
    "printed_params_M": float,
    "printed_gflops": float,
    "printed_unit": str,
    "note": str,
}
KINDS = ("printed", "reading")
UNITS = ("MACs / 1e9", "MACs / 2^30", "legacy / 2^30", "unknown")
WHOLE = "all"
NETWORK = ["model", "options", "keypoints", "input_width", "input_height"]  # rows that agree in these are counted once

EXPLANATION = """\
Columns named *paper* are quoted; everything else is counted here, by one counter, for one image. **MACs** are the \
multiply-accumulates that a network performs, in units of 10^9; **legacy GFLOPs** are what the tool of the official \
HRNet code prints: it divides by 2^30 and counts a transposed convolution at its output positions, four times too \
often at stride 2. SimpleBaseline ends in three of these, so it is printed as dearer than HRNet (8.9 for ResNet-50, \
7.1 for W32 at 256x192), but by an honest count it is cheaper: 5.4 against 7.6 G MACs.

Differences are relative to the printed, rounded figure, in the unit that explains it best. A *reading* is another \
reading of what a paper leaves open, beside the same printed figures, or a row for which the paper prints no size. \
Notes say where a network was fitted to its printed size, so that agreement there is no evidence."""


def read_printed(path: Path = PRINTED) -> pd.DataFrame:
    """The table of printed sizes, with the columns `COLUMNS`.

    Raises:
        ValueError: an unknown or missing column, or a cell that cannot be; the message names it.
    """
    header = pd.read_csv(path, nrows=0).columns
    if wrong := sorted(set(header) ^ set(COLUMNS)):
        raise ValueError(f"{path}: unknown or missing columns {', '.join(wrong)}; expected are {', '.join(COLUMNS)}")
    printed = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values=[""])  # a row may be named "None"
    printed = printed.fillna({name: "" for name, kind in COLUMNS.items() if kind is str})
    for line, row in enumerate(printed.to_dict("records"), start=2):
        where = f"{path}, line {line} ({row['paper']}, {row['row']})"
        _check_options(row["options"], where)
        if row["kind"] not in KINDS:
            raise ValueError(f"{where}: kind {row['kind']!r} is none of {', '.join(KINDS)}")
        if row["printed_unit"] not in (UNITS if row["printed_gflops"] > 0 else ("",)):
            raise ValueError(
                f"{where}: printed_unit {row['printed_unit']!r}; with printed_gflops it is one of {', '.join(UNITS)}, "
                "without it is empty"
            )
    return printed


def measure(printed: pd.DataFrame) -> pd.DataFrame:
    """The same table with our count of every row and its difference to the printed figures.

    Added columns: `params_M`; `macs_G` (10^9); `legacy_gflops`, NaN for a part of a network; `params_difference` and
    `gflops_difference` in percent of the printed figure, NaN where that or its unit is not known.
    """
    counts = pd.concat(_count(rows) for _, rows in printed.groupby(NETWORK, sort=False))
    sizes = printed.join(counts)
    sizes["params_difference"] = 100 * (sizes["params_M"] / sizes["printed_params_M"] - 1)
    sizes["gflops_difference"] = 100 * (sizes.apply(_in_printed_unit, axis=1) / sizes["printed_gflops"] - 1)
    return sizes


def paper_tables(sizes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What `measure` returns as one table per paper, its cells formatted for a reader."""
    return {paper: _for_readers(rows) for paper, rows in sizes.groupby("paper", sort=False)}


def markdown(table: pd.DataFrame) -> str:
    """One of `paper_tables` as Markdown."""
    return table.to_markdown(index=False, disable_numparse=True)


def save(sizes: pd.DataFrame, folder: Path) -> None:
    """Write sizes.csv, what `measure` returned, and sizes.md, the same for a reader, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes.to_csv(folder / "sizes.csv", index=False, float_format="%.6g")
    parts = ["# Sizes, printed and counted", EXPLANATION]
    parts += [f"## {paper}\n\n{markdown(table)}" for paper, table in paper_tables(sizes).items()]
    (folder / "sizes.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _check_options(text: str, where: str) -> None:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: options {text!r} are not JSON: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{where}: options {text!r} are no JSON object; without options write {{}}")


def _count(rows: pd.DataFrame) -> pd.DataFrame:
    """Our count of rows that are about one network at one input size."""
    first = rows.iloc[0]
    with torch.device("meta"):  # sizes need no weights
        network = create_model(first["model"], int(first["keypoints"]), **json.loads(first["options"]))
    params = {name or WHOLE: sum(p.numel() for p in module.parameters()) for name, module in network.named_modules()}
    _remove_norms(network)
    cost = complexity(network, (int(first["input_width"]), int(first["input_height"])))
    macs = cost.macs_by_module | {WHOLE: cost.macs}
    counts = [
        {
            "params_M": _less(module, params) / 1e6,
            "macs_G": _less(module, macs) / 1e9,
            "legacy_gflops": cost.legacy_gflops if module == WHOLE else math.nan,
        }
        for module in rows["module"]
    ]
    return pd.DataFrame(counts, index=rows.index)


def _remove_norms(network: nn.Module) -> None:
    """Batch norms count no MACs, but half of the time of counting would be spent in them."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, nn.Identity())


def _less(module: str, sizes: dict[str, int]) -> int:
    """The size of a cell of column `module`: a submodule's, less those of the others named after it."""
    whole, *others = module.split(" - ")
    return sizes[whole] - sum(sizes[other] for other in others)


def _in_printed_unit(row: pd.Series) -> float:
    ours = {
        "MACs / 1e9": row["macs_G"],
        "MACs / 2^30": row["macs_G"] * 1e9 / 2**30,
        "legacy / 2^30": row["legacy_gflops"],
    }
    return ours.get(row["printed_unit"], math.nan)


def _for_readers(rows: pd.DataFrame) -> pd.DataFrame:
    sizes = rows["input_height"].astype(str) + "x" + rows["input_width"].astype(str)
    return pd.DataFrame(
        {
            "network": rows["row"],
            "source": rows["table"],
            "kind": rows["kind"],
            "input": sizes,
            "keypoints": rows["keypoints"],
            "params (M), paper": _cells(rows["printed_params_M"], "{:g}"),
            "params (M)": _cells(rows["params_M"], "{:#.4g}"),
            "params, difference": _cells(rows["params_difference"], "{:+z.1f} %"),
            "GFLOPs, paper": _cells(rows["printed_gflops"], "{:g}"),
            "unit, paper": rows["printed_unit"],
            "MACs (G)": _cells(rows["macs_G"], "{:#.4g}"),
            "legacy GFLOPs": _cells(rows["legacy_gflops"], "{:#.4g}"),
            "GFLOPs, difference": _cells(rows["gflops_difference"], "{:+z.1f} %"),
            "note": rows["note"],
        }
    )


def _cells(values: pd.Series, form: str) -> list[str]:
    return ["" if math.isnan(value) else form.format(value) for value in values]
