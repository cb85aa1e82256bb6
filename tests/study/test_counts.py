import numpy as np
import pandas as pd
import pytest

from hpelib.study.counts import COUNTS, ENTRY, PART, read_counts, read_printed, write_counts

ROW = {
    "paper": "Anon.",
    "table": "Table 1",
    "row": "ours",
    "kind": "printed",
    "model": "simple_baseline_resnet34",
    "options": '{"width": 8}',
    "module": "all",
    "keypoints": "17",
    "input_width": "64",
    "input_height": "96",
    "printed_params_M": "0.1",
    "printed_gflops": "0.5",
    "printed_unit": "MACs / 1e9",
    "note": "",
}


@pytest.fixture
def write_table(tmp_path):
    def write(*changes):
        pd.DataFrame([ROW | change for change in changes]).to_csv(tmp_path / "sizes.csv", index=False)
        return tmp_path / "sizes.csv"

    return write


def test_a_row_is_read_with_its_input_and_what_is_not_printed_stays_unknown(write_table):
    table = read_printed(write_table({}, {"row": "None", "printed_gflops": "", "printed_unit": ""}))
    assert table["input"].tolist() == ["96x64"] * 2
    assert table["row"].tolist() == ["ours", "None"]
    assert table["note"].tolist() == table["printed_unit"].tolist()[1:] * 2 == ["", ""]
    np.testing.assert_array_equal(table["printed_gflops"], [0.5, np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gflops": "8.9"}, "unknown or missing columns gflops"),
        ({"options": "{width: 8}"}, r"line 3 \(Anon\., ours\): options '{width: 8}' are no JSON object"),
        ({"options": "[8]"}, r"line 3 .*'\[8\]' are no JSON object"),
        ({"kind": "guess"}, "line 3 .*kind='guess' is none of 'printed', 'reading'"),
        ({"printed_unit": "FLOPs"}, "line 3 .*printed_unit='FLOPs' is none of 'MACs / 1e9'"),
        ({"printed_gflops": ""}, "line 3 .*printed_unit='MACs / 1e9' is none of ''"),
    ],
)
def test_bad_tables_are_refused_by_name(write_table, change, message):
    with pytest.raises(ValueError, match=message):
        read_printed(write_table({}, change))


def test_missing_columns_are_named(write_table):
    path = write_table({})
    pd.read_csv(path).drop(columns="options").to_csv(path, index=False)
    with pytest.raises(ValueError, match="missing columns options"):
        read_printed(path)


def test_counts_are_read_as_they_were_written_to_the_last_bit(tmp_path):
    counts = pd.DataFrame(np.random.default_rng(0).uniform(0, 100, (200, 3)), columns=COUNTS)
    counts["entry"], counts["dataset"], counts["input"] = "ditn:full", "coco", "256x192"
    counts["model"], counts["options"], counts["module"] = "ditn_w32", "{}", "all"
    counts["keypoints"] = np.arange(200)
    counts.loc[7, ["entry", "dataset", "legacy GFLOPs"]] = "", "", np.nan  # of a part of a network
    counts = counts[[*dict.fromkeys([*ENTRY, *PART, *COUNTS])]]
    write_counts(counts.assign(other=1), tmp_path / "new" / "counts.csv")
    pd.testing.assert_frame_equal(read_counts(tmp_path / "new" / "counts.csv"), counts, check_exact=True)


def test_without_counts_the_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"counts.csv not found; run: dvc repro count"):
        read_counts(tmp_path / "counts.csv")
