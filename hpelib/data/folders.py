"""How commands tell the files that they have written into a folder from those of a user, which stay as they are."""

import hashlib
from pathlib import Path

from hpelib.data.files import enumerate_first, read_json, write_json

MARK = ".hpelib.json"  # in a folder that a command has written: the SHA-256 of its files by name


def seal(folder: Path) -> None:
    """Record all files in `folder` and below it as written by a command."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    write_json(folder / MARK, {path.relative_to(folder).as_posix(): _digest(path) for path in files})


def require_own(folder: Path) -> None:
    """Check that `folder` is new, empty, or as commands have left it, so that it may be written anew.

    Raises:
        FileExistsError: it is a file, or holds files that no command has written or that were changed since.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give another name for the folder")
    known = {mark.parent / name: digest for mark in folder.rglob(MARK) for name, digest in read_json(mark).items()}
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARK)
    if others := [path.relative_to(folder) for path in found if path not in known or known[path] != _digest(path)]:
        raise FileExistsError(
            f"{folder} holds files that no command has written, or that were changed since: {enumerate_first(others)}; "
            "move them, or give another folder"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
