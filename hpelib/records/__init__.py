"""What the study knows of each network without loading it: one file a network, found by listing this folder.

A network of the study is two files: `hpelib/models/NAME.py` holds its class, `hpelib/records/NAME.yaml` its record.
No other file names it, so a new network is added without editing a table. No torch is needed to read a record.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

Kind = Literal[
    "features",  # any number, (N, C, h, w)
    "heatmaps",  # one map for each keypoint, (N, K, h, w)
    "bones",  # one map for each bone, (N, B, h, w)
    "attention",  # shares of the positions of a map, which sum to 1
    "columns",  # shares of the positions of each column of each channel, which sum to 1
    "competition",  # shares that sum to 1 over axis 1
    "gate",  # factors from 0 to 1
    "detail_gate",  # the same; the first third belongs to the features from the branch above
    "group_gate",  # the same, one map for each group of channels
    "parting",  # the same; a channel counts as informative above 1/2
    "parts",  # features that are parted in two, (N, C, h, w)
    "scale",  # factors from 0 upwards
    "offsets",  # (x, y) in px of the sampled map, (N, 2, groups, h, w)
    "kernels",  # weights of a convolution
    "means",  # where keypoints are expected, (x, y) in crop px, (N, K, 2)
    "density",  # of deviations from the mean, up to 6 standard deviations, (N, 1, h, w)
    "deviations",  # how far they are expected from there, (x, y) in crop px, (N, K, 2)
]


@dataclass(frozen=True)
class Preset:
    """One name of `create_model`: options of the network's class, and where its ImageNet weights come from."""

    options: Mapping = field(default_factory=dict)
    imagenet: str | Mapping[str, str] | None = None  # timm's name of a classifier, or one for each `backbone`


@dataclass(frozen=True)
class Quantity:
    """What one name of a look means."""

    title: str
    source: str  # where the paper describes it
    kind: Kind


@dataclass(frozen=True)
class Record:
    """One network of the study. Only `name`, `cls` and `presets` are needed; the rest makes its pages complete.

    `quantities` name looks by regular expressions. The title of a quantity may use the groups of its pattern: with
    r"stack(\\d)" the title r"heatmaps of stack \\1" becomes "heatmaps of stack 2".
    """

    name: str  # of its files in hpelib/models and hpelib/records
    cls: str  # its class in hpelib/models/NAME.py
    presets: Mapping[str, Preset]  # by the names that `create_model` knows
    title: str = ""  # as its paper spells it; by default its name
    short: str = ""  # a column's name in `dvc exp show`; by default its name
    order: int = 100  # its place in lists and charts, baselines first
    baseline: str | None = None  # the record of the network that it is built on and compared with
    full_size: str = ""  # the preset of the size that its paper reports; by default the first one
    color: str = ""  # in charts
    marker: str = ""
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    mechanisms: Mapping[str, str] = field(default_factory=dict)  # name in data/claims.csv: pattern of looks

    def __post_init__(self):
        defaults = {"title": self.name, "short": self.name, "full_size": next(iter(self.presets))}
        for field_name, value in defaults.items():
            object.__setattr__(self, field_name, getattr(self, field_name) or value)

    @property
    def compared(self) -> list[str]:
        """Names of the networks whose pictures stand side by side: its baseline first, if it has one."""
        return [self.baseline, self.name] if self.baseline else [self.name]


COMMON = {  # looks of every network
    "target": Quantity("Gaussians about the annotation", "the codec, not the network", "heatmaps"),
    "heatmaps": Quantity("heatmaps", "the network's answer", "heatmaps"),
    "bone_target": Quantity("bones of the annotation", "the loss, not the network", "bones"),
}


@cache
def records() -> dict[str, Record]:
    """All records by name, in the order of lists and charts.

    Raises:
        ValueError: a file is no record; the message names it.
    """
    found = [read_record(path) for path in sorted(Path(__file__).parent.glob("*.yaml"))]
    return {record.name: record for record in sorted(found, key=lambda record: (record.order, record.name))}


def read_record(path: Path) -> Record:
    """The record in a YAML file, whose keys are the fields of `Record`.

    Raises:
        ValueError: a key is missing or unknown, or the file is called by another name than its record.
    """
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        record = Record(
            **entry
            | {
                "presets": {name: Preset(**preset) for name, preset in entry["presets"].items()},
                "quantities": {name: Quantity(*known) for name, known in entry.get("quantities", {}).items()},
            }
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is no record of a network: {error}") from error
    if record.name != path.stem:
        raise ValueError(f"{path}: the record is of {record.name!r}, so the file must be called {record.name}.yaml")
    return record


def presets() -> dict[str, Record]:
    """The record behind each name that `create_model` knows."""
    return {preset: record for record in records().values() for preset in record.presets}


def family(name: str) -> tuple[str, str, str]:
    """What a network's name says: its record, the depth or width of its variant, and the height of its input.

    Example: `family("de_hrnet_w48_384")` is `("de_hrnet", "48", "384")`; what a name does not say is "".
    """
    return tuple(part or "" for part in re.fullmatch(r"(.+?)(?:_(?:resnet|w)(\d+))?(?:_(\d+))?", name).groups())


def baselines(names: Iterable[str] = ()) -> dict[str, str]:
    """For each network that a paper proposes, the network that it is compared with.

    Variants among `names` are compared with the same variant: `de_hrnet_w48_384` with `hrnet_w48_384`.
    """
    own = {record.name: record.baseline for record in records().values() if record.baseline}
    return own | {name: own[known] + name.removeprefix(known) for name in names if (known := family(name)[0]) in own}


def quantity(name: str) -> Quantity:
    """The meaning of a name that `capture` returned. A name that no record knows stands for features.

    Example: `quantity("stage2.0.dem1").title` is "DEM gate, stage 2.0, branch 1".
    """
    for record in records().values():
        for pattern, known in record.quantities.items():
            if match := re.fullmatch(pattern, name):
                return Quantity(match.expand(known.title), known.source, known.kind)
    return COMMON.get(name, Quantity(name, "", "features"))
