"""dvc.yaml as DVC expands it, against the notebooks, the parameters and the plan that it names."""

import ast
import json
import shlex
from pathlib import Path

import networkx
import pytest
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

from hpelib.study.config import networks_on
from hpelib.study.stages import stages as planned

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PROFILE = PARAMS["profile"]
AXES = ("dataset", "paper", "network", "seed")
INTERACTIVE = {"explore", "own_pictures", "small_data"}  # opened by hand; no stage runs them


@pytest.fixture(scope="module")
def index():
    with Repo(str(ROOT)) as repo:
        yield repo.index


@pytest.fixture(scope="module")
def stages(index):
    """The stages of dvc.yaml by name; those of extra datasets are as the others."""
    named = {stage.name: stage for stage in index.stages if getattr(stage, "name", None)}
    assert len({name.replace("_extra@", "@") for name in named}) == len(named)
    return {name.replace("_extra@", "@"): stage for name, stage in named.items()}


def commands(stage) -> list[list[str]]:
    return [shlex.split(command) for command in ([stage.cmd] if isinstance(stage.cmd, str) else stage.cmd)]


def executions(stage) -> list[tuple[str, str, dict[str, str]]]:
    """The notebooks that a stage runs: source, target, parameters."""
    found = []
    for words in commands(stage):
        if words[:3] == ["python", "-m", "papermill"]:
            assert words[5:7] == ["--engine", "hpelib"]
            assert words[7::3] == ["-p"] * len(words[7::3])
            found.append((words[3], words[4], dict(zip(words[8::3], words[9::3], strict=True))))
    return found


