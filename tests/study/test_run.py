"""`make study` in a tiny repository whose stages do next to nothing."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from hpelib.study.run import latest_score

ROOT = Path(__file__).resolve().parents[2]
# `python -m hpelib.study.run`, without the seconds that torch and others take to be imported
STUDY = """
from hpelib.study import run

if __name__ == "__main__":
    run.LIBRARIES = ["dvc.repo", "pandas", "scipy.io", "cv2"]
    run.main()
"""
# A stage: it tells when it starts and ends, and leaves what it has read, behind its own name.
STEP = """
import os, sys, time
from pathlib import Path

name, out, *sources = sys.argv[1:]
def tell(what):
    with open("events.txt", "a") as events:
        events.write(f"{what} {name}\\n")

def wait_for(path):
    end = time.monotonic() + 200
    while not Path(path).exists():
        if time.monotonic() > end:
            sys.exit(f"{path} never came")
        time.sleep(0.02)

tell("start")
print(f"{name} was here", os.environ["DVC_STAGE"])
deed = Path(f"{name}.do")
if deed.exists():
    exec(deed.read_text())
text = "".join(Path(source).read_text().strip() for source in sources)
Path(out).parent.mkdir(parents=True, exist_ok=True)
Path(out).write_text(f"{name}({text})")
tell("end")
"""
MEET = "Path(f'{name}.met').touch(); wait_for('left.met'); wait_for('right.met')"
STAGES = {"first": ["source.txt"], "left": ["first"], "right": ["first"], "last": ["left", "right"]}
PROFILE = {"networks": {"net": {"model": "hourglass"}}, "datasets": {"people": {"set": "people"}}}
PROFILE |= {"threads": 1, "mannequins": {"plain": {"scale": 1.0, "seed": 0, "persons": {"val": 1}}}}
PROFILE |= {"stress": {"seed": 0, "persons": 1}, "recipe": {"epochs": 1, "learning_rate": 0.1}}
PROFILE |= {"inputs": {"codec": "dark", "input_size": [32, 32], "heatmap_size": [8, 8], "sigma": 1, "batch_size": 1}}
PEOPLE = {"source": "noise", "format": "lsp", "root": "people", "splits": {"train": {}, "val": {}, "test": {}}}
PARAMS = {"profile": "tiny", "datasets": ["people"], "networks": ["net"], "all_datasets": ["people"], "control": "net"}
PARAMS |= {"extra": {"datasets": [], "networks": []}, "seeds": [0], "ablation_seeds": [0], "error_datasets": []}
PARAMS |= {"sets": {"people": PEOPLE}, "ablations": {}}
PARAMS |= {
    "profiles": {
        "tiny": PROFILE | {"stage_s": {"first": 90, "other": 30}},
        "long": PROFILE | {"study": {"seeds": [0, 1]}},
    }
}


class Tiny:
    """A repository of four stages: `first`, then `left` and `right`, then `last`."""

    def __init__(self, root: Path):
        self.root = root
        (root / "step.py").write_text(STEP)
        (root / "study.py").write_text(STUDY)
        (root / "source.txt").write_text("1")
        (root / "params.yaml").write_text(f"# the first line\n{yaml.safe_dump(PARAMS)}")
        stages = {}
        for name, needs in STAGES.items():
            out, deps = (
                f"work/${{profile}}/{name}",
                [need if "." in need else f"work/${{profile}}/{need}" for need in needs],
            )
            stages[name] = {"cmd": f"python -m step {name} {out} {' '.join(deps)}", "deps": deps, "outs": [out]}
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        with Repo.init(str(root), no_scm=True) as repo:
            repo.add(str(root / "source.txt"))  # data that no stage makes

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "study.py", "--jobs", "2", *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> str:
        """What the command prints. It must not fail."""
        process = self.start(*arguments, **environment)
        said, errors = process.communicate()
        assert process.returncode == 0, errors
        return said

    def fails(self, *arguments: str) -> tuple[str, str]:
        """What the command prints and its last words. It must fail."""
        process = self.start(*arguments)
        said, errors = process.communicate()
        assert process.returncode not in (0, None)
        return said, errors

    def events(self) -> list[str]:
        """What has started and ended since this was asked last."""
        path = self.root / "events.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def made(self, name: str, profile: str = "tiny") -> str:
        return (self.root / "work" / profile / name).read_text()

    def status(self) -> dict:
        with Repo(str(self.root)) as repo:
            return repo.status()

    def tell(self, stage: str, deed: str) -> None:
        """Tell a stage what to do when it runs."""
        (self.root / f"{stage}.do").write_text(deed)


@pytest.fixture
def tiny(tmp_path) -> Tiny:
    return Tiny(tmp_path)


def wait_for(ready: Callable[[], object]) -> object:
    """What `ready` returns as soon as that is true."""
    end = time.monotonic() + 200
    while not (found := ready()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_stages_run_side_by_side_in_their_order_and_once(tiny):
    for stage in ("left", "right"):
        tiny.tell(stage, MEET)  # each waits until the other has begun
    said = tiny.run()
    assert said.splitlines()[-1] == "Done"
    events = tiny.events()
    assert events[:2] == ["start first", "end first"]
    assert events[-2:] == ["start last", "end last"]
    assert sorted(events[2:4]) == ["start left", "start right"]
    assert tiny.made("last") == "last(left(first(1))right(first(1)))"
    assert tiny.status() == {}, "DVC agrees that all is done"
    assert (tiny.root / "logs/left.log").read_text() == "left was here left\n"
    times = (tiny.root / "logs/study.csv").read_text().splitlines()
    assert times[0] == "stage,start_s,end_s"
    assert {line.split(",")[0] for line in times[1:]} == STAGES.keys()

    lock = (tiny.root / "dvc.lock").read_bytes()
    assert "The study is up to date" in tiny.run()
    assert "up to date left" in tiny.run("left")
    assert tiny.events() == []
    assert (tiny.root / "dvc.lock").read_bytes() == lock


def test_only_what_a_change_reaches_runs_and_known_results_are_restored(tiny):
    tiny.run()
    tiny.events()
    (tiny.root / "source.txt").write_text("2")
    tiny.run("left")
    assert tiny.events() == ["start first", "end first", "start left", "end left"], "what was asked for and its needs"
    (tiny.root / "source.txt").write_text("1")
    tiny.run()
    assert tiny.events() == [], "all of this was made before"
    assert tiny.made("last") == "last(left(first(1))right(first(1)))"
    (tiny.root / "source.txt").write_text("1\n")
    tiny.run()
    assert tiny.events() == ["start first", "end first"], "what comes out as before is no change of what follows"
    assert tiny.status() == {}


def test_a_failure_names_its_log_and_stops_what_runs_and_waits(tiny):
    tiny.tell("left", "wait_for('right.pid'); print('a word'); raise KeyError('lost')")
    tiny.tell("right", "Path('right.pid').write_text(str(os.getpid())); time.sleep(600)")
    said, errors = tiny.fails()
    assert "left failed: see logs/left.log" in errors
    assert re.search(r"a word\n(.|\n)*KeyError: 'lost'", said), "the end of the log is shown"
    assert "a word" in (tiny.root / "logs/left.log").read_text()
    wait_for(lambda: not is_alive(int((tiny.root / "right.pid").read_text())))
    assert not [event for event in tiny.events() if "last" in event]
    for stage in ("left", "right"):
        tiny.tell(stage, "")
    tiny.run()
    assert "start first" not in tiny.events(), "it goes on where it stopped"
    assert tiny.made("last") == "last(left(first(1))right(first(1)))"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_it_takes_its_stages_along(tiny, how):
    for stage in ("left", "right"):
        tiny.tell(stage, "Path(f'{name}.pid').write_text(str(os.getpid())); time.sleep(600)")
    process = tiny.start()
    paths = [tiny.root / f"{stage}.pid" for stage in ("left", "right")]
    wait_for(lambda: process.poll() is not None or all(path.exists() and path.read_text() for path in paths))
    pids = [int(path.read_text()) for path in paths]
    process.send_signal(how)
    _, errors = process.communicate()
    assert process.returncode != 0
    wait_for(lambda: not any(map(is_alive, pids)))
    if how == signal.SIGINT:
        assert errors.splitlines()[-1] == "interrupted; make study goes on from here"
    for stage in ("left", "right"):
        tiny.tell(stage, "")
    tiny.run()
    assert tiny.made("last") == "last(left(first(1))right(first(1)))"


def test_the_folder_for_temporary_files_may_have_a_long_name(tiny):
    folder = Path(tempfile.mkdtemp(dir=tiny.root)) / ("long" * 30)
    folder.mkdir()
    tiny.run("first", TMPDIR=str(folder))
    assert tiny.made("first") == "first(1)"


def test_results_may_lie_on_another_disk(tiny, tmp_path_factory):
    """By DVC's own settings: its cache lies there, and the files in `work` are links to it."""
    disk = tmp_path_factory.mktemp("disk")
    (tiny.root / ".dvc/config.local").write_text(f"[cache]\n    dir = {disk}\n    type = symlink\n")
    for source in ("1", "2"):
        (tiny.root / "source.txt").write_text(source)
        tiny.run("left")
        assert tiny.made("left") == f"left(first({source}))"
        assert (tiny.root / "work/tiny/left").resolve().is_relative_to(disk)
    assert tiny.events().count("start left") == 2


