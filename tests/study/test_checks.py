"""What is said of a profile before anything is computed."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from hpelib.study.checks import forget_old_plan, require_ready, warn_of_idle_settings, warn_of_study
from hpelib.study.config import make_run
from hpelib.study.planned import plan_file
from hpelib.study.stages import stages

PARAMS = yaml.safe_load((Path(__file__).resolve().parents[2] / "params.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("profile", "trainings", "has_gpu", "refused"),
    [
        ("standard", {"train"}, False, True),
        ("standard", {"train"}, True, False),
        ("standard", set(), False, False),  # data may be prepared, and pages made, on another machine
        ("quick", {"train", "ablate"}, False, False),
    ],
)
def test_a_study_that_needs_a_gpu_ends_before_its_data_are_prepared(monkeypatch, profile, trainings, has_gpu, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    if refused:
        with pytest.raises(SystemExit, match=r"profile standard trains on a GPU .* finds none"):
            require_ready(PARAMS | {"profile": profile}, trainings)
    else:
        require_ready(PARAMS | {"profile": profile}, trainings)


def test_imagenet_weights_are_fetched_once_each_before_anything_is_computed(monkeypatch):
    fetched = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("hpelib.models.weights.imagenet_weights", fetched.append)
    paper = PARAMS | {"profile": "paper"}
    require_ready(paper, set())
    require_ready(PARAMS, {"train"})  # narrow networks have no ImageNet weights
    assert not fetched
    require_ready(paper, {"train"})
    assert sorted(fetched) == ["hrnet_w32.ms_in1k", "resnet34.tv_in1k", "resnet50.tv_in1k"]


@pytest.mark.parametrize(
    ("kinds", "first", "told"),
    [
        ({"train", "ablate"}, {"datasets": ["coco"], "all_datasets": ["coco", "lsp"]}, "ablations of .* need mpii"),
        ({"stress_hits"}, {"datasets": ["coco"], "all_datasets": ["coco", "lsp"]}, "stage stress_hits needs mpii"),
        ({"start"}, {"datasets": ["mpii"], "all_datasets": ["mpii", "lsp"]}, "stage start needs coco"),
        ({"train", "tables"}, {"datasets": ["mpii"], "all_datasets": ["mpii", "lsp"]}, None),
        ({"ablate", "stress_hits", "start"}, {}, None),
    ],
)
def test_stages_on_a_dataset_that_the_study_does_not_have_are_refused_before_any_runs(kinds, first, told):
    if told is None:
        require_ready(PARAMS | first, kinds)
    else:
        with pytest.raises(SystemExit, match=f"{told}, which this study does not have"):
            require_ready(PARAMS | first, kinds)


def test_the_plan_is_forgotten_where_a_file_that_params_name_was_edited(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(params, "hourglass", "coco", 0)
    save_file({"a": torch.zeros(1)}, tmp_path / "start.safetensors")
    params["profiles"]["tiny"]["networks"]["hourglass"]["pretrained"] = "start.safetensors"
    params |= {"ablations": {}}
    for name, _, parameters, _ in stages(params):
        if name.startswith(("train/", "control/")):
            path = run.dataset.work / "plan" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"parameters": parameters}))
    forget_old_plan(params)
    assert plan_file(run).is_file()
    save_file({"a": torch.ones(1)}, tmp_path / "start.safetensors")
    forget_old_plan(params)
    assert not (run.dataset.work / "plan").exists()


def test_without_a_network_the_study_ends_before_its_data_are_prepared(monkeypatch):
    def fetch(name):
        raise OSError(f"could not fetch the ImageNet weights {name!r}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("hpelib.models.weights.imagenet_weights", fetch)
    with pytest.raises(SystemExit, match=r"profile paper start from ImageNet weights .* could not fetch .*HF_HOME"):
        require_ready(PARAMS | {"profile": "paper"}, {"train"})


def test_a_profile_that_is_chosen_by_hand_without_its_study_is_told(capsys):
    warn_of_study(PARAMS | {"profile": "evening"})
    assert "made for other seeds, ablation_seeds: make study PROFILE=evening sets them" in capsys.readouterr().out
    warn_of_study(PARAMS | {"profile": "evening"} | PARAMS["profiles"]["evening"]["study"])
    warn_of_study(PARAMS)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "settings", "told"),
    [
        (
            "augmentation",
            {"rotation_deg": 60},
            "rotation_deg is 60, which acts only where rotation_prob",
        ),
        (
            "augmentation",
            {"shift_factor": 0.2},
            "shift_factor is 0.2, which acts only where shift_prob",
        ),
        ("augmentation", {"shift_probability": 0.2}, "shift_probability is 0.2, which acts only where shift_factor"),
        (
            "augmentation",
            {"half_body_min_keypoints": 9},
            "half_body_min_keypoints is 9, which acts only where half_body",
        ),
        ("augmentation", {"rotation_deg": 60, "rotation_probability": 0.5}, None),
        ("augmentation", {"sampling": "truncated"}, "sampling is truncated, which acts only where scale_factor or rot"),
        (
            "augmentation",
            {"half_body_probability": 0.5, "half_body_min_keypoints": 17},
            "and a skeleton has more keypoints",
        ),
        ("recipe", {"optimizer": "adamw"}, "optimizer is adamw, which acts only where weight_decay is above 0"),
        ("recipe", {"milestones": [1]}, "milestones is (1,), which acts only where schedule is step"),
        ("recipe", {"milestones": [1], "schedule": "step"}, None),
        ("test", {"nms": "soft"}, None),  # acts on COCO's format, so that MPII's may ignore it
    ],
)
def test_settings_that_act_in_no_training_are_told(capsys, section, settings, told):
    params = copy.deepcopy(PARAMS)
    params["profiles"]["quick"][section] |= settings
    params["ablations"] = {}  # DITN's rows train with AdamW
    warn_of_idle_settings(params)
    printed = capsys.readouterr().out
    assert told in printed if told else not printed


def test_soft_nms_is_told_where_no_dataset_has_average_precision(capsys):
    params = copy.deepcopy(PARAMS) | {"datasets": ["mpii"], "all_datasets": ["mpii", "lsp"], "ablations": {}}
    params["profiles"]["quick"]["test"]["nms"] = "soft"
    warn_of_idle_settings(params)
    assert (
        "nms is soft, which acts only where a set is in the format coco: simple_baseline on mpii"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("profile", PARAMS["profiles"])
def test_every_setting_of_the_profiles_acts_somewhere(capsys, profile):
    warn_of_idle_settings(PARAMS | {"profile": profile} | PARAMS["profiles"][profile].get("study", {}))
    assert not capsys.readouterr().out
