"""Draw the pictures that the current profile asks for.

    python -m hpelib.study.steps.render people RECIPE TARGET    persons to train and test on
    python -m hpelib.study.steps.render stress RECIPE TARGET    the stress set

RECIPE is a file such as data/mannequins.yaml. TARGET is the folder to write; it is replaced if it is there. How many
persons, and the seed, are in the section `mannequins` or `stress` of the profile.
"""

import os
import sys

from hpelib.layers.choices import require_choice
from hpelib.mannequins.scenes import read_recipe
from hpelib.mannequins.writing import write_mannequins, write_stress
from hpelib.study.config import load_params, profile_params

SETS = {"people": ("mannequins", write_mannequins), "stress": ("stress", write_stress)}  # section, what writes the set

if __name__ == "__main__":
    kind, recipe, target = sys.argv[1:]
    require_choice("the set to render", kind, SETS)
    section, write = SETS[kind]
    asked = profile_params(load_params())[section]
    made = write(target, read_recipe(recipe), asked["persons"], asked["seed"], os.cpu_count() or 1)
    for name, counts in (made if kind == "people" else {kind: made}).items():
        print(f"{name}: {counts['persons']} persons in {counts.get('images', counts.get('pictures'))} pictures")
