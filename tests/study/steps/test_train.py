import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from hpelib.metrics.coco import keypoint_similarity
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import Protocol, Run, make_run
from hpelib.study.evaluation import load, save
from hpelib.study.planned import plan_file, warn_of_old_plan
from hpelib.study.stages import stages
from hpelib.study.steps import evaluate
from hpelib.study.steps.prepare import prepare, read_split
from hpelib.study.steps.train import (
    best_and_worst,
    build_network,
    describe,
    make_validation,
    shuffle_labels,
    train,
    training_people,
)
from hpelib.study.steps.weights import checkpoint_path, load_network, write_weights
from hpelib.training.checkpoints import read_header


@pytest.fixture
def prepared(write_set, tmp_path, monkeypatch):
    """`prepared(format)` writes and prepares the tiny set in a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def make(name: str):
        dataset = write_set(name)
        dataset.manifest.parent.mkdir(parents=True, exist_ok=True)
        dataset.manifest.write_text(json.dumps(prepare(dataset)))
        return dataset

    return make


@pytest.mark.parametrize("name", ["coco", "mpii", "lsp"])
def test_shuffled_labels_are_somebody_elses_joints_in_ones_own_box(write_set, name):
    people = read_split(write_set(name), "train")
    shuffled = shuffle_labels(people, seed=0)
    for column in ("image_paths", "ids", "boxes", "centers", "sizes_px", "scores"):
        np.testing.assert_array_equal(getattr(shuffled, column), getattr(people, column))

    def joints(table):  # x, y in units of the own box and visibility, (N, K, 3)
        places = (table.keypoints - table.centers[:, None]) / table.sizes_px.max(1)[:, None, None]
        return np.concatenate([np.nan_to_num(places, nan=9), table.visibility[..., None]], axis=2)

    own, given = joints(people), joints(shuffled)
    sources = [  # the persons with these joints, in whatever order
        [other for other in range(len(people)) if np.allclose(np.sort(given[i], 0), np.sort(own[other], 0), atol=1e-4)]
        for i in range(len(people))
    ]
    assert sorted(source for (source,) in sources) == list(range(len(people))), "everybody's joints are used once"
    assert sum(source == i for i, (source,) in enumerate(sources)) < len(people) / 2
    orders = set()
    for i, (source,) in enumerate(sources):
        assert not np.allclose(given[i], own[source], atol=1e-4), "their order is random too"
        orders.add(tuple(np.abs(given[i][:, None] - own[source]).sum(-1).argmin(1)))
    assert len(orders) == len(people), "everybody has an order of their own"
    np.testing.assert_array_equal(shuffle_labels(people, seed=0).keypoints, shuffled.keypoints)


def test_only_the_control_is_trained_on_shuffled_labels(prepared, params):
    dataset = prepared("mpii")
    run = make_run(params, "hourglass", "mpii", 0)
    np.testing.assert_array_equal(training_people(run).keypoints, read_split(dataset, "train").keypoints)
    control = make_run(params, "hourglass", "mpii", 0, labels="shuffled")
    assert not np.array_equal(training_people(control).keypoints, training_people(run).keypoints, equal_nan=True)


@pytest.mark.parametrize("kind", ["network", "control", "row"])
def test_a_stage_of_dvc_does_not_train_what_was_edited_after_the_plan(prepared, params, monkeypatch, kind):
    prepared("mpii")
    params |= {"ablations": {"hourglass": {"datasets": ["mpii"], "rows": {"full": {}}}}}
    run = {
        "network": make_run(params, "hourglass", "mpii", 0),
        "control": make_run(params, "hourglass", "mpii", 0, labels="shuffled"),
        "row": ablation_runs(params, "hourglass", 0)["full"],
    }[kind]
    (parameters,) = [
        planned
        for name, _, planned, _ in stages(params)
        if plan_file(run) == run.dataset.work / "plan" / f"{name}.json"
    ]
    plan_file(run).parent.mkdir(parents=True)
    plan_file(run).write_text(json.dumps({"parameters": parameters}))
    edited = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, learning_rate=0.5), threads=2)
    people = training_people(run)
    monkeypatch.setenv("DVC_STAGE", "some stage")
    with pytest.raises(ValueError, match="threads, recipe of hourglass on mpii changed after the stage"):
        train(edited, build_network(run, people), people)
    train(run, build_network(run, people), people)
    monkeypatch.delenv("DVC_STAGE")
    train(edited, build_network(run, people), people)  # by hand one may train anything


def test_a_plan_that_is_older_than_the_code_is_told(prepared, params, caplog):
    prepared("mpii")
    run = make_run(params, "hourglass", "mpii", 0)
    warn_of_old_plan(run)  # no plan, nothing to tell
    plan_file(run).parent.mkdir(parents=True)
    plan_file(run).write_text("{}")
    warn_of_old_plan(run)
    assert not caplog.text
    os.utime(plan_file(run), (0, 0))
    warn_of_old_plan(run)
    assert "the code is newer than" in caplog.text


def test_a_training_on_fewer_persons_draws_them_by_a_seed_of_its_own(prepared, params):
    everybody = read_split(prepared("lsp"), "train").ids

    def drawn(seed: int = 0, **entry: int) -> list[int]:
        params["sets"]["lsp"]["splits"]["train"] = {"folder": "train"} | entry
        return training_people(make_run(params, "hourglass", "lsp", seed)).ids.tolist()

    three = drawn(persons=3)
    assert len(three) == 3 < len(everybody)
    assert three == sorted(three) == drawn(persons=3, draw=0) == drawn(seed=1, persons=3)
    assert {tuple(drawn(persons=3, draw=draw)) for draw in range(9)} > {tuple(three)}
    assert set(drawn(persons=2)) < set(three)
    assert drawn(persons=len(everybody)) == drawn() == everybody.tolist()
    with pytest.raises(ValueError, match=f"split train: persons is 9, but it has {len(everybody)}"):
        drawn(persons=9)
    params["sets"]["lsp"]["splits"]["test"] |= {"persons": 2}
    with pytest.raises(ValueError, match="split test: missing or unknown: persons"):
        read_split(make_run(params, "hourglass", "lsp", 0).dataset, "test")


def test_initial_weights_depend_on_the_seed_alone(prepared, params):
    people = read_split(prepared("mpii"), "train")

    def weights(seed):
        return torch.nn.utils.parameters_to_vector(
            build_network(make_run(params, "hourglass", "mpii", seed), people).parameters()
        )

    first = weights(0)
    torch.rand(3)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


@pytest.mark.parametrize("name", ["coco", "lspet"])
def test_a_run_leaves_weights_and_history_and_nothing_else(prepared, params, name):
    prepared(name)
    params["profiles"]["tiny"]["recipe"]["epochs"] = 2
    run = make_run(params, "hourglass", name, 1)
    people = training_people(run)
    network = build_network(run, people)
    history = train(run, network, people)
    assert sorted(path.name for path in run.folder.iterdir()) == ["history.csv", "weights.safetensors"]
    assert pd.read_csv(run.folder / "history.csv")["epoch"].tolist() == [1, 2]
    assert history.columns[-1] == {"coco": "OKS", "lspet": "PCK@0.2"}[name]

    first_weights = (run.folder / "weights.safetensors").read_bytes()
    shutil.rmtree(run.dataset.work / "checkpoints")
    train(run, build_network(run, people), people)
    assert (run.folder / "weights.safetensors").read_bytes() == first_weights, "the same training again"


def test_a_finished_training_outlasts_the_loss_of_its_folder(prepared, params):
    """What comes after the training in its stage may fail; DVC then empties the folder before the next try."""
    prepared("coco")
    run = make_run(params, "hourglass", "coco", 1)
    people = training_people(run)
    history = train(run, build_network(run, people), people)
    weights = (run.folder / "weights.safetensors").read_bytes()
    shutil.rmtree(run.folder)
    shutil.rmtree("logs")
    again = train(run, build_network(run, people), people)
    assert not Path("logs").exists(), "trained anew"
    pd.testing.assert_frame_equal(again, history)
    assert (run.folder / "weights.safetensors").read_bytes() == weights


def test_a_checkpoint_is_kept_until_the_run_is_evaluated(prepared, params):
    prepared("coco")
    Path("params.yaml").write_text(yaml.safe_dump(params))
    runs = [make_run(params, "hourglass", "coco", seed) for seed in (0, 1)]
    for run in runs:
        people = training_people(run)
        train(run, build_network(run, people), people, key="code")
        assert checkpoint_path(run, "code").is_file()
    evaluate.main("hourglass", "coco")
    assert load(runs[0].evaluation).summary.seeds == (0, 1)
    assert not list((runs[0].dataset.work / "checkpoints").rglob("*.pt"))


def test_no_training_goes_on_from_other_parameters_annotations_or_code(prepared, params):
    dataset = prepared("coco")
    run = make_run(params, "hourglass", "coco", 1)
    paths = [checkpoint_path(run, ""), checkpoint_path(dataclasses.replace(run, threads=2), "")]
    paths.append(checkpoint_path(run, "of other code"))
    annotations = dataset.root / "val.json"
    annotations.write_text(annotations.read_text() + " ")
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    paths.append(checkpoint_path(run, ""))
    assert len(set(paths)) == 4
    test_later = dataclasses.replace(run, test=Protocol(nms="soft"))
    assert checkpoint_path(test_later, "") == paths[-1], "nothing that a training depends on"


def changed(run: Run, section: str, **values) -> Run:
    return dataclasses.replace(run, **{section: dataclasses.replace(getattr(run, section), **values)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda run: changed(run, "inputs", codec="udp"), "inputs.codec was 'dark', is 'udp'"),
        (lambda run: changed(run, "inputs", pixel_order="bgr"), "inputs.pixel_order was 'rgb', is 'bgr'"),
        (lambda run: changed(run, "inputs", input_size=(64, 32)), r"inputs.input_size was \[32, 32\], is \[64, 32\]"),
        (
            lambda run: changed(run, "recipe", epochs=2, loss="ohkm"),
            "recipe.epochs was 1, is 2; recipe.loss was 'mse', is",
        ),
        (lambda run: dataclasses.replace(run, options=run.options | {"stacks": 2}), "options.stacks was 1, is 2"),
        (lambda run: dataclasses.replace(run, options=run.options | {"skip": 2}), "options.skip was 'not set', is 2"),
        (lambda run: dataclasses.replace(run, profile="paper"), "profile was 'tiny', is 'paper'"),
    ],
)
def test_weights_are_not_used_under_other_settings(prepared, params, change, named):
    run = make_run(params, "hourglass", "coco", 0)
    people = read_split(prepared("coco"), "test")
    write_weights(run, build_network(run, people))
    with pytest.raises(ValueError, match=rf"weights\.safetensors was trained under other settings.*{named}"):
        load_network(change(run), people)


def test_weights_are_used_where_only_speed_or_place_differ_or_one_insists(prepared, params):
    run = make_run(params, "hourglass", "coco", 0)
    people = read_split(prepared("coco"), "test")
    write_weights(run, build_network(run, people))
    splits = run.dataset.splits | {"test": {"annotations": "others.json", "images": "others"}}
    others = [changed(run, "inputs", workers=2), changed(run, "dataset", splits=splits)]
    others += [changed(run, "recipe", processes=2), changed(run, "test", nms="soft")]
    for other in (*others, dataclasses.replace(run, threads=2), changed(run, "dataset", root=Path("elsewhere"))):
        load_network(other, people)
    load_network(changed(run, "inputs", codec="udp"), people, force=True)


def test_weights_say_that_annotations_changed_since(prepared, params, caplog):
    run = make_run(params, "hourglass", "coco", 0)
    people = read_split(prepared("coco"), "test")
    write_weights(run, build_network(run, people))
    load_network(run, people)
    assert not caplog.messages
    manifest = json.loads(run.dataset.manifest.read_text())
    run.dataset.manifest.write_text(json.dumps(manifest | {"annotations_sha256": "others"}))
    load_network(run, people)
    assert "weights.safetensors: annotations of coco changed since its training" in caplog.text


def test_official_weights_are_taken_as_they_are(prepared, params):
    run = make_run(params, "hourglass", "coco", 0)
    people = read_split(prepared("coco"), "test")
    run.folder.mkdir(parents=True)
    save_file(build_network(run, people).state_dict(), run.folder / "weights.safetensors")
    load_network(changed(run, "inputs", codec="udp"), people)


def test_weights_say_where_and_in_which_precision_they_were_trained(prepared, params):
    params["profiles"]["tiny"]["recipe"]["precision"] = "bf16"
    run = make_run(params, "hourglass", "coco", 0)
    write_weights(run, build_network(run, read_split(prepared("coco"), "test")))
    header = read_header(run.folder / "weights.safetensors")
    assert header["settings"]["skeleton"] == "coco17"
    assert [header[name] for name in ("digest", "precision")] == [run.digest, "bf16"]
    assert header["machine"]


def test_the_best_come_first_and_the_worst_last(prepared, params):
    prepared("coco")
    run = make_run(params, "hourglass", "coco", 0)
    shown = best_and_worst(run, build_network(run, training_people(run)).eval(), count=1)
    crops, predicted, titles, skeleton = shown
    assert [crop.pixels.shape for crop in crops] == [(32, 32, 3)] * 2
    assert [keypoints.shape for keypoints in predicted] == [(skeleton.num_keypoints, 2)] * 2
    best, worst = (float(title.removesuffix(" %")) for title in titles)
    assert best >= worst


def test_an_evaluation_is_of_the_trained_weights(prepared, params):
    prepared("coco")
    runs = [make_run(params, "hourglass", "coco", seed) for seed in (0, 1)]
    networks = []
    for run in runs:
        people = training_people(run)
        networks.append(build_network(run, people))
        train(run, networks[-1], people)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loaded = load_network(runs[0], people)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), networks[0].eval()(images), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(loaded(images), networks[1].eval()(images))

    evaluation = evaluate.evaluate(runs)
    assert evaluation.keypoint_scores.shape == (2, 3, 17)
    assert np.isnan(evaluation.keypoint_scores[:, :, 0]).all(), "nobody's nose is labelled"
    assert {"AP_gt", "AP_det", "OKS", "Knee"} <= set(evaluation.figures["metric"])
    assert evaluation.summary.seeds == (0, 1)
    assert evaluation.summary.test.precision == "fp32"
    assert evaluation.summary.params == sum(weight.numel() for weight in networks[0].parameters())
    for seed in (0, 1):
        mean = 100 * np.nanmean(evaluation.keypoint_scores[seed])
        found = evaluation.figures.query("metric == 'OKS' and seed == @seed")["value"].item()
        assert found == pytest.approx(mean, rel=1e-4)

    people = evaluate.test_people(runs[0])
    for seed in (0, 1):
        found = keypoint_similarity(evaluation.keypoints[seed], people.keypoints, people.areas)
        np.testing.assert_allclose(found, evaluation.keypoint_scores[seed], rtol=1e-5, atol=1e-30)
    assert evaluation.confidences.shape == (2, 3, 17)

    save(evaluation, runs[0].evaluation)
    read = load(runs[0].evaluation)
    np.testing.assert_array_equal(read.keypoint_scores, evaluation.keypoint_scores)
    assert read.summary == evaluation.summary
    np.testing.assert_allclose(read.figures["value"], evaluation.figures["value"], atol=1e-6)


def test_a_run_that_was_not_trained_is_named(prepared, params):
    people = read_split(prepared("mpii"), "test")
    run = make_run(params, "hourglass", "mpii", 0)
    with pytest.raises(
        FileNotFoundError, match=r"work/tiny/runs/mpii/hourglass/seed0/weights\.safetensors not found; run"
    ):
        load_network(run, people)


def test_a_set_that_was_not_prepared_is_not_trained_on(write_set, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_set("mpii")
    with pytest.raises(FileNotFoundError, match="prepare@mpii"):
        training_people(make_run(params, "hourglass", "mpii", 0))


def test_a_readers_description_holds_every_setting_that_decides_the_result(params):
    run = make_run(params, "hourglass", "mpii", 0)
    table = describe(run)["value"]
    assert table["recipe.learning_rate"] == 0.001
    assert table["inputs.augmentation.rotation_deg"] == 30
    assert table["options.stacks"] == 1
    for field in dataclasses.fields(run.recipe):
        if field.name != "loss_options":
            assert f"recipe.{field.name}" in table


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_is_validated_in_its_own_precision(prepared, params, precision):
    prepared("coco")
    params["profiles"]["tiny"]["recipe"]["precision"] = precision
    run = make_run(params, "hourglass", "coco", 0)
    network, computed = build_network(run, training_people(run)), []
    network.register_forward_hook(lambda _, __, heatmaps: computed.extend(heatmap.dtype for heatmap in heatmaps))
    make_validation(run, "cpu", 0, 1)(network)
    once = [{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]]
    assert computed == once * 2, "one map of each of two persons, none of their mirror images"


def test_a_run_says_all_that_pages_depend_on(params):
    """Pages follow the weights and what a training's notebook says of its run, and not the profile's parameters; how
    it is tested, which a change of does not train anew, stands in its evaluation."""
    said = set(describe(make_run(params, "hourglass", "coco", 0)).index)
    assert not any(name.startswith("test") for name in said)
    for section in ("inputs", "inputs.augmentation", "recipe", "options"):
        assert any(name == section or name.startswith(f"{section}.") for name in said), section
    assert {"model", "pretrained", "threads", "profile", "labels", "dataset.source", "dataset.root"} <= said
