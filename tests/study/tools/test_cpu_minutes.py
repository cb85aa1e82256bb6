"""The page of accuracy against CPU minutes."""

import pytest

from hpelib.study.results.comparisons import Study
from hpelib.study.results.tables import Comparison
from hpelib.study.tools.cpu_minutes import measure, read_cpu

TIMES = """train@mpii-hourglass-0,60.0
train@mpii-hourglass-1,90.0
train@mpii-hourglass-0,30.0
evaluate@mpii-hourglass,5.0
"""


def test_minutes_are_those_of_the_last_training_of_each_seed(study, params, tmp_path):
    study("hourglass", "mpii", [40.0, 44.0])
    study("hrnet", "mpii", [50.0, 50.0])
    (tmp_path / "cpu.csv").write_text(TIMES)
    times = read_cpu(tmp_path)
    assert times.groupby("kind")["cpu_s"].sum().to_dict() == {"train": 120.0, "evaluate": 5.0}
    (found,) = measure(Comparison.read(Study(params), "mpii"), times).to_dict("records")
    assert found["name"] == "hourglass", "the other was not timed here"
    assert (found["value"], found["minutes"]) == (42.0, 1.0)


def test_without_times_it_is_said_what_writes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="`make study` writes it"):
        read_cpu(tmp_path)
