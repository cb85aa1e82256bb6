"""The rules of the house that a machine can check. Each check is shown a violation as well, which it must see."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVELS = (  # imports go down only: a module may import from its own level and from those before it
    ("skeletons", "parents"),
    ("data", "codecs", "layers", "records"),
    ("models", "losses", "metrics", "mannequins"),
    ("formats",),
    ("training", "inference", "capture", "attribution", "liveness", "distribution", "figures", "export"),
    ("study",),
)
STUDY = (  # the same inside of hpelib.study; what is not named here is level 0
    (),
    ("steps", "results"),
    ("inside", "tools", "stages"),
    ("plan", "run"),
)
FORBIDDEN = (  # who may not import what
    ("hpelib.study.results", ("hpelib.study.steps", "hpelib.training", "hpelib.models", "torch", "accelerate")),
    ("hpelib.study.steps", ("hpelib.study.results", "hpelib.figures", "matplotlib", "seaborn")),
    ("hpelib", ("dvc", "papermill", "mmpose", "mmcv")),
)
PIPELINE = ("hpelib.study.run", "hpelib.study.engine")  # the only ones that know DVC and papermill
MACHINERY = (
    "hpelib/parents.py",
    "hpelib/study/engine.py",
    "hpelib/study/plan.py",
    "hpelib/study/run.py",
    "tools/environment.py",
)
MOST_LINES, MOST_MACHINERY = 400, 450
PLACES = re.compile(r"params\.yaml|\bwork/|\breports/")  # which the study alone knows

Imports = dict[str, set[str]]  # by module, those that it imports, also inside of functions


@pytest.fixture(scope="module")
def imports() -> Imports:
    graph = grimp.build_graph(
        "hpelib", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules if is_in(name, "hpelib")}


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def level(module: str) -> tuple[int, int]:
    """Its level in the library, and inside of the study."""
    _, top, inner, *_ = [*module.split("."), "", ""]
    (outer,) = [number for number, names in enumerate(LEVELS) if top in names]
    within = [number for number, names in enumerate(STUDY) if inner in names]
    return outer, within[0] if top == "study" and within else 0


def upward(imports: Imports) -> list[str]:
    inside = {name: {one for one in found if one.startswith("hpelib.")} for name, found in imports.items()}
    pairs = [(name, one) for name, found in inside.items() if name != "hpelib" for one in sorted(found)]
    return [f"{name} imports {one}" for name, one in pairs if level(one) > level(name)]


def forbidden(imports: Imports) -> list[str]:
    return [
        f"{name} imports {one}"
        for package, others in FORBIDDEN
        for name in sorted(imports)
        if is_in(name, package) and name not in PIPELINE
        for one in sorted(imports[name])
        if any(is_in(one, other) for other in others)
    ]


def test_imports_go_down(imports):
    assert len(imports) > 80
    assert upward(imports) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("hpelib.data.coco", "hpelib.study.config"),
        ("hpelib.layers.attention", "hpelib.models.hrnet"),
        ("hpelib.metrics.coco", "hpelib.formats"),
        ("hpelib.study.config", "hpelib.study.steps.train"),
        ("hpelib.study.results.tables", "hpelib.study.inside.views"),
    ],
)
def test_an_upward_import_is_seen(imports, importer, imported):
    broken = imports | {importer: {imported}}
    assert upward(broken) == [f"{importer} imports {imported}"]


def test_results_compute_nothing_and_steps_draw_nothing(imports):
    assert forbidden(imports) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("hpelib.study.results.tables", "torch"),
        ("hpelib.study.results.claims", "hpelib.study.steps.train"),
        ("hpelib.study.results.sizes", "hpelib.models"),
        ("hpelib.study.steps.train", "hpelib.figures.people"),
        ("hpelib.study.steps.evaluate", "hpelib.study.results.tables"),
        ("hpelib.data.coco", "dvc"),
    ],
)
def test_a_forbidden_import_is_seen(imports, importer, imported):
    broken = imports | {importer: {imported}}
    assert f"{importer} imports {imported}" in forbidden(broken)


@cache
def loaded_by(statement: str) -> set[str]:
    """All modules that Python has loaded after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(json.loads(said.splitlines()[-1]))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import hpelib.data, hpelib.metrics, hpelib.formats, hpelib.records, hpelib.study.config", ("torch",)),
        ("import RESULTS", ("torch", "accelerate", "timm", "hpelib.study.steps", "hpelib.training.fit")),
        ("import hpelib.study.run", ("torch", "IPython", "nbformat", "matplotlib")),  # `make study` starts at once
        ("import hpelib.models", ("hpelib.models.hrnet",)),  # a network's file is loaded when it is asked for
    ],
)
def test_what_an_import_loads(imports, statement, absent):
    results = [name for name in imports if is_in(name, "hpelib.study.results")]
    found = loaded_by(statement.replace("RESULTS", ", ".join(results)))
    assert not {name for name in found if any(is_in(name, other) for other in absent)}


def test_a_library_that_is_loaded_is_seen():
    assert "torch" in loaded_by("import hpelib.models")


def knows_the_study(source: str) -> list[str]:
    """What the code, remarks and docstrings say of the files of the study."""
    return PLACES.findall(source)


def test_only_the_study_knows_its_files():
    for path in sorted((ROOT / "hpelib").rglob("*")):
        if path.suffix in (".py", ".j2") and "study" not in path.parts:
            assert knows_the_study(path.read_text(encoding="utf-8")) == [], path


def test_a_place_of_the_study_is_seen():
    assert knows_the_study("path = 'work/quick'  # see params.yaml") == ["work/", "params.yaml"]
    assert knows_the_study("framework/x, Params.yaml, workflow") == []


def test_the_study_takes_folders_of_a_profile_from_the_run():
    """A path such as work/quick/runs that is spelled out would be that of one profile."""
    profiles = re.compile(r"(work|reports)/(quick|standard|paper|runs|eval|mannequins|data|ablations|control)\b")
    assert profiles.search("Path('work/runs')")
    for path in sorted((ROOT / "hpelib/study").rglob("*.py")):
        code = ast.unparse(without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))
        assert not profiles.search(code), path


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def test_files_stay_short():
    long = {
        path.relative_to(ROOT).as_posix(): count
        for folder in ("hpelib", "tools", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_what_runs_the_study_stays_small():
    """All that stands between `make study` and DVC and papermill, blank lines apart."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in MACHINERY]
    assert sum(bool(line.strip()) for text in texts for line in text.splitlines()) <= MOST_MACHINERY
