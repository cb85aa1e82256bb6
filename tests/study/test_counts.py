import numpy as np
import pandas as pd
import pytest

from hpelib.study.entries import COUNTS, ENTRY, FIGURES, read_counts


def test_counts_are_read_as_they_were_written_to_the_last_bit(tmp_path):
    counts = pd.DataFrame(np.random.default_rng(0).uniform(0, 100, (200, len(FIGURES))), columns=FIGURES)
    counts[[*ENTRY, "row"]] = "", "", "256x192", "None"
    counts.loc[:99, [*ENTRY, "row"]] = "ditn:full", "coco", "256x192", ""
    counts.loc[7, COUNTS[-1]] = np.nan  # of a part of a network
    counts.to_csv(tmp_path / "counts.csv", index=False)
    pd.testing.assert_frame_equal(read_counts(tmp_path / "counts.csv"), counts, check_exact=True)


def test_without_counts_the_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"counts.csv not found; run: dvc repro count"):
        read_counts(tmp_path / "counts.csv")
