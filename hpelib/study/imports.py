"""Which of the project's modules a piece of code reaches, by reading its import statements."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = "hpelib"
# It names all networks; were it followed, adding one would retrain all others.
TABLE_OF_NETWORKS = Path(PACKAGE) / "models" / "table.py"


def reachable(source: str, root: Path, module: str = "") -> list[Path]:
    """Files of `root`/hpelib that `source` imports, directly or not, sorted; relative to `root`.

    `module` is the dotted name of `source` itself, for its relative imports. The table of network
    names stands for all networks and is left out.
    """
    found: set[Path] = set()
    waiting = list(_imported_files(source, root, module))
    while waiting:
        path = waiting.pop()
        if path in found or path == TABLE_OF_NETWORKS:
            continue
        found.add(path)
        waiting += _imported_files((root / path).read_text(encoding="utf-8"), root, module_name(path))
    return sorted(found)


def module_name(path: Path) -> str:
    """Dotted name of a module's file relative to the root; of a package, with `.__init__`."""
    return ".".join(path.with_suffix("").parts)


def _imported_files(source: str, root: Path, module: str) -> Iterable[Path]:
    for name in imported_names(source, module):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):  # importing a.b.c runs a/__init__ and a/b/__init__ too
            stem = Path(*parts[:end])
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if (root / path).is_file():
                    yield path


@cache
def imported_names(source: str, module: str = "") -> frozenset[str]:
    """Dotted names below hpelib that `source` imports anywhere; `from a import b` counts as a.b."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE)
