"""A frozen gate, a dead one and a kernel of one pixel are told from one that acts."""

import pytest
import torch
from torch import nn

from hpelib.liveness import ACTS, CONSTANT, OFF, liveness
from hpelib.models import create_model
from hpelib.records import records

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
