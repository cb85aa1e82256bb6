"""What params.yaml may not look like is refused by its place, before a name in it is looked up."""

import copy
from pathlib import Path

import pytest
import yaml

from hpelib.study.structure import check_structure

PATH = Path(__file__).resolve().parents[2] / "params.yaml"
PARAMS = yaml.safe_load(PATH.read_text(encoding="utf-8"))


def quick(params: dict) -> dict:
    return params["profiles"]["quick"]


def test_the_studys_own_file_is_right():
    check_structure(PARAMS, PATH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: quick(params).update(threads="many"), r"profiles.quick.threads: .*'many'"),
        (lambda params: quick(params).update(threads=0), r"profiles.quick.threads: .*0"),
        (lambda params: quick(params)["paper_recipes"].update(dittn={}), "'dittn' has no ablations"),
        (lambda params: params.update(error_datasets=["cocoo"]), "error_datasets: 'cocoo' is not among"),
        (lambda params: params.update(seeds=[0, 0]), "seeds: .*0 stands there twice"),
        (lambda params: params.update(seeds=[]), "seeds: .*at least 1"),
        (lambda params: params.update(seeds=3), "seeds: .*list, got 3"),
        (lambda params: params.update(seeds=[-1]), r"seeds.0: .*-1"),
        (lambda params: params.update(networks=["hrnet", "hrnet"]), "networks: .*'hrnet' stands there twice"),
        (lambda params: params.update(networks=[]), "networks: .*at least 1"),
        (lambda params: params["sets"]["lsp"].update(root=5), "sets.lsp.root: .*string, got 5"),
        (lambda params: params["sets"]["lsp"].update(format="lspp"), "sets.lsp.format is none of coco"),
        (lambda params: params["profiles"].update({"my profile": {}}), "profiles.my profile"),
        (lambda params: params["profiles"].update({"../x": {}}), r"profiles.\.\./x"),
        (lambda params: params["profiles"].update(mine={"base": "hrnet-official"}), "a profile without a base"),
        (lambda params: params["profiles"].update(mine={"base": "none"}), "a profile without a base"),
        (lambda params: quick(params)["networks"].update({5: {}}), "profiles.quick.networks.5"),
        (lambda params: quick(params).update(datasets=None), "profiles.quick.datasets: .*None"),
        (lambda params: params["ablations"]["ditn"]["rows"].update({"a b": {}}), "ablations.ditn.rows.a b"),
        (lambda params: params.pop("control"), "control"),
    ],
)
def test_the_place_is_named(change, message):
    params = copy.deepcopy(PARAMS)
    change(params)
    with pytest.raises(ValueError, match=message):
        check_structure(params, PATH)


def test_a_file_that_is_no_mapping_is_refused():
    with pytest.raises(ValueError, match="the file: "):
        check_structure(["profile"], PATH)
