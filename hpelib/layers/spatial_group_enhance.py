"""Spatial group-wise enhance (SGE): X. Li, X. Hu, J. Yang, arXiv 1905.09646; DAUNet, Sec. 3.1.3, Eqs. 17-21."""

import torch
from torch import Tensor, nn

EPSILON = 1e-5


class SpatialGroupEnhance(nn.Module):
    """Features weighted by how much each position resembles its channel group's mean, and that attention per group.

    c_i = <g, x_i> with g the group's spatial mean, normalised over positions, a = gamma c + beta, x_i * sigmoid(a_i).
    gamma and beta are one pair per group and start at 0 and 1.

    Shape: (N, C, H, W) -> (N, C, H, W), attention (N, groups, H, W) in (0, 1).
    """

    def __init__(self, channels: int, groups: int = 8):
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
        self.groups = groups
        self.gamma = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.beta = nn.Parameter(torch.ones(1, groups, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        grouped = x.unflatten(1, (self.groups, -1))  # (N, G, C/G, H, W)
        mean = grouped.mean(dim=(3, 4), keepdim=True)  # g, Eq. 17
        similarity = (grouped * mean).sum(dim=2)  # (N, G, H, W), Eq. 18
        deviation, centre = torch.std_mean(similarity, dim=(2, 3), correction=0, keepdim=True)
        similarity = (similarity - centre) / (deviation + EPSILON)  # Eq. 19
        attention = (self.gamma * similarity + self.beta).sigmoid()  # Eqs. 20, 21
        return (grouped * attention.unsqueeze(2)).flatten(1, 2), attention
