"""Global context block (GCB) that also hands out its spatial attention heatmap.

Y. Cao, J. Xu, S. Lin, F. Wei, H. Hu: GCNet, ICCV Workshops 2019; used by FR-SBN, Sec. 3.2 and Fig. 1(b).
"""

from timm.layers import GlobalContext
from torch import Tensor, nn


class GlobalContextBlock(GlobalContext):
    """Features with the image's global context added, and the spatial attention heatmap (SAH).

    m = conv1x1(x) is the SAH, a = softmax(m) over positions, y = x + t(sum_j a_j x_j), where the transform t is
    conv1x1(C -> C/ratio), layer norm, ReLU, conv1x1(C/ratio -> C). The modules are timm's; only the forward pass is
    ours, because SA-MFCD needs the logits m, which timm keeps to itself. The last convolution starts at zero, weight
    and bias (timm: weight only), so a pretrained encoder is unchanged at the start.

    Shape: (N, C, H, W) -> (N, C, H, W), SAH (N, 1, H, W) before the softmax.
    """

    def __init__(self, channels: int, ratio: int = 1):
        super().__init__(channels, fuse_add=True, fuse_scale=False, rd_channels=max(channels // ratio, 1))
        nn.init.zeros_(self.mlp_add.fc2.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heatmap = self.conv_attn(x)  # (N, 1, H, W)
        attention = heatmap.flatten(2).softmax(dim=-1)  # (N, 1, HW)
        context = x.flatten(2) @ attention.transpose(1, 2)  # (N, C, 1)
        return x + self.mlp_add(context.unsqueeze(-1)), heatmap
