import pytest

from hpelib.formats import FORMATS
from hpelib.study.config import make_run
from hpelib.study.steps.prepare import read_split
from hpelib.study.tools.dry_run import dry_run, project, write_stand_in


@pytest.mark.parametrize("name", ["coco", "mpii", "lsp"])
def test_every_stage_is_run_and_projected(params, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = make_run(params, "hourglass", name, 0)
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
    splits["train"] |= {
        "merged": {"mpii": {"root": "datasets/mpii", "annotations": "train.json"}, "lspet": {"root": "datasets/lspet"}}
    }
    run = make_run(params, "hourglass", "lsp", 0)
    planned = project({"batch_size": 32, "s_per_step": 0.5, "s_per_test_box": 0.01}, run)
    persons = 1_000 + 22_246 + 10_000
    assert planned["train_hours"] == pytest.approx(persons // 32 * run.recipe.epochs * 0.5 / 3600)


def test_the_stand_in_has_the_layout_of_the_real_set(params, tmp_path, monkeypatch):
    """As LSP's: all splits in one folder, told apart by number, and nobody from other sets."""
    monkeypatch.chdir(tmp_path)
    numbers = {"train": [1, 1000], "val": [1001, 2000], "test": [1001, 2000]}
    params["sets"]["lsp"]["splits"] = {
        split: {"folder": ".", "numbers": pair, "merged": {"lspet": {"root": "datasets/lspet"}}}
        for split, pair in numbers.items()
    }
    dataset = write_stand_in(make_run(params, "hourglass", "lsp", 0).dataset, 3)
    assert [path.is_file() for path in FORMATS["lsp"].annotation_files(dataset)] == [True]
    assert read_split(dataset, "train").ids.tolist() == [1, 2, 3]
    assert read_split(dataset, "test").ids.tolist() == [4, 5, 6]
