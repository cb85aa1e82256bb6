import json
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from hpelib.records import quantity, records
from hpelib.study.config import make_run
from hpelib.study.inside import views as looks
from hpelib.study.steps.prepare import prepare, read_split
from hpelib.study.steps.train import build_network
from hpelib.study.steps.weights import write_weights

NETWORKS = {record.name: record.full_size for record in records().values()} | {
    "simple_baseline": "simple_baseline_resnet34"
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def study(params, write_set, narrow_options, tmp_path, monkeypatch):
    """Parameters of a prepared COCO set whose networks have random weights on disk."""
    monkeypatch.chdir(tmp_path)
    profile = params["profiles"]["tiny"]
    profile["inputs"] |= {"input_size": [64, 64], "heatmap_size": [16, 16]}
    profile["networks"] = {name: {"model": model, "options": narrow_options[model]} for name, model in NETWORKS.items()}
    profile["networks"]["fr_sbn"]["inputs"] = {"heatmap_size": [64, 64], "sigma": 4.0}
    params |= {"datasets": ["coco"], "networks": list(NETWORKS), "seeds": [0]}
    dataset = write_set("coco")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    people = read_split(dataset, "test")
    for network in NETWORKS:
        run = make_run(params, network, "coco", 0)
        run.folder.mkdir(parents=True)
        write_weights(run, build_network(run, people))
    return params


def test_every_paper_has_a_baseline_and_every_network_a_story():
    assert set(STORIES) == set(NETWORKS)
    assert compared("ditn") == ["hrnet", "ditn"]
    assert compared("hrnet") == ["hrnet"]
    assert set(BASELINES.values()) <= set(NETWORKS) - set(BASELINES)


def test_every_story_shows_what_its_network_has(study):
    gallery = looks.Gallery.of(study, "coco")
    views = {"easy": gallery.view(0), "small": gallery.view(2)}
    for network, stories in STORIES.items():
        seen = views["easy"].looks[network]
        told = {name for name in seen if any(re.fullmatch(story.looks, name) for story in stories)}
        own = {name for name in seen if quantity(name).source.startswith(("DE-", "SADI", "FR-", "DITN", "DAU"))}
        beside = r"stage[23]\..*dysample.*|.*dysample\dto[12]|(decoder\d|stage4)_sah|rfm\d\d+_se|dlm_(mu|sigma)"
        untold = {name for name in own - told if not re.fullmatch(beside, name)}
        assert not untold, f"{network}: no picture of {untold}"
        for story in stories:
            figure = looks.looks_of(views, network, story.looks)
            assert figure.axes[1].get_title(), story.name


def test_each_network_is_decoded_with_its_own_codec(study):
    view = looks.Gallery.of(study, "coco", ["simple_baseline", "fr_sbn"]).view(1)
    assert view.predictions["simple_baseline"].stride_px == (4.0, 4.0)
    assert view.predictions["fr_sbn"].stride_px == (1.0, 1.0)
    assert view.looks["fr_sbn"]["target"].shape == (17, 64, 64)
    peak = np.unravel_index(view.looks["simple_baseline"]["target"][5].argmax(), (16, 16))[::-1]
    np.testing.assert_allclose(np.array(peak) * 4.0, view.keypoints[5], atol=2.01)


def test_looks_are_of_the_person_viewed(study):
    gallery = looks.Gallery.of(study, "coco", ["hrnet"])
    before = torch.get_rng_state()
    first, again, other = (gallery.view(person).looks["hrnet"]["stage3.branch1"] for person in (0, 0, 2))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_three_people_are_chosen_by_their_annotation():
    visibility = np.full((6, 17), 2)
    visibility[1, :9] = 1  # the most occluded
    visibility[4, :12] = 1  # more so, but not all of its keypoints are labelled
    visibility[4, 16] = 0
    visibility[3, :2] = 1  # smaller than the small one, but more occluded than most
    sizes_px = np.array([[20, 30], [20, 40], [50, 20], [9, 10], [20, 20], [9, 12]])
    people = SimpleNamespace(visibility=visibility, sizes_px=sizes_px)
    assert looks.fixed_people(people) == {"easy": 2, "occluded": 1, "small": 5}


def test_a_network_beside_one_that_is_not_run_is_answered_in_words(study):
    views, skeleton = looks.fixed_views(study, "coco", ["hrnet", "ditn"])
    assert set(views) == {"easy", "occluded", "small"}
    assert skeleton.num_keypoints == 17
    assert looks.not_run(study, "coco", ["hrnet", "ditn"]) == ""
    study["networks"] = ["ditn"]
    assert looks.fixed_views(study, "coco", ["hrnet", "ditn"]) == ({}, None)
    text = looks.not_run(study, "coco", ["hrnet", "ditn"])
    assert text.startswith("*Not run*: hrnet on coco, so there are no pictures here of ditn beside hrnet.")


def test_what_a_network_does_not_show_is_an_error_that_names_what_it_shows(study):
    views = {"easy": looks.Gallery.of(study, "coco", ["hourglass"]).view(0)}
    with pytest.raises(ValueError, match=r"hourglass shows nothing that matches 'cab'; it shows heatmaps, stack1"):
        looks.looks_of(views, "hourglass", "cab")
