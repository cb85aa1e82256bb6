import numpy as np
import pytest
import torch

from hpelib.models import create_model
from hpelib.study.inside.transfer import Transfer, transfer


@pytest.fixture(params=[64, 128])  # kernels of 1x1 and of 3x3 px
def network_and_images(request, narrow_options):
    torch.manual_seed(0)
    network = create_model("ditn_w32", num_keypoints=4, **narrow_options["ditn_w32"])
    torch.nn.init.normal_(network.bone_decoder.last.weight)
    network.train()(torch.randn(4, 3, request.param, request.param))  # norms that are not the identity
    return network.eval(), torch.randn(3, 3, request.param, request.param)


def test_the_steps_end_in_the_answer_of_the_network(network_and_images):
    network, images = network_and_images
    steps = transfer(network, images)
    with torch.no_grad():
        heatmaps, looks = network(images, look=True)
    torch.testing.assert_close(steps.answer, heatmaps)
    torch.testing.assert_close(steps.kernels, looks["kernels"])
    torch.testing.assert_close(steps.bones, looks["bones"])
    assert steps.arriving.min() >= 0
    # joint 1 has all three bones: (0, 1), (1, 2), (1, 3)
    torch.testing.assert_close(steps.summed[:, 1] - steps.own[:, 1], steps.arriving[:, [1, 2, 4]].mean(1))


def test_kernels_that_are_given_take_the_place_of_those_of_the_persons(network_and_images):
    network, images = network_and_images
    kernels = transfer(network, images).kernels
    nothing = transfer(network, images, torch.zeros_like(kernels[0]))
    assert not nothing.moved.any()
    torch.testing.assert_close(transfer(network, images[:1], kernels[0]).answer, transfer(network, images[:1]).answer)


def steps_of(kernels):
    maps = torch.ones(len(kernels), 2, 4, 3)
    return Transfer(maps, -2 * maps, torch.tensor(kernels), maps, 3 * maps, maps, maps)


def test_numbers_of_a_kernel_are_those_worked_by_hand():
    flat = np.ones((2, 2, 3, 3), np.float32)
    flat[1, 1] = -3  # the second kernel is 1 for one person and -3 for the other
    steps = steps_of(flat)
    np.testing.assert_allclose(steps.reach_px(), (4 + 4 * 2**0.5) / 9, rtol=1e-6)
    np.testing.assert_allclose(steps.varying(), [0, 1], atol=1e-6)
    np.testing.assert_allclose(steps.arriving_share(torch.tensor([1, 0])), 1.5)
    np.testing.assert_allclose(steps_of(flat[:, :, :1, :1]).reach_px(), 0)
