"""The rules of the house that a machine can check."""

import re
from pathlib import Path

import pytest
from hpelib.study.imports import imported_names, module_name

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "hpelib").rglob("*.py"))
LEVELS = (  # imports go down only: a module may import from its own level and those before it
    ("skeletons",),
    ("data", "codecs", "layers"),
    ("models", "losses", "metrics"),
    ("training", "inference", "capture", "figures"),
    ("study",),
)


def level_of(dotted: str) -> int:
    part = dotted.split(".")[1] if "." in dotted else ""
    for level, names in enumerate(LEVELS):
        if part in names:
            return level
    raise AssertionError(f"{dotted} belongs to no level")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    name = module_name(path.relative_to(ROOT))
    for imported in imported_names(path.read_text(encoding="utf-8"), name):
        if imported != "hpelib" and name != "hpelib.__init__":
            assert level_of(imported) <= level_of(name), f"{name} imports {imported}"


def test_an_upward_import_would_be_seen():
    (imported,) = imported_names("from ..study import config", "hpelib.data.coco")
    assert level_of(imported) > level_of("hpelib.data.coco")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_study_knows_params_and_reports(path):
    if "study" not in path.parts:
        assert not re.search(r"params\.yaml|reports/|[\"']work/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
