import copy
import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml

from hpelib.models import create_model
from hpelib.skeletons import MPII16
from hpelib.study.config import (
    Protocol,
    Run,
    load_params,
    make_dataset,
    make_run,
    networks_on,
    profile_params,
    study_runs,
)
from hpelib.study.planned import plan_key
from hpelib.study.stages import stages

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
COMBINATIONS = [
    (profile, network, dataset)
    for profile in PARAMS["profiles"]
    for network in profile_params(PARAMS | {"profile": profile})["networks"]
    for dataset in profile_params(PARAMS | {"profile": profile})["datasets"]
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
        (lambda p: p["profiles"]["tiny"].update(test={"nms": "none"}), r"nms='none' is none of 'hard', 'soft'"),
        (
            lambda p: p["profiles"]["tiny"].update(test={"precision": "half"}),
            r"precision='half' is none of .*'fp32', 'bf16'",
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
        ("recipe", {"learning_rate": "5e-05"}, r"learning_rate must be a valid number, got '5e-05'"),
        ("recipe", {"epochs": 2.5}, r"epochs must be a whole number, got 2\.5"),
        ("recipe", {"compile": "no"}, r"compile must be a valid boolean, got 'no'"),
        ("recipe", {"epochs": True}, r"epochs must be a whole number, got True"),
        ("inputs", {"codec": 1}, r"codec must be a valid string, got 1"),
    ],
)
def test_a_value_of_another_type_is_named(params, section, values, message):
    params["profiles"]["tiny"][section] |= values
    with pytest.raises(ValueError, match=message):
        make_run(params, "hourglass", "coco", 0)


def test_labels_are_true_or_shuffled(params):
    with pytest.raises(ValueError, match="labels='shufled' is none of 'true', 'shuffled'"):
        make_run(params, "hourglass", "coco", 0, "shufled")


def test_numbers_are_read_as_dvc_writes_them(tmp_path, params):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    with modify_yaml(path) as contents:
        contents["profiles"]["tiny"]["recipe"]["learning_rate"] = 0.00005
    assert "learning_rate: 5e-05" in path.read_text()
    assert make_run(load_params(path), "hourglass", "coco", 0).recipe.learning_rate == 0.00005


def test_params_are_looked_for_in_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="run from the repository's root"):
        load_params()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(networks=["hourglas"]), "unknown network 'hourglas'; known here: hourglass"),
        (lambda p: p["extra"].update(networks=["hrnets"]), "unknown network 'hrnets'"),
        (lambda p: p.update(control="hrnets"), "unknown network 'hrnets'"),
        (lambda p: p.update(datasets=["mpi"]), "unknown dataset 'mpi'; known here: coco, lsp, lspet, mpii"),
        (lambda p: p.update(datasets=["mpii"]), r"all_datasets must have those .*\[mpii\], got \['coco', 'mpii'"),
        (lambda p: p["profiles"]["tiny"].update(base="papr"), "unknown base of a profile 'papr'; known here: tiny"),
        (
            lambda p: p["profiles"]["tiny"]["networks"].update(slim={"model": "hrnet_w31"}),
            "network 'slim' is of model 'hrnet_w31', which is none",
        ),
        (lambda p: p["profiles"]["tiny"]["networks"].update(slim={}), "network 'slim' is of model None"),
        *(
            (
                lambda p, kind=kind, name=name: p["profiles"]["tiny"][kind].update(
                    {name: {"model": "hourglass"} if kind == "networks" else {"set": "coco"}}
                ),
                rf"'{re.escape(name)}' in the {kind} of profile tiny: a name may have letters, digits and _ only",
            )
            for kind in ("networks", "datasets")
            for name in ("hourglass_lr0.001", "two words", "a-b", "")
        ),
    ],
)
def test_a_wrong_name_is_refused_when_the_file_is_read(tmp_path, params, change, message):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    assert load_params(path) == params
    change(params)
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match=message):
        load_params(path)


