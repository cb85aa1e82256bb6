"""Strip-pooling gate: Q. Hou, L. Zhang, M.-M. Cheng, J. Feng: Strip Pooling, CVPR 2020; DAUNet, Eqs. 4-7."""

from typing import Literal, get_args

from torch import Tensor, nn

from hpelib.layers.choices import require_choice

StripForm = Literal["spnet", "pointwise", "conv3x3"]
STRIP_FORMS = get_args(StripForm)


class StripPooling(nn.Module):
    """x * sigmoid(f(h + v)), h the mean of each row (C x H x 1), v the mean of each column (C x 1 x W); and that gate.

    `form="spnet"` is SPNet's module: a 3-tap convolution and batch norm on each strip, sum, ReLU, 1x1 convolution with
    bias (7 C^2 weights). `form="pointwise"` is Eqs. 4-7 word by word: sum, 1x1 convolution, batch norm (C^2 weights),
    `form="conv3x3"` the same with a 3x3 convolution.

    Shape: (N, C, H, W) -> (N, C, H, W), gate (N, C, H, W) in (0, 1).
    """

    def __init__(self, channels: int, form: StripForm = "spnet"):
        super().__init__()
        require_choice("form", form, STRIP_FORMS)
        if form == "spnet":
            self.rows = nn.Sequential(
                nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), bias=False), nn.BatchNorm2d(channels)
            )
            self.columns = nn.Sequential(
                nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False), nn.BatchNorm2d(channels)
            )
            self.fuse = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1))
        else:
            self.rows = self.columns = nn.Identity()
            kernel = 1 if form == "pointwise" else 3
            self.fuse = nn.Sequential(
                nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.rows(x.mean(dim=3, keepdim=True))  # (N, C, H, 1), Eq. 4
        columns = self.columns(x.mean(dim=2, keepdim=True))  # (N, C, 1, W), Eq. 5
        gate = self.fuse(rows + columns).sigmoid()  # (N, C, H, W), Eqs. 6, 7
        return x * gate, gate
