"""Test trained runs and leave the figures on disk.

    python -m hpelib.study.steps.evaluate hrnet coco

tests all seeds of `hrnet` on `coco`; with `shuffled` behind, those of the control.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from hpelib.data.loader import make_loader
from hpelib.data.people import People
from hpelib.inference import Predictions
from hpelib.liveness import liveness
from hpelib.metrics.accuracy import errors_px
from hpelib.metrics.cost import complexity
from hpelib.records import presets
from hpelib.study.command import call
from hpelib.study.config import Dataset, Run, load_params, study_runs
from hpelib.study.evaluation import Evaluation, Summary, save
from hpelib.study.steps.predictions import make_predictor
from hpelib.study.steps.prepare import read_split, require_prepared
from hpelib.study.steps.weights import drop_checkpoints, load_network, trained_in
from hpelib.training.engine import precision_here
from hpelib.training.processes import name_arithmetic

LOOKED_AT = 200  # test persons on whom it is measured whether mechanisms act


def test_people(run: Run) -> People:
    """The persons of the test split that all tables are about."""
    require_prepared(run.dataset)
    return run.dataset.form.scored(read_split(run.dataset, "test"))


def make_test(
    run: Run, dataset: Dataset, people: People, detections: People | None
) -> Callable[[nn.Module], tuple[dict[str, float], Predictions, Predictions | None]]:
    """A function of a network: its figures (percent, px) and predictions for the boxes of `people` and of `detections`.

    `people` are the scored persons of the test split of `dataset`. With the boxes of a detector, `detections`, figures
    from these are among the figures. The test protocol is that of `run`. Pictures are decoded once for all networks.
    """
    name_arithmetic()
    form = dataset.form
    predict = make_predictor(run, people)
    predict_detections = None if detections is None else make_predictor(run, detections)

    def test(network: nn.Module) -> tuple[dict[str, float], Predictions, Predictions | None]:
        predictions, detected = predict(network), None
        found = form.figures(dataset, people, predictions.keypoints, predictions.scores, run.test.nms)
        if predict_detections is not None:
            detected = predict_detections(network)
            case = people, detections, detected.keypoints, detected.scores
            found |= form.detection_figures(dataset, *case, run.test.nms)
        found |= errors_px(predictions.keypoints, people.keypoints, people.visibility)
        return found, predictions, detected

    return test


def evaluate(runs: list[Run]) -> Evaluation:
    """All figures of runs that differ in their seed only, by their test protocol.

    Raises:
        FileNotFoundError: a run was not trained, or the dataset was not prepared.
        ValueError: a run was trained under other settings than it has now.
    """
    first, form = runs[0], runs[0].dataset.form
    torch.set_num_threads(first.threads)
    people = test_people(first)
    detections = form.read_detections(first.dataset, "test")
    test = make_test(first, first.dataset, people, detections)  # crops do not depend on the seed
    images = [batch["images"] for batch in make_loader(people.take(slice(LOOKED_AT)), first, train=False)]
    rows, curves, alive, scores, predicted, from_detections = [], [], [], [], [], []
    matches = defaultdict(list)
    for run in runs:
        network = load_network(run, people)
        found, predictions, detected = test(network)
        rows += [{"seed": run.seed, "metric": metric, "value": value} for metric, value in found.items()]
        curves.append(form.curve(people, predictions.keypoints).assign(seed=run.seed))
        alive.append(liveness(network, images, presets()[run.model].mechanisms).assign(seed=run.seed))
        scores.append(form.keypoint_scores(people, predictions.keypoints))
        predicted.append(predictions)
        from_detections.append(detected or predictions)
        for boxes, where, found_there in (("gt", people, predictions), ("det", detections, detected)):
            if found_there is not None:
                case = [found_there.keypoints], found_there.scores, run.test.nms
                matches[boxes] += form.match(run.dataset, people, where, *case)
    everybody = slice(0 if detections is None else None)  # nobody where there are no detections
    return Evaluation(
        figures=pd.DataFrame(rows),
        curves=pd.concat(curves, ignore_index=True),
        liveness=pd.concat(alive, ignore_index=True),
        keypoint_scores=np.stack(scores).astype(np.float32),
        keypoints=np.stack([predictions.keypoints for predictions in predicted]),
        confidences=np.stack([predictions.scores for predictions in predicted]),
        detected_keypoints=np.stack([detected.keypoints[everybody] for detected in from_detections]),
        detected_confidences=np.stack([detected.scores[everybody] for detected in from_detections]),
        image_ids=people.image_ids,
        matches={boxes: found for boxes, found in matches.items() if found},
        summary=_summary(runs, network, people),
    )


def _summary(runs: list[Run], network: nn.Module, people: People) -> Summary:
    run = runs[0]
    size = complexity(network, run.inputs.input_size)
    return Summary(
        network=run.network,
        model=run.model,
        options=run.options,
        dataset=run.dataset.name,
        format=run.dataset.format,
        source=run.dataset.source,
        skeleton=people.skeleton.name,
        own_skeleton=run.dataset.skeleton,
        profile=run.profile,
        labels=run.labels,
        codec=run.inputs.codec,
        precision=trained_in(runs, "precision"),
        machine=trained_in(runs, "machine"),
        test=dataclasses.replace(run.test, precision=precision_here(run.test.precision, run.recipe.device)),
        input_size=run.inputs.input_size,
        seeds=tuple(other.seed for other in runs),
        epochs=run.recipe.epochs,
        persons=len(people),
        params=size.params,
        macs=size.macs,
        legacy_gflops=size.legacy_gflops,
    )


def main(network: str, dataset: str, labels: str = "true") -> None:
    runs = study_runs(load_params(), network, dataset, labels)
    save(evaluate(runs), runs[0].evaluation)
    drop_checkpoints(runs)


if __name__ == "__main__":
    call(main)
