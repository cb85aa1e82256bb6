"""The last layer of every network: features to one heatmap for each keypoint."""

from torch import nn


def heatmap_head(in_channels: int, num_keypoints: int, kernel_size: int = 1) -> nn.Conv2d:
    """A convolution whose weights start at N(0, 0.001) and whose biases start at 0, as in the official code.

    PyTorch's own start is larger. With it, short trainings stay at heatmaps that are zero everywhere.
    Shape: (N, C, H, W) -> (N, K, H, W).
    """
    head = nn.Conv2d(in_channels, num_keypoints, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(head.weight, std=0.001)
    nn.init.zeros_(head.bias)
    return head
