import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpelib.study.results import measurements

ROOT = Path(__file__).parents[3]


def test_pages_of_results_load_no_torch():
    pages = ("tables", "claims", "papers", "index")
    code = f"import sys; from hpelib.study.results import {', '.join(pages)}; print(sorted(sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    for module in ("'torch'", "'accelerate'", "'hpelib.training.fit'", "'hpelib.study.steps"):
        assert module not in loaded


def test_cells_of_intervals_keep_the_rows_of_the_table():
    table = pd.DataFrame({"gain": [1.04, -2.0], "low": [-0.5, -3.0], "high": [2.0, -1.0]}, index=[7, 3])
    cells = measurements.interval_cells(table, "gain", "+.1f")
    assert cells.to_dict() == {7: "+1.0 [-0.5, +2.0]", 3: "-2.0 [-3.0, -1.0]"}


@pytest.mark.parametrize(
    ("values", "cell"),
    [([88.0, 90.0, 89.0], "89.0 ± 1.0"), ([61.04], "61.0"), ([1.0, np.nan], "undefined"), ([np.nan], "undefined")],
)
def test_a_cell_is_mean_and_deviation_over_seeds(values, cell):
    assert measurements.mean_and_sd(values) == cell
    assert measurements.mean_and_sd(pd.Series(values)) == cell


def test_a_description_names_all_that_decides_a_figure(summary):
    summary = dataclasses.replace(summary, epochs=3)
    text = measurements.describe(summary, own_recipe=True)
    wanted = ("mpii", "20 persons", "noise", "tiny", "32x48 px", "3 epochs by the paper's own", "bf16", "fp32", "dark")
    for said in (*wanted, "seeds number 0, 1"):
        assert said in text
    longer = dataclasses.replace(summary, epochs=5, machine="another CPU")
    together = measurements.describe(summary, others=(longer, summary))
    assert "3 epochs or 5 epochs in bf16 on some CPU or another CPU" in together
    assert measurements.seed_numbers((1,)) == "seed number 1"
    assert measurements.training(dataclasses.replace(summary, epochs=1)) == "1 epoch"


def test_trainings_of_rows_are_told_apart_from_those_of_networks():
    measured = pd.DataFrame({"training": ["own", "1 epoch", "1 epoch", np.nan], "seeds": [1, 2, 2, np.nan]})
    measured["dataset"] = ["coco", "coco", "mpii", "lsp"]
    of_rows = pd.Series([True, False, False, True])
    text = measurements.training_note(measured, of_rows)
    assert "of their own: own, 1 seed. Whole networks: 1 epoch, 2 seeds." in text
    longer = measured.assign(training=["own", "4 epochs", "2 epochs", np.nan])
    text = measurements.training_note(longer, of_rows)
    assert "Whole networks: 4 epochs, 2 seeds on coco; 2 epochs, 2 seeds on mpii." in text
    assert measurements.training_note(measured[1:], of_rows[1:]) == "", "no row was measured"
    unmeasured = measured.assign(training=np.nan, seeds=np.nan)
    assert measurements.training_note(unmeasured, of_rows) == "", "nothing was measured"
    assert measurements.training_note(measured.assign(training="1 epoch", seeds=3), of_rows) == "", "no difference"


@pytest.mark.parametrize(
    ("p", "cell"),
    [(0.04975, "0.0498"), (0.05, "0.0500"), (0.051, "0.051"), (0.0494, "0.049"), (1.0, "1.000"), (0.0001, "<0.001")],
)
def test_a_p_value_never_reads_as_the_threshold_that_it_is_below(p, cell):
    assert measurements.p_cell(p) == cell
