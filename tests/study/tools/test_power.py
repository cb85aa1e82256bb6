import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from hpelib.study.tools.power import power

ROOT = Path(__file__).resolve().parents[3]


def test_the_command_prints_what_a_gain_takes(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["power", "0.3", "--profile", "evening"])
    runpy.run_module("hpelib.study.tools.power", run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[-2:] == ["AP_det,", "coco"]
    assert printed[1].split() == ["claimed", "0.3"]


def test_a_profile_of_one_seed_is_told_to_have_tested_nothing():
    ledger = pd.DataFrame(
        {"seed_sd": [float("nan")], "verdict": ["not testable here"], "dataset": "coco", "metric": "AP_det"}
    )
    with pytest.raises(ValueError, match="no difference of AP_det on coco was tested; tested are: none; `--profile`"):
        power(ledger, 0.3, "coco", "AP_det")


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_a_gain_is_positive(gain):
    with pytest.raises(ValueError, match="a gain must be positive percentage points"):
        power(pd.DataFrame(), gain, "coco", "AP_det")
