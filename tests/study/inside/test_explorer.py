import dataclasses
import json
import shutil
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from nbclient import NotebookClient

from hpelib.data.crops import to_image
from hpelib.data.loader import make_loader
from hpelib.figures.style import to_png
from hpelib.formats import FORMATS
from hpelib.study.evaluation import ARRAYS, save
from hpelib.study.inside.explorer import ATTRIBUTION, Explorer, Occluder, panel
from hpelib.study.steps import evaluate

ROOT = Path(__file__).resolve().parents[3]
RUN = "hourglass, seed 1"


def test_only_trained_runs_are_offered(trained):
    explorer = Explorer(trained, "coco")
    assert list(explorer.runs) == [RUN]
    shutil.rmtree(explorer.runs[RUN].folder)
    with pytest.raises(FileNotFoundError, match="no network was trained on coco; run: dvc repro train"):
        Explorer(trained, "coco")


def test_a_look_is_the_networks_own(trained):
    explorer = Explorer(trained, "coco")
    (view,) = explorer.look(RUN, 2)
    run = explorer.runs[RUN]
    loader = make_loader(explorer.people, run, train=False)
    images = torch.cat([batch["images"] for batch in loader])
    network = evaluate.load_network(run, explorer.people)
    with torch.no_grad():
        heatmaps = network(images[2:3])
    found, _ = loader.codec.decode(heatmaps)
    np.testing.assert_allclose(view.heatmaps, heatmaps[0], atol=1e-6)
    np.testing.assert_allclose(view.found, found[0], atol=1e-4)
    assert explorer.layers(RUN) == ["heatmaps", "stack1", "target", ATTRIBUTION]


def test_the_square_lies_on_the_clearest_keypoint(trained):
    explorer = Explorer(trained, "coco")
    (view,) = explorer.look(RUN, 0)
    keypoint, x, y = explorer.clearest(RUN, 0)
    k = view.skeleton.index(keypoint)
    assert view.crop.visibility[k] == 2
    assert view.heatmaps[k].max() == view.heatmaps[view.crop.visibility == 2].max()
    np.testing.assert_allclose(np.array([x, y]) * 32, view.found[k], rtol=1e-6)
    rows, columns = np.nonzero(explorer.square(RUN, 10 / 32, 20 / 32, 7 / 32))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (7, 13, 17, 23)
    assert not explorer.square(RUN, 0.5, 0.5, 0.0).any()


def test_a_box_hides_the_pixels_whose_centres_lie_in_it(trained):
    explorer = Explorer(trained, "coco")
    rows, columns = np.nonzero(explorer.box(RUN, 0.25, 0.5, 0.125, 0.25))  # of 32x32 px
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (8, 11, 16, 23)
    assert not explorer.box(RUN, 0.0, 0.0, 0.0, 0.0).any()
    assert explorer.box(RUN, -1, -1, 3, 3).all()


def test_the_occluder_is_the_last_box_that_was_drawn(trained):
    explorer, occluder = Explorer(trained, "coco"), Occluder()
    (view,) = explorer.look(RUN, 0)
    occluder.show(view.crop.picture)
    shown = PIL.Image.open(BytesIO(occluder.image_bytes))
    assert shown.size == (240, 240)
    edge_px, zoom = view.crop.picture.margin_px * view.crop.picture.zoom, view.crop.picture.zoom
    crop = PIL.Image.fromarray(view.crop.picture.pixels[edge_px : edge_px + 32 * zoom, edge_px : edge_px + 32 * zoom])
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(crop.resize((240, 240))))
    first = {"x": 60, "y": 120, "width": 30, "height": 60, "label": ""}
    occluder.bboxes = [first]
    assert occluder.value == (0.25, 0.5, 0.125, 0.25)
    pressed = first | {"x": 0, "width": 0, "height": 0}
    occluder.bboxes = [first, pressed]
    assert occluder.value == (0.25, 0.5, 0.125, 0.25), "nothing changes while the mouse is down"
    occluder.bboxes = [first, first | {"x": 0}]
    assert occluder.bboxes == [first | {"x": 0}]
    assert occluder.value == (0.0, 0.5, 0.125, 0.25)
    occluder.bboxes = []
    assert not any(occluder.value)


def test_people_come_in_the_order_asked_for(trained):
    explorer = Explorer(trained, "coco")
    assert explorer.persons("in the order of the file") == [0, 1, 2]
    explorer.people.visibility[1, 5:9] = 1
    assert explorer.persons("most occluded") == [1, 0, 2]
    assert explorer.scores.shape == (1, 3), "where nothing was evaluated, the networks look at everybody now"
    explorer.scores = np.array([[0.5, 0.1, 0.9], [0.5, 0.7, 0.8]])
    assert explorer.persons("easiest") == [2, 0, 1]
    assert explorer.persons("hardest") == [1, 0, 2]
    assert explorer.persons("most disputed") == [1, 2, 0]
    with pytest.raises(ValueError, match=r"order='worst' is none of 'in the order of the file', 'easiest'"):
        explorer.persons("worst")


