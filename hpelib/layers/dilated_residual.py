"""Dilated residual block of SADI-Net's receptive fortified module (RFM): Sec. III-B, Fig. 3, Eq. 1."""

from timm.layers import ConvNormAct, SqueezeExcite
from torch import Tensor, nn

SE_RATIO = 16
SE_MIN_WIDTH = 4  # that of the narrowest block of the paper; with fewer, a quick variant's SE dies easily


class DilatedResidualBlock(nn.Module):
    """ReLU(SE(p + q) + shortcut): p two 3x3 convolutions, q a parallel dilated 3x3 convolution of the block's input.

    With `fortified=False` q and SE are left out, which is ResNet's basic block. SE is timm's, with C/16 hidden
    channels. The shortcut is the identity, or a 1x1 convolution and batch norm where the shape changes.

    Shape: (N, in, H, W) -> (N, out, H / stride, W / stride). SE's weights, (N, out, 1, 1) in (0, 1), are noted in
    `looks`, if given.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, fortified: bool = True, dilation: int = 2):
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, 3, stride)
        self.conv2 = ConvNormAct(out_channels, out_channels, 3, apply_act=False)
        self.fortified = fortified
        if fortified:
            self.dilated = ConvNormAct(in_channels, out_channels, 3, stride, dilation=dilation, apply_act=False)
            self.se = ExcitationWeights(out_channels, rd_channels=max(out_channels // SE_RATIO, SE_MIN_WIDTH))
        unchanged = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity() if unchanged else ConvNormAct(in_channels, out_channels, 1, stride, apply_act=False)
        )

    def forward(self, x: Tensor, looks: list[Tensor] | None = None) -> Tensor:
        y = self.conv2(self.conv1(x))
        if self.fortified:
            y = y + self.dilated(x)
            weights = self.se(y)
            y = y * weights
            if looks is not None:
                looks.append(weights)
        return (y + self.shortcut(x)).relu()


class ExcitationWeights(SqueezeExcite):
    """timm's squeeze and excitation, its weights (N, C, 1, 1) not yet applied."""

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.fc2(self.act(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))
