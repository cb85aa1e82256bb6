"""The table of networks: the file and class behind each name, and the weights that its trunk can start from.

The pipeline follows its entries one by one, so that a new one trains nothing but itself.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Network:
    module: str  # file of this package
    cls: str
    options: dict = field(default_factory=dict)
    # timm's name of the classifier whose weights the trunk starts from, or one for each `backbone`
    imagenet: str | dict[str, str] | None = None


_RESNETS = {depth: f"resnet{depth}.tv_in1k" for depth in (34, 50, 101, 152)}
_HRNETS = {width: f"hrnet_w{width}.ms_in1k" for width in (32, 48)}

NETWORKS = {
    **{
        f"simple_baseline_resnet{depth}": Network(
            "simple_baseline", "SimpleBaseline", {"encoder": f"resnet{depth}"}, imagenet
        )
        for depth, imagenet in _RESNETS.items()
    },
    "hourglass": Network("hourglass", "StackedHourglass"),
    **{f"hrnet_w{width}": Network("hrnet", "HRNet", {"width": width}, name) for width, name in _HRNETS.items()},
    **{f"de_hrnet_w{width}": Network("de_hrnet", "DEHRNet", {"width": width}, name) for width, name in _HRNETS.items()},
    "sadi_net": Network("sadi_net", "SADINet"),
    **{
        f"fr_sbn_resnet{depth}": Network("fr_sbn", "FRSBN", {"encoder": f"resnet{depth}"}, imagenet)
        for depth, imagenet in _RESNETS.items()
    },
    "ditn_w32": Network("ditn", "DITN", {"backbone": "hrnet"}, {"hrnet": _HRNETS[32], "resnet50": _RESNETS[50]}),
    "daunet_resnet50": Network("daunet", "DAUNet", {}, _RESNETS[50]),
}
