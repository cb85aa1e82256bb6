"""Rounds, ratios and what is said of them; the clock is replaced."""

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import (
    Comparison,
    apart,
    compare,
    interleave,
    peak_memory_mb,
    spread_of_seconds,
    table,
    wide_table,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a case moves it."""

    class Clock:
        now = 0.0

        def taking(self, seconds):
            def case():
                self.now += next(seconds)

            return case

    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_cases_take_turns_and_the_first_round_does_not_count(clock):
    calls = []
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    interleave(cases, 2)
    assert "".join(calls) == "ababab"
    found = interleave({"a": clock.taking(iter([9, 1, 2])), "b": clock.taking(iter([9, 3, 4]))}, 2)
    np.testing.assert_array_equal(found["a"], [1, 2])
    np.testing.assert_array_equal(found["b"], [3, 4])


def test_the_ratio_is_that_of_each_round(clock):
    ours, theirs = clock.taking(iter([9, 1, 2, 4])), clock.taking(iter([9, 3, 4, 40]))
    (found,) = compare("crop", ours, {"other": theirs}, items=2, rounds=3)
    np.testing.assert_array_equal(found.ours_s, [0.5, 1, 2])
    cells = found.row()
    assert list(cells)[2] == "times as fast"
    assert cells["times as fast"] == "3 (2.5 to 6.5)"
    assert cells["hpelib"] == "1 s (0.75 to 1.5)"
    assert cells["the other"] == "2 s (1.75 to 11)"


def test_what_cannot_be_run_says_why(clock):
    found = compare("crop", clock.taking(iter([9, 1])), {"other": "no network"}, items=1, rounds=1)
    assert "not run: no network" in table(found)
    assert "not run: no network" in wide_table(found)


def test_a_wide_table_has_a_row_for_each_thing():
    ones = np.ones(3)
    found = [Comparison(what, name, ones, 2 * ones) for what in ("x", "y") for name in ("fp32", "bf16")]
    lines = wide_table(found).splitlines()
    assert len(lines) == 4
    assert lines[0].index("as fast as fp32") < lines[0].index("as fast as bf16") < lines[0].index("hpelib")


@pytest.mark.parametrize(("seconds", "said"), [(2.0, "2 s"), (0.05, "50 ms"), (3e-5, "30 µs"), (3e-8, "0.03 µs")])
def test_the_unit_suits_the_time(seconds, said):
    assert spread_of_seconds(np.array([seconds])).startswith(said + " (")


def test_memory_of_a_process_apart_is_its_own():
    ballast = np.ones(60_000_000)  # 480 MB here must not show there
    assert peak_memory_mb() > apart(peak_memory_mb) + 300
    assert len(ballast)
