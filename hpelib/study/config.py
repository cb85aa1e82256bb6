"""From params.yaml to runs: every run is one frozen value that says all about a training."""

import dataclasses
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from hpelib.data.augment import Augmentation
from hpelib.data.loader import InputSettings
from hpelib.metrics.coco import NMS
from hpelib.records import presets
from hpelib.training.recipe import PRECISIONS, Recipe

PARAMS = Path("params.yaml")
LABELS = ("true", "shuffled")
SECTIONS = ("inputs", "augmentation", "recipe", "test")  # of a profile; its datasets and networks may override them
PROFILE = (*SECTIONS, "threads", "mannequins", "stress", "paper_recipes", "datasets", "networks")
DATASET = (*SECTIONS, "source", "format", "root", "splits")
NETWORK = (*SECTIONS, "model", "options", "pretrained", "datasets")
TYPES = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}  # of values that a field of a type takes


@dataclass(frozen=True)
class Dataset:
    """One annotation format under one profile, and where its files lie."""

    name: str
    source: str  # what a report calls the pictures
    format: str
    root: Path
    splits: dict  # train, val and test; for each the files that it is read from


@dataclass(frozen=True)
class Protocol:
    """How a trained network is tested, beyond the flip test."""

    pyramid: bool = False  # heatmaps averaged over six scales, as `hpelib.study.steps.predictions` does
    nms: str = "hard"  # or "soft": which OKS-NMS clears COCO results of copies
    precision: str = "fp32"  # what the network computes in, as in a recipe

    def __post_init__(self) -> None:
        for field, choices in (("nms", NMS), ("precision", PRECISIONS)):
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"test: {field} is {value!r}, must be one of {', '.join(choices)}")


@dataclass(frozen=True)
class Run:
    """One training: which network on which data, how, and from which seed."""

    network: str
    model: str
    options: dict
    pretrained: bool | str  # ImageNet weights for the trunk: timm's, or those of a file
    dataset: Dataset
    seed: int
    profile: str
    threads: int
    inputs: InputSettings
    recipe: Recipe
    test: Protocol = Protocol()
    labels: str = "true"  # or "shuffled", the control that must fail
    variant: str = ""  # the row of an ablation, which has its own options

    @property
    def is_control(self) -> bool:
        return self.labels != "true"

    @property
    def folder(self) -> Path:
        """Where the training leaves its files."""
        if self.is_control:
            return Path("work/control") / self.dataset.name / "train"
        if self.variant:
            return Path("work/ablations") / self.network / f"seed{self.seed}" / self.variant
        return Path("work/runs") / self.dataset.name / self.network / f"seed{self.seed}"

    @property
    def evaluation(self) -> Path:
        """Where the evaluation of this network, over all its seeds, leaves its files; a variant has one a seed."""
        if self.is_control:
            return Path("work/control") / self.dataset.name / "eval"
        if self.variant:
            return self.folder
        return Path("work/eval") / self.dataset.name / self.network

    @property
    def digest(self) -> str:
        """Hash of all parameters of the training but the number of processes, which may change when it is resumed."""
        alone = dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, processes=1), test=Protocol())
        return hashlib.sha256(json.dumps(alone.describe(), sort_keys=True).encode()).hexdigest()[:16]

    def describe(self) -> dict:
        """The run as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


def load_params(path: Path = PARAMS) -> dict:
    """The parameters as DVC sees them, which reads YAML 1.2: there 5e-05 is a number.

    Raises:
        FileNotFoundError: there is no such file; the message says from where to run.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} not found in {Path.cwd()}; run from the repository's root")
    return YAML(typ="safe").load(Path(path))


def profile_params(params: dict) -> dict:
    return _choose(params["profiles"], params["profile"], "profile", PROFILE)