def test_less_than_one_job_is_refused_and_does_not_wait_for_ever(tiny):
    for jobs in ("0", "-1"):
        _, errors = tiny.fails("--jobs", jobs)
        assert errors.splitlines()[-1].endswith(f"--jobs must be at least 1, got {jobs}")


@pytest.mark.parametrize("profile", ["", "tiny"])
def test_a_folder_of_results_that_is_a_link_is_refused_before_anything_runs(tiny, tmp_path_factory, profile):
    link = tiny.root / "work" / profile
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path_factory.mktemp("disk"))
    _, errors = tiny.fails()
    assert "dvc config --local cache.type symlink" in errors.splitlines()[-1]
    assert tiny.events() == []


def test_another_profile_leaves_everything_of_the_default_as_it_was(tiny):
    tiny.run()
    files = {name: (tiny.root / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    tiny.events()
    tiny.tell(
        "left",
        "import yaml; p = yaml.safe_load(open('params.yaml')); assert (p['profile'], p['seeds']) == ('long', [0, 1])",
    )
    tiny.run("--profile", "long")
    assert len(tiny.events()) == 2 * len(STAGES)
    assert tiny.made("last", "long") == tiny.made("last")
    assert {name: (tiny.root / name).read_bytes() for name in files} == files
    assert "work/long/last" in (tiny.root / "reports/long/dvc.lock").read_text()
    tiny.run()
    tiny.run("--profile", "long")
    assert tiny.events() == [], "neither of the two has to run again"
    assert tiny.status() == {}
    assert "profile='short' is none of 'long', 'tiny'" in tiny.fails("--profile", "short")[1]


def test_killed_another_profile_goes_on_and_the_default_is_put_back(tiny):
    tiny.run("first")
    files = {name: (tiny.root / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    tiny.events()
    tiny.tell("last", "Path('last.pid').touch(); time.sleep(600)")
    process = tiny.start("--profile", "long")
    wait_for(lambda: process.poll() is not None or (tiny.root / "last.pid").exists())
    process.kill()
    process.communicate()
    tiny.tell("last", "")
    tiny.events()
    tiny.run("--profile", "long")
    assert tiny.events() == ["start last", "end last"]
    assert {name: (tiny.root / name).read_bytes() for name in files} == files


def test_a_profile_that_runs_is_not_taken_away_by_another_call(tiny):
    """params.yaml can name one profile. A second call would put it back while stages still read it."""
    tiny.tell("last", "Path('last.begun').touch(); wait_for('last.go')")
    long = tiny.start("--profile", "long")
    wait_for(lambda: long.poll() is not None or (tiny.root / "last.begun").exists())
    for arguments in ((), ("--profile", "long")):
        assert "make study runs here already, under another profile" in tiny.fails(*arguments)[1]
    assert yaml.safe_load((tiny.root / "params.yaml").read_text())["profile"] == "long"
    (tiny.root / "last.go").touch()
    _said, errors = long.communicate()
    assert long.returncode == 0, errors
    assert "work/long/last" in (tiny.root / "reports/long/dvc.lock").read_text()


@pytest.mark.parametrize(("edited", "matters"), [("source.txt", True), ("notes.txt", False)])
def test_what_is_edited_while_a_stage_runs_is_not_recorded_as_what_it_was_made_of(tiny, edited, matters):
    """The plan says what decides a stage. An edit that leaves that as it was, such as of a remark, stops nothing."""
    (tiny.root / "notes.txt").write_text("a remark")
    stages = yaml.safe_load((tiny.root / "dvc.yaml").read_text())
    planned = "work/tiny/plan/left"
    stages["stages"]["plan"] = {
        "cmd": f"python -m step plan {planned} source.txt",
        "deps": ["source.txt", "notes.txt"],
        "outs": [planned],
    }
    stages["stages"]["left"]["deps"].append(planned)
    (tiny.root / "dvc.yaml").write_text(yaml.safe_dump(stages))
    tiny.tell("left", "Path('left.begun').touch(); wait_for('left.go')")
    process = tiny.start("left")
    wait_for(lambda: process.poll() is not None or (tiny.root / "left.begun").exists())
    (tiny.root / edited).write_text("2")
    (tiny.root / "left.go").touch()
    _said, errors = process.communicate()
    assert (process.returncode != 0) == matters, errors
    assert ("changed while left ran, and what it made is not recorded" in errors) == matters
    assert ("left:" in (tiny.root / "dvc.lock").read_text()) != matters
    tiny.run("left")
    assert tiny.made("left") == ("left(first(2))" if matters else "left(first(1))")


def test_the_time_that_is_left_comes_from_the_profile(tiny):
    said = tiny.run()
    assert re.search(r"^4 stages, 2 at a time; about 2 min left", said, re.MULTILINE), said


@pytest.mark.parametrize(("stage", "shown"), [("train@coco-hrnet-0", " (epoch 2, OKS 39.7)"), ("tables@coco", "")])
def test_the_latest_score_of_a_training_is_shown(tmp_path, monkeypatch, stage, shown):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs/learning").mkdir(parents=True)
    records = '[{"epoch": 1, "loss": 2, "OKS": 1}, {"epoch": 2, "loss": 1, "OKS": 39.69}]'
    for item in ("coco-hrnet-0", "coco"):
        (tmp_path / f"logs/learning/{item}.json").write_text(records)
    assert latest_score(stage) == shown
    assert latest_score("train@coco-hrnet-1") == "", "it has not begun"


def test_a_misspelt_stage_is_named_and_nothing_runs(tiny):
    _, errors = tiny.fails("frist")
    assert "'frist'" in errors
    assert "dvc stage list" in errors
    assert "Traceback" not in errors
    assert tiny.events() == []
