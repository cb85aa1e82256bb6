import re
from types import SimpleNamespace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD
from hpelib.data.people import People
from hpelib.figures.looks import look_sheet, panels_of
from hpelib.records import baselines, quantity, records
from hpelib.skeletons import COCO17
from hpelib.study.inside import views
from hpelib.study.inside.views import first_seeds, fixed_people
from hpelib.study.steps.train import build_network

NETWORKS = {name: record.full_size for name, record in records().items()}
NETWORKS["simple_baseline"] = "simple_baseline_resnet34"


@pytest.fixture
def study(params, narrow_options, tmp_path, monkeypatch) -> dict:
    """Parameters by which every network has random weights and looks at two persons in a picture of noise."""
    monkeypatch.chdir(tmp_path)
    profile = params["profiles"]["tiny"]
    profile["inputs"] |= {"input_size": [64, 64], "heatmap_size": [16, 16]}
    profile["networks"] = {name: {"model": model, "options": narrow_options[model]} for name, model in NETWORKS.items()}
    profile["networks"]["fr_sbn"]["inputs"] = {"heatmap_size": [64, 64], "sigma": 4.0}
    random = np.random.default_rng(0)
    cv2.imwrite("noise.png", random.integers(0, 256, (120, 240, 3), np.uint8))
    boxes = np.array([[60.0, 30, 40, 50], [150, 40, 60, 40]])
    people = People(
        COCO17,
        image_paths=np.full(2, "noise.png", object),
        image_ids=np.zeros(2),
        ids=np.arange(2),
        keypoints=boxes[:, None, :2] + random.uniform(0.1, 0.9, (2, 17, 2)) * boxes[:, None, 2:],
        visibility=np.full((2, 17), 2),
        boxes=boxes,
    )
    monkeypatch.setattr(views, "test_people", lambda run: people)
    monkeypatch.setattr(views, "load_network", build_network)
    return params | {"datasets": ["coco"], "all_datasets": ["coco"], "networks": list(NETWORKS), "seeds": [0]}


def test_every_network_has_a_baseline_or_is_one():
    assert set(baselines().values()) == set(records()) - set(baselines())
    assert baselines(["de_hrnet_w48_384", "hrnet_384"])["de_hrnet_w48_384"] == "hrnet_w48_384"
    assert records()["ditn"].compared == ["hrnet", "ditn"]
    assert records()["hrnet"].compared == ["hrnet"]


def test_all_that_a_network_shows_has_a_meaning_and_can_be_drawn(study):
    gallery = first_seeds(study, "coco")
    assert list(gallery.runs) == list(NETWORKS)
    for network in NETWORKS:
        (view,) = gallery.look(network, 0)
        assert [name for name in view.looks if not quantity(name).source] == [], network
        for name in view.looks:
            if panels_of(quantity(name), view.looks[name]):
                figure = look_sheet({"easy": view, "small": view}, re.escape(name))
                assert figure.axes[1].get_title()
                plt.close(figure)


def test_each_network_is_decoded_with_its_own_codec(study):
    by_network = first_seeds(study, "coco", ["simple_baseline", "fr_sbn"]).look_by_all(1)
    ours, theirs = by_network["simple_baseline"], by_network["fr_sbn"]
    assert (ours.stride_px, theirs.stride_px) == ((4.0, 4.0), (1.0, 1.0))
    for view, size in ((ours, 16), (theirs, 64)):
        assert view.heatmaps.shape == view.looks["target"].shape == (17, size, size)
        peaks = [np.unravel_index(heatmap.argmax(), (size, size))[::-1] for heatmap in view.looks["target"]]
        np.testing.assert_allclose(np.array(peaks) * view.stride_px, view.crop.keypoints, atol=0.51 * view.stride_px[0])


def test_looks_are_of_the_person_viewed_and_repeat(study):
    gallery = first_seeds(study, "coco", ["hrnet"])
    first = gallery.look("hrnet", 0)[0].looks["stage3.branch1"]
    before = torch.get_rng_state()
    again, other = (gallery.look("hrnet", person)[0].looks["stage3.branch1"] for person in (0, 1))
    assert torch.equal(before, torch.get_rng_state()), "looking must not change the random numbers of what follows"
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("pixel_order", "channels"), [("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])])
def test_a_network_sees_the_crop_with_grey_where_it_is_hidden(study, pixel_order, channels, monkeypatch):
    monkeypatch.setattr(views, "load_network", lambda run, people: Mirror())
    study["profiles"]["tiny"]["inputs"] |= {"heatmap_size": [64, 64], "pixel_order": pixel_order}
    mask = np.zeros((64, 64), bool)
    mask[17:24, 7:14] = True
    free, hidden = first_seeds(study, "coco", ["hrnet"]).look("hrnet", 0, (views.NOTHING, mask))
    np.testing.assert_array_equal((hidden.crop.pixels != free.crop.pixels).any(-1), mask)
    assert (hidden.crop.pixels[mask] == 128).all()
    for view in (free, hidden):
        seen = (view.crop.pixels[..., channels] / 255 - IMAGENET_MEAN) / IMAGENET_STD
        np.testing.assert_allclose(view.looks["seen"].transpose(1, 2, 0), seen, atol=1e-5)


class Mirror(nn.Module):
    def forward(self, images, look):
        return images.mean(1, keepdim=True).expand(-1, 17, -1, -1), {"seen": images}


def test_an_unknown_run_is_named_with_those_that_are_there(study):
    with pytest.raises(ValueError, match=r"'hrnet, seed 7' is none of 'hourglass', 'ditn'"):
        first_seeds(study, "coco", ["hourglass", "ditn"]).look("hrnet, seed 7", 0)


def test_the_three_people_are_chosen_by_their_annotation():
    visibility = np.full((6, 17), 2)
    visibility[1, :9] = 1  # the most occluded
    visibility[4, :12] = 1  # more so, but not all of its keypoints are labelled
    visibility[4, 16] = 0
    visibility[3, :2] = 1  # smaller than the small one, but more occluded than most
    sizes_px = np.array([[20, 30], [20, 40], [50, 20], [9, 10], [20, 20], [9, 12]])
    people = SimpleNamespace(visibility=visibility, sizes_px=sizes_px)
    assert fixed_people(people) == {"easy": 2, "occluded": 1, "small": 5}