def check_names(params: dict) -> None:
    """ValueError naming the first network, model or dataset that params.yaml asks for and that is not there."""
    profile, extra = profile_params(params), params["extra"]
    for name, network in profile["networks"].items():
        _choose(profile["networks"], name, "network", NETWORK)
        if network.get("model") not in presets():
            raise ValueError(f"params.yaml: network {name!r} is of model {network.get('model')!r}, which is none")
    for name in (*params["networks"], *extra["networks"], params["control"]):
        _choose(profile["networks"], name, "network", NETWORK)
    for name in (*params["datasets"], *extra["datasets"]):
        _choose(profile["datasets"], name, "dataset", DATASET)


def make_dataset(params: dict, name: str) -> Dataset:
    """The dataset `name` of the current profile.

    Raises:
        ValueError: the profile has no such dataset.
    """
    entry = _choose(profile_params(params)["datasets"], name, "dataset", DATASET)
    return Dataset(name, entry["source"], entry["format"], Path(entry["root"]), entry["splits"])


def make_run(params: dict, network: str, dataset: str, seed: int, labels: str = "true") -> Run:
    """The run of one network, dataset and seed under the current profile.

    Later sections override earlier ones: the profile's, the dataset's, the network's, the network's on this dataset.

    Raises:
        ValueError: an unknown profile, dataset, network or parameter, with the known ones, or a value of another type.
    """
    if labels not in LABELS:
        raise ValueError(f"labels are {labels!r}, must be one of {', '.join(LABELS)}")
    profile = profile_params(params)
    entry = _choose(profile["networks"], network, "network", NETWORK)
    together = entry.get("datasets", {})
    for name in together:
        _choose(profile["datasets"], name, f"dataset of {network}", DATASET)
        _choose(together, name, f"dataset of {network}", SECTIONS)
    layers = (profile, _choose(profile["datasets"], dataset, "dataset", DATASET), entry, together.get(dataset, {}))
    inputs, augmentation, recipe, test = (
        {key: _freeze(value) for layer in layers for key, value in layer.get(section, {}).items()}
        for section in SECTIONS
    )
    return Run(
        network=network,
        model=entry["model"],
        options=entry.get("options", {}),
        pretrained=entry.get("pretrained", False),
        dataset=make_dataset(params, dataset),
        seed=seed,
        profile=params["profile"],
        threads=profile["threads"],
        inputs=_build(InputSettings, inputs | {"seed": seed, "augmentation": _build(Augmentation, augmentation)}),
        recipe=_build(Recipe, recipe),
        test=_build(Protocol, test),
        labels=labels,
    )


def networks_on(params: dict, dataset: str) -> list[str]:
    """The networks that the study trains on `dataset`, in the order of its tables."""
    extra = params["extra"]
    return extra["networks"] if dataset in extra["datasets"] else params["networks"]


def all_datasets(params: dict) -> list[str]:
    """The datasets of the study: those that every network is trained on, then those of `extra`."""
    return params["datasets"] + params["extra"]["datasets"]


def study_runs(params: dict, network: str, dataset: str, labels: str = "true") -> list[Run]:
    """The runs that differ in their seed alone; the control has only the first seed."""
    seeds = params["seeds"] if labels == "true" else params["seeds"][:1]
    return [make_run(params, network, dataset, seed, labels) for seed in seeds]


def _choose(entries: dict, name: str, what: str, keys: Collection[str]) -> dict:
    """The entry `name`, which must have none but these keys."""
    if name not in entries:
        raise ValueError(f"params.yaml: unknown {what} {name!r}; known here: {', '.join(entries)}")
    if unknown := sorted(entries[name].keys() - set(keys)):
        raise ValueError(f"params.yaml: {what} {name!r} has no {', '.join(unknown)}; it has {', '.join(keys)}")
    return entries[name]


def _build(kind: type, values: dict):
    known = {field.name: field.type for field in dataclasses.fields(kind)}
    if unknown := values.keys() - known.keys():
        raise ValueError(
            f"params.yaml: {kind.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
        )
    for name, value in values.items():
        if known[name] in TYPES and type(value) not in TYPES[known[name]]:
            raise ValueError(
                f"params.yaml: {name} of {kind.__name__} must be {known[name].__name__}, "
                f"got {value!r} ({type(value).__name__})"
            )
    return kind(**values)


def _freeze(value):
    return tuple(value) if isinstance(value, list) else value
