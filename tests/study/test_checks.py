"""What is said of a profile before anything is computed."""

from pathlib import Path

import pytest
import torch
import yaml

from hpelib.study.checks import require_gpu, warn_of_study

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
            require_gpu(PARAMS | {"profile": profile}, trainings)
    else:
        require_gpu(PARAMS | {"profile": profile}, trainings)


def test_a_profile_that_is_chosen_by_hand_without_its_study_is_told(capsys):
    warn_of_study(PARAMS | {"profile": "evening"})
    assert "made for other ablation_seeds: make study PROFILE=evening sets them" in capsys.readouterr().out
    warn_of_study(PARAMS | {"profile": "evening"} | PARAMS["profiles"]["evening"]["study"])
    warn_of_study(PARAMS)
    assert not capsys.readouterr().out
