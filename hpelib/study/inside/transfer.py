"""What passes from bones to joints inside a trained DITN, step by step, for its notebook."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpelib.models.ditn import adaptive_convolution


@dataclass(frozen=True)
class Transfer:
    """The maps of N persons, by the symbols of the notebook. Channels 2b and 2b + 1 are the two joints of bone b."""

    bones: Tensor  # F_B (N, B, H, W), the bones' answer maps
    own: Tensor  # Q (N, K, H, W), the joints' maps before anything arrives
    kernels: Tensor  # theta (N, 2B, h, w)
    moved: Tensor  # r = theta * Q (N, 2B, H, W)
    arriving: Tensor  # g (N, 2B, H, W), after CAB; never negative
    summed: Tensor  # H = Q + mean of g over the joint's bones (N, K, H, W)
    answer: Tensor  # SAB(H) (N, K, H, W), what the network answers

    def arriving_share(self, members: Tensor) -> Tensor:
        """Mean of g over persons and positions, over the mean size of the joint's own Q: (2B,)."""
        return self.arriving.mean((0, 2, 3)) / self.own.abs().mean((0, 2, 3))[members]

    def varying(self) -> Tensor:
        """How dynamic each kernel is: the standard deviation of its entries over persons, over their mean size: (2B,).

        0 is a kernel that is the same for everybody.
        """
        return self.kernels.std(0, correction=0).mean((1, 2)) / self.kernels.abs().mean((0, 2, 3))

    def reach_px(self) -> Tensor:
        """Mean distance of the kernels' weight from their centre, in heatmap px: (2B,). 0 moves nothing."""
        size = self.kernels.abs().mean(0)
        h, w = size.shape[-2:]
        away_px = torch.hypot(torch.arange(h)[:, None] - h // 2.0, torch.arange(w) - w // 2.0)
        return (size * away_px).sum((1, 2)) / size.sum((1, 2))


@torch.no_grad()
def transfer(network: nn.Module, images: Tensor, kernels: Tensor | None = None) -> Transfer:
    """The steps of the transfer for `images` (N, 3, H, W), with `kernels` (2B, h, w) for everybody if they are given.

    `network` is a DITN with CAB and SAB, in eval mode.
    """
    module = network.ditm
    f = network.backbone.features(images, None)
    joints, bones = network.joint_decoder(f), network.bone_decoder(f)
    own = module.k1(joints)
    theta = module.parameter_adapter(bones.repeat_interleave(2, dim=1)) if kernels is None else kernels
    theta = theta.expand(len(images), -1, -1, -1)
    moved = adaptive_convolution(own[:, module.members], theta)
    arriving, _ = module.cab(moved)
    received = torch.zeros_like(own).index_add(1, module.members, arriving)
    summed = own + received / module.shares
    answer, _ = module.sab(summed)
    return Transfer(bones, own, theta, moved, arriving, summed, answer)
