import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpelib.study.imports import TABLE_OF_NETWORKS, imported_names, module_name, reachable
from hpelib.study.sources import COMMANDS, code_of

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
NETWORKS = sorted(path.stem for path in (ROOT / "hpelib/models").glob("[!_]*.py"))

# Runs the import statements of each piece of code and prints the files of the project that were loaded for it.
LOADER = """
import json, sys
loaded = {}
for name, code in json.load(sys.stdin).items():
    for module in [module for module in sys.modules if module.split(".")[0] == "hpelib"]:
        del sys.modules[module]
    exec(code, {})
    loaded[name] = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "hpelib"]
json.dump(loaded, sys.stdout)
"""


def import_statements(source: str) -> str:
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(statement) for statement in statements)


def sources() -> dict[str, str]:
    notebooks = {name: code_of((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8")) for name in NOTEBOOKS}
    commands = {name: f"import hpelib.study.{name}" for name in COMMANDS}
    networks = {f"models/{name}": f"import hpelib.models.{name}" for name in NETWORKS}
    return notebooks | commands | networks


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[Path]]:
    """What Python itself loads, by piece of code."""
    statements = json.dumps({name: import_statements(source) for name, source in sources().items()})
    printed = subprocess.run(
        [sys.executable, "-c", LOADER], input=statements, capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    return {name: {Path(file).relative_to(ROOT) for file in files} for name, files in json.loads(printed).items()}


@pytest.mark.parametrize("name", sources())
def test_the_list_covers_what_python_loads(name, loaded):
    listed = set(reachable(sources()[name], ROOT))
    assert loaded[name] - listed <= {TABLE_OF_NETWORKS}
    assert len(loaded[name]) > 1


@pytest.mark.parametrize("name", sources())
def test_the_list_holds_nothing_far_fetched(name, loaded):
    """What is listed and not loaded at once is imported by a statement inside some function of what is."""
    inside_functions = {
        imported
        for path in reachable(sources()[name], ROOT)
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for imported in imported_names("\n".join(map(ast.unparse, node.body)), module_name(path))
    }
    for path in set(reachable(sources()[name], ROOT)) - loaded[name]:
        assert any(name.startswith(module_name(path).removesuffix(".__init__")) for name in inside_functions), path


@pytest.mark.parametrize(
    ("source", "module", "names"),
    [
        ("import hpelib.data.coco, numpy", "", {"hpelib.data.coco"}),
        ("from hpelib.data import coco, mpii as m", "", {"hpelib.data.coco", "hpelib.data.mpii"}),
        ("from . import coco", "hpelib.data.mpii", {"hpelib.data.coco"}),
        ("from .coco import read", "hpelib.data.mpii", {"hpelib.data.coco.read"}),
        ("from ..metrics.pck import hits", "hpelib.data.mpii", {"hpelib.metrics.accuracy.hits"}),
        ("from . import mpii", "hpelib.data.__init__", {"hpelib.data.mpii"}),
        ("def f():\n    from hpelib import codecs", "", {"hpelib.codecs"}),
        ("import hpelibrary\ntext = 'import hpelib.codecs'", "", set()),
    ],
)
def test_imported_names(source, module, names):
    assert imported_names(source, module) == names


def write_modules(root: Path, modules: dict[str, str]) -> None:
    for name, source in modules.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)


def test_imports_are_followed_through_packages_and_cycles(tmp_path):
    modules = {
        "hpelib/__init__.py": "",
        "hpelib/a.py": "from .part.b import value",
        "hpelib/part/__init__.py": "from hpelib import d",
        "hpelib/part/b.py": "from .. import a\nfrom . import c",
        "hpelib/part/c.py": "",
        "hpelib/d.py": "",
        "hpelib/e.py": "import hpelib.a",
    }
    write_modules(tmp_path, modules)
    found = reachable("import hpelib.a", tmp_path)
    assert [path.as_posix() for path in found] == sorted(modules.keys() - {"hpelib/e.py"})


def test_the_table_of_networks_leads_nowhere(tmp_path):
    modules = {
        "hpelib/__init__.py": "",
        TABLE_OF_NETWORKS.as_posix(): "from hpelib.models import one",
        "hpelib/models/one.py": "",
        "hpelib/models/two.py": "",
    }
    write_modules(tmp_path, modules)
    assert reachable("from hpelib.models.table import NETWORKS", tmp_path) == [Path("hpelib/__init__.py")]
    found = reachable("from hpelib.models.two import Two", tmp_path)
    assert found == [Path("hpelib/__init__.py"), Path("hpelib/models/two.py")]
