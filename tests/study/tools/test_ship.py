"""Weights that come with the repository are used where nothing was trained, and for their own settings alone."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch

from hpelib.models.weights import load_weights
from hpelib.study.config import make_run
from hpelib.study.inside import views
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, training_people
from hpelib.study.steps.weights import SHIPPED, find_weights, load_network, weights_path, write_weights
from hpelib.study.tools import ship


@pytest.fixture
def shipped(write_set, params, tmp_path, monkeypatch):
    """A run whose weights were shipped and are not there otherwise, and the network that they are of."""
    monkeypatch.chdir(tmp_path)
    dataset = write_set("coco")
    dataset.manifest.parent.mkdir(parents=True, exist_ok=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    run = make_run(params, "hourglass", "coco", 0)
    network = build_network(run, training_people(run))
    write_weights(run, network)
    ship.ship([run])
    weights_path(run).unlink()
    return run, network.eval()


def test_a_run_that_was_not_trained_takes_shipped_weights(shipped, caplog):
    run, network = shipped
    assert find_weights(run).is_relative_to(SHIPPED)
    with caplog.at_level(logging.INFO):
        found = load_network(run, training_people(run))
    assert f"hourglass was not trained here: taking {find_weights(run)}" in caplog.text
    images = torch.rand(2, 3, *reversed(run.inputs.input_size))
    with torch.no_grad():
        np.testing.assert_allclose(found(images), network(images), atol=2e-3)
    kernel = next(name for name, weights in network.state_dict().items() if weights.ndim > 1)
    assert not torch.equal(found.state_dict()[kernel], network.state_dict()[kernel]), "kernels are halved"


def test_a_profile_without_weights_gives_way_to_that_of_the_shipped_ones(shipped, params, tmp_path, monkeypatch):
    run, _ = shipped
    other = params | {"profile": "other", "profiles": {"other": {}} | params["profiles"], "networks": ["hourglass"]}
    monkeypatch.setattr(views, "load_params", lambda: other)
    assert views.params_to_look_at()["profile"] == run.profile
    other["networks"] = ["hourglass", "hrnet"]
    assert views.params_to_look_at()["profile"] == "other", "weights of some networks are not enough"
    other["networks"] = ["hourglass"]
    own = tmp_path / "work/other/runs/coco/hourglass/seed0/weights.safetensors"
    own.parent.mkdir(parents=True)
    own.touch()
    assert views.params_to_look_at()["profile"] == "other"


def test_own_weights_come_first(shipped):
    run, network = shipped
    write_weights(run, network)
    assert find_weights(run) == weights_path(run)


def test_other_settings_do_not_take_them(shipped):
    run, _ = shipped
    assert find_weights(dataclasses.replace(run, options=run.options | {"stacks": 2})) is None
    assert find_weights(dataclasses.replace(run, seed=1)) is None, "another seed is another training"


def test_weights_too_large_for_the_repository_are_refused(shipped, monkeypatch):
    run, network = shipped
    write_weights(run, network)
    monkeypatch.setattr(ship, "LARGEST_MB", 0.0)
    with pytest.raises(ValueError, match=r"the repository takes 0\.0 at most"):
        ship.ship([run])


def test_weights_of_other_datasets_count_too(shipped, monkeypatch):
    run, network = shipped
    write_weights(run, network)
    others = SHIPPED / run.profile / "mpii" / "hrnet.safetensors"
    others.parent.mkdir()
    others.write_bytes(bytes(1_000_000))
    size_mb = ship.ship([run])
    monkeypatch.setattr(ship, "LARGEST_MB", size_mb + 0.9)
    with pytest.raises(ValueError, match="the profile's weights would take"):
        ship.ship([run])
    monkeypatch.setattr(ship, "LARGEST_MB", size_mb + 1.1)
    ship.ship([run])


def test_whole_networks_fit_what_is_read_back(shipped):
    run, network = shipped
    load_weights(network, find_weights(run))  # refuses missing, unexpected and misshapen entries


def test_a_few_people_are_drawn_where_none_are(shipped, monkeypatch):
    run, _ = shipped
    root = run.dataset.work / "mannequins" / "plain" / "coco"
    files = {"annotations": "annotations/person_keypoints_test.json", "images": "images/test"}
    dataset = dataclasses.replace(run.dataset, name="fresh", root=root, splits={"test": files})
    asked = []

    def write(folder, recipe, counts, seed):
        asked.append((counts, seed))
        for _, path in {"annotations": folder / "coco/annotations", "images": folder / "coco/images"}.items():
            path.mkdir(parents=True)
        (folder / "coco/annotations/person_keypoints_test.json").write_text(
            (run.dataset.root / run.dataset.splits["test"]["annotations"]).read_text()
        )
        (folder / "coco/images/test").symlink_to((run.dataset.root / run.dataset.splits["test"]["images"]).resolve())

    monkeypatch.setattr(views, "write_mannequins", write)
    monkeypatch.setattr(views, "read_recipe", lambda *asked: {})
    profile = {"networks": {}, "mannequins": {"plain": {"scale": 1.0, "seed": 3}}}
    profiles = {"p": {}, run.profile: profile}  # the run is of another profile than params.yaml names
    monkeypatch.setattr(views, "load_params", lambda: {"profile": "p", "profiles": profiles})
    people = views.people_to_look_at(dataclasses.replace(run, dataset=dataset))
    views.people_to_look_at(dataclasses.replace(run, dataset=dataset))
    assert asked == [({"test": views.FEW}, 3)], "once"
    assert len(people) == len(views.test_people(run))
