import threading

import pytest

from hpelib.study import run

GRAPH = {
    "data": set(),
    "train@a": {"data"},
    "train@b": {"data"},
    "evaluate@a": {"train@a"},
    "evaluate@b": {"train@b"},
    "stress": {"train@b"},
    "report": {"evaluate@a", "evaluate@b", "stress"},
}


class Recorder:
    """Stands for DVC: notes the order of starts and ends, and how many stages run at a time."""

    def __init__(self, jobs: int):
        self.lock, self.started, self.finished, self.most = threading.Lock(), [], set(), 0
        self.together = threading.Barrier(jobs, timeout=120)
        self.seen_before: dict[str, set[str]] = {}

    def __call__(self, stage: str) -> None:
        with self.lock:
            self.started.append(stage)
            self.seen_before[stage] = set(self.finished)
            self.most = max(self.most, len(self.started) - len(self.finished))
        if stage.startswith("train"):
            self.together.wait()  # never passed were they run one after the other
        with self.lock:
            self.finished.add(stage)


def test_stages_run_side_by_side_after_what_they_wait_for():
    recorder = Recorder(jobs=2)
    run.run_all(GRAPH, 2, recorder)
    assert sorted(recorder.started) == sorted(GRAPH)
    assert recorder.most == 2
    for stage, before in GRAPH.items():
        assert before <= recorder.seen_before[stage], stage


def test_what_has_most_behind_it_starts_first():
    order = []
    run.run_all(GRAPH, 1, order.append)
    assert order == ["data", "train@b", "stress", "train@a", "evaluate@b", "evaluate@a", "report"]


def test_minutes_left_are_those_of_the_longest_way_to_the_end():
    left = run.minutes_left(GRAPH)
    short = run.OTHER_MINUTES
    assert left["report"] == short
    assert left["stress"] == run.MINUTES["stress"] + short
    assert left["train@a"] == run.MINUTES["train"] + 2 * short
    assert left["data"] == short + run.MINUTES["train"] + run.MINUTES["stress"] + short


def test_only_what_is_stale_and_what_depends_on_it_waits():
    assert run.waiting(GRAPH, {"train@a"}) == {
        "train@a": set(),
        "evaluate@a": {"train@a"},
        "report": {"evaluate@a"},
    }
    assert run.waiting(GRAPH, set()) == {}
    assert run.waiting(GRAPH, set(GRAPH)) == GRAPH


@pytest.mark.parametrize(
    ("ends", "stages"),
    [
        (["evaluate"], GRAPH.keys() - {"stress", "report"}),
        (["evaluate@a"], {"evaluate@a", "train@a", "data"}),
        (["stress", "train@a"], {"stress", "train@b", "train@a", "data"}),
        (["report"], GRAPH.keys()),
        ([], GRAPH.keys()),
    ],
)
def test_a_part_of_the_study_is_what_leads_to_the_stages_that_were_named(ends, stages):
    assert run.leading_to(GRAPH, ends) == {stage: GRAPH[stage] for stage in stages}


def test_nothing_starts_after_a_failure():
    started = []

    def fail(stage: str) -> None:
        started.append(stage)
        raise SystemExit(f"{stage} failed")

    with pytest.raises(SystemExit, match="data failed"):
        run.run_all(GRAPH, 2, fail)
    assert started == ["data"]


def test_the_graph_is_read_from_what_dvc_prints(monkeypatch):
    printed = 'strict digraph {\n"data.dvc";\n"train@a";\n"data.dvc" -> "train@a";\n}\n'
    monkeypatch.setattr(run, "dvc", lambda *arguments: printed)
    assert run.all_stages() == {"data.dvc": set(), "train@a": {"data.dvc"}}


def test_when_a_stage_began_and_ended_is_kept_if_it_ran(tmp_path, monkeypatch):
    times, log = iter([1.0, 3.0, 5.25]), tmp_path / "study.csv"
    printed = {"sources": "Stage 'sources' didn't change, skipping", "train@a": "Running stage 'train@a':\n> python"}
    monkeypatch.setattr(run, "dvc", lambda *arguments: printed[arguments[-1]])
    monkeypatch.setattr(run, "LOG", log)
    monkeypatch.setattr(run.time, "time", lambda: next(times))
    for stage in printed:
        run.run_stage(stage)
    assert log.read_text() == "train@a,3.0,5.2\n"
