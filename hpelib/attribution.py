"""Which pixels a heatmap depends on. Attention says where a network looks; it need not say what the answer hangs on.

Integrated gradients (M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017) by captum.
"""

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from hpelib.layers.modes import eval_mode

STEPS = 32  # between the grey picture and the person


def attribute(network: nn.Module, images: Tensor, keypoint: int) -> Tensor:
    """How much each pixel adds to the highest value of a keypoint's heatmap, against a picture that is grey.

    The values of a picture sum up to that highest value less the one that the grey picture has at the same place, but
    for the error of the integral. Positive pixels speak for the keypoint being there, negative ones against it.

    Shapes: images (N, 3, H, W), normalised -> (N, H, W), in units of the heatmap.
    """
    with eval_mode(network):
        with torch.no_grad():
            places = network(images)[:, keypoint].flatten(1).argmax(dim=1)  # (N,)

        def value_there(pictures: Tensor) -> Tensor:
            repeated = places.repeat(len(pictures) // len(places))  # captum stacks the steps of all pictures
            return network(pictures)[:, keypoint].flatten(1).gather(1, repeated[:, None])[:, 0]

        method = IntegratedGradients(value_there)
        return method.attribute(images, baselines=torch.zeros_like(images), n_steps=STEPS).sum(dim=1).detach()
