"""Test the networks on the stress tests: the same people, with one thing about the picture made harder at a time.

    python -m hpelib.study.steps.stress PICTURES OUT

PICTURES is the folder of the rendered tests. `hpelib.study.evaluation` reads what is written into the folder OUT.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from hpelib.data.files import write_arrays
from hpelib.data.people import People
from hpelib.mannequins.stress import pictures, read_stress
from hpelib.study.command import call
from hpelib.study.config import load_params, study_runs
from hpelib.study.evaluation import STRESS_DATASET, Hits
from hpelib.study.steps.evaluate import load_network
from hpelib.study.steps.predictions import make_predictor


def evaluate_all(params: dict, people: People) -> Hits:
    """The hits of every network of the study that was trained with all its seeds, by its test protocol.

    Raises:
        ValueError: `people` are not those of a stress test.
    """
    if not len(people) or len(people) % len(pictures()) or "factor" not in people.factors:
        raise ValueError(f"{len(people)} people are no stress test of {len(pictures())} pictures each: render it again")
    hits, predictors = {}, {}
    for network in params["networks"]:
        runs = study_runs(params, network, STRESS_DATASET)
        if not all((run.folder / "weights.safetensors").is_file() for run in runs):
            continue
        torch.set_num_threads(runs[0].threads)
        # networks that are fed alike share a predictor, and so the pictures that it has decoded
        fed = dataclasses.replace(runs[0].inputs, seed=0), runs[0].test, runs[0].recipe.device
        if fed not in predictors:
            predictors[fed] = make_predictor(runs[0], people)
        found = [predictors[fed](load_network(run, people)).keypoints for run in runs]
        scores = [runs[0].dataset.form.keypoint_scores(people, keypoints) for keypoints in found]
        hits[network] = np.stack(scores).reshape(len(runs), -1, len(pictures()), 16)
    return hits


def main(pictures: str, out: str) -> None:
    rendered, _ = read_stress(pictures)
    write_arrays(Path(out) / "hits.npz", evaluate_all(load_params(), rendered))


if __name__ == "__main__":
    call(main)
