"""What a change of the code or of the parameters changes in the plan, and so which stages DVC runs again."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hpelib.study.stages import stages

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ("hourglass", "hrnet", "ditn", "slim")
# `python -m hpelib.study.plan` without the trial of every run, which takes ten seconds and has tests of its own
PLAN = """
from hpelib.study import plan

plan.try_runs = lambda params: None
plan.write_plan(plan.load_params())
"""


class Project:
    """A copy of library and notebooks, with a study of a few networks."""

    def __init__(self, root: Path, params: dict):
        self.root, self.params = root, params
        for folder in ("hpelib", "notebooks"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.before = self.plan()

    def plan(self) -> dict[str, bytes]:
        """The plan of every stage as it is now, by "STAGE/ITEM"."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params))
        made = subprocess.run([sys.executable, "-c", PLAN], cwd=self.root, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        folder = self.root / "work" / self.params["profile"] / "plan"
        files = folder.rglob("*.json")
        return {path.relative_to(folder).with_suffix("").as_posix(): path.read_bytes() for path in files}

    def changed(self) -> set[str]:
        """The stages whose plan is another one than that of the project as it was."""
        now = self.plan()
        assert now.keys() == self.before.keys()
        return {stage for stage in now if now[stage] != self.before[stage]}

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        (self.root / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    def append(self, name: str, text: str = "\nEXTRA = 1\n") -> None:
        with (self.root / name).open("a", encoding="utf-8") as file:
            file.write(text)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Project:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return Project(tmp_path_factory.mktemp("original"), small_study(params))


def small_study(params: dict) -> dict:
    """Parameters of a study of four networks, one of them a second setting of HRNet's model."""
    profile = params["profiles"]["quick"]
    profile["datasets"]["coco"].pop("recipe", None)  # no dataset has a schedule of its own
    profile["networks"]["slim"] = {"model": "hrnet_w32", "options": {"width": 16}}
    params |= {"profile": "quick", "networks": list(NETWORKS), "seeds": [0]}
    params |= {"datasets": ["coco", "mpii"], "extra": {"datasets": ["lsp"], "networks": ["hourglass"]}}
    return params


@pytest.fixture
def project(original, monkeypatch) -> Iterator[Project]:
    """The original. Whatever a test does to it is undone."""
    kept = original.root.with_name("kept")
    shutil.copytree(original.root, kept)
    params = json.loads(json.dumps(original.params))
    yield original
    original.params = params
    shutil.rmtree(original.root)
    kept.rename(original.root)


def trainings(*networks: str) -> set[str]:
    """The trainings of these networks, and their evaluations."""
    found = set()
    for network in networks:
        for dataset in ("coco", "mpii", *["lsp"] * (network == "hourglass")):
            found |= {f"train/{dataset}-{network}-0", f"evaluate/{dataset}-{network}"}
    return found


def computing(found: set[str]) -> set[str]:
    return {stage for stage in found if stage.startswith(("train/", "evaluate/"))}


def test_every_stage_has_a_plan_that_says_what_decides_it(original):
    plan = json.loads(original.before["train/coco-slim-0"])
    assert plan["parameters"]["options"] == {"width": 16}
    assert (
        plan["parameters"]["recipe"]["learning_rate"] == original.params["profiles"]["quick"]["recipe"]["learning_rate"]
    )
    assert {"notebooks/train.ipynb", "hpelib.models.hrnet", "hpelib.training.fit"} <= plan["code"].keys()
    assert trainings(*NETWORKS) <= original.before.keys()


def test_remarks_layout_and_outputs_are_no_change(project):
    project.append("hpelib/models/hourglass.py", "\n\n# a remark\n")
    project.edit("hpelib/data/people.py", '"""', '"""Another word. ')
    project.edit("hpelib/codecs.py", "\n    return ", "\n    # a remark\n\n    return ")
    project.edit("hpelib/inference.py", "import", "import" + " " * 3)
    path = project.root / "notebooks/train.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = [*cell["source"], "\n\n# a remark"]
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["seen\n"]}]
            cell["execution_count"] = 7
            cell["metadata"]["collapsed"] = True
    notebook["metadata"]["kernelspec"] = {"name": "mine", "display_name": "mine", "language": "python"}
    path.write_text(json.dumps(notebook))
    assert project.changed() == set()


