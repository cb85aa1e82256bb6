import numpy as np
import pandas as pd
import pytest

from hpelib.study.entries import COUNTS, ENTRY, FIGURES, counted_size, full_size, read_counts, read_table

NETWORKS = {"wide": {"model": "hrnet_w32"}, "wide_384": {"base": "wide", "model": "hrnet_w48"}}
PARAMS = {
    "profiles": {"large": {"networks": NETWORKS}},
    "ablations": {
        "ditn": {"rows": {"resnet": {"options": {"backbone": "resnet50", "backbone_options": "simple_baseline"}}}},
        "daunet": {"rows": {"ibn": {"options": {"scru": False}}}},
    },
}


@pytest.mark.parametrize("text", [":", ":full", "ditn:", "ditn:full:1"])
def test_what_is_no_entry_is_refused_by_name(text, tmp_path):
    pd.DataFrame({"better": ["", "ditn", "ditn:full"], "worse": ["ditn", text, "ditn"]}).to_csv(tmp_path / "claims.csv")
    with pytest.raises(ValueError, match=f"claims.csv: entry '{text}' is neither network nor network:row"):
        read_table(tmp_path / "claims.csv")


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        ("hrnet", ("hrnet_w32", {})),
        ("simple_baseline_resnet152", ("simple_baseline_resnet152", {})),
        ("wide_384", ("hrnet_w48", {})),
        ("daunet:ibn", ("daunet_resnet50", {"scru": False})),
        ("ditn:resnet", ("ditn_w32", {"backbone": "resnet50", "backbone_options": {}})),
    ],
)
def test_the_full_size_of_an_entry_is_its_papers(entry, model):
    assert full_size(PARAMS, entry) == model


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


def test_sizes_are_looked_up_by_entry_dataset_and_input():
    counts = pd.DataFrame(
        [("ditn", "mpii", "256x256", 1.5, 2.5, 3.5), ("ditn:full", "mpii", "256x256", 10.0, 20.0, 30.0)],
        columns=[*ENTRY, *COUNTS],
    )
    assert list(counted_size(counts, "ditn", "mpii", "256x256").values()) == [1.5, 2.5, 3.5]
    assert list(counted_size(counts, "ditn:full", "mpii", "256x256").values()) == [10, 20, 30]
    with pytest.raises(ValueError, match="no size was counted of ditn:full, mpii, 64x64; run: dvc repro count"):
        counted_size(counts, "ditn:full", "mpii", "64x64")
