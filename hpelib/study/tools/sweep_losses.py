"""Choose the weights of SADI-Net's losses: short trainings, each judged by the mean over keypoints on the val split.

    python -m hpelib.study.tools.sweep_losses mpii 2000 data/sadi_net_sweep.csv

trains on 2,000 persons of the prepared dataset `mpii`, by the recipe of the current profile, once for each scale of the
two weights and each seed, and writes one row for each training. Scale 0 is the row `rfm` of the ablation: no SFM, no
DLM. SFM and DLM run in training only, so all scales compare what their gradient does to the hourglass.
"""

import sys
from pathlib import Path

import pandas as pd

from hpelib.study.command import call
from hpelib.study.config import lay_over, load_params, make_run, profile_params
from hpelib.study.steps.prepare import read_split
from hpelib.study.steps.train import make_validation
from hpelib.study.tools.small_data import train_apart

SCALES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
PER_SCALE = {"dlm_weight": 1.0, "likelihood_weight": 1 / 60}
SEEDS = (0, 1, 2)


def train_once(params: dict, dataset: str, persons: int, scale: float, seed: int) -> dict[str, float]:
    """Weights, seed, final training loss and figures on val of one training."""
    weights = {name: scale * unit for name, unit in PER_SCALE.items()}
    if scale:
        changes = {"recipe": {"loss": "distribution", "loss_options": weights}}
    else:
        changes = {"options": {"sfm": False, "dlm": False}, "recipe": {"loss": "mse", "loss_options": {}}}
    profile = lay_over(profile_params(params), {"networks": {"sadi_net": changes}})
    run = make_run(params | {"profiles": {params["profile"]: profile}}, "sadi_net", dataset, seed)
    people = read_split(run.dataset, "train").take(range(persons))
    _, (*_, last) = train_apart(run, people, make_validation(run, run.recipe.device, 0, 1))
    return weights | {"seed": seed} | last


def main(dataset: str, persons: int, out: str) -> None:
    if Path(out).exists():
        sys.exit(f"{out} exists; remove it, or give another name")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in SEEDS:
        for scale in SCALES:
            rows.append(train_once(load_params(), dataset, persons, scale, seed))
            pd.DataFrame(rows).to_csv(out, index=False, float_format="%.6g")


if __name__ == "__main__":
    call(main)
