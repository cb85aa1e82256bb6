"""The step that tests networks on the stress tests, against predictions of each seed by hand."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hpelib.data.loader import make_loader
from hpelib.inference import predict
from hpelib.mannequins.stress import pictures
from hpelib.metrics.accuracy import pckh
from hpelib.models import create_model
from hpelib.study.config import study_runs
from hpelib.study.evaluation import load_hits
from hpelib.study.steps.evaluate import load_network
from hpelib.study.steps.stress import evaluate_all

F = len(pictures())


@pytest.fixture
def trained(params, tmp_path, monkeypatch):
    """Parameters of two networks that are fed alike and have random weights for two seeds."""
    monkeypatch.chdir(tmp_path)
    narrow = params["profiles"]["tiny"]["networks"]["hourglass"]
    params["profiles"]["tiny"]["networks"]["other"] = narrow
    params["networks"] = ["hourglass", "other"]
    for number, network in enumerate(params["networks"]):
        for run in study_runs(params, network, "mpii"):
            torch.manual_seed(10 * number + run.seed)
            run.folder.mkdir(parents=True)
            weights = create_model(run.model, num_keypoints=16, **run.options).state_dict()
            save_file(weights, run.folder / "weights.safetensors")
    return params


def test_hits_are_those_of_each_seeds_own_predictions(trained, stress_people, tmp_path):
    np.savez_compressed(tmp_path / "hits.npz", **evaluate_all(trained, stress_people))
    hits = load_hits(tmp_path)
    assert list(hits) == ["hourglass", "other"]
    for network, of_network in hits.items():
        assert of_network.shape == (2, 2, F, 16)
        for run, of_run in zip(study_runs(trained, network, "mpii"), of_network, strict=True):
            loader = make_loader(stress_people, run, train=False)
            predicted = predict(load_network(run, stress_people), loader, loader.codec)
            truth = stress_people.keypoints, stress_people.visibility, stress_people.head_sizes_px
            expected = pckh(predicted.keypoints, *truth)["Mean"]
            assert 100 * np.nanmean(of_run) == pytest.approx(expected)
    assert not np.array_equal(hits["hourglass"], hits["other"], equal_nan=True)


def test_a_network_without_all_its_weights_is_left_out(trained, stress_people):
    (study_runs(trained, "hourglass", "mpii")[1].folder / "weights.safetensors").unlink()
    assert list(evaluate_all(trained, stress_people)) == ["other"]


def test_people_of_no_stress_test_are_refused(trained, stress_people):
    with pytest.raises(ValueError, match=rf"{2 * F - 1} people are no stress test of {F} pictures each"):
        evaluate_all(trained, stress_people.take(slice(1, None)))


def test_without_hits_the_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hits.npz not found; run: dvc repro stress_hits"):
        load_hits(tmp_path)
