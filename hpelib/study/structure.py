"""What params.yaml must look like, checked before a name in it is looked up: lists, mappings, names, repeats."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from hpelib.formats import FORMATS
from hpelib.layers.choices import Count, Whole
from hpelib.study.config import PARAMS, load_params


def _no_repeats(values: list) -> list:
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{repeated[0]!r} stands there twice")
    return values


Name = Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")]  # folders and stages are called by it
ProfileName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]
Names = Annotated[list[Name], AfterValidator(_no_repeats)]
Some = Annotated[Names, Field(min_length=1)]
Seeds = Annotated[list[Whole], Field(min_length=1), AfterValidator(_no_repeats)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Set(_Section):
    source: str
    format: str
    root: str
    splits: dict[Name, dict]


class _Profile(_Section):
    base: str | None = None
    threads: Count | None = None
    paper_recipes: dict[Name, dict] = {}
    datasets: dict[Name, dict] = {}
    networks: dict[Name, dict] = {}


class _Ablation(_Section):
    datasets: Some
    rows: dict[Name, dict]


class _Extra(_Section):
    datasets: Names
    networks: Names


class _Params(_Section):
    profile: ProfileName
    datasets: Some
    networks: Some
    extra: _Extra
    all_datasets: Some
    error_datasets: Names
    seeds: Seeds
    ablation_seeds: Seeds
    control: Name
    sets: dict[Name, _Set]
    profiles: dict[ProfileName, _Profile]
    ablations: dict[Name, _Ablation]


def load_checked(path: Path = PARAMS) -> dict:
    """The parameters, after all checks of their structure and names.

    Raises:
        FileNotFoundError, ValueError: as for `check_structure` and `load_params`.
    """
    if path.is_file():
        check_structure(YAML(typ="safe").load(path), path)
    return load_params(path)


def check_structure(params: Any, path: Path) -> None:
    """Check types, names and repeats, and what refers from one section to another.

    Raises:
        ValueError: naming the first place that is wrong, such as `profiles.quick.threads`.
    """
    try:
        read = _Params.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path}: {place}: {first['msg']}, got {first['input']!r:.80}") from error
    for name, profile in read.profiles.items():
        if profile.base is not None and (profile.base not in read.profiles or read.profiles[profile.base].base):
            raise ValueError(f"{path}: profiles.{name}.base must be a profile without a base, got {profile.base!r}")
        if unknown := sorted(profile.paper_recipes.keys() - read.ablations.keys()):
            raise ValueError(
                f"{path}: profiles.{name}.paper_recipes: {unknown[0]!r} has no ablations; these have: "
                f"{', '.join(read.ablations)}"
            )
    for name, one in read.sets.items():
        if one.format not in FORMATS:
            raise ValueError(f"{path}: sets.{name}.format is none of {', '.join(FORMATS)}, got {one.format!r}")
    if unknown := sorted(set(read.error_datasets) - set(read.all_datasets)):
        raise ValueError(f"{path}: error_datasets: {unknown[0]!r} is not among all_datasets")
