import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, training_people
from hpelib.study.tools.small_data import Trial, make_case


@pytest.fixture
def cases(write_set, params, tmp_path, monkeypatch):
    """`cases(start)` is a run of three epochs on four persons of the tiny set."""
    monkeypatch.chdir(tmp_path)
    dataset = write_set("lsp")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))

    def make(start, seed=0):
        changes = {"pretrained": start, "recipe": {"epochs": 3}}
        return make_case(params, "hourglass", "lsp", changes, persons=4, seed=seed)

    return make


def test_a_pair_differs_in_its_start_alone_and_a_seed_draws_its_own_persons(cases, tmp_path):
    plain = cases(False)
    network = build_network(plain, training_people(plain))
    save_file({name: torch.full_like(tensor, 0.5) for name, tensor in network.state_dict().items()}, "w.safetensors")
    started = cases("w.safetensors")
    assert plain.recipe == started.recipe
    assert plain.recipe.epochs == 3
    assert plain.digest != started.digest
    people = training_people(plain).ids.tolist()
    assert people == training_people(started).ids.tolist()
    assert {tuple(training_people(cases(False, seed)).ids) for seed in range(9)} > {tuple(people)}
    weights = build_network(started, training_people(started)).state_dict()
    assert all((tensor == 0.5).all() for tensor in weights.values() if tensor.is_floating_point())
    digest = started.digest
    save_file({name: 2 * tensor for name, tensor in load_file("w.safetensors").items()}, "w.safetensors")
    assert cases("w.safetensors").digest != digest, "other weights are another run"


def test_the_best_epoch_is_tested_beside_the_last_and_a_trial_is_kept(cases, tmp_path, monkeypatch):
    trial, run = Trial(cases(False), tmp_path / "kept"), cases(False)
    scores, tested, measured = iter([1.0, 3.0, 2.0]), [], []
    monkeypatch.setattr(trial, "_test", lambda network: tested.append(total(network)) or np.zeros((2, 14)))

    def total(network) -> float:
        return sum(float(tensor.double().sum()) for tensor in network.state_dict().values())

    monkeypatch.setattr(trial, "validate", lambda network: measured.append(total(network)) or {"PCK@0.2": next(scores)})
    found = trial(run)
    assert found["looks"].tolist() == [[1, 1], [2, 3], [3, 2]]
    assert tested == [measured[2], measured[1]], "the last weights, then those of the best epoch"
    assert len(set(measured)) == 3
    np.testing.assert_array_equal(trial(run)["looks"], found["looks"])
    assert len(tested) == 2, "nothing is trained twice"
    scores = iter([1.0, 3.0, 2.0])
    pyramid = dataclasses.replace(run, test=dataclasses.replace(run.test, pyramid=True))
    trial(pyramid)
    assert len(tested) == 4, "another test is another result"


@pytest.mark.usefixtures("cases")  # the set is prepared
@pytest.mark.parametrize(
    ("persons", "message"), [(1, r"gives 1 persons, but a batch .* has \d+"), (9, "persons is 9, but .* train has 5")]
)
def test_sizes_that_cannot_train_are_refused_before_any_trains(params, persons, message):
    with pytest.raises(ValueError, match=message):
        make_case(params, "hourglass", "lsp", {}, persons, seed=0)
