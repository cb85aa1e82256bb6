"""Set up or repair `.venv` from requirements.lock. Standard library only: nothing is installed yet."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV, LOCK = ROOT / ".venv", ROOT / "requirements.lock"
PYTHON = VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
STAMP = VENV / "installed.sha256"
NEEDED_GIB = 8  # the torch of the package registry is built for CUDA as well: 3 GiB to download, about 6 unpacked
OLDEST_PYTHON = (3, 11)


def create() -> None:
    print("hpelib: setting up .venv from requirements.lock (about 3 GiB to download, once)", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    free_gib = shutil.disk_usage(ROOT).free / 2**30
    if free_gib < NEEDED_GIB:
        sys.exit(f"hpelib: the environment needs {NEEDED_GIB} GiB, and {free_gib:.1f} GiB are free at {ROOT}")
    run(sys.executable, "-m", "venv", VENV)
    uv = VENV / "uv.lock"  # the lock's own entry for uv: the installer is pinned by hash as well
    uv.write_text(re.search(r"^uv==.*?(?=^\S)", LOCK.read_text(), re.MULTILINE | re.DOTALL).group())
    run(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", uv)
    run(PYTHON, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "-r", LOCK)
    run(PYTHON, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    run(PYTHON, "-m", "ipykernel", "install", "--sys-prefix", "--name", "python3", "--display-name", "hpelib")


def run(*command) -> None:
    try:
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "VIRTUAL_ENV": str(VENV)})
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"hpelib: setting up stopped ({error}). Can the package registry be reached? Run it again then.")


if __name__ == "__main__":
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make study PYTHON=python3.12")
    decides = LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + f"{ROOT} {sys.version}".encode()
    wanted = hashlib.sha256(decides).hexdigest()
    if not PYTHON.exists() or not STAMP.is_file() or STAMP.read_text() != wanted:
        create()
        STAMP.write_text(wanted)
