"""The mannequins of the current profile, rendered to `work/mannequins`."""

import os
import sys
from pathlib import Path

import yaml

from hpelib.mannequins.writing import write_mannequins
from hpelib.study.config import load_params, profile_params


def render(recipe: Path, target: Path) -> dict:
    """Render all splits that the profile counts, and return what was written."""
    asked = profile_params(load_params())["mannequins"]
    return write_mannequins(
        target, yaml.safe_load(recipe.read_text()), asked["persons"], asked["seed"], os.cpu_count() or 1
    )


if __name__ == "__main__":
    for split, made in render(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{split}: {made['persons']} persons in {made['images']} images")
