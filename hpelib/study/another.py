"""Run another profile than that of params.yaml, which is put back at the end: `make study PROFILE=night`.

While the other profile runs, params.yaml names it, with its own datasets, networks and seeds (section `study` of the
profile), so that every command of dvc.yaml can be repeated by hand. dvc.lock is then that of the other profile, and is
kept as reports/PROFILE/dvc.lock. What params.yaml and dvc.lock were before lies in `ASIDE` meanwhile. After a kill, the
next call puts them back first.
"""

import fcntl
import filecmp
import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from hpelib.data.files import write_whole
from hpelib.layers.choices import require_choice
from hpelib.study.config import PARAMS, load_params, profile_changes

LOCK = Path("dvc.lock")
ASIDE = Path(".dvc/tmp/another")  # git does not see it
IN_USE = Path(".dvc/tmp/another.lock")


@contextmanager
def another(profile: str | None) -> Iterator[None]:
    """Inside the block, params.yaml and dvc.lock are those of `profile`; nothing changes without one.

    Raises:
        ValueError: there is no such profile.
        SystemExit: another process is inside such a block, and one of the two changes the files.
    """
    own = load_params(ASIDE / PARAMS if ASIDE.is_dir() else PARAMS)["profile"]
    IN_USE.parent.mkdir(parents=True, exist_ok=True)
    with IN_USE.open("w") as held:
        changes = profile is not None and profile != own
        try:  # the kernel gives it up when this process ends, also by a kill
            fcntl.flock(held, (fcntl.LOCK_EX if changes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(
                "make study runs here already, under another profile, and params.yaml can name only one: wait for it, "
                "or use a clone of its own"
            )
        put_back()
        with _swapped(profile) if changes else nullcontext():
            yield


@contextmanager
def _swapped(profile: str) -> Iterator[None]:
    text = chosen_text(profile)
    unfinished = ASIDE.with_name("another.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    shutil.copy2(PARAMS, unfinished / PARAMS)
    if LOCK.is_file():
        shutil.copy2(LOCK, unfinished / LOCK)
    (unfinished / "profile").write_text(profile)
    (unfinished / "chosen.yaml").write_text(text, encoding="utf-8")
    unfinished.replace(ASIDE)
    _use_lock(recorded_lock(profile))
    write_whole(PARAMS, lambda path: path.write_text(text, encoding="utf-8"))
    try:
        yield
    finally:
        put_back()


def put_back() -> None:
    """Undo what `another` changed, if anything. The lock that was in use becomes the other profile's."""
    if not ASIDE.is_dir():
        return
    own, before = recorded_lock((ASIDE / "profile").read_text()), ASIDE / LOCK
    if LOCK.is_file() and not (before.is_file() and filecmp.cmp(LOCK, before, shallow=False)):
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LOCK, own)
    _use_lock(before)
    if PARAMS.read_text(encoding="utf-8") == (ASIDE / "chosen.yaml").read_text(encoding="utf-8"):
        shutil.copy2(ASIDE / PARAMS, PARAMS)
    elif PARAMS.read_bytes() != (ASIDE / PARAMS).read_bytes():
        print("params.yaml was edited while another profile ran and stays so: git diff params.yaml", file=sys.stderr)
    shutil.rmtree(ASIDE)


def _use_lock(lock: Path) -> None:
    """Make `lock` the lock that DVC reads; without such a file DVC has none."""
    if lock.is_file():
        write_whole(LOCK, partial(shutil.copyfile, lock))
    else:
        LOCK.unlink(missing_ok=True)


def recorded_lock(profile: str) -> Path:
    """Where the lock of a profile lies that is not the default: reports/night/dvc.lock."""
    return Path("reports") / profile / LOCK


def chosen_text(profile: str) -> str:
    """params.yaml with `profile` and that profile's section `study` in its first block.

    Raises:
        ValueError: there is no such profile.
    """
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    params = yaml.load(PARAMS)
    require_choice("profile", profile, params["profiles"])
    params |= profile_changes(params, profile)
    text = io.StringIO()
    yaml.dump(params, text)
    return text.getvalue()
