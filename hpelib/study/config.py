"""From params.yaml to runs. A `Run` is one frozen value that says everything about one training."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from hpelib.data.augment import Augmentation
from hpelib.data.loader import InputSettings
from hpelib.formats import Format, form_of
from hpelib.layers.choices import require_choice, require_types
from hpelib.metrics.coco import NMS
from hpelib.records import presets
from hpelib.study.layout import NAME, check_layout
from hpelib.training.recipe import PRECISIONS, Recipe

PARAMS = Path("params.yaml")
RECIPE = Path("data/mannequins.yaml")
LABELS = ("true", "shuffled")
SECTIONS = ("inputs", "augmentation", "recipe", "test")  # of a profile; its datasets and networks may override them
PROFILE = (*SECTIONS, "base", "threads", "mannequins", "stress", "paper_recipes", "datasets", "networks")
PROFILE += ("study", "stage_s")  # what `make study PROFILE=...` runs of it, and what its stages cost
DATASET = (*SECTIONS, "set")
# What a machine needs and no result depends on. With another value, finished trainings stay and interrupted ones go on.
SPEED = {"inputs": ("workers", "image_cache_mb"), "recipe": ("checkpoint_steps",)}
SET = ("source", "format", "root", "splits", "skeleton")
NETWORK = (*SECTIONS, "base", "model", "options", "pretrained", "datasets")


def enter() -> Path:
    """Make the repository's root the working directory, wherever a notebook was opened, and return it."""
    root = Path(__file__).resolve().parents[2]
    os.chdir(root)
    return root


@dataclass(frozen=True)
class Dataset:
    """One set of annotated pictures under one profile, and where its files lie."""

    name: str
    source: str  # what a report calls the pictures
    format: str  # of `hpelib.formats.FORMATS`
    root: Path
    splits: dict  # train, val and test; for each the files that it is read from
    work: Path = Path("work")  # the profile's folder, for what is computed
    skeleton: dict = field(default_factory=dict)  # a keypoint set of the set's own, {name: entry} as in skeletons.yaml

    @property
    def form(self) -> Format:
        """How the set is read and scored."""
        return form_of(self.format, self.skeleton)

    @property
    def manifest(self) -> Path:
        """Where the check of the set leaves what it found."""
        return self.work / "data" / f"{self.name}.json"


@dataclass(frozen=True)
class Protocol:
    """How a trained network is tested, beyond the flip test."""

    pyramid: bool = False  # heatmaps averaged over six scales, as `hpelib.study.steps.predictions` does
    nms: str = "hard"  # or "soft": which OKS-NMS clears COCO results of copies
    precision: str = "fp32"  # what the network computes in, as in a recipe

    def __post_init__(self) -> None:
        require_types("test", Protocol, vars(self))
        require_choice("test: nms", self.nms, NMS)
        require_choice("test: precision", self.precision, PRECISIONS)


