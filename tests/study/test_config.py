import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from dvc.utils.serialize import modify_yaml

from hpelib.models import create_model
from hpelib.skeletons import COCO17, LSP14, MPII16
from hpelib.study.config import (
    Protocol,
    all_datasets,
    load_params,
    make_dataset,
    make_run,
    networks_on,
    profile_params,
    study_runs,
)

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
NUM_KEYPOINTS = {
    "coco": COCO17.num_keypoints,
    "mpii": MPII16.num_keypoints,
    "lsp": LSP14.num_keypoints,
    "lspet": LSP14.num_keypoints,
}
COMBINATIONS = [
    pytest.param(profile, network, dataset, id=f"{profile}-{network}-{dataset}")
    for profile, entry in PARAMS["profiles"].items()
    for network in entry["networks"]
    for dataset in entry["datasets"]
]


@pytest.mark.parametrize(
    ("section", "field", "values"),
    [
        ("inputs", "sigma", (1.25, 1.5, 1.75)),
        ("augmentation", "rotation_deg", (10, 20, 30)),
        ("recipe", "learning_rate", (0.1, 0.2, 0.3)),
        ("test", "nms", ("soft", "hard", "soft")),
    ],
)
def test_network_overrides_dataset_overrides_profile(params, section, field, values):
    profile = params["profiles"]["tiny"]
    layers = (profile, profile["datasets"]["coco"], profile["networks"]["hourglass"])
    for layer, value in zip(layers, values, strict=True):
        layer.setdefault(section, {})[field] = value
        run = make_run(params, "hourglass", "coco", 0)
        found = run.inputs.augmentation if section == "augmentation" else getattr(run, section)
        assert getattr(found, field) == value
    other = make_run(params | {"profiles": {"tiny": profile}}, "hourglass", "mpii", 0)
    found = other.inputs.augmentation if section == "augmentation" else getattr(other, section)
    assert getattr(found, field) == values[2], "the network's own value holds on every dataset"


def test_a_network_has_values_of_its_own_on_one_dataset(params):
    entry = params["profiles"]["tiny"]["networks"]["hourglass"]
    entry |= {"augmentation": {"rotation_deg": 20}, "datasets": {"mpii": {"augmentation": {"rotation_deg": 30}}}}
    angles = {
        name: make_run(params, "hourglass", name, 0).inputs.augmentation.rotation_deg for name in ("coco", "mpii")
    }
    assert angles == {"coco": 20, "mpii": 30}


def test_how_a_run_is_tested_is_no_part_of_its_training(params):
    run = make_run(params, "hourglass", "coco", 0)
    assert dataclasses.replace(run, test=Protocol(pyramid=True, nms="soft")).digest == run.digest


