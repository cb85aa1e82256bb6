"""`make study`: `dvc repro`, with the stages that do not wait for each other side by side.

DVC itself runs one stage at a time. A training takes one core (two threads would be slower and
would not give the same bits), so the long stages are started as separate `dvc repro --single-item`
processes; whatever is left, and the last word on what is up to date, is plain `dvc repro`.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

WAVES = (  # within a wave stages do not depend on each other, and the long ones come first
    ("train", "train_extra", "ablate", "control", "sizes", "data", "data_extra"),
    ("evaluate", "evaluate_extra"),
    ("stress", "papers", "claims", "errors", "paper_figures", "tables", "tables_extra", "heatmaps", "heatmaps_extra"),
)
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")


def study(jobs: int) -> None:
    """Bring the whole study up to date, with up to `jobs` stages at a time."""
    if not stale_stages():
        print("The study is up to date: reports/README.md", flush=True)
        return
    dvc("repro", "prepare", "prepare_extra", "stress_data")
    for wave in WAVES:
        stale = stale_stages()
        waiting = [stage for kind in wave for stage in stale if stage.split("@")[0] == kind]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(run_stage, waiting))
    dvc("repro")
    print("Done: reports/README.md", flush=True)


def stale_stages() -> list[str]:
    """Stages whose dependencies, parameters or outputs are not what dvc.lock records."""
    return sorted(json.loads(dvc("status", "--json")))


def run_stage(stage: str) -> None:
    print(f"start  {stage}", flush=True)
    dvc("repro", "--single-item", stage)
    print(f"done   {stage}", flush=True)


def dvc(*arguments: str) -> str:
    """What DVC prints; if it fails, all that it says is shown and the study ends."""
    finished = subprocess.run([*DVC, *arguments], capture_output=True, text=True)
    if finished.returncode:
        print(finished.stdout, finished.stderr, flush=True)
        sys.exit(f"dvc {' '.join(arguments)} failed; mend the cause named above and run make study again")
    return finished.stdout


if __name__ == "__main__":
    study(int(sys.argv[1]))
