"""Whether a set of photographs under datasets/ is the one that it should be.

    python -m hpelib.study.tools.check_set mpii

reads the annotations, looks for every picture, and checks that coordinates can be right. It prints how many persons
and pictures there are beside the numbers that data/real_sets.yaml expects, and size and SHA-256 of every annotation
file. `prepare` also decodes the pictures.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from hpelib.study.config import Dataset, load_params, make_dataset, profile_params
from hpelib.study.steps.prepare import read_split

KNOWN = Path("data/real_sets.yaml")


def real_dataset(params: dict, name: str) -> Dataset:
    """The set `name` of the first profile that has it as photographs, without what is merged into its training.

    Raises:
        ValueError: no profile has such a set.
    """
    for profile in params["profiles"]:
        chosen = params | {"profile": profile}
        known = name in profile_params(chosen)["datasets"]
        if known and (dataset := make_dataset(chosen, name)).source != "mannequins":
            splits = dataset.splits.items()
            own = {split: {key: files[key] for key in files if key != "merged"} for split, files in splits}
            return replace(dataset, splits=own)
    raise ValueError(f"params.yaml: no profile reads photographs for {name!r}")


def count(dataset: Dataset, expect: dict[str, int]) -> pd.DataFrame:
    """Columns expected and found, by the keys of `expect`: persons or images, of all splits or of one (val_persons).

    Raises:
        FileNotFoundError, ValueError: a file is missing, or annotations cannot be right.
    """
    people = {split: read_split(dataset, split) for split in dataset.splits}
    for split, part in people.items():
        dataset.form.check(dataset, split, part)
    found = {}
    for key in expect:
        split, _, what = key.rpartition("_")
        parts = [people[split]] if split else people.values()
        found[key] = sum(len(part) if what == "persons" else len(np.unique(part.image_paths)) for part in parts)
    return pd.DataFrame({"expected": expect, "found": found}).rename_axis("count")


def describe_files(dataset: Dataset) -> pd.DataFrame:
    """Columns bytes and sha256, by the annotation files."""
    contents = {str(path): path.read_bytes() for path in dataset.form.annotation_files(dataset)}
    rows = {path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in contents.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["bytes", "sha256"]).rename_axis("file")


if __name__ == "__main__":
    known = yaml.safe_load(KNOWN.read_text())
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.check_set", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=known)
    name = parser.parse_args().dataset
    chosen = real_dataset(load_params(), name)
    counts = count(chosen, known[name]["expect"])
    print(counts.to_string(), describe_files(chosen).to_string(), sep="\n\n")
    if (counts["expected"] != counts["found"]).any():
        sys.exit(f"{chosen.root} is not the set that {KNOWN} describes")
