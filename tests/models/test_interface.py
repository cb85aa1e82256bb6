"""What every network in `list_models()` must do, tried on narrow variants, and its size in full."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from hpelib.codecs import make_codec
from hpelib.models import create_model, list_models, load_weights
from hpelib.study.ablations import ablation_runs
from hpelib.training.objectives import make_objective

# parameters of the full networks with 17 keypoints, and their stride
FULL = {
    "simple_baseline_resnet34": (25_484_881, 4),
    "simple_baseline_resnet50": (33_999_697, 4),
    "simple_baseline_resnet101": (52_991_825, 4),
    "simple_baseline_resnet152": (68_635_473, 4),
    "hourglass": (25_598_472, 4),
    "hrnet_w32": (28_536_113, 4),
    "hrnet_w48": (63_595_745, 4),
    "de_hrnet_w32": (33_573_809, 4),
    "de_hrnet_w48": (74_827_873, 4),
    "ditn_w32": (28_585_833, 4),
    "fr_sbn_resnet34": (31_192_165, 1),
    "fr_sbn_resnet50": (46_970_965, 1),
    "fr_sbn_resnet101": (65_963_093, 1),
    "fr_sbn_resnet152": (81_606_741, 1),
    "daunet_resnet50": (38_715_457, 4),
    "sadi_net": (75_326_897, 4),
}
FAMILIES = [name for name in FULL if not name.endswith(("50", "101", "152", "w48"))] + ["daunet_resnet50"]
LOSSES = {"sadi_net": "distribution", "ditn_w32": "transfer"}
WIDER = {  # to learn by heart; the others can do it as narrow as they are
    "fr_sbn_resnet34": {"decoder_widths": (16, 16, 16, 16, 16), "fused_width": 16},
    "sadi_net": {"stacks": 1, "widths": (16, 24, 32), "stem_width": 16},
}
SIZE = (64, 64)  # (H, W)
ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
ROWS = [(paper, row) for paper, ablation in PARAMS["ablations"].items() for row in ablation["rows"]]

one_of_each = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(params=[*FAMILIES, "simple_baseline_resnet50", "fr_sbn_resnet50"])  # narrow, the others are like these
def name(request):
    return request.param


@pytest.fixture
def model(name, narrow_options):
    """A narrow network whose layers that start near zero have left their start, so that all parts matter."""
    torch.manual_seed(0)
    model = create_model(name, num_keypoints=5, **narrow_options[name])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01 * torch.randn_like(p))
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def tensors(output):
    """All tensors of a training output, lists opened."""
    values = [t for value in output.values() for t in (value if isinstance(value, list) else [value])]
    return [t for t in values if isinstance(t, torch.Tensor)]


def test_all_networks_are_tried():
    assert set(FULL) == set(list_models())


def test_heatmaps_have_the_stated_shape(name, model, images):
    stride = FULL[name][1]
    shape = (2, 5, SIZE[0] // stride, SIZE[1] // stride)
    assert model(images)["heatmaps"].shape == shape
    assert model.eval()(images).shape == shape


def test_every_parameter_learns(model, images):
    sum(t.square().sum() + t.sum() for t in tensors(model(images))).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # a bias in front of a batch norm has zero gradient up to rounding, a gate may be closed on two pictures
    assert sum(float(p.grad.abs().sum()) > 0 for p in model.parameters()) > 0.9 * len(list(model.parameters()))


def test_looking_changes_nothing(model, images):
    other = copy.deepcopy(model)
    for network in (model, other):
        torch.manual_seed(0)  # of dropout
        network(images, look=network is other)
    assert all(torch.equal(t, other.state_dict()[key]) for key, t in model.state_dict().items())
    model.eval()
    heatmaps, looks = model(images, look=True)
    assert torch.equal(heatmaps, model(images))
    assert looks
    assert all(isinstance(look, torch.Tensor) and look.isfinite().all() for look in looks.values())


def test_training_and_eval_agree(model, images):
    expected = model.eval()(images)
    model.training = True  # of the network alone, so that batch norms keep their statistics
    torch.testing.assert_close(model(images)["heatmaps"], expected)


def test_people_do_not_influence_each_other(model, images):
    model(images)  # moves the running statistics off their start
    model.eval()
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_odd_sizes_are_refused_with_one_that_works(model):
    with pytest.raises(ValueError, match=r"60x67 px.*try 64x64"):
        model(torch.zeros(1, 3, 67, 60))


@one_of_each
def test_half_precision_gives_nearly_the_same_heatmaps(model, images):
    expected = model.eval()(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images)
    assert expected.dtype == torch.float32
    assert (half.float() - expected).norm() < 0.1 * expected.norm()


@one_of_each
def test_saved_loaded_and_exported_networks_give_the_same_heatmaps(name, model, images, narrow_options, tmp_path):
    model(images)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = create_model(name, num_keypoints=5, **narrow_options[name])
    load_weights(other, tmp_path / "model.safetensors")
    expected = model.eval()(images)
    assert torch.equal(expected, other.eval()(images))
    torch.export.save(torch.export.export(other, (images,)), tmp_path / "model.pt2")
    exported = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(exported(images), expected)


@one_of_each
def test_checkpoints_that_do_not_fit_are_explained(model):
    wrong = dict(model.state_dict())
    lost = next(iter(wrong))
    wrong["head.weight"] = wrong.pop(lost)
    with pytest.raises(ValueError, match=rf"unexpected: head\.weight; missing: {lost}"):
        load_weights(model, wrong)


@one_of_each
def test_compiled_networks_give_what_their_loss_reads(name, model, images):
    """In training, traced into one graph, which "eager" runs without generating code."""
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.manual_seed(0)  # of dropout
    expected = model(images)
    torch.manual_seed(0)
    output = compiled(images)
    assert output.keys() == expected.keys()
    torch.testing.assert_close(tensors(output), tensors(expected))
    assert output.get("base_density") == expected.get("base_density")


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler")
def test_generated_code_gives_the_same_heatmaps(images, narrow_options):
    """One network stands for all: compiling the code of a paper's takes half a minute to a whole one."""
    torch.manual_seed(0)
    name = "simple_baseline_resnet34"
    model = create_model(name, num_keypoints=5, **narrow_options[name]).eval()
    torch.testing.assert_close(torch.compile(model)(images), model(images))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("simple_baseline_resnet34", "hrnet_w32")])
