"""Scoring a run on pictures of one's own agrees with the study's evaluation of the same pictures."""

import dataclasses
import inspect
import json
import re
import runpy

import cv2
import numpy as np
import pytest
import yaml

from hpelib.metrics.statistics import bootstrap
from hpelib.study.config import Dataset, make_run
from hpelib.study.steps import evaluate
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, training_people
from hpelib.study.steps.weights import write_weights
from hpelib.study.tools.score import score


@pytest.fixture
def finished(write_set, params, tmp_path, monkeypatch):
    """`finished(format)`: a run with its initial weights, and its data as somebody else's."""
    monkeypatch.chdir(tmp_path)

    def make(name: str):
        dataset = write_set(name)
        dataset.manifest.parent.mkdir(parents=True, exist_ok=True)
        dataset.manifest.write_text(json.dumps(prepare(dataset)))
        run = make_run(params, "hourglass", name, 0)
        write_weights(run, build_network(run, training_people(run)))
        return run, Dataset("own", "own", name, dataset.root, {"test": dataset.splits["test"]})

    return make


@pytest.mark.parametrize("name", ["coco", "mpii", "lsp"])
def test_agrees_with_the_study(finished, name):
    run, own = finished(name)
    found = score(run, own)
    expected = evaluate.evaluate([run])
    assert found.metric.tolist() == expected.figures.metric.tolist()
    np.testing.assert_array_equal(found.value, expected.figures.value)
    mean = found[found.metric.isin(["OKS", "PCKh@0.5", "PCK@0.2"])].iloc[0]
    interval = bootstrap(expected.keypoint_scores[0].astype(np.float64), expected.image_ids)
    np.testing.assert_allclose([mean.low, mean.high], [interval.low, interval.high], rtol=1e-5)
    assert ((found.low <= found.value + 1e-9) & (found.value <= found.high + 1e-9))[found.low.notna()].all()
    assert found[~found.metric.str.contains("AP|AR|AUC|0.1|_px")].low.notna().all()


def test_another_skeleton_is_refused(finished):
    run, own = finished("lsp")
    with pytest.raises(ValueError, match="hourglass on lsp has other keypoints than the format mpii"):
        score(run, dataclasses.replace(own, format="mpii"))


def test_pckh_without_heads_is_refused(finished):
    run, own = finished("mpii")
    files = {kind: own.splits["test"][kind] for kind in ("annotations", "images")}
    with pytest.raises(ValueError, match=r"for PCKh give `ground_truth` of test"):
        score(run, dataclasses.replace(own, splits={"test": files}))


def test_what_scoring_would_refuse_is_refused_before_predicting(finished, monkeypatch):
    run, own = finished("coco")
    truth = own.root / "test.json"
    document = json.loads(truth.read_text())
    del document["annotations"][0]["num_keypoints"]
    truth.write_text(json.dumps(document))
    monkeypatch.setattr("hpelib.study.tools.score.load_network", lambda *_: pytest.fail("predicts first"))
    with pytest.raises(ValueError, match="num_keypoints"):
        score(run, own)


def test_weights_of_other_settings_are_refused_unless_one_insists(finished):
    run, own = finished("coco")
    other = dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, codec="udp"))
    with pytest.raises(ValueError, match=r"inputs\.codec was 'dark', is 'udp'.*--force"):
        score(other, own)
    assert not score(other, own, force=True).empty


def test_it_is_said_who_is_scored_and_who_is_left_out(finished, caplog):
    run, own = finished("coco")
    truth = own.root / "test.json"
    document = json.loads(truth.read_text())
    document["annotations"][0] |= {"keypoints": [0] * 51, "num_keypoints": 0}
    truth.write_text(json.dumps(document))
    with caplog.at_level("INFO"):
        score(run, own)
    assert "scored: 2 persons; left out: 1 persons without a labelled keypoint" in caplog.text
    assert "detected: 3 persons" in caplog.text


def test_from_the_shell(finished, params, tmp_path, monkeypatch, capsys):
    _, own = finished("lsp")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    arguments = ["hourglass", "lsp", "0", "--format", "lsp", "--root", str(own.root / "test")]
    monkeypatch.setattr("sys.argv", ["score", *arguments])
    runpy.run_path(inspect.getfile(score), run_name="__main__")
    assert capsys.readouterr().out.split()[:5] == ["metric", "value", "low", "high", "PCK@0.2"]


def test_pictures_that_the_run_was_trained_on_are_named(finished, caplog, tmp_path):
    run, own = finished("coco")
    caplog.set_level("INFO")
    score(run, own)
    assert "was trained on" not in caplog.text
    original = run.dataset.root / "train"
    (original / "copy_0.png").write_bytes((original / "0.png").read_bytes())  # under another name
    cv2.imwrite(str(original / "copy_2.jpg"), cv2.imread(str(original / "2.png")), [cv2.IMWRITE_JPEG_QUALITY, 90])
    document = (run.dataset.root / "train.json").read_text().replace('"0.png"', '"copy_0.png"')
    (run.dataset.root / "mine.json").write_text(document.replace('"2.png"', '"copy_2.jpg"'))
    splits = {"test": {"annotations": "mine.json", "images": "train"}}
    score(run, dataclasses.replace(own, splits=splits))
    assert "hourglass was trained on 4 of the 4 pictures: " in caplog.text
    assert caplog.text.count("looking once at the 4 training pictures") == 1, "thumbnails are kept"
    (run.dataset.root / "train.json").rename(tmp_path / "elsewhere.json")
    assert not score(run, own).empty, "the training set may be elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "coco", "--images", "test"], "coco needs --annotations, --images and may have .*--max-persons"),
        (["--format", "lsp", "--images", "test"], "lsp needs --folder"),
        (
            ["--format", "mpii", "--annotations", "a", "--images", "b", "--max-persons", "30"],
            "may have .*--ground-truth",
        ),
        (["--format", "lspet"], "invalid choice: 'lspet'"),
    ],
)
def test_arguments_that_a_format_does_not_take_are_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["score", "hourglass", "coco", "0", *arguments])
    monkeypatch.setattr("hpelib.study.tools.arguments.load_params", dict)
    monkeypatch.setattr("hpelib.study.tools.arguments.make_run", lambda *_: None)
    with pytest.raises(SystemExit):
        runpy.run_path(inspect.getfile(score), run_name="__main__")
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))


def test_more_persons_of_an_image_are_scored_on_demand(finished, params, tmp_path, monkeypatch, caplog):
    _, own = finished("coco")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    files = [f"--{key}={own.splits['test'][key]}" for key in ("annotations", "images")]
    common = ["score", "hourglass", "coco", "0", "--format=coco", f"--root={own.root}", *files]
    found = {}
    for limit in ("1", "2"):
        monkeypatch.setattr("sys.argv", [*common, f"--max-persons={limit}"])
        runpy.run_path(inspect.getfile(score), run_name="__main__")
        found[limit] = "images have more than" in caplog.text
        caplog.clear()
    assert found == {"1": True, "2": False}
    monkeypatch.setattr("sys.argv", [*common, "--max-persons=0"])
    with pytest.raises(ValueError, match="max_persons must be at least 1, got 0"):
        runpy.run_path(inspect.getfile(score), run_name="__main__")