KINDS = {"inputs": InputSettings, "augmentation": Augmentation, "recipe": Recipe, "test": Protocol}  # of `SECTIONS`


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
        work = self.dataset.work
        if self.is_control:
            return work / "control" / self.dataset.name / "train"
        if self.variant:
            return work / "ablations" / self.network / f"seed{self.seed}" / self.dataset.name / self.variant
        return work / "runs" / self.dataset.name / self.network / f"seed{self.seed}"

    @property
    def evaluation(self) -> Path:
        """Where the evaluation of this network, over all its seeds, leaves its files; a variant has one a seed."""
        if self.is_control:
            return self.dataset.work / "control" / self.dataset.name / "eval"
        if self.variant:
            return self.folder
        return self.dataset.work / "eval" / self.dataset.name / self.network

    @property
    def digest(self) -> str:
        """Hash of all parameters of the training. `SPEED` and the number of processes may change when it is resumed."""
        recipe = dataclasses.replace(self.recipe, processes=1)
        alone = decisive(dataclasses.replace(self, recipe=recipe, test=Protocol()).describe())
        return hashlib.sha256(json.dumps(alone, sort_keys=True).encode()).hexdigest()[:16]

    def require_persons(self, count: int) -> None:
        """Check that a training split of `count` persons is enough.

        Raises:
            ValueError: it is smaller than a batch or than what its entry asks for, or training ends before its warmup.
        """
        drawn, batch = (
            self.dataset.splits["train"].get("persons", count),
            self.inputs.batch_size * self.recipe.processes,
        )
        if drawn > count:
            raise ValueError(f"persons is {drawn}, but the split train has {count}")
        if drawn < batch:
            raise ValueError(f"the split train gives {drawn} persons, but a batch of all processes has {batch}")
        self.recipe.require_warmup(drawn // batch)

    def describe(self) -> dict:
        """The run as plain JSON values. A file that its trunk starts from is there with a digest of what it holds."""
        values = dataclasses.asdict(self)
        if isinstance(self.pretrained, str):
            values["pretrained"] = {"file": self.pretrained, "sha256": _file_digest(Path(self.pretrained))}
        return json.loads(json.dumps(values, default=str))


def decisive(described: dict) -> dict:
    """What `Run.describe` returns without `SPEED`: what decides the result of a training."""
    kept = {
        section: {key: value for key, value in described[section].items() if key not in names}
        for section, names in SPEED.items()
    }
    return described | kept


def load_params(path: Path = PARAMS) -> dict:
    """The parameters as DVC sees them. DVC reads YAML 1.2, in which 5e-05 is a number.

    Raises:
        FileNotFoundError: there is no such file; the message says from where to run.
        ValueError: a name in it does not exist or has characters that DVC's stages cannot have.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} not found in {Path.cwd()}; run from the repository's root")
    params = YAML(typ="safe").load(Path(path))
    check_layout(params)
    check_names(params)
    return params


def profile_changes(params: dict, profile: str) -> dict:
    """What the first block of params.yaml has while `profile` runs: its name and its section `study`, or its base's."""
    entry = params["profiles"][profile]
    base = params["profiles"].get(entry.get("base"), {})
    return {"profile": profile} | entry.get("study", base.get("study", {}))


def work_folder(params: dict) -> Path:
    """The folder of everything that the current profile computes."""
    return Path("work") / params["profile"]


def profile_params(params: dict) -> dict:
    """The current profile. What it does not say of itself comes from its `base`.

    Its inputs, augmentation, recipe and test are laid over those of the base, key by key. Of other sections, it has
    its own or those of the base. A network with a `base` is another network of the profile, with its own entry laid
    over that.

    Example: `hrnet-official` has the base `paper` and no `test`, so it tests as `paper` does.

    Raises:
        ValueError: an unknown profile, base or section, or bases of networks that lead in a circle.
    """
    profile = _choose(params["profiles"], params["profile"], "profile", PROFILE)
    if "base" in profile:
        base = _choose(params["profiles"], profile["base"], "base of a profile", PROFILE)
        merged = {key: lay_over(base[key], profile[key]) for key in SECTIONS if key in base and key in profile}
        profile = base | profile | merged
    networks = {name: _with_base(profile["networks"], name) for name in profile["networks"]}
    return {section: value for section, value in profile.items() if section != "base"} | {"networks": networks}


def _with_base(networks: dict, name: str, what: str = "network", above: tuple[str, ...] = ()) -> dict:
    entry = dict(_choose(networks, name, what, NETWORK))
    base = entry.pop("base", None)
    if base is None:
        return entry
    if name in above:
        raise ValueError(f"params.yaml: bases of networks lead in a circle: {' -> '.join((*above, name))}")
    return lay_over(_with_base(networks, base, f"base of the network {name!r}", (*above, name)), entry)


def lay_over(entry: dict, changes: dict, known: Collection[str] = ()) -> dict:
    """`entry` with `changes` laid over it, mappings key by key. None takes a key away.

    A key of `known` may be absent: None then does nothing.

    Example: {"a": {"b": 1, "c": 2}} with {"a": {"b": None, "d": 3}} gives {"a": {"c": 2, "d": 3}}.

    Raises:
        ValueError: None is given to a key that is not there, and that the section of this name never has.
    """
    merged = dict(entry)
    for key, value in changes.items():
        if value is None:
            require_choice("params.yaml: null takes a value away: name", key, (*merged, *known))
            merged.pop(key, None)
        elif isinstance(value, dict):
            fields = [one.name for one in dataclasses.fields(KINDS[key])] if key in KINDS else ()
            merged[key] = lay_over(merged.get(key, {}), value, fields)
        else:
            merged[key] = value
    return merged


def check_names(params: dict) -> None:
    """Check every name in params.yaml before anything runs.

    Raises:
        ValueError: naming the first network, model or dataset that is not there or may not be called so.
    """
    profile = profile_params(params)
    for kind in ("networks", "datasets"):
        for name in profile[kind]:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"params.yaml: {name!r} in the {kind} of profile {params['profile']}: a name may have "
                    "letters, digits and _ only, because folders and stages are called by it"
                )
    for name, network in profile["networks"].items():
        _choose(profile["networks"], name, "network", NETWORK)
        if network.get("model") not in presets():
            raise ValueError(f"params.yaml: network {name!r} is of model {network.get('model')!r}, which is none")
    extra = params["extra"]
    for name in (*params["networks"], *extra["networks"], params["control"]):
        _choose(profile["networks"], name, "network", NETWORK)
    both = [*params["datasets"], *extra["datasets"]]
    for name in both:
        _choose(profile["datasets"], name, "dataset", DATASET)
    if sorted(both) != sorted(params["all_datasets"]):
        raise ValueError(
            f"params.yaml: all_datasets must have those of `datasets` and of `extra`: [{', '.join(both)}], "
            f"got {params['all_datasets']}"
        )