def test_learns_eight_pictures_by_heart(name, narrow_options):
    """Dots in the colours of five keypoints, found again within a tenth of the picture."""
    random = torch.Generator().manual_seed(0)
    keypoints = 8 + 48 * torch.rand(8, 5, 2, generator=random)  # crop px
    visible, colours = torch.full((8, 5), 2), torch.randn(5, 3, generator=random)
    dots, _ = make_codec("dark", SIZE, SIZE, sigma=3.0).encode(keypoints, visible)  # (8, 5, 64, 64)
    pictures = torch.einsum("nkhw,kc->nchw", dots, colours)

    torch.manual_seed(0)
    model = create_model(name, num_keypoints=5, **narrow_options[name] | WIDER.get(name, {}))
    stride = FULL[name][1]
    codec = make_codec("dark", SIZE, (SIZE[0] // stride, SIZE[1] // stride), sigma=4.0 / stride)
    objective = make_objective(LOSSES.get(name, "mse"), codec)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.007)
    batch = {"keypoints": keypoints, "visible": visible}
    for _ in range({"sadi_net": 120, "daunet_resnet50": 150}.get(name, 100)):
        optimizer.zero_grad()
        objective(model(pictures), batch).backward()
        optimizer.step()
    found, _ = codec.decode(model.eval()(pictures))
    distances_px = (found - keypoints).norm(dim=-1)
    assert (distances_px < 0.1 * SIZE[0]).float().mean() > 0.95


@pytest.mark.parametrize(("paper", "row"), ROWS)
def test_heatmaps_of_every_ablation_start_near_zero(paper, row):
    """A row whose heatmaps start large spends its few epochs on that, and its score says nothing of its modules."""
    run = ablation_runs(PARAMS | {"profile": "quick"}, paper, 0)[row]
    torch.manual_seed(0)
    output = create_model(run.model, **run.options)(torch.randn(8, 3, *SIZE))
    for name in output.keys() & {"heatmaps", "bones"}:
        assert output[name].std() < 0.2, name


@pytest.mark.parametrize("full_name", FULL)
def test_full_networks_have_the_stated_size(full_name):
    parameters, stride = FULL[full_name]
    with torch.device("meta"):
        model = create_model(full_name).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    if full_name not in FAMILIES:
        return
    for H, W in ((384, 288), (256, 256)):
        images = torch.empty(1, 3, H, W, device="meta")
        if full_name == "hourglass" and W == 288:  # five levels halve a quarter four times
            with pytest.raises(ValueError, match=r"288x384 px.*multiples of 64; try 256x384"):
                model(images)
        else:
            assert model(images).shape == (1, 17, H // stride, W // stride)


def test_unknown_names_and_options_are_explained(narrow_options):
    with pytest.raises(ValueError, match="hrnet_w32"):
        create_model("hrnet_w23")
    with pytest.raises(ValueError, match=r"hrnet_w32 has no option stacks.*width.*blocks"):
        create_model("hrnet_w32", stacks=2)
    with pytest.raises(ValueError, match="no ImageNet weights for hourglass"):
        create_model("hourglass", pretrained=True, **narrow_options["hourglass"])


def run_python(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_records_are_read_without_torch():
    code = "import sys; from hpelib.records import presets; print(len(presets()), 'torch' in sys.modules)"
    assert run_python(code, ROOT).split() == [str(len(FULL)), "False"]


MY_NET = '''
from timm.layers import ConvNormAct
from torch import Tensor, nn

from hpelib.layers.heatmap_head import heatmap_head
from hpelib.layers.sizes import require_multiple


class MyNet(nn.Module):
    """Three convolutions and a heatmap layer. Looks: `my_features` (N, C, H/4, W/4)."""

    def __init__(self, num_keypoints: int = 17, width: int = 32):
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(3, width, 7, stride=2), ConvNormAct(width, width, 7, stride=2), ConvNormAct(width, width, 7)
        )
        self.final_layer = heatmap_head(width, num_keypoints)

    def forward(self, images: Tensor, look: bool = False):
        require_multiple(images, 4)
        features = self.body(images)
        heatmaps = self.final_layer(features)
        output = {"heatmaps": heatmaps} if self.training else heatmaps
        return (output, {"my_features": features}) if look else output
'''
MY_RECORD = """
name: my_net
cls: MyNet
presets: {my_net: {}}
baseline: hrnet
color: "#8B4513"
marker: h
"""
USE_MY_NET = """
import torch
from hpelib.capture import capture
from hpelib.figures.style import series_styles
from hpelib.metrics import complexity
from hpelib.models import create_model, list_models
from hpelib.records import quantity, records

record = records()["my_net"]
torch.save(create_model("my_net", num_keypoints=16, width=8).state_dict(), "mine.pth")
model = create_model("my_net", num_keypoints=5, pretrained="mine.pth", width=8)
seen = capture(model, torch.zeros(2, 3, 64, 96))
print("my_net" == list_models()[-1] == record.title == record.short == record.full_size, record.compared)
print(complexity(model, (96, 64)).params, seen["heatmaps"].shape, seen["my_features"].shape)
print(quantity("my_features").kind, series_styles(["hrnet", "my_net"])["my_net"]["marker"])
"""


def test_a_network_is_added_with_two_files(tmp_path):
    shutil.copytree(ROOT / "hpelib", tmp_path / "hpelib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "hpelib/models/my_net.py").write_text(MY_NET, encoding="utf-8")
    (tmp_path / "hpelib/records/my_net.yaml").write_text(MY_RECORD, encoding="utf-8")
    parameters = 3 * 8 * 49 + 2 * 8 * 8 * 49 + 3 * 2 * 8 + 8 * 5 + 5
    assert run_python(USE_MY_NET, tmp_path).splitlines() == [
        "True ['hrnet', 'my_net']",
        f"{parameters} torch.Size([2, 5, 16, 24]) torch.Size([2, 8, 16, 24])",
        "features h",
    ]


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("daunet_resnet50", {"sge": "no"}, "daunet_resnet50: sge must be a valid boolean, got 'no'"),
        ("sadi_net", {"rfm": 0}, "rfm must be a valid boolean, got 0"),
        ("hourglass", {"stacks": 2.0}, r"stacks must be a whole number, got 2\.0"),
        ("hourglass", {"widths": [8, "8"]}, r"widths\[1\] must be a whole number, got '8'"),
        ("hourglass", {"stacks": 0}, "hourglass: stacks must be greater than or equal to 1, got 0"),
        ("hrnet_w32", {"blocks": -1}, "hrnet_w32: blocks must be greater than or equal to 1, got -1"),
        ("daunet_resnet50", {"tail_blocks": -1}, "tail_blocks must be greater than or equal to 0, got -1"),
        ("ditn_w32", {"backbone_options": {"blocks": True}}, "backbone_options of hrnet: blocks must be .*got True"),
        ("ditn_w32", {"backbone_options": {"widht": 8}}, "backbone_options of hrnet has no option widht; .*width"),
    ],
)
def test_an_option_of_another_type_is_named(name, option, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **option)
