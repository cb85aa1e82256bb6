"""The one check that networks make on options that name one of a few ways."""

from collections.abc import Collection


def require_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError, naming the choices, unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{option}={value!r} is none of {', '.join(map(repr, choices))}")