def test_scores_are_those_of_the_seeds_that_are_there(trained):
    explorer = Explorer(trained, "coco")
    run = explorer.runs[RUN]
    evaluation = evaluate.evaluate([run])
    expected = pd.DataFrame(evaluation.keypoint_scores[0]).fillna(0).mean(axis=1)
    # as if another seed had been evaluated before its weights were deleted
    summary = dataclasses.replace(evaluation.summary, seeds=(0, 1))
    arrays = {name: np.repeat(getattr(evaluation, name), 2, axis=0) for name in ARRAYS}
    arrays["keypoint_scores"][0] = 0
    save(dataclasses.replace(evaluation, summary=summary, matches={}, **arrays), run.evaluation)
    np.testing.assert_allclose(explorer.scores, [expected], rtol=1e-6)


def test_the_mean_score_is_that_of_a_test_without_flip(trained):
    explorer = Explorer(trained, "coco")
    run, people = explorer.runs[RUN], explorer.people
    views = [explorer.look(RUN, i)[0] for i in range(len(people))]
    found, matrices = (np.stack(each) for each in zip(*((view.found, view.crop.matrix) for view in views), strict=True))
    scores = FORMATS[run.dataset.format].keypoint_scores(people, to_image(found, matrices))
    assert explorer.mean_score(RUN) == pytest.approx(100 * np.nanmean(scores), abs=1e-3)


def test_a_figure_shows_picture_heatmap_change_and_layer(trained):
    explorer = Explorer(trained, "coco")
    mask = explorer.square(RUN, 0.5, 0.5, 0.3)
    figure = explorer.figure(RUN, 0, "left_wrist", "stack1", mask)
    free, hidden = explorer.look(RUN, 0, (~mask & mask, mask))
    error_px = np.linalg.norm(hidden.found[9] - hidden.crop.keypoints[9])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["hourglass, seed 1: person\n0", f"left wrist: {error_px:.1f} px off"]
    assert titles[2:] == ["changed by the occluder", "heatmaps of stack 1"]
    np.testing.assert_allclose(figure.axes[1].images[1].get_array()[1:-1, 1:-1], hidden.heatmaps[9])
    np.testing.assert_allclose(figure.axes[2].images[1].get_array()[1:-1, 1:-1], hidden.heatmaps[9] - free.heatmaps[9])
    circle, cross = figure.axes[1].lines
    np.testing.assert_allclose(circle.get_xydata()[0], hidden.crop.keypoints[9])
    np.testing.assert_allclose(cross.get_xydata()[0], hidden.found[9])
    # nobody's nose is labelled
    assert explorer.figure(RUN, 0, "nose").axes[1].get_title() == "nose: not labelled"


def test_the_notebook_runs_and_its_widgets_change_the_picture(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "params.yaml").write_text(json.dumps(trained))
    notebook = nbformat.read(ROOT / "notebooks/explore.ipynb", as_version=4)
    assert notebook.cells[1].metadata.tags == ["parameters"]
    for cell in notebook.cells:
        cell.source = cell.source.replace("\nenter()\n", "\n")  # stay with the tiny study
    look = "sides, *_, picture = box.children[1].children\nprint(picture.outputs[0]['data']['image/png'])"
    for source in (look, "sides.children[1].children[-1].value = (0.2, 0.2, 0.5, 0.5)", look):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    before, after = (output.text for output in outputs if output.output_type == "stream")
    assert before != after


def test_a_channel_and_the_attribution_can_be_chosen(trained):
    explorer = Explorer(trained, "coco")
    assert explorer.layers(RUN)[-1] == ATTRIBUTION
    (view,) = explorer.look(RUN, 0)
    k = view.skeleton.index("nose")
    drawn = explorer.figure(RUN, 0, "nose", "stack1", channel=2).axes[3]
    assert drawn.get_title().split()[-3:] == ["2", "of", str(len(view.looks["stack1"]))]
    np.testing.assert_allclose(drawn.images[-1].get_array()[1:-1, 1:-1], view.looks["stack1"][1], rtol=1e-5)
    pixels = explorer.attribution(RUN, 0, k)
    assert pixels.shape == view.crop.pixels.shape[:2]
    drawn = explorer.figure(RUN, 0, "nose", ATTRIBUTION).axes[3]
    np.testing.assert_allclose(drawn.images[-1].get_array()[1:-1, 1:-1], pixels, rtol=1e-4, atol=1e-7)


def test_two_runs_stand_side_by_side_and_a_state_is_kept_as_picture_and_code(trained, monkeypatch):
    shown = []
    monkeypatch.setattr("hpelib.study.inside.explorer.display", shown.append)
    (_, box) = panel(trained, "coco", "most occluded").children
    sides, save, said, _ = box.children
    choices, (_, occluder) = (column.children for column in sides.children)
    controls = {control.description: control for control in choices}
    controls["beside it"].value = RUN
    assert len(shown) >= 2, "the person twice: by the run and by the one beside it"
    assert said.layout.display == "none"
    occluder.bboxes = [{"x": 60, "y": 60, "width": 120, "height": 120, "label": ""}]
    save.click()
    assert said.layout.display == "", "what is said can be seen"
    assert "*(0.25, 0.25, 0.5, 0.5)" in said.value
    (picture,) = Path("work/explore").glob("*.png")
    first, _, code = said.value.partition("\n")
    assert str(picture) in first
    monkeypatch.setattr("hpelib.study.config.load_params", lambda: trained)
    again = {}
    exec(code.replace("explorer.figure", "figure = explorer.figure"), again)
    assert picture.read_bytes() == to_png(again["figure"])
