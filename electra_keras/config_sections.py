"""What sections of the configuration are made of: fields that say what they mean, and refuse values they cannot work with."""

import dataclasses
from typing import Any, Literal, get_args, get_origin

from electra_keras.errors import ConfigError


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """Declares a field: its default, its meaning with the unit, and the range checked on construction.

    Args:
        default: the value when a configuration is silent; lists are copied for every instance.
        help: one line for `--help`, with the unit.
        minimum: smallest value allowed.
        maximum: largest value allowed.
        above: the value must be larger than this.
        below: the value must be smaller than this.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, **{name: bound for name, bound in bounds.items() if bound is not None}}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Section:
    """Base of all sections: checks every field's range and choices when it is constructed."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_range(field, getattr(self, field.name))
            check_choice(field, getattr(self, field.name))


def check_range(field: dataclasses.Field, value: Any) -> None:
    """Raises ConfigError when a number lies outside the range declared at its field."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    relations = {
        "minimum": (lambda bound: value >= bound, "at least"),
        "maximum": (lambda bound: value <= bound, "at most"),
        "above": (lambda bound: value > bound, "above"),
        "below": (lambda bound: value < bound, "below"),
    }
    for name, (holds, words) in relations.items():
        if name in field.metadata and not holds(field.metadata[name]):
            raise ConfigError(f"{field.name} is {value}; it must be {words} {field.metadata[name]}.")


def check_choice(field: dataclasses.Field, value: Any) -> None:
    """Raises ConfigError when a field has a few possible values and this is none of them."""
    choices = choices_of(field.type)
    if choices and value not in choices and not (value is None and type(None) in get_args(field.type)):
        raise ConfigError(f"{field.name} is {value!r}; it must be one of {', '.join(choices)}.")


def choices_of(kind: Any) -> list[str]:
    """Returns the few possible values of a field's type, beside null; none where it has others."""
    return [choice for part in (kind, *get_args(kind)) if get_origin(part) is Literal for choice in get_args(part)]
