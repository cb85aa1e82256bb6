"""The checks of options: one of a few names, or of a type and within a range. And how messages list names."""

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from inspect import signature
from typing import Annotated, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

MOST = 20  # names in a message
WORDS = {  # of pydantic, and ours
    **dict.fromkeys(("Input should", "Tuple should", "Value should"), "must"),
    **{"a valid integer": "a whole number", "a valid tuple": "a list", "a valid dictionary": "a mapping"},
    **{
        "Field required": "is missing",
        "Extra inputs are not permitted": "is unknown",
        " after validation": "",
        "Value error, ": "",
    },
}
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)

# Numbers within a range; none may be infinite or NaN.
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def require_choice(option: str, value: object, choices: Collection[str]) -> None:
    """Check that `value` is one of `choices`.

    Example: `require_choice("gate", "sigmod", ("relu", "sigmoid"))` fails with
    "gate='sigmod' is none of 'relu', 'sigmoid'; did you mean 'sigmoid'?".

    Raises:
        ValueError: it is not one of them. The message names the choices.
    """
    if value in tuple(choices):
        return
    near = get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{option}={value!r} is none of {listed(map(repr, choices))}{hint}")


def listed(names: Iterable[str], most: int = MOST) -> str:
    """The first `most` names with commas between them, and how many more there are: "a, b and 7 more"."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def require_types(what: str, owner: Callable, values: Mapping[str, object]) -> None:
    """Check values by name against the annotations of a dataclass, or of a function's arguments.

    Nothing is converted: "no" is no bool, True is no number, and 2.0 is no int. A list may stand for a tuple. An
    annotation such as `Positive` also gives a range.

    Example: `require_types("recipe", Recipe, {"epochs": 0})` fails with
    "recipe: epochs must be greater than or equal to 1, got 0".

    Raises:
        ValueError: the first value of another type or out of its range.
    """
    for name, value in values.items():
        _check(f"{what}: {name}", _validator(owner, name), value)


def require_options(what: str, network: type, options: Mapping[str, object]) -> None:
    """Check options of a network against its constructor, whose argument `num_keypoints` is none of them.

    Raises:
        ValueError: an option is unknown, of another type or out of its range. The message names it.
    """
    known = [name for name in signature(network).parameters if name != "num_keypoints"]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"{what} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    require_types(what, network.__init__, options)


def require_layout(what: str, layout: type, value: dict) -> None:
    """Check nested mappings by a `TypedDict`, as `require_types` checks values.

    Raises:
        ValueError: the message names the place of the first wrong value by its keys.
    """
    _check(f"{what}:", TypeAdapter(layout), value)


def _check(place: str, validator: TypeAdapter, value: object) -> None:
    try:
        validator.validate_python(_frozen(value))
    except ValidationError as error:
        found = error.errors()[0]
        parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
        place = place + (parts.replace(".", " ", 1) if place.endswith(":") else parts)
        got = "" if found["type"] == "missing" else f", got {found['input']!r:.200}"
        for theirs, ours in WORDS.items():
            found["msg"] = found["msg"].replace(theirs, ours)
        raise ValueError(f"{place} {found['msg']}{got}") from None


@cache
def _validator(owner: Callable, name: str) -> TypeAdapter:
    return TypeAdapter(get_type_hints(owner, include_extras=True)[name], config=STRICT)


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
