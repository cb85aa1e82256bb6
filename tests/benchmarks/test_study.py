from benchmarks.study import last_run

LOG = """stage,start_s,end_s
train@coco-hrnet-0,100.0,160.0
train_extra@lsp-hrnet-0,100.0,140.0
report,160.0,220.0
train@coco-hrnet-1,140.0,200.0
"""


def test_stages_are_added_up_by_kind(tmp_path):
    (tmp_path / "study.csv").write_text(LOG)
    said, table = last_run(tmp_path / "study.csv")
    assert "4 stages in 2.0 minutes, 1.83 at a time" in said
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert rows == [
        ["train", "3", "60 (50 to 60)", "2.7", "72.7 %"],
        ["report", "1", "60 (60 to 60)", "1.0", "27.3 %"],
    ]


def test_without_a_study_it_is_said_how_to_get_one(tmp_path):
    said, table = last_run(tmp_path / "study.csv")
    assert "make study" in said
    assert table == ""
