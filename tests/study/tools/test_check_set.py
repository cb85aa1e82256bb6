import hashlib
from pathlib import Path

import pytest
import yaml

from hpelib.study.config import load_params
from hpelib.study.tools.check_set import count, describe_files, real_dataset

ROOT = Path(__file__).resolve().parents[3]
PARAMS = load_params(ROOT / "params.yaml")
KNOWN = yaml.safe_load((ROOT / "data/real_sets.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KNOWN)
def test_every_set_that_is_described_is_read_by_a_profile(name):
    dataset = real_dataset(PARAMS, name)
    assert dataset.root == Path("datasets") / name
    assert not any("merged" in files for files in dataset.splits.values())
    for key in KNOWN[name]["expect"]:
        split, _, what = key.rpartition("_")
        assert split in ("", *dataset.splits)
        assert what in ("persons", "images")


def test_mannequins_are_no_photographs(params):
    for entry in params["sets"].values():
        entry["source"] = "mannequins"
    with pytest.raises(ValueError, match="no profile reads photographs for 'coco'"):
        real_dataset(params, "coco")


def test_persons_and_pictures_are_counted(write_set):
    dataset = write_set("coco")  # five persons in four pictures to train on, two in one to validate
    found = count(dataset, {"train_persons": 5, "train_images": 4, "val_persons": 3, "persons": 10})
    assert found["found"].tolist() == [5, 4, 2, 10]
    assert (found["expected"] != found["found"]).tolist() == [False, False, True, False]


def test_files_have_the_size_and_hash_that_the_shell_gives(write_set):
    dataset = write_set("mpii")
    files = describe_files(dataset)
    assert len(files) == 6
    for path, row in files.iterrows():
        content = Path(path).read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