def test_a_profile_takes_what_it_does_not_say_from_its_base(params):
    params["profiles"]["tiny"]["recipe"] |= {"learning_rate": 0.25, "warmup_steps": 3}
    params["profiles"]["child"] = {"base": "tiny", "recipe": {"epochs": 7, "warmup_steps": None}}
    params["profile"] = "child"
    run = make_run(params, "hourglass", "coco", 0)
    assert (run.recipe.epochs, run.inputs.codec, run.profile) == (7, "dark", "child")
    assert (run.recipe.learning_rate, run.recipe.warmup_steps) == (0.25, 0)  # a key of the base; null takes one away


def test_results_of_profiles_lie_side_by_side(params):
    params["profiles"]["other"] = params["profiles"]["tiny"]
    params["sets"]["coco"]["root"] = "{work}/drawn/coco"
    runs = [make_run(params | {"profile": name}, "hourglass", "coco", 0) for name in ("tiny", "other")]
    for run, work in zip(runs, ("work/tiny", "work/other"), strict=True):
        for path in (run.folder, run.evaluation, run.dataset.root, run.dataset.manifest):
            assert path.is_relative_to(work)
    assert runs[0].dataset.root == Path("work/tiny/drawn/coco")


def test_a_set_serves_any_dataset_that_names_it(params):
    params["profiles"]["tiny"]["datasets"]["again"] = {"set": "coco"}
    again, coco = make_dataset(params, "again"), make_dataset(params, "coco")
    assert (again.name, again.root, again.splits, again.format) == ("again", coco.root, coco.splits, "coco")
    assert again.manifest != coco.manifest
    params["profiles"]["tiny"]["datasets"]["again"] = {"set": "cocoo"}
    with pytest.raises(ValueError, match="unknown set of the dataset 'again' 'cocoo'; known here: coco, mpii"):
        make_dataset(params, "again")


def test_extra_datasets_have_networks_of_their_own(params):
    params |= {"datasets": ["mpii"], "extra": {"datasets": ["lsp"], "networks": ["hrnet"]}}
    assert networks_on(params, "mpii") == params["networks"]
    assert networks_on(params, "lsp") == ["hrnet"]


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


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("inputs", "workers", 8),
        ("inputs", "image_cache_mb", 5),
        ("recipe", "checkpoint_steps", 7),
    ],
)
def test_what_a_machine_needs_trains_nothing_anew(params, section, name, value):
    """Else the advice to lower `workers`, given after days, would cost every finished training."""
    before, planned = make_run(params, "hourglass", "coco", 0), {one[0]: one[2] for one in stages(params)}
    params["profiles"]["tiny"][section][name] = value
    after = make_run(params, "hourglass", "coco", 0)
    assert getattr(getattr(after, section), name) == value
    assert after.digest == before.digest
    assert {one[0]: one[2] for one in stages(params)} == planned


def test_more_processes_train_anew_but_an_interrupted_training_goes_on(params, tmp_path, monkeypatch):
    """Each process has batches of its own, so a finished training with another number is another result."""
    monkeypatch.chdir(tmp_path)
    before, keys = make_run(params, "hourglass", "coco", 0), []
    for processes in (1, 4):
        params["profiles"]["tiny"]["recipe"]["processes"] = processes
        run = make_run(params, "hourglass", "coco", 0)
        planned = {one[0]: one[2] for one in stages(params)}["train/coco-hourglass-0"]
        assert planned["recipe"]["processes"] == processes
        assert run.digest == before.digest
        path = run.dataset.work / "plan/train/coco-hourglass-0.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(planned, indent=1))
        keys.append(plan_key(run))
    assert keys[0] == keys[1] != ""


