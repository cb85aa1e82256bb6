from pathlib import Path

import pytest

from hpelib.study.config import load_params, make_run
from hpelib.study.tools.dry_run import dry_run, project, smaller, write_stand_in


@pytest.fixture(scope="module")
def mannequins(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stand_in")
    write_stand_in(folder, 6)
    return folder


@pytest.mark.parametrize("name", ["coco", "mpii", "lsp"])
def test_every_stage_is_run_and_projected(params, mannequins, monkeypatch, name):
    params["sets"] |= {f"mannequins_{name}": load_params()["sets"][f"mannequins_{name}"]}
    monkeypatch.chdir(mannequins)
    params["profiles"]["tiny"]["recipe"] |= {"warmup_steps": 500}  # more than the steps that are tried
    planned = make_run(params, "hourglass", name, 0)
    run = smaller(params, planned, 2)
    found = dry_run(run)
    assert (run.evaluation / "summary.json").is_file()
    assert found["s_per_step"] > 0
    assert found["memory_gb"] > 0.05
    known = found | {"batch_size": 32, "s_per_step": 0.5, "s_per_test_box": 0.01}
    planned = project(known, run)
    persons = {"coco": 149_813, "mpii": 22_246, "lsp": 1_000}[name]
    assert planned["train_hours"] == pytest.approx(persons // 32 * run.recipe.epochs * 0.5 / 3600)
    assert planned["test_minutes"] == pytest.approx({"coco": 110_477, "mpii": 2_958, "lsp": 1_000}[name] / 6000)


def test_sets_that_join_the_training_of_lsp_are_part_of_the_bill(params):
    splits = params["sets"]["lsp"]["splits"]
    splits["train"] |= {"merged": {"datasets/mpii": {"annotations": "train.json"}, "datasets/lspet": {}}}
    run = make_run(params, "hourglass", "lsp", 0)
    planned = project({"batch_size": 32, "s_per_step": 0.5, "s_per_test_box": 0.01}, run)
    persons = 1_000 + 22_246 + 10_000
    assert planned["train_hours"] == pytest.approx(persons // 32 * run.recipe.epochs * 0.5 / 3600)


def test_a_format_without_mannequins_is_named(params):
    with pytest.raises(ValueError, match="no mannequins are drawn in the format lspet of lspet"):
        smaller(params, make_run(params, "hourglass", "lspet", 0), 2)
