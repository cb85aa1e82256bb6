"""The first stage of the pipeline: one small file for every other stage, with all that decides what the stage makes.

    python -m hpelib.study.plan

writes work/PROFILE/plan/STAGE/ITEM.json with two parts: `parameters`, the part of params.yaml that the stage uses, with
base profile, dataset and network laid over; and `code`, a digest of every notebook and module that it runs or imports,
without comments and docstrings. DVC runs a stage again if this file or the stage's data have changed.
"""

import ast
import hashlib
import json
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

from hpelib.records import records
from hpelib.study.config import load_params, work_folder
from hpelib.study.stages import COMPUTING, stages
from hpelib.study.trial import try_runs

MODELS = "hpelib.models."


def write_plan(params: dict) -> None:
    """Write the plan of every stage, if all runs can train; files of stages that are gone disappear."""
    try_runs(params)
    folder = work_folder(params) / "plan"
    shutil.rmtree(folder, ignore_errors=True)
    graph = grimp.build_graph("hpelib", cache_dir=None, exclude_type_checking_imports=True)
    for name, sources, parameters, loaded in stages(params):
        code = digests(graph, sources, loaded, with_pictures=name.partition("/")[0] not in COMPUTING)
        text = json.dumps({"parameters": parameters, "code": code}, indent=1) + "\n"
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def digests(
    graph: grimp.ImportGraph, sources: Iterable[str], loaded: Iterable[str], with_pictures: bool
) -> dict[str, str]:
    """A digest for each file that notebooks and modules consist of.

    `loaded` are the models and formats that are imported by their names, which no import statement shows. Pages show
    all records and formats: their colours, titles and columns.
    """
    found = {f"presets of {module}": _preset_digest(module) for module in loaded if module.startswith(MODELS)}
    modules = [module for module in loaded if module in graph.modules]
    for source in sources:
        if source.endswith(".ipynb"):
            cells = json.loads(Path(source).read_text(encoding="utf-8"))["cells"]
            code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
            prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] != "code" and with_pictures]
            found[source] = digest("\n".join([bare(code), *prose]))
            names = {f"{node.module}.{alias.name}" for node in _imports(code) for alias in node.names}
            modules += (names | {node.module for node in _imports(code)}) & graph.modules
        else:
            modules.append(source)
    reached = set(modules).union(*(graph.find_upstream_modules(module) for module in modules))
    reached |= {name.rpartition(".")[0] for name in reached} - {""}  # importing a.b runs a as well
    if with_pictures and "hpelib.formats" in reached:
        reached |= graph.find_descendants("hpelib.formats")
    if with_pictures and "hpelib.records" in reached:
        files = sorted(Path("hpelib/records").glob("*.yaml"))
        found["hpelib/records"] = digest("".join(file.read_text(encoding="utf-8") for file in files))
    for module in sorted(reached):
        if with_pictures or not module.startswith("hpelib.figures"):
            found[module] = _module_digest(module)
    return found


def bare(source: str) -> str:
    """Code without comments, docstrings and layout: what `ast.unparse` makes of it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _preset_digest(model: str) -> str:
    record = records()[model.removeprefix(MODELS)]
    return digest(repr((record.cls, record.presets, record.full_size)))


@cache  # most modules are reached from most stages
def _module_digest(module: str) -> str:
    stem = Path(*module.split("."))
    path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    data = sorted(file for file in stem.parent.glob(f"{stem.name}.*") if file.suffix != ".py")  # poses.yaml of poses.py
    return digest("".join([bare(path.read_text(encoding="utf-8")), *(file.read_text("utf-8") for file in data)]))


def _imports(code: str) -> list[ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module]


if __name__ == "__main__":
    write_plan(load_params())