def test_the_digest_does_not_depend_on_the_order_of_parameters(params):
    def turn(value):
        if isinstance(value, dict):
            return {key: turn(value[key]) for key in reversed(value)}
        return value

    run = make_run(params, "hourglass", "coco", 0)
    assert make_run(turn(params), "hourglass", "coco", 0).digest == run.digest
    assert " at 0x" not in json.dumps(run.describe())


def test_a_network_with_a_base_differs_in_its_own_entry_alone(params):
    networks = params["profiles"]["tiny"]["networks"]
    networks["hourglass"]["inputs"] = {"sigma": 1.5, "batch_size": 3}
    networks["larger"] = {"base": "hourglass", "inputs": {"sigma": 2.0}, "options": {"stacks": 2}}
    base, larger = (make_run(params, name, "coco", 0) for name in ("hourglass", "larger"))
    assert (larger.inputs.sigma, larger.options["stacks"]) == (2.0, 2)
    inputs, options = dataclasses.replace(larger.inputs, sigma=1.5), larger.options | {"stacks": 1}
    assert dataclasses.replace(larger, network="hourglass", inputs=inputs, options=options) == base
    networks["largest"] = {"base": "larger", "options": {"stacks": 4}}
    largest = make_run(params, "largest", "coco", 0)
    assert (largest.inputs, largest.options["stacks"]) == (larger.inputs, 4)
    networks["larger"]["base"] = "largest"
    with pytest.raises(ValueError, match="bases of networks lead in a circle: larger -> largest -> larger"):
        make_run(params, "largest", "coco", 0)
    networks["larger"]["base"] = "hourglas"
    with pytest.raises(ValueError, match="unknown base of the network 'larger' 'hourglas'; known here"):
        make_run(params, "larger", "coco", 0)


def test_the_control_is_one_run_and_has_its_own_folders(params):
    runs = study_runs(params, "hourglass", "mpii")
    (control,) = study_runs(params, "hourglass", "mpii", labels="shuffled")
    assert [run.seed for run in runs] == [run.inputs.seed for run in runs] == [0, 1]
    folders = [folder for run in (*runs, control) for folder in (run.folder, run.evaluation)]
    assert len(set(folders)) == 5, "the seeds share one evaluation"
    assert control.is_control
    assert not runs[0].is_control


def test_every_network_of_every_profile_takes_the_input_of_every_dataset():
    runs = [make_run(PARAMS | {"profile": name}, network, dataset, 0) for name, network, dataset in COMBINATIONS]
    for (name, options), those in group_by(runs, lambda run: (run.model, json.dumps(run.options))).items():
        with torch.device("meta"), torch.no_grad():  # shapes without numbers: full-size networks cost nothing
            model = create_model(name, **json.loads(options)).eval()
            for (width, height), alike in group_by(those, lambda run: run.inputs.input_size).items():
                found = tuple(model(torch.empty(1, 3, height, width)).shape)
                for run in alike:
                    expected = (1, 17, *reversed(run.inputs.heatmap_size))
                    assert found == expected, f"{run.network} on {run.dataset.name} under {run.profile}"


def group_by(runs: list[Run], key: Callable) -> dict[tuple, list[Run]]:
    groups = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


