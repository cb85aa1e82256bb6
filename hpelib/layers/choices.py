"""The one check of an option that must be one of a few names, and how messages list names."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

MOST = 20  # names in a message


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
