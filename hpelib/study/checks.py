"""What `make study` says of a profile before anything is computed, and what must not change while it computes."""

import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from hpelib.study.config import profile_changes, profile_params


def require_gpu(params: dict, trainings: Collection[str]) -> None:
    """End the command if there are `trainings` to run, the profile trains on a GPU, and there is none."""
    if not trainings or profile_params(params).get("recipe", {}).get("device") != "cuda":
        return
    import torch  # takes a second, which profiles for the CPU need not spend

    if not torch.cuda.is_available():
        sys.exit(
            f"profile {params['profile']} trains on a GPU (recipe: device: cuda), and PyTorch finds none. On this "
            "machine, `make study STAGES=prepare` checks the data, and hpelib.study.tools.dry_run tries the recipes"
        )


def decided_by(needs: Iterable[str]) -> dict[str, str]:
    """What decides a stage: the plan files among the files that it `needs`, each with its text."""
    plans = [Path(path) for path in needs if "plan" in Path(path).parts]
    return {str(path): path.read_text(encoding="utf-8") for path in plans if path.is_file()}


def require_same(stage: str, before: dict[str, str], command: str) -> None:
    """Make the plan anew, and end the study if what decides `stage` has changed since `stage` started.

    Parameters, code and notebooks may be edited while a study runs. A stage that began before the edit belongs to what
    was there then, but DVC would record it with what is there now. Example: the learning rate is changed while a
    network trains.

    Args:
        before: what `decided_by` returned when the stage started.
        command: of the stage that makes the plan, such as "python -m hpelib.study.plan".
    """
    planned = subprocess.run([sys.executable, *command.split()[1:]], env=os.environ | {"DVC_STAGE": "plan"})
    if planned.returncode or decided_by(before) != before:
        sys.exit(
            f"params.yaml, the code or a notebook was changed while {stage} ran, and what it made is not recorded: run "
            "make study again"
        )


def warn_of_study(params: dict) -> None:
    """Say so where params.yaml names a profile, but the first block is not what that profile's `study` says."""
    study = profile_changes(params, params["profile"])
    if other := [key for key, value in study.items() if params[key] != value]:
        print(
            f"params.yaml names the profile {params['profile']}, which is made for other {', '.join(other)}: "
            f"make study PROFILE={params['profile']} sets them",
            flush=True,
        )
