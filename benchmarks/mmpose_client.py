"""MMPose 1.3.2 in an environment of its own, as it needs an older NumPy, driven through a pipe."""

import functools
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.timing import Case

NAME = "MMPose 1.3.2"
FOLDER = Path("work/benchmarks/mmpose")
LOG = Path("work/benchmarks/mmpose.log")
HERE = Path(__file__).parent
PINNED = ("mmpose==1.3.2", "mmdet==3.2.0")  # without their dependencies, which need a compiler


class MMPose:
    """A process that runs the tasks of `mmpose_server`; a context manager that ends it.

    Raises RuntimeError where it does not start.
    """

    def __init__(self, python: Path):
        with LOG.open("w") as log:
            self._process = subprocess.Popen(
                [python, HERE / "mmpose_server.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

        self._wait("start")

    def __enter__(self) -> "MMPose":
        return self

    def __exit__(self, *failure) -> None:
        self._process.stdin.close()
        self._process.wait()

    def __call__(self, task: str, *arguments) -> None:
        """Return when the task is done; RuntimeError, with the last line of what MMPose said, where it failed."""
        print(json.dumps([task, *arguments]), file=self._process.stdin, flush=True)
        self._wait(task)

    def _wait(self, task: str) -> None:
        if not self._process.stdout.readline():
            said = LOG.read_text().strip().splitlines()
            raise RuntimeError(f"it ended at {task}: {said[-1] if said else 'no message'}")


def case(mmpose: MMPose | str, *task) -> Case | str:
    """The task as a benchmark's case, or the reason why there is no MMPose to do it."""
    return functools.partial(mmpose, *task) if isinstance(mmpose, MMPose) else mmpose


def environment() -> Path:
    """The environment's Python, made at the first call; RuntimeError, with the installer's reason, if it cannot be."""
    python, stamp = FOLDER / "bin/python", FOLDER / "complete"
    if not stamp.is_file():
        uv = [sys.executable, "-m", "uv"]
        install = [*uv, "pip", "install", "--quiet", "--python", python]
        _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, FOLDER])
        same = [f"{name}=={version(name)}" for name in ("torch", "torchvision")]
        _run([*install, "--requirement", HERE / "mmpose_requirements.txt", *same])
        _run([*install, "--no-deps", *PINNED])
        stamp.touch()
    return python


def _run(command: list) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        reason = (finished.stderr.strip() or "no message").splitlines()
        raise RuntimeError(f"its environment cannot be made: {' '.join(line.strip() for line in reason)[:200]}")
