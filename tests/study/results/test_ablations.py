from pathlib import Path

import numpy as np
import pytest

from hpelib.metrics.statistics import NOT_RUN, NOT_TESTABLE, OPPOSITE, SEEN, holm
from hpelib.study.config import load_params
from hpelib.study.results import ablations
from hpelib.study.results.comparisons import ONE_SEED, Study

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rows(study, params):
    """`rows(flat, full)` are the measured rows of an ablation whose first row is `none`."""
    study("hourglass", "mpii", [50, 50])  # the parameters of a study with an ablation
    of = {"none": {"options": {"widths": [4, 4]}}} | params["ablations"]["hourglass"]["rows"]
    params["ablations"]["hourglass"]["rows"] = of

    def measured(**values):
        for row, figures in values.items():
            study(f"hourglass:{row}", "mpii", figures)
        return ablations.measure(Study(params)).set_index("row")

    return measured


def test_every_row_is_compared_with_the_first_of_its_paper(rows, params):
    found = rows(none=[50, 50.1], flat=[40, 40.1], full=[90, 90.1])
    assert found.index.tolist() == ["none", "flat", "full"]
    assert found["value"].tolist() == pytest.approx([50.05, 40.05, 90.05])
    assert found["seeds"].tolist() == [2, 2, 2]
    assert np.isnan(found.loc["none", "ours"])
    expected = Study(params).compare("hourglass:full", "hourglass:none", "mpii", "PCKh@0.5")
    assert found.loc["full", "ours"] == 40
    assert found.loc["full", ["low", "high"]].tolist() == pytest.approx([expected["low"], expected["high"]])
    assert found["p_holm"].tolist()[1:] == pytest.approx(holm(found["p"].tolist()[1:]))
    assert found["verdict"].tolist()[1:] == [OPPOSITE, SEEN]
    cells = ablations.table(found.reset_index()).set_index("row")
    assert cells.loc["none", "gain over the reference"] == ""
    assert cells.loc["full", "gain over the reference"].startswith("+40.0 [+")
    assert "hourglass:full on mpii (+40.0)" in ablations.answer(found.reset_index())
    dots = ablations.points(Study(params), found.reset_index())
    assert dots.loc[dots["row"] == "flat", "value"].tolist() == [40, 40.1]


def test_rows_with_another_backbone_are_compared_with_the_first_of_their_own():
    assert ablations.families(load_params(ROOT / "params.yaml"), "ditn") == [
        ["baseline", "focal", "multi_task", "ditm", "cab", "sab", "full"],
        ["resnet", "resnet_mse", "resnet_focal", "resnet_lambda_0_05", "resnet_lambda_0_15"],
    ]


def test_all_parts_together_are_told_with_their_interval(rows):
    found = rows(none=[50, 50.1], flat=[40, 40.1], full=[90, 90.1]).reset_index()
    params = {"ablations": {"hourglass": {"rows": {"none": {"options": {"widths": [4]}}}}}}
    told = ablations.whole(params, found)
    assert told.startswith("All parts together against none of them, in the ablation: +40.0 [+")
    assert told.endswith("] PCKh@0.5 on mpii (2 seeds).")
    assert ablations.whole(params, found.assign(low=np.nan)).endswith(": +40.0 PCKh@0.5 on mpii (2 seeds).")
    assert ablations.whole(params, found.assign(ours=np.nan)) == ""
    params["ablations"]["hourglass"]["rows"]["none"]["recipe"] = {"loss": "mse"}  # another loss is no part
    assert ablations.whole(params, found).endswith("(2 seeds). The row with none of them also has: `loss` is `mse`.")


def test_rows_of_one_seed_and_rows_that_were_not_run_have_no_verdict(rows):
    found = rows(none=[50], flat=[40])
    assert (found.loc["flat", "verdict"], found.loc["flat", "reason"]) == (NOT_TESTABLE, ONE_SEED)
    assert found.loc["full", "verdict"] == NOT_RUN
    cells = ablations.table(found.reset_index()).set_index("row")
    assert cells.loc["flat", "gain over the reference"] == "-10.0", "without an interval"
    assert cells.loc["full", "figure"].startswith(NOT_RUN)
    assert "none can be tested here: 1 cannot be tested and 1 were not run" in ablations.answer(found.reset_index())


def test_what_a_row_switches_is_said_in_words():
    changes = {"options": {"sfm": False, "detached": True, "dem": "off", "gate": "se"}, "inputs": {"sigma": None}}
    words = ablations.switches({"ablations": {"a": {"rows": {"some": changes, "full": {}}}}}, "a")
    assert words["some"] == "without `sfm`, with `detached`, without `dem`, `gate` is `se`, `sigma` by default"
    assert words["full"] == "the full network"


def test_rows_that_were_not_run_are_a_list_with_links_to_profiles_that_ran_them(study, params, tmp_path):
    params["profiles"] |= {"other": params["profiles"]["tiny"], "empty": params["profiles"]["tiny"]}
    for name, value in {"other": "50.5", "empty": "", "tiny": "1"}.items():
        folder = tmp_path / "reports" / name / "ablations"
        folder.mkdir(parents=True)
        (folder / "ablations.csv").write_text(f"paper,row,value\nhourglass,flat,{value}\nditn,full,3\n")
    text = ablations.not_run(params, "hourglass")
    assert text.startswith("Not run under this profile.")
    assert "- `flat`: `widths` is `[8, 4]`\n" in text
    assert "(../../../other/ablations/ablations.ipynb)" in text
    assert text.count("ablations.ipynb") == 1, "one profile has rows of this paper"
