"""The stress tests of the current profile, rendered to `work/stress`."""

import os
import sys
from pathlib import Path

from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.stress_writing import write_stress
from hpelib.study.config import load_params, profile_params


def render(recipe: Path, target: Path) -> dict:
    """Render as many people as the profile asks for, and return what was written."""
    asked = profile_params(load_params())["stress"]
    return write_stress(target, read_recipe(recipe), asked["persons"], asked["seed"], os.cpu_count() or 1)


if __name__ == "__main__":
    made = render(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{made['persons']} persons in {made['pictures']} pictures")