@pytest.mark.parametrize(("network", "reached"), [("hrnet", {"hrnet", "ditn", "slim"}), ("ditn", {"ditn"})])
def test_code_of_a_network_changes_it_and_those_that_are_built_on_it(project, network, reached):
    project.append(f"hpelib/models/{network}.py")
    found = project.changed()
    assert computing(found) == trainings(*reached)
    assert {stage for stage in found if stage.startswith("control/")} == (
        {"control/coco", "control/mpii"} if "hrnet" in reached else set()
    )
    assert {"count", "stress_hits"} <= found
    assert not {"mannequins", "prepare/coco", "claims", "index"} & found, "pages read what trainings leave"


def test_options_of_a_preset_change_its_networks(project):
    project.edit("hpelib/records/ditn.yaml", "options: {backbone: hrnet}", "options: {backbone: hrnet, sab: false}")
    assert computing(project.changed()) == trainings("ditn")


@pytest.mark.parametrize("module", ["hpelib/data/people.py", "hpelib/models/__init__.py"])
def test_a_module_of_all_changes_all(project, module):
    project.append(module)
    assert computing(project.changed()) == trainings(*NETWORKS)


def test_code_of_a_notebook_changes_its_stages_and_its_prose_only_pages(project):
    for name, cell_type in (("train", "markdown"), ("tables", "markdown"), ("ablate", "code")):
        path = project.root / f"notebooks/{name}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        next(cell for cell in notebook["cells"] if cell["cell_type"] == cell_type)["source"].append("\nmore = 1")
        path.write_text(json.dumps(notebook))
    found = project.changed()
    assert {stage.split("/")[0] for stage in found} == {"tables", "ablate"}


def test_how_pictures_look_changes_pages_and_nothing_that_computes(project):
    project.append("hpelib/figures/style.py")
    found = project.changed()
    assert {"tables/coco", "heatmaps/mpii", "data/coco", "stress", "networks/ditn"} <= found
    assert not {stage for stage in found if stage.startswith(("train", "evaluate", "control", "ablate", "count"))}
    assert not {"stress_hits", "mannequins", "prepare/coco"} & found


def test_what_a_record_says_of_a_network_changes_pages_and_no_training(project):
    project.edit("hpelib/records/ditn.yaml", "#009E73", "#009E74")
    found = project.changed()
    assert {"networks/ditn", "tables/coco", "stress"} <= found
    assert not {"mannequins", "prepare/coco", "control/coco", "stress_hits", "count"} & found
    assert computing(found) == set()


def test_a_format_changes_what_is_computed_of_its_sets(project):
    project.append("hpelib/formats/coco.py")
    found = project.changed()
    assert computing(found) == {stage for stage in trainings(*NETWORKS) if "/coco" in stage}
    assert {"prepare/coco", "control/coco", "tables/mpii"} <= found
    assert not {"prepare/mpii", "control/mpii"} & found


def test_a_template_is_code(project):
    (template,) = (project.root / "hpelib").rglob("*.j2")
    project.append(template.relative_to(project.root).as_posix(), "\nmore\n")
    found = project.changed()
    assert found
    assert computing(found) == set()


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        (lambda profile: profile["networks"]["slim"].update(inputs={"sigma": 9.0}), trainings("slim")),
        (lambda profile: profile["recipe"].update(learning_rate=9.0), trainings(*NETWORKS)),
        (
            lambda profile: profile["test"].update(nms="soft"),
            {stage for stage in trainings(*NETWORKS) if stage.startswith("evaluate")},
        ),
        (
            lambda profile: profile["datasets"]["mpii"].update(augmentation={"rotation_deg": 9}),
            {stage for stage in trainings(*NETWORKS) if "/mpii" in stage},
        ),
        (lambda profile: profile["stress"].update(persons=9), set()),
    ],
)
def test_a_parameter_changes_the_stages_that_it_decides(original, change, reached):
    """By `stages` itself: what a stage uses of the parameters stands in its plan."""
    params = json.loads(json.dumps(original.params))
    before = {name: parameters for name, _, parameters, _ in stages(params)}
    change(params["profiles"]["quick"])
    after = {name: parameters for name, _, parameters, _ in stages(params)}
    assert before.keys() == after.keys()
    assert computing({name for name in after if after[name] != before[name]}) == reached


def test_plans_of_stages_that_are_gone_disappear(project):
    project.params["networks"] = ["hourglass", "hrnet", "ditn"]
    assert project.before.keys() - project.plan().keys() == trainings("slim")


def test_a_wrong_name_stops_the_first_stage(original):
    params = original.params | {"networks": ["hourglas"]}
    (original.root / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "hpelib.study.plan"]
    made = subprocess.run(command, cwd=original.root, capture_output=True, text=True)
    assert made.returncode != 0
    assert "unknown network 'hourglas'; known here:" in made.stderr.splitlines()[-1]
