"""What the commands on pictures of one's own have in common: their arguments, and where they may write."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpelib.formats import FORMATS, KINDS
from hpelib.study.config import Dataset, Run, load_params, make_run

SCORED = [name for name, form in FORMATS.items() if form.arguments]  # formats that own pictures may have


def make_parser(tool: str, description: str) -> argparse.ArgumentParser:
    """A parser of the arguments that choose a trained run and the files of a set."""
    parser = argparse.ArgumentParser(f"python -m hpelib.study.tools.{tool}", description=description)
    parser.add_argument("network", help="a network of the current profile in params.yaml")
    parser.add_argument("trained_on", help="the dataset that it was trained on")
    parser.add_argument("seed", type=int)
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the other paths are relative to")
    for key in dict.fromkeys(key for name in SCORED for key in FORMATS[name].arguments):
        told = "; ".join(f"{name}: {FORMATS[name].arguments[key]}" for name in SCORED if key in FORMATS[name].arguments)
        parser.add_argument(f"--{key.replace('_', '-')}", type=KINDS.get(key, (str,))[0], help=told)
    parser.add_argument("--force", action="store_true", help="use weights that were trained under other settings")
    return parser


def chosen_run(given: argparse.Namespace) -> Run:
    """The run that the arguments name, under the current profile of params.yaml."""
    return make_run(load_params(), given.network, given.trained_on, given.seed)


def chosen_set(parser: argparse.ArgumentParser, given: argparse.Namespace, format: str, run: Run) -> Dataset:
    """The set that the arguments name, whose only split is `test`; in the run's format it has the run's skeleton.

    Missing arguments end the command.
    """
    form = FORMATS[format]
    keys = {key for name in SCORED for key in FORMATS[name].arguments}
    files = {key: getattr(given, key) for key in sorted(keys) if getattr(given, key) is not None}
    if "folder" in form.required:
        files = {"folder": "."} | files
    if not set(form.required) <= files.keys() <= form.arguments.keys():
        parser.error(f"the format {format} needs {_options(form.required)} and may have {_options(form.arguments)}")
    skeleton = run.dataset.skeleton if run.dataset.format == format else {}
    return Dataset(given.root.name, "own pictures", format, given.root, {"test": files}, skeleton=skeleton)


def _options(keys: Iterable[str]) -> str:
    return ", ".join(f"--{key.replace('_', '-')}" for key in keys)


def require_apart(out: Path, sources: Sequence[Path]) -> None:
    """Check that no source lies in the folder `out` or below it, where a result could be written over it.

    Raises:
        ValueError: naming the first source that does.
    """
    for source in sources:
        if source.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"{source} lies in {out}, where results go; give another folder for the results")