def test_layers_are_merged_field_by_field(params):
    profile = params["profiles"]["tiny"]
    profile["datasets"]["coco"]["inputs"] = {"sigma": 1.5}
    profile["networks"]["hourglass"]["inputs"] = {"batch_size": 7}
    inputs = make_run(params, "hourglass", "coco", 5).inputs
    assert (inputs.codec, inputs.sigma, inputs.batch_size, inputs.seed) == ("dark", 1.5, 7, 5)
    assert inputs.input_size == (32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(profile="quik"), r"unknown profile 'quik'; known here: tiny"),
        (lambda p: p["profiles"]["tiny"]["datasets"].pop("coco"), r"unknown dataset 'coco'; known here: mpii, lsp"),
        (lambda p: p["profiles"]["tiny"]["networks"].pop("hourglass"), r"unknown network 'hourglass'"),
        (lambda p: p["profiles"]["tiny"]["recipe"].update(epoch=3), r"Recipe has no epoch; it has .*epochs"),
        (lambda p: p["profiles"]["tiny"]["inputs"].update(sigmas=3), r"InputSettings has no sigmas; it has .*sigma"),
        (lambda p: p["profiles"]["tiny"].update(test={"nms": "none"}), r"nms is 'none', must be one of hard, soft"),
        (
            lambda p: p["profiles"]["tiny"].update(test={"precision": "half"}),
            r"precision is 'half', must be .*fp32, bf16",
        ),
        (
            lambda p: p["profiles"]["tiny"]["networks"]["hourglass"].update(datasets={"cocoo": {}}),
            r"unknown dataset of hourglass 'cocoo'; known here: coco",
        ),
        (lambda p: p["profiles"]["tiny"]["augmentation"].update(tilt=3), r"Augmentation has no tilt; .*rotation_deg"),
        (lambda p: p["profiles"]["tiny"].update(recipes={}), r"profile 'tiny' has no recipes; it has .*recipe"),
        (
            lambda p: p["profiles"]["tiny"]["datasets"]["coco"].update(augmentaton={}),
            r"dataset 'coco' has no augmentaton; it has .*augmentation",
        ),
        (
            lambda p: p["profiles"]["tiny"]["networks"]["hourglass"].update(pretraind=True),
            r"network 'hourglass' has no pretraind; it has .*pretrained",
        ),
        (
            lambda p: p["profiles"]["tiny"]["networks"]["hourglass"].update(datasets={"coco": {"input": {}}}),
            r"dataset of hourglass 'coco' has no input; it has inputs",
        ),
    ],
)
def test_what_is_unknown_is_named_with_what_is_known(params, change, message):
    change(params)
    with pytest.raises(ValueError, match=message):
        make_run(params, "hourglass", "coco", 0)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("recipe", {"learning_rate": "5e-05"}, r"learning_rate of Recipe must be float, got '5e-05' \(str\)"),
        ("recipe", {"epochs": 2.5}, r"epochs of Recipe must be int, got 2\.5 \(float\)"),
        ("recipe", {"compile": "no"}, r"compile of Recipe must be bool, got 'no'"),
        ("recipe", {"epochs": True}, r"epochs of Recipe must be int, got True"),
        ("inputs", {"codec": 1}, r"codec of InputSettings must be str, got 1"),
    ],
)
def test_a_value_of_another_type_is_named(params, section, values, message):
    params["profiles"]["tiny"][section] |= values
    with pytest.raises(ValueError, match=message):
        make_run(params, "hourglass", "coco", 0)


def test_labels_are_true_or_shuffled(params):
    with pytest.raises(ValueError, match="labels are 'shufled', must be one of true, shuffled"):
        make_run(params, "hourglass", "coco", 0, "shufled")


def test_numbers_are_read_as_dvc_writes_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("rate: 0.1\n")
    with modify_yaml(path) as contents:
        contents["rate"] = 0.00005
    assert path.read_text() == "rate: 5e-05\n"
    assert load_params(path) == {"rate": 0.00005}


def test_params_are_looked_for_in_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="run from the repository's root"):
        load_params()


def test_extra_datasets_have_networks_of_their_own(params):
    params |= {"datasets": ["mpii"], "extra": {"datasets": ["lsp"], "networks": ["hrnet"]}}
    assert networks_on(params, "mpii") == params["networks"]
    assert networks_on(params, "lsp") == ["hrnet"]
    assert all_datasets(params) == ["mpii", "lsp"]


def test_a_run_is_frozen(params):
    run = make_run(params, "hourglass", "coco", 0)
    for part in (run, run.dataset, run.inputs, run.recipe, run.inputs.augmentation):
        field = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, None)


def test_the_digest_depends_on_every_field(params):
    run = make_run(params, "hourglass", "coco", 0)
    changes = {
        "network": "other",
        "model": "hrnet_w32",
        "options": {"stacks": 2},
        "pretrained": True,
        "dataset": dataclasses.replace(run.dataset, root=Path("elsewhere")),
        "seed": 1,
        "profile": "other",
        "threads": 2,
        "inputs": dataclasses.replace(run.inputs, sigma=9.0),
        "recipe": dataclasses.replace(run.recipe, epochs=9),
        "labels": "shuffled",
        "variant": "without_it",
    }
    assert changes.keys() | {"test"} == {field.name for field in dataclasses.fields(run)}
    digests = [dataclasses.replace(run, **{field: value}).digest for field, value in changes.items()]
    assert len({run.digest, *digests}) == 1 + len(changes)


def test_the_digest_does_not_depend_on_the_order_of_parameters(params):
    def turn(value):
        if isinstance(value, dict):
            return {key: turn(value[key]) for key in reversed(value)}
        return value

    run = make_run(params, "hourglass", "coco", 0)
    assert make_run(turn(params), "hourglass", "coco", 0).digest == run.digest
    assert " at 0x" not in json.dumps(run.describe())


