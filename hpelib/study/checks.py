"""What `make study` says of a profile before anything is computed."""

import sys
from collections.abc import Collection

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


def warn_of_study(params: dict) -> None:
    """Say so where params.yaml names a profile, but the first block is not what that profile's `study` says."""
    study = profile_changes(params, params["profile"])
    if other := [key for key, value in study.items() if params[key] != value]:
        print(
            f"params.yaml names the profile {params['profile']}, which is made for other {', '.join(other)}: "
            f"make study PROFILE={params['profile']} sets them",
            flush=True,
        )
