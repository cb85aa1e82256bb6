import dataclasses
import json
import zipfile

import numpy as np
import pytest
from scipy.io import loadmat

from hpelib.data.loader import make_loader
from hpelib.formats import FORMATS
from hpelib.inference import predict
from hpelib.metrics import coco
from hpelib.metrics.coco import coco_ap
from hpelib.study.config import Dataset, Protocol, make_run
from hpelib.study.steps.prepare import read_split
from hpelib.study.steps.train import build_network
from hpelib.study.steps.weights import load_network, write_weights
from hpelib.study.tools.submit import submit


@pytest.fixture
def finished(write_set, params, tmp_path, monkeypatch):
    """`finished(format)`: a run with its initial weights and the data set that it is to predict."""
    monkeypatch.chdir(tmp_path)

    def make(name: str):
        dataset = write_set(name)
        run = make_run(params, "hourglass", name, 0)
        network = build_network(run, read_split(dataset, "test"))
        write_weights(run, network)
        return run, Dataset("own", "own", name, dataset.root, {"test": dataset.splits["test"]})

    return make


def predictions(run, people):
    loader = make_loader(people, run, train=False)
    return predict(load_network(run, people), loader, loader.codec)


def test_coco_gets_the_results_from_detections_on_images_without_annotations(finished, tmp_path):
    run, dataset = finished("coco")
    document = json.loads((dataset.root / "test.json").read_text())
    images_alone = {"images": document["images"], "categories": [{"id": 1, "name": "person"}]}
    (dataset.root / "image_info_test-dev2017.json").write_text(json.dumps(images_alone))
    files = dataset.splits["test"] | {"annotations": "image_info_test-dev2017.json"}
    path = submit(run, dataclasses.replace(dataset, splits={"test": files}), "Ours-1", tmp_path / "out")

    name = "person_keypoints_test-dev2017_Ours-1_results"
    assert path == tmp_path / "out" / f"{name}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.json"]
        results = json.loads(archive.read(f"{name}.json"))
    boxes = FORMATS["coco"].read_detections(dataset, "test")
    found = predictions(run, boxes)
    people = read_split(dataset, "test")
    expected = FORMATS["coco"].detection_figures(dataset, people, boxes, found.keypoints, found.scores)
    scored = coco_ap(dataset.root / "test.json", results)
    assert {f"{figure}_det": value for figure, value in scored.items()} == pytest.approx(expected, nan_ok=True)
    assert all(set(result) == {"image_id", "category_id", "keypoints", "score"} for result in results)


def test_mpii_counts_from_one(finished, tmp_path):
    run, dataset = finished("mpii")
    path = submit(run, dataset, "ours", tmp_path / "out")
    found = predictions(run, read_split(dataset, "test"))
    np.testing.assert_allclose(loadmat(path)["preds"], found.keypoints + 1, rtol=1e-6)


def test_mpii_test_persons_need_no_joints(finished, tmp_path):
    run, dataset = finished("mpii")
    expected = loadmat(submit(run, dataset, "with", tmp_path / "out"))["preds"]
    entries = json.loads((dataset.root / dataset.splits["test"]["annotations"]).read_text())
    bare = [{key: entry[key] for key in ("image", "center", "scale")} for entry in entries]
    (dataset.root / "bare.json").write_text(json.dumps(bare))
    files = {"annotations": "bare.json", "images": dataset.splits["test"]["images"]}
    path = submit(run, dataclasses.replace(dataset, splits={"test": files}), "without", tmp_path / "out")
    np.testing.assert_array_equal(loadmat(path)["preds"], expected)


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_the_zip_holds_who_the_protocol_keeps(finished, tmp_path, nms, monkeypatch):
    run, dataset = finished("coco")
    kept = []
    monkeypatch.setitem(coco.NMS, nms, lambda keypoints, *_, **__: kept.append(len(keypoints)) or np.array([0]))
    path = submit(dataclasses.replace(run, test=Protocol(nms=nms)), dataset, "ours", tmp_path / "out")
    with zipfile.ZipFile(path) as archive:
        assert len(json.loads(archive.read(archive.namelist()[0]))) == len(kept) > 0


def test_what_no_server_takes_is_refused(finished, tmp_path):
    run, dataset = finished("lsp")
    with pytest.raises(ValueError, match="no server takes"):
        submit(run, dataset, "ours", tmp_path / "out")
    run, dataset = finished("coco")
    files = {kind: dataset.splits["test"][kind] for kind in ("annotations", "images")}
    with pytest.raises(ValueError, match="give `detections`"):
        submit(run, dataclasses.replace(dataset, splits={"test": files}), "ours", tmp_path / "out")


def test_a_submission_that_cannot_be_is_refused_before_predicting(finished, tmp_path, monkeypatch):
    run, dataset = finished("coco")
    monkeypatch.setattr("hpelib.study.tools.submit.load_network", lambda *_: pytest.fail("predicts first"))
    with pytest.raises(ValueError, match="'my_name': letters"):
        submit(run, dataset, "my_name", tmp_path)
    for folder in (dataset.root, tmp_path):
        with pytest.raises(ValueError, match=r"lies in .*, where results go"):
            submit(run, dataset, "ours", folder)
    earlier = tmp_path / "out" / "person_keypoints_test_ours_results.zip"
    earlier.parent.mkdir()
    earlier.write_text("somebody's")
    with pytest.raises(FileExistsError, match=r"ours_results\.zip exists"):
        submit(run, dataset, "ours", tmp_path / "out")
    assert earlier.read_text() == "somebody's"


def test_weights_of_other_settings_are_refused_unless_one_insists(finished, tmp_path):
    run, dataset = finished("mpii")
    other = dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, pixel_order="bgr"))
    with pytest.raises(ValueError, match=r"inputs\.pixel_order was 'rgb', is 'bgr'"):
        submit(other, dataset, "ours", tmp_path / "out")
    assert submit(other, dataset, "ours", tmp_path / "out", force=True).is_file()


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.5, 0.7], [30, 20, 60, 45]], ids=["fractions", "corners"])
def test_impossible_boxes_are_refused_before_predicting(finished, tmp_path, monkeypatch, box):
    run, dataset = finished("coco")
    monkeypatch.setattr("hpelib.study.tools.submit.load_network", lambda *_: pytest.fail("predicts first"))
    path = dataset.root / "detections.json"
    path.write_text(json.dumps([one | {"bbox": box} for one in json.loads(path.read_text())]))
    with pytest.raises(ValueError, match=r"most persons .*boxes x, y, width, height"):
        submit(run, dataset, "ours", tmp_path / "out")
