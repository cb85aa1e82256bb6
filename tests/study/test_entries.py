import pytest

from hpelib.study.entries import Entry, full_size

PARAMS = {
    "ablations": {
        "ditn": {"rows": {"resnet": {"options": {"backbone": "resnet50", "backbone_options": "simple_baseline"}}}},
        "daunet": {"rows": {"ibn": {"options": {"scru": False}}}},
    }
}


@pytest.mark.parametrize(("text", "entry"), [("ditn", Entry("ditn")), ("ditn:full", Entry("ditn", "full"))])
def test_an_entry_is_read_and_written_alike(text, entry):
    assert Entry.parse(text) == entry
    assert str(entry) == text


@pytest.mark.parametrize("text", ["", ":full", "ditn:", "ditn:full:1"])
def test_what_is_no_entry_is_refused_by_name(text):
    with pytest.raises(ValueError, match=f"'{text}' is neither network nor network:row"):
        Entry.parse(text)


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        ("hrnet", ("hrnet_w32", {})),
        ("simple_baseline_resnet152", ("simple_baseline_resnet152", {})),
        ("daunet:ibn", ("daunet_resnet50", {"scru": False})),
        ("ditn:resnet", ("ditn_w32", {"backbone": "resnet50", "backbone_options": {}})),
    ],
)
def test_the_full_size_of_an_entry_is_its_papers(entry, model):
    assert full_size(PARAMS, Entry.parse(entry)) == model
