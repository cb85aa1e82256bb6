"""Draw the pictures that the current profile asks for.

    python -m hpelib.study.steps.render people RECIPE TARGET    persons to train and test on
    python -m hpelib.study.steps.render stress RECIPE TARGET    the stress set

RECIPE is a file such as data/mannequins.yaml. TARGET is the folder to write. If it is as this command has left it, it
is replaced; any other file stops the command. How many persons, and the seed, are in the section `mannequins` or
`stress` of the profile. `mannequins` has an entry for each level of the recipe that the profile draws; each comes into
a folder of its name. The stress set is of `everyday`. TARGET/.hpelib.json lists the SHA-256 of every file.
"""

import os
from pathlib import Path

from hpelib.data.folders import seal
from hpelib.layers.choices import require_choice
from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.writing import write_mannequins, write_stress
from hpelib.study.command import call
from hpelib.study.config import load_params, profile_params

KINDS = ("people", "stress")


def main(kind: str, recipe: str, target: str) -> None:
    require_choice("the set to render", kind, KINDS)
    profile, processes = profile_params(load_params()), os.cpu_count() or 1
    if kind == "stress":
        asked = profile["stress"]
        made = {kind: write_stress(target, read_recipe(recipe), asked["persons"], asked["seed"], processes)}
    else:
        made = {}
        asked_of = profile["mannequins"]
        recipes = {level: read_recipe(recipe, level, asked["scale"]) for level, asked in asked_of.items()}
        for level, asked in asked_of.items():
            written = write_mannequins(Path(target) / level, recipes[level], asked["persons"], asked["seed"], processes)
            made |= {f"{level}, {split}": counts for split, counts in written.items()}
        seal(Path(target))
    for name, counts in made.items():
        print(f"{name}: {counts['persons']} persons in {counts.get('images', counts.get('pictures'))} pictures")


if __name__ == "__main__":
    call(main)
