"""Create or repair `.venv` from requirements.lock, with a plain message where that cannot work.

Standard library only, and readable by any Python 3, because it runs before anything is installed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "installed.sha256"
NEEDED_GIB = 8  # the CUDA build of torch, which is also the CPU build on Linux, unpacks to about 6
OLDEST_PYTHON = (3, 11)


def fail(message):
    sys.exit("hpelib: " + message)


def check_python():
    if sys.version_info < OLDEST_PYTHON:
        fail(
            f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer is needed, and {sys.executable} is "
            f"{sys.version_info[0]}.{sys.version_info[1]}. Name another one: make study PYTHON=python3.12"
        )


def check_disk():
    free_gib = shutil.disk_usage(ROOT).free / 2**30
    if free_gib < NEEDED_GIB:
        fail(
            f"the environment needs about {NEEDED_GIB} GiB, and only {free_gib:.1f} GiB are free at {ROOT}. "
            "Free some space, or move the clone to a larger disk."
        )


def venv_python():
    return VENV / ("Scripts" if os.name == "nt" else "bin") / "python"


def wanted_stamp():
    """What must be installed: the lock, for this folder, with the interpreter that is asked for."""
    key = LOCK.read_bytes() + str(ROOT).encode() + sys.version.encode()
    return hashlib.sha256(key).hexdigest()


def is_ready():
    """Whether `.venv` holds what the lock says and still starts."""
    if not STAMP.is_file() or STAMP.read_text().strip() != wanted_stamp():
        return False
    probe = f"import os, sys, hpelib; sys.exit(not os.path.samefile(sys.prefix, {str(VENV)!r}))"
    try:
        started = subprocess.run([str(venv_python()), "-c", probe], capture_output=True, cwd=str(Path.home()))
    except OSError:  # the interpreter that the environment was made from is gone
        return False
    return started.returncode == 0


def run(*command):
    try:
        subprocess.run([str(part) for part in command], check=True, cwd=str(ROOT))
    except (subprocess.CalledProcessError, OSError) as error:
        fail(
            f"setting up the environment stopped at: {' '.join(map(str, command))}\n{error}\n"
            "See that the disk has room and the package registry can be reached, then run the command again: "
            "a half-made .venv is rebuilt."
        )


def bootstrap_lock():
    """The lock's own entry for uv, so that the installer is pinned by hash as well."""
    entry = re.search(r"^uv==.*?(?=^\S)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    path = VENV / "uv.lock"
    path.write_text(entry.group())
    return path


def create():
    print("hpelib: setting up .venv from requirements.lock (a minute or two, once)", flush=True)
    if VENV.is_symlink() or VENV.is_file():
        fail(f"{VENV} is not a folder. Remove it and run the command again.")
    shutil.rmtree(str(VENV), ignore_errors=True)
    check_disk()
    run(sys.executable, "-m", "venv", VENV)
    run(venv_python(), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", bootstrap_lock())
    uv = [venv_python(), "-m", "uv", "pip"]
    # compiled once here: every stage of the study starts processes of its own
    compiled = ["--quiet", "--compile-bytecode", "--require-hashes"]
    run(*uv, "install", *compiled, "--python", venv_python(), "-r", LOCK)
    editable = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    run(*uv, "install", "--quiet", "--python", venv_python(), *editable)
    run(venv_python(), "-m", "ipykernel", "install", "--sys-prefix", "--name", "python3", "--display-name", "hpelib")
    STAMP.write_text(wanted_stamp())


if __name__ == "__main__":
    check_python()
    if not is_ready():
        create()
