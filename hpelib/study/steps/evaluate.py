"""From trained runs to figures on disk: what the evaluate notebook calls."""

import dataclasses

import numpy as np
import pandas as pd
import torch
from torch import nn

from hpelib.data.people import People
from hpelib.formats import FORMATS
from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.models.weights import load_weights
from hpelib.study.config import Run
from hpelib.study.evaluation import Evaluation, Summary
from hpelib.study.steps.predictions import make_predictor
from hpelib.study.steps.prepare import read_split, require_prepared
from hpelib.training.checkpoints import trained_precision
from hpelib.training.engine import precision_here


def load_network(run: Run, people: People) -> nn.Module:
    """The run's trained network in eval mode.

    Raises:
        FileNotFoundError: the run was not trained.
    """
    path = run.folder / "weights.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run: make study")
    network = create_model(run.model, num_keypoints=people.skeleton.num_keypoints, **run.options)
    load_weights(network, path)
    return network.eval().to(run.recipe.device, memory_format=torch.channels_last)  # as in training


def test_people(run: Run) -> People:
    """The persons that tables are about."""
    require_prepared(run.dataset)
    return FORMATS[run.dataset.format].scored(read_split(run.dataset, "test"))


def evaluate(runs: list[Run]) -> Evaluation:
    """All figures of runs that differ in their seed only, by their test protocol."""
    first, form = runs[0], FORMATS[runs[0].dataset.format]
    torch.set_num_threads(first.threads)
    people = test_people(first)
    detections = form.read_detections(first.dataset, "test")
    # crops do not depend on the seed, and a predictor keeps the images that it has decoded
    predict = make_predictor(first, people)
    predict_detections = None if detections is None else make_predictor(first, detections)
    rows, curves, scores, predicted = [], [], [], []
    for run in runs:
        network = load_network(run, people)
        predictions = predict(network)
        found = form.figures(run.dataset, people, predictions.keypoints, predictions.scores, run.test.nms)
        if predict_detections is not None:
            detected = predict_detections(network)
            case = people, detections, detected.keypoints, detected.scores
            found |= form.detection_figures(run.dataset, *case, run.test.nms)
        rows += [{"seed": run.seed, "metric": metric, "value": value} for metric, value in found.items()]
        curves.append(form.curve(people, predictions.keypoints).assign(seed=run.seed))
        scores.append(form.keypoint_scores(people, predictions.keypoints))
        predicted.append(predictions)
    return Evaluation(
        figures=pd.DataFrame(rows),
        curves=pd.concat(curves, ignore_index=True),
        keypoint_scores=np.stack(scores).astype(np.float32),
        keypoints=np.stack([predictions.keypoints for predictions in predicted]),
        confidences=np.stack([predictions.scores for predictions in predicted]),
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
        profile=run.profile,
        labels=run.labels,
        codec=run.inputs.codec,
        precision=", ".join(sorted({trained_precision(other.folder / "weights.safetensors") for other in runs})),
        test=dataclasses.replace(run.test, precision=precision_here(run.test.precision, run.recipe.device)),
        input_size=run.inputs.input_size,
        seeds=tuple(other.seed for other in runs),
        epochs=run.recipe.epochs,
        persons=len(people),
        params=size.params,
        macs=size.macs,
        legacy_gflops=size.legacy_gflops,
    )
