"""What DVC's stages depend on in place of the sources themselves.

A comment, a docstring or a notebook's stored output is not worth a retraining, and neither is a
change in a module that a stage never imports. So this writes

    notebooks/NAME.ipynb      the notebook without outputs: what papermill executes
    imports/NAME.txt          every module that notebook or command NAME reaches, with a digest
    imports/models/NAME.txt   the same for every network's file, with its entries in the table of networks, under the
                              file's name and those of the profile's networks that are of it

and a stage depends on the lines that concern it.
"""

import ast
import hashlib
import io
import json
import shutil
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hpelib.models.table import NETWORKS
from hpelib.study.config import check_names, load_params, profile_params
from hpelib.study.imports import module_name, reachable
from hpelib.study.notebooks import KERNEL

# Modules of hpelib/study that stages run without a notebook.
COMMANDS = ("render", "stress_data", "datasets", "report", "site")
# Notebooks whose results are numbers: a new colour in their pictures is not worth training anew.
COMPUTING = ("train", "evaluate", "ablate")


def freeze(target: Path, root: Path = Path()) -> None:
    """Fill `target`, from the notebooks and modules below `root` and the networks in its params.yaml.

    Raises:
        ValueError: params.yaml names a network or dataset that its profile does not have, or a model that is not there.
    """
    params = load_params(root / "params.yaml")
    check_names(params)
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = strip_notebook(path.read_text(encoding="utf-8"))
        _write(target / "notebooks" / path.name, notebook)
        modules = reachable(code_of(notebook), root)
        if path.stem in COMPUTING:
            modules = [module for module in modules if module.parts[1] != "figures"]
        _write(target / "imports" / f"{path.stem}.txt", _digests(modules, root))
    for name in COMMANDS:
        _write(target / "imports" / f"{name}.txt", _module_digests(root, Path("hpelib/study") / f"{name}.py"))
    texts = {module: _network_digests(root, module) for module in {network.module for network in NETWORKS.values()}}
    entries = {name: NETWORKS[entry["model"]].module for name, entry in profile_params(params)["networks"].items()}
    for name, text in (texts | {name: texts[module] for name, module in entries.items()}).items():
        _write(target / "imports" / "models" / f"{name}.txt", text)


def code_of(notebook: str) -> str:
    """The code cells of a notebook, given as JSON, as one module."""
    cells = json.loads(notebook)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def strip_module(source: str) -> str:
    """The module's lines without comments, docstrings and blank lines outside of strings."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            docstring = node.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno):
                lines[number] = "\n"
    for token in _tokens(lines):
        if token.type == tokenize.COMMENT:
            row, column = token.start[0] - 1, token.start[1]
            lines[row] = lines[row][:column].rstrip() + "\n"
    for token in _tokens(list(lines)):
        if token.type == tokenize.NL and not token.line.strip():
            lines[token.start[0] - 1] = ""
    return "".join(lines)


def _tokens(lines: list[str]) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO("".join(lines)).readline)


def strip_notebook(source: str) -> str:
    """The notebook without outputs, counts and editor metadata; cell ids by position."""
    cells = [
        {
            "cell_type": cell["cell_type"],
            "id": f"cell-{number:02d}",
            "metadata": {key: value for key, value in cell["metadata"].items() if key == "tags"},
            "source": cell["source"],
        }
        | ({"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {})
        for number, cell in enumerate(json.loads(source)["cells"])
    ]
    clean = {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(clean, indent=1, ensure_ascii=False) + "\n"


def _network_digests(root: Path, module: str) -> str:
    presets = [f"{name} {network!r}\n" for name, network in NETWORKS.items() if network.module == module]
    return _module_digests(root, Path("hpelib/models") / f"{module}.py") + "".join(presets)


def _module_digests(root: Path, path: Path) -> str:
    source = (root / path).read_text(encoding="utf-8")
    return _digests(sorted({path, *reachable(source, root, module_name(path))}), root)


def _digests(paths: list[Path], root: Path) -> str:
    return "".join(f"{path.as_posix()} {_digest((root / path).read_text(encoding='utf-8'))}\n" for path in paths)


@cache  # most modules are reached from most notebooks
def _digest(source: str) -> str:
    return hashlib.sha256(strip_module(source).encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    freeze(Path(sys.argv[1]))
