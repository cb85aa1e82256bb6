"""`make study`: what `dvc repro` does, with the stages that do not wait for each other side by side.

    python -m hpelib.study.run [--profile NAME] [--jobs N] [STAGE ...]

DVC runs one stage at a time. Here DVC's own objects say which stages have changed, take results from its run cache and
record what was made in dvc.lock; the commands run side by side. Each runs in a process that is forked from one that has
imported the libraries already (the standard library's forkserver), which saves four CPU seconds a stage.
"""

import argparse
import json
import logging
import multiprocessing
import os
import resource
import runpy
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from graphlib import TopologicalSorter
from multiprocessing.connection import wait
from pathlib import Path

import networkx
import psutil
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound

from hpelib.parents import die_with_caller
from hpelib.study import checks
from hpelib.study.another import another
from hpelib.study.config import load_params, profile_params, work_folder

GIB_A_JOB = 2.0
LOGS = Path("logs")
LIBRARIES = ["torch", "torch._dynamo", "torchvision", "timm", "accelerate", "safetensors.torch", "cv2", "dvc.repo"]
LIBRARIES += ["pycocotools.cocoeval", "scipy.optimize", "scipy.stats", "matplotlib.pyplot", "seaborn", "papermill.cli"]

Upstream = dict[Stage, set[Stage]]  # for each stage those that it waits for


class Study:
    """One call of `make study`."""

    def __init__(self, params: dict, jobs: int):
        self.params, self.jobs, self.repo = params, jobs, Repo(_wait_for_lock=True)
        self.running: dict[int, tuple[multiprocessing.Process, Stage, float]] = {}  # by what tells that it has ended
        self.decided: dict[Stage, dict[str, str]] = {}  # by what, for each that runs
        self.costs = profile_params(self.params).get("stage_s", {})  # CPU s of a stage of each kind
        self.cpu = work_folder(self.params) / "cpu.csv"
        self.expected_s = self.taken_s = 60.0  # by the stages that this call has run; a short first one says little
        if len(tempfile.gettempdir()) > 60:  # the name of the forkserver's socket would be too long
            tempfile.tempdir = "/tmp"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(LIBRARIES)

    def run(self, ends: Sequence[str]) -> None:
        """Bring the stages `ends` and all that they need up to date; all of the study without `ends`."""
        with self.repo.lock:
            graph = self.repo.index.graph  # an edge leads from a stage to one that it needs
            found = [stage for end in ends for stage in self.repo.stage.collect(end)] or list(graph)
        needed = {stage for end in found for stage in (end, *networkx.descendants(graph, end))}
        wanted = {stage for stage in needed if stage.cmd}
        with self.repo.lock:
            for stage in needed - wanted:  # data that nothing computes, such as data.dvc
                if stage.changed():
                    self._record(stage)
        checks.forget_old_plan(self.params)
        self._run_all({stage: set() for stage in wanted if stage.addressing == "plan"})  # it says what else is stale
        upstream = {stage: set(graph.successors(stage)) & wanted for stage in wanted}
        with self.repo.lock:
            stale = {stage for stage in wanted if stage.changed()}
        stale |= {stage for stage in wanted if networkx.descendants(graph, stage) & stale}
        if stale:
            checks.warn_of_idle_settings(self.params)
            checks.require_ready(self.params, {stage.addressing.partition("@")[0] for stage in stale})
            (LOGS / "study.csv").write_text("stage,start_s,end_s\n")
            left = self._time_left(stale)
            print(f"{len(stale)} stages, {self.jobs} at a time{left}; they print to {LOGS}/STAGE.log", flush=True)
            self._run_all({stage: upstream[stage] & stale for stage in stale})
        print("Done" if stale else "The study is up to date", *ends, flush=True)

    def _run_all(self, upstream: Upstream) -> None:
        order, ready, left = TopologicalSorter(upstream), [], set(upstream)
        order.prepare()
        while order.is_active():
            ready += order.get_ready()
            while ready and len(self.running) < self.jobs:
                stage = max(ready, key=lambda stage: (self._cost_s(stage), stage.addressing))
                ready.remove(stage)
                if self._needs_running(stage):
                    self._start(stage)
                else:
                    order.done(stage)
                    ready += order.get_ready()
                    left.remove(stage)
            if self.running:
                now = ", ".join(one.addressing + latest_score(one.addressing) for _, one, _ in self.running.values())
                done = len(upstream) - len(left)
                print(f"{done} of {len(upstream)} stages done; running: {now}{self._time_left(left)}", flush=True)
                for sentinel in wait(list(self.running), timeout=60):
                    stage = self._finish(sentinel)
                    order.done(stage)
                    left.remove(stage)

    def _cost_s(self, stage: Stage) -> float:
        return self.costs.get(stage.addressing.partition("@")[0], self.costs.get("other", 0.0))

    def _time_left(self, stages: Collection[Stage]) -> str:
        """Such as "; about 12 min left": by the profile's table, at the pace of the stages that this call has run."""
        if not self.costs:
            return ""
        minutes = self.taken_s / self.expected_s * sum(map(self._cost_s, stages)) / self.jobs / 60
        return f"; about {minutes / 60:.1f} hours left" if minutes > 120 else f"; about {minutes:.0f} min left"

    def _needs_running(self, stage: Stage) -> bool:
        """Whether a stage must run: not if it would come out the same, or if DVC's run cache has the result."""
        with self.repo.lock:
            if not stage.changed():
                return False
            if stage.addressing == "plan":  # reads files that DVC does not know
                return True
            stage.remove_outs(ignore_remove=False, force=False)
            try:
                self.repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                return True
            self._record(stage)
            return False

    def _start(self, stage: Stage) -> None:
        process = self.context.Process(target=execute, args=(stage.addressing, stage.cmd, self.cpu))
        process.start()
        self.running[process.sentinel] = process, stage, time.time()
        self.decided[stage] = checks.decided_by(dep.fs_path for dep in stage.deps)

    def _finish(self, sentinel: int) -> Stage:
        process, stage, start_s = self.running.pop(sentinel)
        process.join()
        if process.exitcode:
            log = LOGS / f"{stage.addressing}.log"
            print("\n".join(log.read_text(errors="replace").splitlines()[-30:]), flush=True)
            sys.exit(f"{stage.addressing} failed: see {log}; mend the cause and run make study again, it goes on here")
        with self.repo.lock:
            for plan in self.repo.stage.collect("plan") if self.decided[stage] else ():
                if plan.changed():
                    checks.require_same(stage.addressing, self.decided[stage], plan.cmd)
                    self._record(plan)
            self._record(stage)
        self.expected_s += self._cost_s(stage)
        self.taken_s += time.time() - start_s
        with (LOGS / "study.csv").open("a") as times:
            times.write(f"{stage.addressing},{start_s:.1f},{time.time():.1f}\n")
        return stage

    def _record(self, stage: Stage) -> None:
        """Hash what a stage has made, put it into DVC's cache and write it into dvc.lock, as `dvc repro` does."""
        stage.save(run_cache=all(out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot)))
        stage.commit()
        stage.dump(update_pipeline=False)

    def stop(self) -> None:
        """End what still runs; trainings go on from their checkpoints the next time."""
        for process, _, _ in self.running.values():
            process.terminate()
            process.join()


