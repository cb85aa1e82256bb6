"""The ablations of the papers: each paper's network with parts switched off, all else equal.

`ablations` in params.yaml has one entry for each paper: the datasets, and for every row the changes that are laid over
the entry that the paper's network has in the profile. So one row serves narrow and full-size networks alike.
"""

import dataclasses
from collections.abc import Iterator

import pandas as pd

from hpelib.layers.choices import require_choice
from hpelib.study.config import Run, lay_over, make_run, networks_on, profile_params


def ablation_runs(params: dict, paper: str, seed: int, dataset: str = "") -> dict[str, Run]:
    """The run of every row of the paper's ablations on one dataset, by default the first of the paper's.

    The rows share seed, data, order of the data and schedule.

    Where the profile has a recipe of the paper under `paper_recipes`, it replaces that of the common comparison.

    Raises:
        ValueError: no such ablation, no such network in the profile, or a row that no run can be made of.
    """
    if paper not in params["ablations"]:
        raise ValueError(f"params.yaml: unknown ablation {paper!r}; known here: {', '.join(params['ablations'])}")
    ablation, profile = params["ablations"][paper], profile_params(params)
    if paper not in profile["networks"]:
        raise ValueError(f"params.yaml: profile {params['profile']} has no network {paper}, so no ablation of it")
    own = {"recipe": profile.get("paper_recipes", {}).get(paper, {})}
    networks = profile["networks"] | {paper: lay_over(profile["networks"][paper], own)}
    runs: dict[str, Run] = {}
    for row, changes in ablation["rows"].items():
        entries = networks | {paper: row_entry(networks, paper, changes)}
        varied = params | {"profiles": {params["profile"]: profile | {"networks": entries}}}
        run = make_run(varied, paper, dataset or ablation["datasets"][0], seed)
        if same := [name for name, other in runs.items() if other == dataclasses.replace(run, variant=name)]:
            raise ValueError(
                f"params.yaml: ablations.{paper}: the rows {same[0]} and {row} are one and the same training"
            )
        runs[row] = dataclasses.replace(run, variant=row)
    return runs


def planned_runs(params: dict) -> Iterator[tuple[str, Run]]:
    """A run of every network on each of its datasets, of the control and of every row, with what messages call it."""
    for dataset in params["all_datasets"]:
        for network in networks_on(params, dataset):
            yield f"{network} on {dataset}", make_run(params, network, dataset, params["seeds"][0])
    for dataset in params["datasets"]:
        control = params["control"]
        yield f"the control {control} on {dataset}", make_run(params, control, dataset, params["seeds"][0], "shuffled")
    for paper, ablation in params["ablations"].items():
        for dataset in ablation["datasets"]:
            for row, run in ablation_runs(params, paper, params["ablation_seeds"][0], dataset).items():
                yield f"row {row} of {paper} on {dataset}", run


def require_persons(params: dict, dataset: str, persons: int) -> None:
    """Check that a training split of `persons` is enough for every run and row on `dataset`.

    Raises:
        ValueError: naming the first run that could not train, and why.
    """
    for name, run in planned_runs(params):
        if run.dataset.name == dataset:
            try:
                run.require_persons(persons)
            except ValueError as error:
                raise ValueError(f"params.yaml: {name} cannot train: {error}") from error


def row_entry(networks: dict, paper: str, changes: dict) -> dict:
    """The network's entry with a row's changes laid over it. A row that names a loss has only its own `loss_options`.

    `backbone_options` may name another network of the profile. They are then the options of that network.

    Raises:
        ValueError: it names none; the message has the paper.
    """
    entry, recipe = networks[paper], changes.get("recipe", {})
    if "loss" in recipe:  # options of the network's loss are none of another
        entry = lay_over(entry, {"recipe": {"loss_options": None}})
    entry = lay_over(entry, changes)
    backbone = entry.get("options", {}).get("backbone_options")
    if isinstance(backbone, str):
        require_choice(f"params.yaml: ablations.{paper}: backbone_options", backbone, networks)
        entry["options"]["backbone_options"] = networks[backbone].get("options", {})
    return entry


def describe_rows(params: dict, paper: str) -> pd.DataFrame:
    """One line for each row: what is laid over the network's entry, as name=value."""
    rows = params["ablations"][paper]["rows"]
    lines = {row: ", ".join(f"{name}={value}" for name, value in _flatten(changes)) for row, changes in rows.items()}
    return pd.Series(lines, name="differs from the full network in").rename_axis("row").to_frame()


def _flatten(changes: dict) -> Iterator[tuple[str, object]]:
    """The innermost names of nested mappings, with their values."""
    for name, value in changes.items():
        if isinstance(value, dict):
            yield from _flatten(value)
        else:
            yield name, value
