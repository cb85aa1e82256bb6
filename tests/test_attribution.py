import torch
from torch import nn

from hpelib.attribution import attribute
from hpelib.models import create_model


class Linear(nn.Module):
    """Each heatmap is a weighted sum of the three channels, so that the attribution can be worked out by hand."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]))

    def forward(self, images):
        return torch.einsum("kc,nchw->nkhw", self.weights, images)


def test_a_linear_network_is_attributed_exactly():
    network, images = Linear(), torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for keypoint in (0, 1):
        found = attribute(network, images, keypoint)
        heatmaps = network(images).detach()[:, keypoint]
        expected = torch.zeros_like(heatmaps)
        for i, place in enumerate(heatmaps.flatten(1).argmax(dim=1)):
            expected[i].view(-1)[place] = heatmaps[i].max()  # only the pixel at the maximum counts
        torch.testing.assert_close(found, expected)


def test_values_sum_up_to_what_the_network_gains_over_grey(narrow_options):
    torch.manual_seed(0)
    network = create_model("hourglass", num_keypoints=3, **narrow_options["hourglass"])
    nn.init.normal_(network.heads[-1].weight)
    images = torch.randn(2, 3, 64, 64)
    found = attribute(network.eval(), images, 1)
    with torch.no_grad():
        heatmaps, grey = network(images)[:, 1].flatten(1), network(torch.zeros_like(images))[:, 1].flatten(1)
    highest, place = heatmaps.max(dim=1)
    gained = highest - grey.gather(1, place[:, None])[:, 0]
    torch.testing.assert_close(found.sum(dim=(1, 2)), gained, rtol=0.05, atol=0.02)
    assert not network.training
