"""What the commands on pictures of one's own have in common: their arguments, and where they may write."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hpelib.study.config import Dataset, Run, load_params, make_run

FILES = ("annotations", "images", "ground_truth", "detections")


def make_parser(tool: str, description: str) -> argparse.ArgumentParser:
    """A parser of the arguments that choose a trained run and the files of a set."""
    parser = argparse.ArgumentParser(f"python -m hpelib.study.tools.{tool}", description=description)
    parser.add_argument("network", help="a network of the current profile in params.yaml")
    parser.add_argument("trained_on", help="the dataset that it was trained on")
    parser.add_argument("seed", type=int)
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the other paths are relative to")
    parser.add_argument("--annotations", help="json file (coco, mpii)")
    parser.add_argument("--images", help="folder (coco, mpii)")
    parser.add_argument("--ground-truth", help="mat file with head boxes (mpii)")
    parser.add_argument("--detections", help="json file of a detector's boxes (coco)")
    parser.add_argument("--force", action="store_true", help="use weights that were trained under other settings")
    return parser


def chosen_run(given: argparse.Namespace) -> Run:
    """The run that the arguments name, under the current profile of params.yaml."""
    return make_run(load_params(), given.network, given.trained_on, given.seed)


def chosen_set(parser: argparse.ArgumentParser, given: argparse.Namespace, format: str) -> Dataset:
    """The set that the arguments name; its only split is `test`. Missing arguments end the command."""
    files = {kind: getattr(given, kind) for kind in FILES if getattr(given, kind)}
    if format == "lsp":
        files = {"folder": "."}
    elif not {"annotations", "images"} <= files.keys():
        parser.error(f"the format {format} needs --annotations and --images")
    return Dataset(given.root.name, "own pictures", format, given.root, {"test": files})


def require_apart(out: Path, sources: Sequence[Path]) -> None:
    """Check that no source lies in the folder `out` or below it, where a result could be written over it.

    Raises:
        ValueError: naming the first source that does.
    """
    for source in sources:
        if source.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"{source} lies in {out}, where results go; give another folder for the results")
