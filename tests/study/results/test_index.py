import re

import pandas as pd
import pytest

from hpelib.study.results.index import index


@pytest.fixture
def page(study, params, tmp_path):
    """`page()` is the index of a study of one network on one dataset."""
    study("hourglass", "mpii", [50, 60])
    study("hourglass", "mpii", [3.21], labels="shuffled")
    params |= {"datasets": ["mpii"], "networks": ["hourglass"], "error_datasets": [], "ablations": {"ditn": {}}}
    folder = tmp_path / "reports/tiny"
    (folder / "claims").mkdir(parents=True)
    claim = dict.fromkeys(("id", "source", "claim", "input", "difference", "unit", "needs"), "")
    claim |= {"paper": "ditn", "kind": "claim", "better": "ditn", "worse": "hrnet", "dataset": "mpii", "claimed": 0.5}
    claim |= {"metric": "PCKh@0.5", "verdict": "seen", "reason": "", "detectable": 1.04, "seeds": 2}
    claim |= {"id": "ditn-01", "measurement": "ditn-01"}
    pd.DataFrame([claim]).to_csv(folder / "claims/claims.csv", index=False)
    return lambda: index(params, folder)


def test_the_index_shows_results_order_control_and_claims(page):
    text = page()
    assert "\n## mpii\n" in text
    assert re.search(r"\| hourglass +\| 55\.0 ± 7\.1", text)
    assert "The order of networks is the same under all 2 seeds: hourglass." in text
    assert re.search(r"\| shuffled labels +\| 3\.2", text)
    assert re.search(r"\| mean pose +\| 5\.0", text)
    first_screen = text[: text.index("\n## ")].splitlines()[:20]
    assert any("1 seen" in line for line in first_screen), "the question is answered at once"
    assert "[DITN](networks/ditn/ditn.ipynb)" in text
    assert not re.search(r"\{[{%]|%\}", text)
    assert "not comparable to any paper's figures" not in text, "that is about the quick profile"


def test_the_index_of_a_study_that_is_half_done_names_what_is_missing(page, params):
    assert "Not run yet" not in page()
    params["datasets"] = ["mpii", "coco"]
    text = page()
    assert re.search(r"\*\*Not run yet\*\* under this profile: coco\.", text)
    assert "\n## mpii\n" in text
    assert "\n## coco\n" not in text


def test_the_index_links_only_to_what_is_there(page, params, tmp_path):
    assert "mpii/data/contact_sheet.png" not in page(), "photographs stay where they were made"
    assert "mpii/errors/errors.ipynb" not in page()
    params["error_datasets"] = ["mpii"]
    assert "mpii/errors/errors.ipynb" in page()
    photographs = tmp_path / "reports/tiny/lspet/tables/tables.ipynb"
    assert "lspet" not in page()
    photographs.parent.mkdir(parents=True)
    photographs.write_text("")
    assert "(lspet/tables/tables.ipynb)" in page()


def test_one_seed_is_said_to_give_no_verdict(page, params):
    assert "One seed gives no verdict" not in page()
    params["seeds"] = [0]
    assert "One seed gives no verdict" in page()