def test_the_control_is_one_run_and_has_its_own_folders(params):
    runs = study_runs(params, "hourglass", "mpii")
    (control,) = study_runs(params, "hourglass", "mpii", labels="shuffled")
    assert [run.seed for run in runs] == [run.inputs.seed for run in runs] == [0, 1]
    folders = [folder for run in (*runs, control) for folder in (run.folder, run.evaluation)]
    assert len(set(folders)) == 5  # the seeds share one evaluation
    assert control.is_control
    assert not runs[0].is_control


@pytest.mark.parametrize(("profile", "network", "dataset"), COMBINATIONS)
def test_every_network_of_every_profile_takes_the_input_of_every_dataset(profile, network, dataset):
    run = make_run(PARAMS | {"profile": profile}, network, dataset, 0)
    K, (width, height) = NUM_KEYPOINTS[run.dataset.format], run.inputs.input_size
    with torch.device("meta"):  # shapes without numbers: full-size networks cost nothing
        model = create_model(run.model, num_keypoints=K, **run.options).eval()
        with torch.no_grad():
            heatmaps = model(torch.empty(1, 3, height, width))
    assert heatmaps.shape == (1, K, *reversed(run.inputs.heatmap_size))


# persons a step, epochs, learning rate, scale, angle, half body, shift: as published
PRESETS = {
    ("hrnet-official", "hrnet", "coco"): (128, 210, 1e-3, 0.35, 45, 0.3, 0),
    ("hrnet-official", "hrnet", "mpii"): (128, 210, 1e-3, 0.25, 30, 0, 0),
    ("hrnet-official", "simple_baseline", "coco"): (128, 140, 1e-3, 0.3, 40, 0, 0),
    ("hrnet-official", "simple_baseline", "mpii"): (128, 140, 1e-3, 0.25, 30, 0, 0),
    ("mmpose-1x", "hrnet", "coco"): (512, 210, 5e-4, 0.5, 80, 0.3, 0.3),
    ("mmpose-1x", "simple_baseline", "mpii"): (512, 210, 5e-4, 0.5, 80, 0, 0),
    ("paper", "daunet", "coco"): (128, 200, 1e-3, 0.3, 40, 0, 0),
    ("paper", "daunet", "mpii"): (128, 200, 1e-3, 0.25, 30, 0, 0),
    ("paper", "ditn", "mpii"): (32, 210, 1e-3, 0.35, 30, 0, 0),
}


@pytest.mark.parametrize("case", PRESETS, ids="-".join)
def test_presets_hold_the_published_numbers(case):
    profile, network, dataset = case
    run = make_run(PARAMS | {"profile": profile}, network, dataset, 0)
    recipe, inputs, augmentation = run.recipe, run.inputs, run.inputs.augmentation
    assert PRESETS[case] == (
        inputs.batch_size * recipe.accumulation * recipe.processes,
        recipe.epochs,
        recipe.learning_rate,
        augmentation.scale_factor,
        augmentation.rotation_deg,
        augmentation.half_body_probability,
        augmentation.shift_probability,
    )


@pytest.mark.parametrize("network", PARAMS["profiles"]["quick"]["networks"])
def test_the_quick_networks_compute(network):
    run = make_run(PARAMS | {"profile": "quick"}, network, "mpii", 0)
    model = create_model(run.model, num_keypoints=MPII16.num_keypoints, **run.options).eval()
    width, height = run.inputs.input_size
    with torch.no_grad():
        heatmaps = model(torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(heatmaps).all()
    assert heatmaps.std() > 0


def test_the_chosen_names_are_those_of_the_default_profile():
    profile = profile_params(PARAMS)
    assert set(PARAMS["networks"]) <= set(profile["networks"])
    assert PARAMS["control"] in PARAMS["networks"]
    for name in PARAMS["datasets"]:
        assert set(make_dataset(PARAMS, name).splits) == {"train", "val", "test"}


def test_building_a_run_leaves_the_parameters_as_they_were(params):
    before = copy.deepcopy(params)
    make_run(params, "hourglass", "coco", 0)
    assert params == before
