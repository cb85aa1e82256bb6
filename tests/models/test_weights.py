"""Loading: whole checkpoints strictly, trunks whole or not at all, and every refusal explained."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from hpelib.models import create_model, weights
from hpelib.models.weights import load_trunk, load_weights, read_state_dict


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def filled(model, value):
    return {name: torch.full_like(tensor, value) for name, tensor in model.state_dict().items()}


def test_all_problems_are_named_and_nothing_is_loaded(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrong = filled(model, 2)
    wrong["0.weight"] = torch.zeros(5, 3, 1, 1)
    del wrong["1.bias"]
    wrong["head.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"unexpected: head\.weight; missing: 1\.bias") as error:
        load_weights(model, wrong)
    assert "0.weight (5, 3, 1, 1) instead of (4, 3, 1, 1)" in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "wrap", [dict, lambda w: {"state_dict": w, "epoch": 3}, lambda w: {f"module.{k}": v for k, v in w.items()}]
)
def test_training_wrappers_are_taken_off(model, wrap):
    load_weights(model, wrap(filled(model, 2)))
    assert all((tensor == 2).all() for tensor in model.state_dict().values())


def test_checkpoints_without_batch_counters_load(model):
    old = filled(model, 2)
    del old["1.num_batches_tracked"]
    load_weights(model, old)
    assert (model[0].weight == 2).all()


@pytest.mark.parametrize(("suffix", "save"), [(".safetensors", save_file), (".pth", torch.save)])
def test_files_of_both_kinds_are_read(model, tmp_path, suffix, save):
    path = tmp_path / f"weights{suffix}"
    save(filled(model, 3), path)
    load_weights(model, path)
    assert (model[0].weight == 3).all()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_cannot_run_code(tmp_path):
    torch.save({"weights": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth is broken, or holds more than weights"):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_broken_file_is_named(model, tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"
    for content in (b"", b"<html>404</html>", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"broken\{suffix} is broken"):
            load_weights(model, path)


def test_a_file_without_names_is_named(model, tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match=r"tensor\.pth holds a Tensor instead of weights by name"):
        load_weights(model, tmp_path / "tensor.pth")


def test_a_checkpoint_with_more_than_weights_is_named(model, tmp_path):
    torch.save({"epoch": 3, "model": filled(model, 2)}, tmp_path / "training.pth")
    with pytest.raises(ValueError, match=r"training\.pth holds more than weights by name: epoch, model"):
        load_weights(model, tmp_path / "training.pth")


def test_missing_file_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        load_weights(model, tmp_path / "absent.pth")


def test_a_trunk_is_filled_whole_or_not_at_all(model):
    source = filled(model, 2)
    source["0.weight"] = torch.zeros(5, 3, 1, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"them lacks 1 of the 2 .* of it, such as 0\.weight \(4, 3, 1, 1\).*\(5, 3"):
        load_trunk(model, source, ["0.weight", "1.bias"], "them", "it")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    load_trunk(model, source, ["1.bias"], "them", "it")
    assert (model[1].running_mean == 2).all()
    assert torch.equal(model[0].weight, before["0.weight"])


def test_a_wrapped_backbone_takes_the_weights_of_the_backbone(model):
    wrapper = nn.Module()
    wrapper.backbone = model
    load_weights(wrapper, filled(model, 4))
    assert (model[0].weight == 4).all()


def test_sources_are_adapted_by_the_network(model):
    model.adapt_pretrained = lambda source: {"0.weight": source["0.weight"][:4]}
    load_trunk(model, {"0.weight": torch.full((6, 3, 1, 1), 5.0)}, ["0.weight"], "them", "it")
    assert (model[0].weight == 5).all()


def test_pretrained_starts_from_a_file_or_from_timm(tmp_path, monkeypatch):
    name, narrow = "simple_baseline_resnet34", {"width": 8, "depths": (1, 1, 1, 1)}
    source = create_model(name, num_keypoints=3, **narrow)
    save_file(source.state_dict(), tmp_path / "trunk.safetensors")
    model = create_model(name, pretrained=str(tmp_path / "trunk.safetensors"), **narrow)
    assert torch.equal(model.layer4[0].conv1.weight, source.layer4[0].conv1.weight)

    asked, classifier = [], {key: t for key, t in source.state_dict().items() if not key.startswith("final_layer")}
    monkeypatch.setattr(weights, "imagenet_weights", lambda name: asked.append(name) or classifier)
    model = create_model(name, pretrained=True, **narrow)
    assert asked == ["resnet34.tv_in1k"]
    assert torch.equal(model.conv1.weight, source.conv1.weight)


def test_weights_that_hardly_fit_are_refused(tmp_path):
    """A file must fill the trunk as ImageNet weights would. Only the widths are smaller than in real files."""
    hrnet = {"modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "stem_width": 8}
    resnet = {"width": 8, "depths": (1, 1, 1, 1), "deconv_widths": (8, 8, 8)}
    hourglass = {"stacks": 1, "widths": (8, 8), "blocks": (1, 1)}

    def saved(name, **options):
        path = tmp_path / f"{name}.pth"
        weights_of = create_model(name, num_keypoints=16, **options).state_dict()
        torch.save({key: t for key, t in weights_of.items() if not key.endswith("num_batches_tracked")}, path)
        return str(path)  # as from an old PyTorch

    w32, w48 = saved("hrnet_w32", **hrnet, width=8), hrnet | {"width": 12}
    resnet34, resnet50 = saved("simple_baseline_resnet34", **resnet), saved("simple_baseline_resnet50", **resnet)
    resnet101 = saved("simple_baseline_resnet101", **(resnet | {"depths": (1, 1, 2, 1)}))
    stacked = saved("hourglass", **hourglass)
    for name, options, path in (
        ("hrnet_w48", w48, w32),
        ("de_hrnet_w48", w48, w32),
        ("ditn_w32", {"backbone_options": w48}, w32),
        ("hrnet_w32", hrnet | {"width": 8}, resnet50),
        ("simple_baseline_resnet50", resnet, resnet34),
        ("simple_baseline_resnet50", resnet, w32),
        ("daunet_resnet50", resnet | {"deconv_widths": None}, resnet34),
        ("hourglass", hourglass, resnet50),
        ("hourglass", hourglass | {"stacks": 2}, stacked),
        ("sadi_net", {}, resnet50),
    ):
        options = {key: value for key, value in options.items() if value is not None}
        with pytest.raises(ValueError, match=rf"{Path(path).name} lacks \d+ of the \d+ entries in the trunk of {name}"):
            create_model(name, pretrained=path, **options)
    with pytest.raises(ValueError, match=r"resnet101\.pth belongs to a deeper network.*layer3\.1\."):
        create_model("simple_baseline_resnet50", pretrained=resnet101, **resnet)
    for name, options, path, entry in (
        ("de_hrnet_w32", hrnet | {"width": 8}, w32, "stage4.0.branches.0.0.conv1.weight"),
        ("ditn_w32", {"backbone_options": hrnet | {"width": 8}}, w32, "backbone.layer1.0.conv1.weight"),
        ("fr_sbn_resnet34", resnet | {"deconv_widths": None}, resnet34, "layer4.0.conv2.weight"),
        ("hourglass", hourglass, stacked, "features.0.1.weight"),
    ):
        options = {key: value for key, value in options.items() if value is not None}
        model = create_model(name, pretrained=path, **options)  # 17 keypoints, the file has 16
        assert torch.equal(model.state_dict()[entry], read_state_dict(path)[entry.removeprefix("backbone.")])


def test_without_a_network_the_way_out_is_given(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(OSError, match=r"resnet34\.tv_in1k.*path of a state dict"):
        create_model("simple_baseline_resnet34", pretrained=True)


@pytest.fixture
def asked(monkeypatch):
    """Names of the ImageNet weights that were asked for; they have their entries, but on no memory."""
    names = []

    def entries(name):
        names.append(name)
        return timm.create_model(name.split(".")[0]).state_dict()

    monkeypatch.setattr(weights, "imagenet_weights", entries)
    with torch.device("meta"):
        yield names


@pytest.mark.parametrize(
    ("name", "options", "source"),
    [
        ("simple_baseline_resnet34", {}, "resnet34.tv_in1k"),
        ("hrnet_w32", {"modules": (1, 4)}, "hrnet_w32.ms_in1k"),
        ("de_hrnet_w48", {}, "hrnet_w48.ms_in1k"),
        ("de_hrnet_w32", {"dem": "off", "branch_gate": "se", "dysample_chained": True}, "hrnet_w32.ms_in1k"),
        ("fr_sbn_resnet34", {}, "resnet34.tv_in1k"),
        ("ditn_w32", {}, "hrnet_w32.ms_in1k"),
        ("ditn_w32", {"backbone": "resnet50"}, "resnet50.tv_in1k"),
        ("daunet_resnet50", {"strip_placement": "spnet", "pooled_shortcut": True}, "resnet50.tv_in1k"),
        ("daunet_resnet50", {"partial": "added", "level_block": "basic"}, "resnet50.tv_in1k"),
    ],
)
def test_the_trunk_starts_from_weights_of_its_own_kind(asked, name, options, source):
    """Whatever a paper adds within the trunk keeps its start."""
    create_model(name, pretrained=True, **options)
    assert asked == [source]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hrnet_w32", {"width": 48}, r"hrnet_w32\.ms_in1k lacks \d+ of the \d+ .* of hrnet_w32 with .*'width': 48"),
        ("simple_baseline_resnet50", {"encoder": "resnet34"}, r"resnet50\.tv_in1k lacks .*'encoder': 'resnet34'"),
        ("simple_baseline_resnet34", {"depths": (4, 4, 6, 3)}, r"lacks 10 of the .* such as layer1\.3\.conv1\.weight"),
        ("ditn_w32", {"backbone_options": {"blocks": 5}}, r"such as backbone\.stage2\.0\.branches\.0\.4\.conv1"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_a_trunk_that_the_weights_do_not_fill_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, pretrained=True, **options)


@pytest.mark.parametrize(
    ("name", "deep", "shallow"),
    [
        ("hrnet_w32", {"modules": (1, 2, 1)}, {"modules": (1, 1, 1)}),
        ("hrnet_w32", {"blocks": 2}, {"blocks": 1}),
        ("hourglass", {"stacks": 4}, {"stacks": 2}),
    ],
)
def test_weights_of_a_deeper_network_are_refused(name, deep, shallow, narrow_options, tmp_path):
    save_file(create_model(name, **narrow_options[name] | deep).state_dict(), tmp_path / "deep.safetensors")
    with pytest.raises(ValueError, match=r"deep\.safetensors belongs to a deeper network than .* it has "):
        create_model(name, pretrained=str(tmp_path / "deep.safetensors"), **narrow_options[name] | shallow)


@pytest.mark.parametrize("broken", [lambda t: t * float("nan"), lambda t: t.to(torch.int8)])
def test_weights_that_are_no_finite_numbers_are_named(model, tmp_path, broken):
    wrong = filled(model, 2)
    wrong["0.weight"] = broken(wrong["0.weight"])
    save_file(wrong, tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors holds weights that are no finite .*: 0\.weight"):
        load_weights(model, tmp_path / "broken.safetensors")
