"""What params.yaml cannot mean is refused by its place before anything runs."""

import copy
from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

from hpelib.models import create_model
from hpelib.study.ablations import row_entry
from hpelib.study.config import load_params, make_run, profile_changes, profile_params
from hpelib.study.layout import check_layout
from hpelib.study.trial import planned_runs, try_runs

PARAMS = yaml.safe_load((Path(__file__).resolve().parents[2] / "params.yaml").read_text(encoding="utf-8"))


def night(params: dict, section: str) -> dict:
    return params["profiles"]["night"][section]


def merged_mpii(params: dict) -> dict:
    return params["sets"]["lsp"]["splits"]["train"]["merged"]["mpii"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(seeds=[]), "params.yaml: seeds must have at least 1 item"),
        (lambda p: p.update(seeds=3), "seeds must be a list, got 3"),
        (lambda p: p.update(seeds=[2**63]), r"seeds\[0\] must be less than 4294967296"),
        (lambda p: p.update(seeds=[0, 0]), "seeds must have no value twice"),
        (lambda p: p.pop("seeds"), "seeds is missing$"),
        (lambda p: p.update(networks=[]), "networks must have at least 1 item"),
        (lambda p: p.update(networks=["hrnet", "hrnet"]), "networks must have no value twice"),
        (lambda p: p.update(datasets=["coco", "coco"]), "datasets must have no value twice"),
        (lambda p: p.update(error_datasets=["cocoo"]), "error_datasets='cocoo' is none of"),
        (lambda p: p.update(error_datasets=["mpii"]), "'mpii', whose format mpii has no kinds of error"),
        (lambda p: p["sets"]["mpii"].update(root=5), r"sets\.mpii\.root must be a valid string, got 5"),
        (lambda p: p["sets"]["mpii"].update(format="cocoo"), "format of the set 'mpii'='cocoo' is none of"),
        (lambda p: p["sets"]["mpii"]["splits"].pop("val"), r"sets\.mpii\.splits\.val is missing"),
        (lambda p: p["sets"]["lsp"]["splits"]["val"].update(numbers=[5]), r"numbers\[1\] is missing"),
        *(
            (lambda p, n=n: p["sets"]["mpii"]["splits"]["val"].update(max_persons=n), r"mpii\.splits\.val\.max_persons")
            for n in (-3, 0, True, "abc")
        ),
        (lambda p: p["profiles"].update(quick=None), r"profiles\.quick must be a mapping, got None"),
        (lambda p: p["profiles"]["quick"].update(recipe=None), r"profiles\.quick\.recipe must be a mapping"),
        (lambda p: p["profiles"]["quick"].update(threads="many"), r"threads must be a whole number, got 'many'"),
        (lambda p: p["profiles"]["quick"].update(threads=0), r"threads must be greater than or equal to 1"),
        (lambda p: p["profiles"]["quick"].pop("networks"), "profile 'quick' has no networks"),
        (lambda p: p["profiles"]["quick"]["networks"].update({5: {"model": "hourglass"}}), r"networks\[5\].* got 5"),
        (lambda p: p["profiles"]["paper"]["networks"]["hrnet"].update(pretrained=""), r"hrnet\.pretrained.* got ''"),
        *(
            (lambda p, k=k, v=v: p["profiles"]["quick"]["mannequins"]["plain"].update({k: v}), message)
            for k, v, message in (
                ("scale", 0, r"mannequins\.plain\.scale must be greater than 0"),
                ("scale", "large", r"mannequins\.plain\.scale must be a valid number, got 'large'"),
                ("seed", -1, r"mannequins\.plain\.seed must be greater than or equal to 0"),
                ("size", 1, r"mannequins\.plain\.size is unknown, got 1"),
                ("persons", {"train": 0}, r"mannequins\.plain\.persons\.train must be greater than or equal to 1"),
                ("persons", {"tran": 9}, r"plain\.persons\.tran.* must be 'train', 'val' or 'test', got 'tran'"),
                ("persons", {}, r"plain\.persons .*at least 1 item"),
            )
        ),
        (lambda p: p["profiles"]["quick"].update(mannequins={}), r"quick\.mannequins .*at least 1 item"),
        (lambda p: night(p, "stress").update(persons=2.5), r"night\.stress\.persons must be a whole number"),
        (lambda p: night(p, "stress").pop("seed"), r"night\.stress\.seed is missing"),
        (lambda p: night(p, "study").update(seeds=3), r"profiles\.night\.study: seeds must be a list, got 3"),
        (lambda p: night(p, "study").update(datasets=[]), r"night\.study: datasets must have at least 1"),
        (lambda p: night(p, "study").update(seed=[3]), r"night\.study='seed' is none of .*did you mean 'seeds'"),
        (lambda p: night(p, "study").update(profile="quick"), r"night\.study='profile' is none of"),
        (lambda p: night(p, "stage_s").update(train=-1), r"stage_s\.train must be greater than or equal to 0"),
        (lambda p: merged_mpii(p).update(root=5), r"merged\.mpii\.root must be a valid string"),
        (lambda p: merged_mpii(p).update(anotations="a.json"), r"merged\.mpii\.anotations is unknown"),
        (lambda p: p["profiles"]["quick"].update(paper_recipes={"ditnn": {}}), "paper_recipes='ditnn' is none of"),
        (lambda p: p["profiles"].update(x={"base": "night"}), "the base of profile 'x' has a base itself"),
        (
            lambda p: p["profiles"].update({"my profile": p["profiles"]["quick"]}),
            "'my profile' in the profiles: a name",
        ),
        (lambda p: p["profiles"].update({"../x": p["profiles"]["quick"]}), "'../x' in the profiles: a name may have"),
        (lambda p: p["ablations"]["ditn"]["rows"].update({"a b": {}}), "'a b' in the rows of ablation ditn: a name"),
        (lambda p: p.update(ablation_seed=[0, 1]), "ablation_seed is unknown"),
        (lambda p: p["ablations"]["ditn"].update(seeds=[0]), r"ablations\.ditn\.seeds is unknown"),
        (lambda p: p["extra"].update(dataset=["lsp"]), r"extra\.dataset is unknown"),
        (lambda p: p["sets"]["lsp"]["splits"].update(validation={}), r"splits\.validation is unknown"),
        (lambda p: p["ablations"]["ditn"]["rows"].update(full=None), r"ditn\.rows\.full must be a mapping, got None"),
    ],
)
def test_a_place_of_another_form_is_named(tmp_path, change, message):
    params = copy.deepcopy(PARAMS)
    check_layout(params)
    change(params)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match=message):
        load_params(path)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("inputs", {"codec": "uddp"}, "hourglass on coco cannot train: codec='uddp' is none of"),
        ("inputs", {"sigma": -1}, "sigma must be greater than 0"),
        ("inputs", {"sigma": float("nan")}, "sigma must be a finite number"),
        ("inputs", {"input_size": [64]}, r"input_size\[1\] is missing"),
        ("inputs", {"heatmap_size": [16, 16]}, r"\(16, 16\), but of an input of \(32, 32\) px .* heatmaps of \(8, 8\)"),
        (
            "inputs",
            {"input_size": [32, 64]},
            r"heatmap_size is \(8, 8\), .* heatmaps of \(8, 16\), as \(width, height\)",
        ),
        ("inputs", {"input_size": [33, 33]}, "hourglass on coco cannot train: .*33x33 px"),
        ("inputs", {"workers": -1}, "workers must be greater than or equal to 0"),
        ("recipe", {"loss": "foo"}, "hourglass on coco cannot train: loss='foo' is none of"),
        ("recipe", {"loss": "transfer", "loss_options": {"bone_wight": 1}}, "'bone_wight' is none of .*'bone_weight'"),
        (
            "recipe",
            {"loss_options": {"hardest": 4}},
            "hourglass on coco cannot train: the loss mse takes no loss_options",
        ),
        ("recipe", {"epochs": 0}, "epochs must be greater than or equal to 1"),
        ("recipe", {"epochs": 3, "milestones": [2, 5]}, r"milestones \[5\] lie beyond the end: there are 3 epochs"),
        ("recipe", {"loss": "distribution"}, "hourglass on coco cannot train: the distribution loss needs learned"),
        ("options", {"stack": 2}, "hourglass on coco cannot train: hourglass has no option stack"),
        ("options", {"stacks": "no"}, "stacks must be a whole number, got 'no'"),
        ("pretrained", "absent.pth", r"there is no file of pretrained weights absent\.pth"),
        (
            "pretrained",
            "README.md",
            r"hourglass on coco cannot train: README\.md is broken, or holds more than weights",
        ),
        ("pretrained", True, "hourglass on coco cannot train: there are no ImageNet weights for hourglass"),
    ],
)
def test_what_cannot_train_stops_the_plan(params, section, values, message):
    try_runs(params)
    profile = params["profiles"]["tiny"]
    if section == "pretrained":
        profile["networks"]["hourglass"]["pretrained"] = values
    else:
        (profile["networks"]["hourglass"] if section == "options" else profile)[section] |= values
    with pytest.raises(ValueError, match=message):
        try_runs(params)


