"""dvc.yaml as DVC expands it, against the notebooks, the parameters and the modules that it names."""

import ast
import json
import shlex
from pathlib import Path

import networkx
import pytest
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from hpelib.study.sources import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
AXES = ("dataset", "paper", "network", "seed")
INTERACTIVE = {"explore", "own_pictures"}  # opened by hand; no stage runs them
RUNNER = ["python", "-m", "hpelib.study.notebooks"]


@pytest.fixture(scope="module")
def index():
    with Repo(str(ROOT)) as repo:
        yield repo.index


@pytest.fixture(scope="module")
def stages(index):
    return {stage.name: stage for stage in index.stages if getattr(stage, "name", None)}


def commands(stage) -> list[list[str]]:
    return [shlex.split(command) for command in ([stage.cmd] if isinstance(stage.cmd, str) else stage.cmd)]


def executions(stage) -> list[tuple[str, str, dict[str, str]]]:
    """The notebooks that a stage runs: frozen source, target, parameters."""
    return [
        (words[3], words[4], dict(word.split("=", 1) for word in words[5:]))
        for words in commands(stage)
        if words[:3] == RUNNER
    ]


def file_deps(stage) -> set[str]:
    return {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def tracked_params(stage) -> set[str]:
    return {name for dep in stage.deps if isinstance(dep, ParamsDependency) for name in dep.params}


def parameters_cell(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return "".join(cell["source"])


def declared(path: Path) -> set[str]:
    return {target.id for node in ast.parse(parameters_cell(path)).body for target in node.targets}


def test_every_axis_is_expanded(stages):
    datasets, networks, seeds = (PARAMS[axis] for axis in ("datasets", "networks", "seeds"))
    extra, papers = PARAMS["extra"], len(PARAMS["ablations"])
    counts = dict.fromkeys(("prepare", "data", "control", "tables", "heatmaps"), len(datasets))
    counts |= {"train": len(datasets) * len(networks) * len(seeds), "evaluate": len(datasets) * len(networks)}
    counts |= dict.fromkeys(("prepare_extra", "data_extra", "tables_extra", "heatmaps_extra"), len(extra["datasets"]))
    pairs = len(extra["datasets"]) * len(extra["networks"])
    counts |= {"train_extra": pairs * len(seeds), "evaluate_extra": pairs}
    counts |= {"ablate": papers * len(PARAMS["ablation_seeds"]), "papers": papers}
    counts |= {"errors": len(PARAMS["error_datasets"]), "paper_figures": papers}
    found = [name.split("@")[0] for name in stages if "@" in name]
    assert {name: found.count(name) for name in set(found)} == counts


def test_every_notebook_is_run_with_parameters_that_it_declares(stages):
    run = set()
    for name, stage in stages.items():
        for source, _, parameters in executions(stage):
            notebook = ROOT / "notebooks" / Path(source).name
            run.add(notebook)
            assert parameters.keys() <= declared(notebook), name
    assert run == {path for path in NOTEBOOKS if path.stem not in INTERACTIVE}


def test_a_stage_depends_on_the_notebook_and_on_what_it_imports(stages):
    for name, stage in stages.items():
        for source, _, parameters in executions(stage):
            kind = Path(source).stem
            needed = {f"work/src/notebooks/{kind}.ipynb", f"work/src/imports/{kind}.txt"}
            if kind in ("train", "evaluate"):
                needed.add(f"work/src/imports/models/{parameters['network']}.txt")
            assert source in needed
            assert needed <= file_deps(stage), name


def test_a_stage_depends_on_what_its_command_imports(stages):
    run = set()
    for name, stage in stages.items():
        for words in commands(stage):
            module = words[2].removeprefix("hpelib.study.")
            assert words[:2] == RUNNER[:2], name
            assert (ROOT / f"hpelib/study/{module}.py").is_file(), name
            if module not in ("sources", "notebooks"):
                run.add(module)
                assert f"work/src/imports/{module}.txt" in file_deps(stage), name
    assert run == set(COMMANDS)


def test_what_a_stage_writes_lies_where_it_belongs(stages):
    for name, stage in stages.items():
        targets = [target for _, target, _ in executions(stage)]
        for out in stage.outs:
            assert out.def_path.startswith("work/" if out.use_cache else "reports/"), name
        for target in targets:
            assert any(Path(target).is_relative_to(out.def_path) for out in stage.outs), name


def test_what_takes_long_can_be_had_from_the_cache(stages):
    """DVC keeps no run cache of a stage with an uncached output."""
    for name, stage in stages.items():
        if name.split("@")[0] in ("mannequins", "train", "evaluate", "control"):
            assert all(out.use_cache for out in stage.outs), name


def test_names_in_paths_and_parameters_are_the_stages_own(stages):
    for name, stage in stages.items():
        for _, target, parameters in executions(stage):
            values = [parameters[axis] for axis in AXES if axis in parameters]
            if name.startswith("control@"):
                assert parameters["labels"] == "shuffled"
                assert parameters["network"] == PARAMS["control"]
                values = values[:1]
            assert name.partition("@")[2] == "-".join(values)
            for path in (target, *(value for value in parameters.values() if "/" in value)):
                assert all(value in path for value in values), name


@pytest.mark.parametrize(("kind", "unread"), [("train", {"test"}), ("evaluate", {"augmentation"}), ("control", set())])
def test_a_stage_follows_every_parameter_that_it_reads(stages, kind, unread):
    profile = PARAMS["profile"]
    others = {"mannequins", "stress", "paper_recipes", "datasets", "networks"}
    sections = PARAMS["profiles"][profile].keys() - others - unread
    for name, stage in stages.items():
        if name.startswith(f"{kind}@"):
            (_, _, parameters), *_ = executions(stage)
            needed = {f"profiles.{profile}.{section}" for section in sections} | {
                f"profiles.{profile}.datasets.{parameters['dataset']}",
                f"profiles.{profile}.networks.{parameters['network']}",
            }
            assert needed <= tracked_params(stage), name


def test_an_ablation_follows_the_networks_whose_options_its_rows_take(stages):
    """And no others: to change one network must not repeat every paper's rows."""
    prefix = f"profiles.{PARAMS['profile']}.networks."
    for paper, ablation in PARAMS["ablations"].items():
        backbones = {changes.get("options", {}).get("backbone_options") for changes in ablation["rows"].values()}
        needed = {prefix + paper} | {prefix + backbone for backbone in backbones if isinstance(backbone, str)}
        tracked = {name for name in tracked_params(stages[f"ablate@{paper}-0"]) if "networks" in name}
        assert needed <= tracked <= needed | {f"{prefix}simple_baseline"}, paper


def test_stages_wait_for_what_they_read(index, stages):
    before = {
        name: {other.name for other in networkx.descendants(index.graph, stage) if getattr(other, "name", None)}
        for name, stage in stages.items()
    }  # DVC's edges lead from a stage to what it depends on
    for dataset in PARAMS["datasets"]:
        prepared = {"sources", "mannequins", f"prepare@{dataset}"}
        for network in PARAMS["networks"]:
            trained = {f"train@{dataset}-{network}-{seed}" for seed in PARAMS["seeds"]}
            assert before[f"evaluate@{dataset}-{network}"] == prepared | trained
            for name in trained:
                assert before[name] == prepared
        evaluated = {f"evaluate@{dataset}-{network}" for network in PARAMS["networks"]}
        assert evaluated | {f"control@{dataset}"} <= before[f"tables@{dataset}"]
        assert evaluated <= before[f"heatmaps@{dataset}"]
        assert evaluated | {f"control@{dataset}"} <= before["report"]


def test_data_holds_nothing_derived(index, stages):
    assert not [out for stage in stages.values() for out in stage.outs if Path(out.def_path).parts[0] == "data"]
    (data,) = [stage for stage in index.stages if Path(stage.path).name == "data.dvc"]
    (out,) = data.outs
    assert not out.use_cache, "the files are in git, so that a fresh clone has them"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_clean(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert declared(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_code_worth_testing(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef) and path.stem not in INTERACTIVE:
                    assert node.end_lineno - node.lineno < 5, node.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defaults_of_a_notebook_are_there_to_be_run(path):
    """A notebook opened by hand runs as it stands: its defaults name things of the default profile."""
    defaults = {}
    exec(parameters_cell(path), defaults)
    profile = PARAMS["profiles"][PARAMS["profile"]]
    assert defaults.get("dataset", PARAMS["datasets"][0]) in PARAMS["datasets"]
    assert defaults.get("network", PARAMS["networks"][0]) in PARAMS["networks"]
    assert defaults.get("network", PARAMS["networks"][0]) in profile["networks"]
    assert defaults.get("seed", PARAMS["seeds"][0]) in PARAMS["seeds"]
    for name in ("out", "metrics", "plots"):
        assert defaults.get(name, "work/").startswith("work/"), "by hand nothing is written into reports/"