def execute(stage: str, commands: str | list[str], cpu: Path) -> None:
    """Run a stage's commands, each `python -m MODULE ARGUMENTS`, in this process; note their CPU seconds in `cpu`."""
    die_with_caller()
    os.environ["DVC_STAGE"] = stage
    with (LOGS / f"{stage}.log").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    for command in [commands] if isinstance(commands, str) else commands:
        sys.argv = shlex.split(command.removeprefix("python -m "))
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu.parent.mkdir(parents=True, exist_ok=True)
    with cpu.open("a") as lines:
        lines.write(f"{stage},{sum(usage.ru_utime + usage.ru_stime for usage in used):.1f}\n")


def latest_score(stage: str) -> str:
    """The last record of a training's log, such as " (epoch 2, OKS 39.7)"; nothing before its first epoch has ended."""
    kind, _, item = stage.partition("@")
    log = LOGS / "learning" / f"{item}.json"
    if kind not in checks.TRAINING or not log.is_file():
        return ""
    record = json.loads(log.read_text())[-1]
    metric, value = list(record.items())[-1]
    return f" (epoch {record['epoch']}, {metric} {value:.1f})"


def default_jobs(params: dict) -> int:
    """One job for each core that has 2 GiB of free memory; a single one where trainings share a GPU."""
    if profile_params(params).get("recipe", {}).get("device") == "cuda":
        return 1
    free_gib = psutil.virtual_memory().available / 2**30
    return max(1, min(len(psutil.Process().cpu_affinity()), int(free_gib / GIB_A_JOB)))


def main() -> None:
    parser = argparse.ArgumentParser("python -m hpelib.study.run", description="Bring the study up to date.")
    parser.add_argument("stages", nargs="*", help="of dvc.yaml, to run only these and what they need")
    parser.add_argument("--profile", help="of params.yaml, in place of the one that it names")
    parser.add_argument("--jobs", type=int, help="stages at a time; by default one for each core, memory allowing")
    given = parser.parse_args()
    if given.jobs is not None and given.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {given.jobs}")
    LOGS.mkdir(exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores interrupts
    logging.getLogger("dvc").setLevel(logging.WARNING)  # nothing of every line in dvc.lock
    with another(given.profile):
        params = load_params()
        checks.require_no_link(params["profile"])
        checks.warn_of_study(params)
        study = Study(params, given.jobs or default_jobs(params))
        try:
            study.run(given.stages)
        except (StageNotFound, StageFileDoesNotExistError) as error:
            sys.exit(f"{error}; `dvc stage list --name-only` names them")
        except KeyboardInterrupt:
            sys.exit("interrupted; make study goes on from here")
        finally:
            study.stop()


if __name__ == "__main__":
    from hpelib.study.run import main  # so that `execute` has one name here and in the processes that it runs in

    main()
