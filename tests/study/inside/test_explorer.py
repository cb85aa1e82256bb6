import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient

from hpelib.data.loader import make_loader
from hpelib.study.inside.explorer import ORDERS, Explorer, Occluder, State
from hpelib.study.steps import evaluate

ROOT = Path(__file__).resolve().parents[2]
RUN = "hourglass, seed 1"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_only_trained_runs_are_offered(trained):
    assert list(Explorer(trained, "coco").runs) == [RUN]
    shutil.rmtree("work/runs")
    with pytest.raises(FileNotFoundError, match="no network was trained on coco; run: dvc repro train"):
        Explorer(trained, "coco")


def test_an_answer_is_the_networks_own(trained):
    explorer = Explorer(trained, "coco")
    answer = explorer.answer(State(RUN, 2, "nose"))
    run = explorer.runs[RUN]
    loader = make_loader(explorer.people, run, train=False)
    images = torch.cat([batch["images"] for batch in loader])
    network = evaluate.load_network(run, explorer.people)
    with torch.no_grad():
        heatmaps = network(images[2:3])
    found, _ = loader.codec.decode(heatmaps)
    np.testing.assert_allclose(answer.free, heatmaps[0], atol=1e-6)
    np.testing.assert_allclose(answer.looks["heatmaps"], heatmaps[0], atol=1e-6)
    np.testing.assert_allclose(answer.found, found[0], atol=1e-4)
    np.testing.assert_allclose(answer.distances_px, np.hypot(*(answer.found - answer.keypoints).T))
    assert np.isnan(answer.distances_px[0])  # nobody's nose is labelled


def test_the_occluder_hides_its_square_from_the_network_and_from_the_reader(trained):
    explorer = Explorer(trained, "coco")
    free = explorer.answer(State(RUN, 0, "nose"))
    hidden = explorer.answer(State(RUN, 0, "nose", occluder=Occluder(10.0, 20.0, 7.0)))
    changed = np.argwhere((hidden.crop != free.crop).any(-1))
    assert changed.min(0).tolist() == [17, 7]
    assert changed.max(0).tolist() == [23, 13]
    assert (hidden.crop[17:24, 7:14] == 128).all()
    np.testing.assert_array_equal(hidden.free, free.free)
    assert not np.allclose(hidden.looks["heatmaps"], hidden.free)
    everything = [explorer.answer(State(RUN, i, "nose", occluder=Occluder(16, 16, 99))) for i in (0, 2)]
    np.testing.assert_allclose(everything[0].looks["heatmaps"], everything[1].looks["heatmaps"], atol=1e-6)


def test_people_come_in_the_order_asked_for(trained):
    explorer = Explorer(trained, "coco")
    assert explorer.persons("in the order of the file") == [0, 1, 2]
    explorer.people.visibility[1, 5:9] = 1
    assert explorer.persons("most occluded") == [1, 0, 2]
    with pytest.raises(ValueError, match="no network was evaluated"):
        explorer.persons("hardest")
    explorer.scores = np.array([[0.5, 0.1, 0.9], [0.5, 0.7, 0.8]])
    assert explorer.persons("hardest") == [1, 0, 2]
    assert explorer.persons("most disputed") == [1, 2, 0]
    with pytest.raises(ValueError, match=r"unknown order 'worst'; choose from in the order"):
        explorer.persons("worst")


def test_scores_are_those_of_the_evaluations(trained):
    explorer = Explorer(trained, "coco")
    evaluation = evaluate.evaluate([explorer.runs[RUN]])
    evaluate.save(evaluation, explorer.runs[RUN].evaluation)
    expected = pd.DataFrame(evaluation.keypoint_scores[0]).fillna(0).mean(axis=1)
    np.testing.assert_allclose(explorer.scores, [expected], rtol=1e-6)


def test_a_figure_shows_picture_heatmap_change_and_layer(trained):
    explorer = Explorer(trained, "coco")
    figure = explorer.figure(State(RUN, 0, "left_wrist", "stack1", Occluder(16, 16, 10)))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "hourglass, seed 1: person 0"
    assert titles[1].startswith("left wrist: ")
    assert titles[2:] == ["changed by the occluder", "heatmaps of stack 1"]
    answer = explorer.answer(State(RUN, 0, "left_wrist"))
    assert explorer.figure(State(RUN, 0, "nose")).axes[1].get_title() == "nose: not labelled"
    circle, _ = figure.axes[1].lines
    np.testing.assert_allclose(circle.get_xydata()[0], answer.keypoints[9])


def test_the_clearest_keypoint_is_hidden_by_its_occluder(trained):
    explorer = Explorer(trained, "coco")
    keypoint = explorer.clearest(RUN, 0)
    occluder = explorer.occluder_on(RUN, 0, keypoint, share=0.25)
    answer = explorer.answer(State(RUN, 0, keypoint))
    index = explorer.skeleton.index(keypoint)
    assert answer.visibility[index] == 2
    assert occluder.size_px == 8
    np.testing.assert_allclose((occluder.x_px, occluder.y_px), answer.found[index])


def test_an_unknown_run_is_named_with_those_that_are_there(trained):
    with pytest.raises(ValueError, match=r"unknown run 'hrnet, seed 0'; choose from hourglass, seed 1"):
        Explorer(trained, "coco").answer(State("hrnet, seed 0", 0, "nose"))


def test_the_notebook_runs_and_its_widgets_change_the_picture(trained, tmp_path):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: the explore notebook was not run")
    (tmp_path / "params.yaml").write_text(json.dumps(trained))
    notebook = nbformat.read(ROOT / "notebooks/explore.ipynb", as_version=4)
    assert notebook.cells[1].metadata.tags == ["parameters"]
    for cell in notebook.cells:
        cell.source = cell.source.replace("\nenter()\n", "\n")  # stay with the tiny study
    move = "sides, picture = box.children[1].children\nsides.children[1].children[-1].value = 0.5\npicture.outputs"
    notebook.cells.append(nbformat.v4.new_code_cell(move))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
    assert set(ORDERS) >= {"hardest", "most occluded", "most disputed"}
