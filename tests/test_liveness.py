"""A frozen gate, a dead one and a kernel of one pixel are told from one that acts."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn

from hpelib.capture import altered
from hpelib.codecs import make_codec
from hpelib.liveness import ACTS, CONSTANT, OFF, _units, liveness
from hpelib.models import create_model
from hpelib.models.de_hrnet import SEGate
from hpelib.records import records
from hpelib.training.objectives import make_objective

GATE = {"gate": "cab"}  # the name of a look that is a gate


class Gated(nn.Module):
    """Shows factors for four channels, made of a picture by `gate`."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self, images, look=False):
        return images, {"cab": self.gate(images.mean(dim=(2, 3)))[..., None, None]}


def see(gate):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(20, 3, 4, 4, generator=generator) * torch.rand(20, 1, 1, 1) for _ in range(3)]
    return liveness(Gated(gate), batches, GATE).iloc[0]


def by_person(means):
    return torch.cat([means, means[:, :1]], 1)


def test_factors_that_follow_the_picture_act():
    found = see(by_person)
    assert (found.units, found.alive_share, found.state) == (4, 1.0, ACTS)
    assert found.person_share > 0.9


def test_a_gate_that_prefers_channels_alike_for_everybody_is_constant():
    found = see(lambda means: torch.tensor([0.1, 0.4, 0.6, 0.9]) + 0.01 * by_person(means))
    assert found.state == CONSTANT
    assert 0 < found.person_share < 0.01


def test_a_dead_gate_is_constant():
    found = see(lambda means: torch.full((len(means), 4), 0.5))
    assert (found.alive_share, found.person_share, found.state) == (0.0, 0.0, CONSTANT)


@pytest.mark.parametrize("height", [4, 32])
def test_shares_of_a_column_are_judged_on_one_scale_whatever_its_height(height):
    uneven = 1 + 0.05 * torch.randn(50, 3, height, 4, generator=torch.Generator().manual_seed(0))
    values = _units(uneven / height, "columns")
    assert values.shape == (50, 3, height * 4)
    assert values.std().item() == pytest.approx(0.05, rel=0.1)


def test_shares_are_those_of_a_plain_calculation():
    batches = [torch.rand(5, 3, 4, 4), torch.rand(3, 3, 4, 4)]
    values = torch.cat([batch.mean(dim=(2, 3)) for batch in batches])[:, [0, 1, 2, 0]]
    found = liveness(Gated(by_person), batches, GATE).iloc[0]
    expected = values.var(dim=0, correction=0).mean() / values.var(correction=0)
    assert found.person_share == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(("side", "is_off"), [(64, True), (96, True), (128, False)])
def test_ditns_kernels_are_off_up_to_96_px(side, is_off, narrow_options):
    torch.manual_seed(0)
    network = create_model("ditn_w32", num_keypoints=17, **narrow_options["ditn_w32"])
    for module in network.bone_decoder.modules():  # bones start near zero, and kernels are made of them
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    pictures = torch.rand(6, 3, side, side) * torch.rand(6, 3, 1, 1)
    found = liveness(network, [pictures], records()["ditn"].mechanisms).set_index("mechanism")
    assert (found.loc["dynamic_kernels", "state"] == OFF) == is_off


def test_every_mechanism_of_a_record_is_shown_by_its_network(narrow_options):
    switched = {"branch_gate": {"dem": "off", "branch_gate": "se"}}
    for record in records().values():
        for mechanism in record.mechanisms:
            options = narrow_options[record.full_size] | switched.get(mechanism, {})
            network = create_model(record.full_size, num_keypoints=17, **options)
            found = liveness(network, [torch.rand(2, 3, 64, 64)], record.mechanisms)
            assert mechanism in found["mechanism"].tolist(), mechanism


def test_a_baseline_has_no_mechanisms(narrow_options):
    network = create_model("hourglass", num_keypoints=17, **narrow_options["hourglass"])
    assert liveness(network, [torch.rand(2, 3, 64, 64)], records()["hourglass"].mechanisms).empty


def coloured_persons(n, seed):
    """A batch of persons who differ in pose, size and contrast; each of 17 keypoints is a spot of its own colour."""
    generator, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(3)
    pose, colors = 48 * torch.rand(17, 2, generator=fixed) - 24, 2 * torch.rand(17, 3, generator=fixed) - 1
    size, contrast = (torch.rand(n, 1, 1, generator=generator) for _ in range(2))
    keypoints = 32 + (0.2 + 0.8 * size) * (pose + 3 * torch.randn(n, 17, 2, generator=generator))
    keypoints = keypoints.clamp(1, 62)
    pixels = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(64), indexing="xy"), dim=-1)
    spots = torch.exp(-(pixels - keypoints[:, :, None, None]).square().sum(-1) / 8)  # (n, 17, 64, 64)
    images = (0.3 + 2 * contrast[..., None]) * torch.einsum("nkhw,kc->nchw", spots, colors)
    images = images + 0.05 * torch.randn(n, 3, 64, 64, generator=generator)
    return {"images": images, "keypoints": keypoints, "visible": torch.full((n, 17), 2)}


def train_shortly(name, narrow_options):
    torch.manual_seed(0)
    options = {key: value for key, value in narrow_options[records()[name].full_size].items() if key != "bones"}
    network = create_model(records()[name].full_size, num_keypoints=17, **options).train()
    side = 64 if name == "fr_sbn" else 16
    loss = {"sadi_net": "distribution", "ditn": "transfer"}.get(name, "mse")
    objective = make_objective(loss, make_codec("dark", (64, 64), (side, side), sigma=side / 16))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for step in range(60):
        batch = coloured_persons(8, step)
        optimizer.zero_grad()
        objective(network(batch["images"]), batch).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("name", [name for name, record in records().items() if record.mechanisms])
def test_after_a_short_training_nothing_is_dead_that_should_act(name, narrow_options):
    network, mechanisms = train_shortly(name, narrow_options), records()[name].mechanisms
    seen = [coloured_persons(20, seed)["images"] for seed in (1000, 1001)]
    found = liveness(network, seen, mechanisms).set_index("mechanism")
    assert (found.drop("dynamic_kernels", errors="ignore")["state"] == ACTS).all(), f"\n{found}"
    if name == "ditn":
        assert found.loc["dynamic_kernels", "state"] == OFF
    if name == "de_hrnet":
        with ExitStack() as stack:
            for module in network.modules():
                if isinstance(module, SEGate):
                    stack.enter_context(altered(module, lambda weights: weights[:1].expand_as(weights)))
            frozen = liveness(network, [seen[0]], mechanisms).set_index("mechanism")
        assert frozen.loc["dem_gate", "state"] == CONSTANT, "every person has the first one's weights"