def make_dataset(params: dict, name: str) -> Dataset:
    """The dataset `name` of the current profile.

    Raises:
        ValueError: the profile has no such dataset, or the dataset names no set of `sets`.
    """
    entry = _choose(profile_params(params)["datasets"], name, "dataset", DATASET)
    files = _choose(params["sets"], entry["set"], f"set of the dataset {name!r}", SET)
    work = work_folder(params)
    root = Path(files["root"].replace("{work}", str(work)))
    skeleton = _read_skeleton(files["skeleton"], files["format"]) if "skeleton" in files else {}
    return Dataset(name, files["source"], files["format"], root, files["splits"], work, skeleton)


def _read_skeleton(path: str, format: str) -> dict:
    """The one entry of a file of keypoint sets, after a check."""
    if not Path(path).is_file():
        raise ValueError(f"params.yaml: the skeleton {path!r} of a set is no file in {Path.cwd()}")
    entry = YAML(typ="safe").load(Path(path))
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"{path} must describe one skeleton, as an entry of hpelib/skeletons.yaml does")
    form_of(format, entry)
    return entry


def make_run(params: dict, network: str, dataset: str, seed: int, labels: str = "true") -> Run:
    """The run of one network, dataset and seed under the current profile.

    Later sections override earlier ones: the profile's, the dataset's, the network's, the network's on this dataset.

    Raises:
        ValueError: an unknown profile, dataset, network or parameter, with the known ones, or a value of another type.
    """
    require_choice("labels", labels, LABELS)
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
    for name, place in (("seed", "`seeds`"), ("augmentation", "a section beside `inputs`")):
        if name in inputs:
            raise ValueError(f"params.yaml: inputs: {name} has another place: {place}")
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


def study_runs(params: dict, network: str, dataset: str, labels: str = "true") -> list[Run]:
    """The runs that differ in their seed alone. The control has only the first seed."""
    seeds = params["seeds"] if labels == "true" else params["seeds"][:1]
    return [make_run(params, network, dataset, seed, labels) for seed in seeds]


def _choose(entries: dict, name: str, what: str, keys: Collection[str]) -> dict:
    """The entry `name`, after a check that it has no other keys than `keys`."""
    if name not in entries:
        raise ValueError(f"params.yaml: unknown {what} {name!r}; known here: {', '.join(entries)}")
    if unknown := sorted(entries[name].keys() - set(keys)):
        raise ValueError(f"params.yaml: {what} {name!r} has no {', '.join(unknown)}; it has {', '.join(keys)}")
    return entries[name]


def _build(kind: type, values: dict):
    """A value of the dataclass `kind`, which checks its values, after a check that no name is misspelt or missing."""
    fields = dataclasses.fields(kind)
    known = {field.name for field in fields}
    needed = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
    if unknown := values.keys() - known:
        raise ValueError(
            f"params.yaml: {kind.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
        )
    if missing := needed - values.keys():
        raise ValueError(f"params.yaml: {kind.__name__} needs {', '.join(sorted(missing))}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"params.yaml: {error}") from None


def _file_digest(path: Path) -> str:
    """Hash of a file, "missing" where there is none."""
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _freeze(value):
    return tuple(value) if isinstance(value, list) else value