def test_a_loss_of_one_stack_stops_the_plan_of_a_network_with_more(params):
    params["profiles"]["tiny"]["networks"]["hourglass"] |= {"recipe": {"loss": "transfer"}}
    try_runs(params)
    params["profiles"]["tiny"]["networks"]["hourglass"]["options"] |= {"stacks": 2}
    with pytest.raises(ValueError, match="hourglass on coco cannot train: the transfer loss judges one stack"):
        try_runs(params)


def test_a_row_that_names_no_network_of_the_profile_says_whose_it_is(params):
    rows = {"full": {}, "other": {"options": {"backbone_options": "hrnett"}}}
    params["ablations"] = {"hourglass": {"datasets": ["mpii"], "rows": rows}}
    with pytest.raises(ValueError, match=r"ablations\.hourglass: backbone_options='hrnett' is none of"):
        try_runs(params)


def test_weights_of_another_network_stop_the_plan(params, tmp_path):
    """The trunk of the file is tried, as when the training starts, but without a network of numbers."""
    file, entry = tmp_path / "start.safetensors", params["profiles"]["tiny"]["networks"]["hourglass"]
    start = create_model("hourglass", 14, **entry["options"])  # of another skeleton: all but the last layers fit
    save_file(start.state_dict(), file)
    entry["pretrained"] = str(file)
    try_runs(params)
    entry["options"] = entry["options"] | {"stacks": 2}
    with pytest.raises(ValueError, match=r"start\.safetensors lacks \d+ of the \d+ entries in the trunk of hourglass"):
        try_runs(params)