def file_deps(stage) -> set[str]:
    return {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def parameters_cell(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return "".join(cell["source"])


def declared(path: Path) -> set[str]:
    return {target.id for node in ast.parse(parameters_cell(path)).body for target in node.targets}


def test_every_stage_has_one_plan_of_what_its_commands_run(stages):
    """The plan and dvc.yaml list the same stages, each with the notebooks and modules that it really runs."""
    plans = {name: list(sources) for name, sources, _, _ in planned(PARAMS)}
    for name, stage in stages.items():
        if name != "plan":
            (plan,) = [dep for dep in file_deps(stage) if dep.startswith(f"work/{PROFILE}/plan/")]
            assert plan == f"work/{PROFILE}/plan/{name.replace('@', '/')}.json"
            run = [words[3] if words[2] == "papermill" else words[2] for words in commands(stage)]
            assert run == plans.pop(name.replace("@", "/")), name
    assert plans == {}


def test_the_plan_is_made_of_all_parameters_and_all_code(stages):
    plan = stages["plan"]
    assert {name for dep in plan.deps if isinstance(dep, ParamsDependency) for name in dep.params} == PARAMS.keys()
    assert file_deps(plan) == {"notebooks", "hpelib"}
    others = [dep for name, stage in stages.items() if name != "plan" for dep in stage.deps]
    assert not [dep for dep in others if isinstance(dep, ParamsDependency)], "all else follows its plan"


def test_every_axis_is_expanded(stages):
    pairs = [(name, network) for name in PARAMS["all_datasets"] for network in networks_on(PARAMS, name)]
    papers = len(PARAMS["ablations"])
    counts = dict.fromkeys(("prepare", "data", "tables", "heatmaps"), len(PARAMS["all_datasets"]))
    counts |= {"train": len(pairs) * len(PARAMS["seeds"]), "evaluate": len(pairs), "control": len(PARAMS["datasets"])}
    counts |= {"ablate": papers * len(PARAMS["ablation_seeds"]), "networks": papers}
    counts |= {"errors": len(PARAMS["error_datasets"])}
    found = [name.split("@")[0] for name in stages if "@" in name]
    assert {name: found.count(name) for name in set(found)} == counts


def test_every_notebook_is_run_with_parameters_that_it_declares(stages):
    run = set()
    for name, stage in stages.items():
        for source, _, parameters in executions(stage):
            run.add(ROOT / source)
            assert parameters.keys() <= declared(ROOT / source), name
            if "out" in declared(ROOT / source):
                assert "out" in parameters, name
    assert run == {path for path in NOTEBOOKS if path.stem not in INTERACTIVE}


def test_what_a_stage_writes_lies_where_it_belongs(stages):
    for name, stage in stages.items():
        for out in stage.outs:
            place = "work" if out.use_cache else "reports"
            assert out.def_path.startswith(f"{place}/{PROFILE}/"), name
        for words in commands(stage):
            for word in words:
                assert word.split("/")[0] not in ("work", "reports") or word.split("/")[1] == PROFILE, name
        for _, target, _ in executions(stage):
            assert any(Path(target).is_relative_to(out.def_path) for out in stage.outs), name


def test_what_takes_long_can_be_had_from_the_cache(stages):
    """DVC keeps no run cache of a stage with an uncached output."""
    long = ("mannequins", "train", "evaluate", "control", "ablate", "stress_hits", "count")
    for name, stage in stages.items():
        if name.split("@")[0] in long:
            assert all(out.use_cache for out in stage.outs), name


def test_names_in_paths_and_parameters_are_the_stages_own(stages):
    for name, stage in stages.items():
        for _, target, parameters in executions(stage):
            values = [parameters[axis] for axis in AXES if axis in parameters and "@" in name]
            if name.startswith("control@"):
                assert parameters["labels"] == "shuffled"
                assert (parameters["network"], parameters["seed"]) == (PARAMS["control"], str(PARAMS["seeds"][0]))
                values = values[:1]
            if not name.startswith("networks@"):  # each paper has a notebook of its own
                assert name.partition("@")[2] == "-".join(values)
            for path in (target, parameters.get("out", target)):
                assert all(value in path for value in values), name


def test_stages_wait_for_what_they_read(index, stages):
    before = {
        name: {other.name.replace("_extra@", "@") for other in networkx.descendants(index.graph, stage) if other.cmd}
        for name, stage in stages.items()
    }  # DVC's edges lead from a stage to what it depends on
    for dataset in PARAMS["all_datasets"]:
        prepared = {"plan", "mannequins", f"prepare@{dataset}"}
        evaluated = {f"evaluate@{dataset}-{network}" for network in networks_on(PARAMS, dataset)}
        for network in networks_on(PARAMS, dataset):
            trained = {f"train@{dataset}-{network}-{seed}" for seed in PARAMS["seeds"]}
            assert before[f"evaluate@{dataset}-{network}"] == prepared | trained
            for name in trained:
                assert before[name] == prepared
        assert evaluated <= before[f"tables@{dataset}"]
        assert evaluated <= before[f"heatmaps@{dataset}"]
        assert evaluated <= before["index"] & before["claims"]
    for dataset in PARAMS["datasets"]:
        assert f"control@{dataset}" in before[f"tables@{dataset}"] & before["index"]
    for paper in PARAMS["ablations"]:
        rows = {f"ablate@{paper}-{seed}" for seed in PARAMS["ablation_seeds"]}
        assert rows | {"count"} <= before[f"networks@{paper}"] & before["claims"]
        assert {f"control@{name}" for name in PARAMS["datasets"]} <= before[f"networks@{paper}"]
    assert {"stress_data", "stress_hits"} <= before["stress"]
    assert "count" in before["sizes"]


def test_data_holds_nothing_derived(index, stages):
    assert not [out for stage in stages.values() for out in stage.outs if Path(out.def_path).parts[0] == "data"]
    (data,) = [stage for stage in index.stages if Path(stage.path).name == "data.dvc"]
    (out,) = data.outs
    assert not out.use_cache, "the files are in git, so that a fresh clone has them"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_clean_and_hold_no_code_worth_testing(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert declared(path)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef) and path.stem not in INTERACTIVE:
                    assert node.end_lineno - node.lineno < 10, node.name
                if isinstance(node, ast.Import):  # the plan follows `from hpelib... import ...`
                    assert not [alias for alias in node.names if alias.name.startswith("hpelib")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defaults_of_a_notebook_are_there_to_be_run(path):
    """A notebook opened by hand runs as it stands: its defaults name things of the default profile."""
    defaults = {}
    exec(parameters_cell(path), defaults)
    assert defaults.get("dataset", PARAMS["datasets"][0]) in PARAMS["datasets"]
    assert defaults.get("network", PARAMS["networks"][0]) in PARAMS["networks"]
    assert defaults.get("paper", next(iter(PARAMS["ablations"]))) in PARAMS["ablations"]
    assert defaults.get("seed", PARAMS["seeds"][0]) in PARAMS["seeds"]
    for name in ("out", "metrics", "plots"):
        assert defaults.get(name, "work/").startswith("work/"), "by hand nothing is written into reports/"
