"""What the pipeline's plan says of a training, which `hpelib.study.plan` wrote before the training began."""

import json
import logging
import re
from pathlib import Path

from hpelib.study.config import Run, decisive


def plan_file(run: Run) -> Path:
    """What the pipeline says decides this training, with a digest of the code."""
    item = f"{run.dataset.name}-{run.network}-{run.seed}"
    stage = f"ablate/{run.network}-{run.seed}" if run.variant else f"train/{item}"
    return run.dataset.work / "plan" / f"{f'control/{run.dataset.name}' if run.is_control else stage}.json"


def differs_from_plan(run: Run) -> list[str]:
    """The parts of the run that are not as the pipeline's plan has them; none without a plan."""
    path = plan_file(run)
    if not path.is_file():
        return []
    planned = json.loads(path.read_text(encoding="utf-8"))["parameters"]
    planned = planned.get(run.dataset.name, {}).get(run.variant, {}) if run.variant else planned
    return [name for name, value in decisive(run.describe()).items() if name != "test" and planned.get(name) != value]


def warn_of_old_plan(run: Run) -> None:
    """Say so where a file of the code is newer than the plan: a training that is called by hand goes by the plan alone.

    Its checkpoint, finished or not, then counts as one of this code, and goes on.
    """
    path, code = plan_file(run), Path(__file__).parents[1]
    if path.is_file() and any(file.stat().st_mtime > path.stat().st_mtime for file in code.rglob("*.py")):
        logging.getLogger(__name__).warning(
            f"the code is newer than {path}, by which checkpoints are found again: after a change of code run "
            "`python -m hpelib.study.plan` first"
        )


def plan_key(run: Run) -> str:
    """What `plan_file` holds; empty without a plan.

    The number of processes is left out, so that an interrupted training goes on with another one.
    """
    path = plan_file(run)
    return re.sub(r'"processes": \d+', "", path.read_text(encoding="utf-8")) if path.is_file() else ""