def test_a_row_with_another_loss_has_only_its_own_options(params):
    """SADI-Net's rows without a learned distribution train by the loss mse, which takes no options."""
    entry = {"model": "sadi_net", "recipe": {"loss": "distribution", "loss_options": {"dlm_weight": 0.001}}}
    rows = {"full": {}, "mse": {"recipe": {"loss": "mse"}}, "more": {"recipe": {"loss_options": {"warmup_batches": 5}}}}
    found = {row: row_entry({"sadi_net": entry}, "sadi_net", changes)["recipe"] for row, changes in rows.items()}
    assert found["full"] == entry["recipe"]
    assert found["mse"] == {"loss": "mse"}
    assert found["more"]["loss_options"] == {"dlm_weight": 0.001, "warmup_batches": 5}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"inputs": {"sigmma": None}}, "'sigmma' is none of .*did you mean 'sigma'"),
        ({"optoins": None}, "'optoins' is none of .*did you mean 'options'"),
        ({"options": {"widhts": None}}, "'widhts' is none of .*did you mean 'widths'"),
        ({"recipe": {"loss_options": {"bone_wieght": None}}}, "'bone_wieght' is none of"),
    ],
)
def test_null_of_a_misspelt_name_is_refused(params, changes, named):
    params["ablations"] = {"hourglass": {"datasets": ["mpii"], "rows": {"full": {}, "other": changes}}}
    with pytest.raises(ValueError, match=f"null takes a value away: name={named}"):
        try_runs(params)


def test_null_of_a_setting_that_only_some_profiles_have_is_none(params):
    rows = {"full": {"recipe": {"epochs": 2}}, "other": {"inputs": {"sigma": None}}}
    params["ablations"] = {"hourglass": {"datasets": ["mpii"], "rows": rows}}
    assert "inputs" not in params["profiles"]["tiny"]["networks"]["hourglass"]
    try_runs(params)


