"""`make study`: `dvc repro`, with the stages that do not wait for each other side by side.

DVC itself runs one stage at a time. A training takes one core (two threads would be slower and would not give the same
bits), so every stage is started as a `dvc repro --single-item` of its own, as soon as all that it depends on is done.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from hpelib.study.forks import forking, stand_in

# Roughly, of the long stages; only their order matters: whatever has most behind it starts first, so that no core is
# left alone with a long stage at the end.
MINUTES = {"ablate": 5.0, "stress": 3.0, "control": 1.5, "train": 1.0, "train_extra": 1.0}
OTHER_MINUTES = 0.25
LOG = Path("logs/study.csv")  # the stages that ran, the last time that there was something to do
DVC = (*stand_in(), "-m", "dvc", "--wait-for-lock")

Upstream = dict[str, set[str]]  # for each stage those that it waits for


def study(jobs: int, ends: Sequence[str] = ()) -> None:
    """Bring the study up to date, with up to `jobs` stages at a time: all of it, or the stages `ends` and their needs.

    `ends` are names as in dvc.yaml, `tables`, or of one stage of a matrix, `tables@coco`.
    """
    made = ", ".join(ends) or "reports/README.md"
    if not stale_stages(ends):
        print(f"The study is up to date: {made}", flush=True)
        return
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("stage,start_s,end_s\n")
    with forking():
        run_stage("sources")  # without comments and docstrings, fewer stages may be stale
        run_all(waiting(leading_to(all_stages(), ends), stale_stages(ends)), jobs, run_stage)
    print(f"Done: {made}", flush=True)


def stale_stages(ends: Sequence[str]) -> set[str]:
    """Stages whose dependencies, parameters or outputs are not what dvc.lock records: all, or those `ends` need."""
    return set(json.loads(dvc("status", "--json", "--with-deps", *ends)))


def all_stages() -> Upstream:
    """The graph of dvc.yaml."""
    upstream: Upstream = {}
    for line in dvc("dag", "--dot").splitlines():
        match re.findall(r'"([^"]+)"', line):
            case [stage]:
                upstream.setdefault(stage, set())
            case [before, stage]:
                upstream.setdefault(stage, set()).add(before)
    return upstream


def leading_to(upstream: Upstream, ends: Sequence[str]) -> Upstream:
    """The part of a graph that the stages `ends` need, or those of a matrix of that name; all of it without any."""
    needed = {stage for stage in upstream if not ends or {stage, stage.partition("@")[0]} & set(ends)}
    for stage in reversed([*TopologicalSorter(upstream).static_order()]):
        if stage in needed:
            needed |= upstream[stage]
    return {stage: upstream[stage] for stage in needed}


def waiting(upstream: Upstream, stale: set[str]) -> Upstream:
    """The part of a graph that is stale or depends on what is."""
    found = set(stale)
    for stage in TopologicalSorter(upstream).static_order():
        if upstream[stage] & found:
            found.add(stage)
    return {stage: upstream[stage] & found for stage in found}


def run_all(upstream: Upstream, jobs: int, run: Callable[[str], None]) -> None:
    """Call `run` with every stage once what it waits for is done, up to `jobs` at a time; what fails ends all."""
    minutes = minutes_left(upstream)
    order, ready, running = TopologicalSorter(upstream), [], {}
    order.prepare()
    with ThreadPoolExecutor(jobs) as pool:
        while order.is_active():
            ready = sorted([*ready, *order.get_ready()], key=lambda stage: (minutes[stage], stage))
            while ready and len(running) < jobs:
                stage = ready.pop()
                running[pool.submit(run, stage)] = stage
            finished: set[Future] = wait(running, return_when=FIRST_COMPLETED).done
            for future in finished:
                future.result()
                order.done(running.pop(future))


def minutes_left(upstream: Upstream) -> dict[str, float]:
    """How long it takes from the start of each stage to the end of the last that waits for it, were cores unlimited."""
    left = dict.fromkeys(upstream, 0.0)
    for stage in reversed([*TopologicalSorter(upstream).static_order()]):
        left[stage] += MINUTES.get(stage.split("@")[0], OTHER_MINUTES)
        for before in upstream[stage]:
            left[before] = max(left[before], left[stage])
    return left


def run_stage(stage: str) -> None:
    print(f"start  {stage}", flush=True)
    start = time.time()
    if "Running stage" in dvc("repro", "--single-item", stage):  # and not: it would come out the same
        with LOG.open("a") as log:
            log.write(f"{stage},{start:.1f},{time.time():.1f}\n")
    print(f"done   {stage}", flush=True)


def dvc(*arguments: str) -> str:
    """What DVC prints; if it fails, all that it says is shown and the study ends."""
    finished = subprocess.run([*DVC, *arguments], capture_output=True, text=True)
    if finished.returncode:
        print(finished.stdout, finished.stderr, flush=True)
        sys.exit(f"dvc {' '.join(arguments)} failed; mend the cause named above and run make study again")
    return finished.stdout


if __name__ == "__main__":
    try:
        study(int(sys.argv[1]), sys.argv[2:])
    except KeyboardInterrupt:
        sys.exit("interrupted; make study goes on from here")
