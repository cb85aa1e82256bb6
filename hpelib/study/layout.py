"""What stands where in params.yaml: the types of its sections and values. Recipes and inputs check their own values."""

import re
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from hpelib.formats import FORMATS
from hpelib.layers.choices import (
    STRICT,
    Count,
    NotNegative,
    Positive,
    Share,
    require_choice,
    require_layout,
    require_types,
)

NAME, PROFILE_NAME = re.compile(r"[A-Za-z0-9_]+"), re.compile(r"[A-Za-z0-9_-]+")
FIRST_BLOCK = ("datasets", "networks", "extra", "all_datasets", "seeds", "ablation_seeds", "error_datasets", "control")
DIAGNOSED = "coco"  # the format that has kinds of error


def _distinct(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        raise ValueError("must have no value twice")
    return values


CLOSED = ConfigDict(strict=True, extra="forbid")
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], AfterValidator(_distinct)]
SomeNames = Annotated[Names, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]


class Merged(TypedDict):
    """A set that joins a split of LSP: MPII with its files, or LSPET."""

    __pydantic_config__ = CLOSED
    root: Text
    annotations: NotRequired[Text]
    images: NotRequired[Text]


class Split(TypedDict, total=False):
    """The files of one split; the format says which it needs."""

    __pydantic_config__ = STRICT
    annotations: Text
    images: Text
    ground_truth: Text
    detections: Text
    folder: Text
    near_duplicates: Text
    numbers: tuple[Count, Count]
    fraction: Share
    merged: dict[str, Merged]
    max_persons: Count
    persons: Count
    draw: Seed
    may_share_pictures: bool


class Splits(TypedDict):
    __pydantic_config__ = CLOSED
    train: Split
    val: Split
    test: Split


class Set(TypedDict):
    __pydantic_config__ = STRICT
    source: Text
    format: Text
    root: Text
    splits: Splits
    skeleton: NotRequired[Text]


class Sections(TypedDict, total=False):
    """What a profile, its datasets and its networks may all have."""

    __pydantic_config__ = STRICT
    inputs: dict[str, Any]
    augmentation: dict[str, Any]
    recipe: dict[str, Any]
    test: dict[str, Any]


class Dataset(Sections):
    __pydantic_config__ = STRICT
    set: Text


class Network(Sections):
    __pydantic_config__ = STRICT
    base: NotRequired[Text]
    model: NotRequired[Text]
    options: NotRequired[dict[str, Any]]
    pretrained: NotRequired[bool | Text]
    datasets: NotRequired[dict[str, Sections]]


class Mannequins(TypedDict):
    """The persons of one level of difficulty."""

    __pydantic_config__ = CLOSED
    scale: Positive
    seed: Seed
    persons: Annotated[dict[Literal["train", "val", "test"], Count], Field(min_length=1)]


class Stress(TypedDict):
    __pydantic_config__ = CLOSED
    seed: Seed
    persons: Count


class Profile(Sections):
    __pydantic_config__ = STRICT
    base: NotRequired[Text]
    threads: NotRequired[Count]
    mannequins: NotRequired[Annotated[dict[str, Mannequins], Field(min_length=1)]]
    stress: NotRequired[Stress]
    paper_recipes: NotRequired[dict[str, dict[str, Any]]]
    datasets: NotRequired[dict[str, Dataset]]
    networks: NotRequired[dict[str, Network]]
    study: NotRequired[dict[str, Any]]
    stage_s: NotRequired[dict[str, NotNegative]]


class Ablation(TypedDict):
    __pydantic_config__ = CLOSED
    datasets: SomeNames
    rows: dict[str, dict[str, Any]]


class Extra(TypedDict):
    __pydantic_config__ = CLOSED
    datasets: Names
    networks: Names


class Params(TypedDict):
    __pydantic_config__ = CLOSED
    profile: Text
    datasets: SomeNames
    networks: SomeNames
    extra: Extra
    all_datasets: SomeNames
    seeds: Seeds
    ablation_seeds: Seeds
    error_datasets: Names
    control: Text
    sets: dict[str, Set]
    profiles: dict[str, Profile]
    ablations: dict[str, Ablation]


def check_layout(params: dict) -> None:
    """Check sections, types and names of params.yaml, whichever profile is chosen.

    Raises:
        ValueError: naming the first place that is missing, or whose value is of another type or has another form.
    """
    require_layout("params.yaml", Params, params)
    named = {"profiles": params["profiles"]}
    named |= {f"rows of ablation {paper}": entry["rows"] for paper, entry in params["ablations"].items()}
    for place, entries in named.items():
        pattern = PROFILE_NAME if place == "profiles" else NAME
        for name in entries:
            if not pattern.fullmatch(name):
                letters = "letters, digits, _ and -" if pattern is PROFILE_NAME else "letters, digits and _"
                raise ValueError(
                    f"params.yaml: {name!r} in the {place}: a name may have {letters} only; folders have it"
                )
    for name, profile in params["profiles"].items():
        base = params["profiles"].get(profile.get("base"), {})
        if "base" in base:
            raise ValueError(f"params.yaml: the base of profile {name!r} has a base itself; name one that has none")
        missing = [part for part in ("threads", "mannequins", "stress", "datasets", "networks") if part not in profile]
        if missing and "base" not in profile:
            raise ValueError(f"params.yaml: profile {name!r} has no {', '.join(missing)}")
        study = profile.get("study", {})
        for key in study:
            require_choice(f"params.yaml: profiles.{name}.study", key, FIRST_BLOCK)
        require_types(f"params.yaml: profiles.{name}.study", Params, study)
        for paper in profile.get("paper_recipes", {}):
            require_choice(f"params.yaml: profiles.{name}.paper_recipes", paper, params["ablations"])
    for name, entry in params["sets"].items():
        require_choice(f"params.yaml: format of the set {name!r}", entry["format"], FORMATS)
    profile = params["profiles"].get(params["profile"], {})
    datasets = profile.get("datasets") or params["profiles"].get(profile.get("base"), {}).get("datasets", {})
    for name in params["error_datasets"]:
        require_choice("params.yaml: error_datasets", name, params["all_datasets"])
        kind = params["sets"].get(datasets.get(name, {}).get("set"), {}).get("format", DIAGNOSED)
        if kind != DIAGNOSED:
            raise ValueError(f"params.yaml: error_datasets has {name!r}, whose format {kind} has no kinds of error")