def test_two_rows_that_are_the_same_training_are_refused(params):
    rows = {"full": {}, "other": {"recipe": {}}}
    params["ablations"] = {"hourglass": {"datasets": ["mpii"], "rows": rows}}
    with pytest.raises(
        ValueError, match=r"ablations\.hourglass: the rows full and other are one and the same training"
    ):
        try_runs(params)


def test_a_control_that_no_table_has_is_tried_as_well(params):
    networks = params["profiles"]["tiny"]["networks"]
    networks["other"] = networks["hourglass"] | {"recipe": {"loss": "transfer", "loss_options": {"sigmma": 2}}}
    with pytest.raises(ValueError, match=r"the control other on .* cannot train: loss_options of transfer='sigmma'"):
        try_runs(params | {"control": "other"})


def test_kinds_of_error_are_asked_of_the_datasets_of_a_base_too(params):
    params["profiles"] |= {"other": {"base": "tiny"}}
    with pytest.raises(ValueError, match="error_datasets has 'mpii', whose format mpii has no kinds of error"):
        check_layout(params | {"profile": "other", "error_datasets": ["mpii"]})


def test_a_profile_without_a_study_has_that_of_its_base():
    params = PARAMS | {"profiles": PARAMS["profiles"] | {"mine": {"base": "standard"}}}
    assert profile_changes(params, "mine") == {"profile": "mine"} | PARAMS["profiles"]["standard"]["study"]


@pytest.mark.parametrize(("name", "value"), [("seed", 7), ("augmentation", {"scale_factor": 0.9})])
def test_inputs_that_have_another_place_are_refused(params, name, value):
    params["profiles"]["tiny"]["inputs"][name] = value
    with pytest.raises(ValueError, match=f"inputs: {name} has another place"):
        make_run(params, "hourglass", "coco", 0)


def test_fewer_persons_than_a_batch_stop_the_plan(params):
    params["sets"]["coco"]["splits"]["train"] |= {"persons": 1}
    with pytest.raises(ValueError, match=r"the split train gives 1 persons, but a batch of all processes has \d+"):
        try_runs(params)


def test_a_codec_that_one_row_alone_has_is_tried(params):
    rows = {"full": {}, "other": {"inputs": {"codec": "drak"}}}
    params["ablations"] = {"hourglass": {"datasets": ["mpii"], "rows": rows}}
    with pytest.raises(ValueError, match="row other of hourglass on mpii cannot train: codec='drak' is none of"):
        try_runs(params)


def test_a_row_that_cannot_train_stops_the_plan(params):
    params["ablations"] = {"hourglass": {"datasets": ["mpii"], "rows": {"full": {}, "deep": {"options": {"depth": 3}}}}}
    with pytest.raises(ValueError, match="row deep of hourglass on mpii cannot train: hourglass has no option depth"):
        try_runs(params)


@pytest.mark.parametrize("profile", PARAMS["profiles"])
def test_every_run_of_every_profile_has_the_heatmap_size_of_its_network(profile):
    """FR-SBN gives heatmaps as large as its input, all others a quarter of it. The plan sees one profile at a time."""
    params = PARAMS | PARAMS["profiles"][profile].get("study", {}) | {"profile": profile}
    chosen = profile_params(params)
    params |= {"networks": [*chosen["networks"]], "all_datasets": [*chosen["datasets"]]}
    params |= {"extra": {"datasets": [], "networks": []}}
    for name, run in planned_runs(params):
        whole = run.model.startswith("fr_sbn") and run.options.get("full_resolution", True)
        stride = 1 if whole else 4
        assert run.inputs.input_size == tuple(stride * side for side in run.inputs.heatmap_size), name


def test_another_file_of_pretrained_weights_is_another_training(params, tmp_path):
    path = tmp_path / "trunk.pth"
    params["profiles"]["tiny"]["networks"]["hourglass"]["pretrained"] = str(path)
    digests = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        run = make_run(params, "hourglass", "coco", 0)
        digests.append((run.digest, run.describe()["pretrained"]["sha256"]))
    assert len({*digests[0], *digests[1]}) == 4