# persons a step, epochs, learning rate, scale, angle, half body, shift: as published
PRESETS = {
    ("hrnet-official", "hrnet", "coco"): (128, 210, 1e-3, 0.35, 45, 0.3, 0),
    ("hrnet-official", "hrnet", "mpii"): (128, 210, 1e-3, 0.25, 30, 0, 0),
    ("hrnet-official", "simple_baseline", "coco"): (128, 140, 1e-3, 0.3, 40, 0, 0),
    ("hrnet-official", "simple_baseline", "mpii"): (128, 140, 1e-3, 0.25, 30, 0, 0),
    ("mmpose-1x", "hrnet", "coco"): (512, 210, 5e-4, 0.5, 80, 0.3, 0.3),
    ("mmpose-1x", "simple_baseline", "mpii"): (512, 210, 5e-4, 0.5, 80, 0, 0),
    ("paper", "daunet", "coco"): (128, 200, 1e-3, 0.25, 30, 0, 0),
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


def leaves(entry: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Every value that is no mapping, by the keys that lead to it."""
    found = {}
    for key, value in entry.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


def look_up(entry: dict, path: tuple[str, ...]) -> object:
    for key in path:
        entry = entry[key]
    return entry


NAMES = {  # parameters that name things of which there must be one, and other names for them
    ("profile",): "standard",
    ("datasets",): ["mpii"],
    ("networks",): ["hrnet"],
    ("extra", "datasets"): ["lsp", "coco"],
    ("extra", "networks"): ["ditn"],
    ("all_datasets",): ["lsp", "mpii", "coco"],
    ("control",): "ditn",
}


def another(path: tuple[str, ...], value: object, number: int) -> object:
    """What the parameter at `path` is set to in place of `value`: something that no other parameter is set to."""
    if path in NAMES:
        return NAMES[path]
    if path[-1] in ("model", "set", "base"):
        known = {"model": ["hourglass", "hrnet_w48"], "set": list(PARAMS["sets"]), "base": ["standard"]}[path[-1]]
        return next(name for name in known if name != value)
    return [number] if isinstance(value, list) else number


def as_override(path: tuple[str, ...], value: object) -> str:
    """What stands behind `--set-param`. JSON is how its grammar writes lists and quoted strings."""
    return f"{'.'.join(path)}={json.dumps(value)}"


@pytest.fixture
def params_file(tmp_path) -> Path:
    """A copy of params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def set_all(path: Path) -> set[tuple[str, ...]]:
    """Set every value of the file to another one, all in one command. Return those that the file then lacks."""
    before = leaves(yaml.safe_load(path.read_text()))
    wanted = {keys: another(keys, value, 1000 + number) for number, (keys, value) in enumerate(before.items())}
    apply_overrides(path, [as_override(keys, value) for keys, value in wanted.items()])
    found = leaves(yaml.safe_load(path.read_text()))
    return {keys for keys in wanted.keys() | found.keys() if wanted.get(keys) != found.get(keys)}


def test_every_parameter_can_be_set_by_dvc(params_file):
    assert len(leaves(load_params(params_file))) > 300
    assert {path[1] for path in leaves(load_params(params_file)) if path[0] == "profiles"} == set(PARAMS["profiles"])
    assert set_all(params_file) == set()


def test_a_value_with_two_places_would_be_seen(tmp_path):
    """An anchor makes one place of two: whoever sets both finds one of them as it was."""
    path = tmp_path / "params.yaml"
    path.write_text("a:\n  part: &part {x: 1}\nb:\n  part: *part\n")
    assert set_all(path)


def printed_overrides() -> list[tuple[str, ...]]:
    """What README, guides and params.yaml itself give to --set-param: one tuple a command."""
    found = []
    for page in (ROOT / "README.md", ROOT / "params.yaml", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            given = re.findall(r"(?:-S|--set-param)[ =](\'[^\']*\'|\"[^\"]*\"|[^\s`]+)", line)
            found.append(tuple(shlex.split(" ".join(given))))
            found += [(change,) for change in re.findall(r"^\| `([\w.-]+=[^`]+)` \|", line)]
    return list(dict.fromkeys(filter(None, found)))


@pytest.mark.parametrize("given", printed_overrides(), ids=" ".join)
def test_every_printed_command_applies_to_the_parameters(params_file, given):
    apply_overrides(params_file, list(given))
    params = load_params(params_file)
    for name, value in (assignment.lstrip("+").split("=", 1) for assignment in given):
        assert look_up(params, tuple(name.split("."))) == yaml.safe_load(value)
    assert len(list(stages(params))) > 10, "every run of the study can be made"


def test_commands_are_found_in_the_guides():
    assert len(printed_overrides()) > 10
