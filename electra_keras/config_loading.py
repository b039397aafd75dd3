"""Configurations from YAML files and the command line, and back into YAML.

Values are merged in this order, later ones winning: the fields' own defaults, the recipe's, the YAML file's, the
overrides. Every value passes the same check wherever it came from, so a file and a command line are refused in the same
words. jsonargparse converts the types; it also reads `5e-4` as a number, which YAML 1.1 itself takes for a string.

Relative paths inside a configuration (`corpus.files`, `tokenizer.vocab_file`, `model.init_from`) count from the current
directory, not from the YAML file's, so that a file and the same option on the command line mean the same thing.
"""

import argparse
import dataclasses
import difflib
import json
import math
import os
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import jsonargparse
import yaml

from electra_keras.config import RECIPES, Config, to_dict
from electra_keras.config_sections import Section, check_range, choices_of
from electra_keras.errors import ConfigError
from electra_keras.files import atomic_open
from electra_keras.yaml_reading import read_yaml


def load_config(path: str | os.PathLike | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Builds the configuration of a run.

    Args:
        path: YAML file with a mapping of sections; None for the defaults alone.
        overrides: dotted field name -> value, as in `{"training.num_steps": 10}`; a string is converted to the field's type. A corpus
            among them, of files or on the hub, takes the place of the file's, of whichever kind that is.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, or a value has the wrong type or range.
    """
    fields = config_fields()
    given: dict[str, tuple[Any, str]] = {}
    if path is not None:
        for name, value in _flatten(read_yaml(path), str(path)).items():
            given[name] = (_convert(fields, name, value, str(path), from_text=False), f"{path}: ")
    chosen = {name: (_convert(fields, name, value, "", from_text=True), "") for name, value in (overrides or {}).items()}
    given |= _without_other_corpus(chosen) | chosen
    recipe = given["recipe"][0] if "recipe" in given else Config.recipe
    values = {name: (value, f"recipe {recipe}: ") for name, value in RECIPES[recipe].items()} | given
    for name, (value, where) in values.items():
        _check_bounds(fields[name][0], name, value, where)
    return _build(Config, "", {name: value for name, (value, _) in values.items()}, f"{path}: " if path is not None else "")


def save_config(config: Config, path: str | os.PathLike) -> None:
    """Writes every field to a YAML file, atomically; `load_config` of that file gives an equal configuration.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_open(path) as file:
        yaml.safe_dump(to_dict(config), file, sort_keys=False, allow_unicode=True, width=120)


def config_differences(old: Config, new: Config) -> list[str]:
    """Returns one line a field that differs, such as "training.num_steps: 10 -> 20", in the order of the fields."""
    names = config_fields()
    before, after = flat_values(old), flat_values(new)
    return [f"{name}: {_shown(before[name])} -> {_shown(after[name])}" for name in names if before[name] != after[name]]


def flat_values(config: Config) -> dict[str, Any]:
    """Returns dotted field name -> value of a whole configuration."""
    return {name: _value_at(config, name) for name in config_fields()}


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds every configuration field to a parser as `--section.field`.

    Values stay strings, and absent options leave nothing behind: `load_config` converts, checks and fills in.
    """
    for name, (field, kind) in config_fields().items():
        parser.add_argument(
            f"--{name}",
            default=argparse.SUPPRESS,
            nargs="+" if _is_list(kind) else None,
            metavar=_metavar(kind),
            help=_help_text(field, kind).replace("%", "%%"),
        )


def given_overrides(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Picks the configuration fields out of parsed arguments, given as dotted name -> value."""
    return {name: arguments[name] for name in config_fields() if name in arguments}


def config_fields() -> dict[str, tuple[dataclasses.Field, Any]]:
    """Returns dotted name -> (dataclass field, type) of every configuration field, in the order of declaration."""
    return dict(_walk(Config, ""))


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known dotted name that `name` most likely meant, or None.

    A name without a section is first looked for among the fields' last parts, so that `num_step` finds `training.num_steps`.
    """
    known = list(known)
    if "." not in name:
        leaves = {other.rsplit(".", 1)[-1]: other for other in reversed(known)}
        if match := difflib.get_close_matches(name, leaves, n=1, cutoff=0.75):
            return leaves[match[0]]
    match = difflib.get_close_matches(name, known, n=1)
    return match[0] if match else None


def _walk(section: type[Section], prefix: str) -> Iterable[tuple[str, tuple[dataclasses.Field, Any]]]:
    for field in dataclasses.fields(section):
        if _is_section(field.type):
            yield from _walk(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", (field, field.type)


def _section_names(section: type[Section] = Config, prefix: str = "") -> Iterable[str]:
    for field in dataclasses.fields(section):
        if _is_section(field.type):
            yield f"{prefix}{field.name}"
            yield from _section_names(field.type, f"{prefix}{field.name}.")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _flatten(content: Mapping[Any, Any], path: str) -> dict[str, Any]:
    """Turns nested sections into dotted names; a section left empty counts as absent."""
    sections = set(_section_names())
    flat: dict[str, Any] = {}

    def visit(mapping: Mapping[Any, Any], prefix: str) -> None:
        for key, value in mapping.items():
            name = f"{prefix}{key}"
            if name in sections and isinstance(value, Mapping):
                visit(value, f"{name}.")
            elif name in sections and value is not None:
                raise ConfigError(f"{path}: {name} is {reprlib.repr(value)}, but it is a section; write its fields indented below it.")
            elif name in flat:
                raise ConfigError(f"{path}: {name} is given twice; keep one.")
            elif name not in sections:
                flat[name] = value

    visit(content, "")
    return flat


def _convert(fields: Mapping[str, Any], name: str, value: Any, source: str, *, from_text: bool) -> Any:
    """Returns a value in its field's type, or raises ConfigError; from_text: "null" is None even where a string may stand."""
    where = f"{source}: " if source else ""
    if name not in fields:
        match = closest(name, [*fields, *_section_names()])
        remedy = f"Did you mean {match}?" if match else "Run `electra-keras pretrain --help` for all fields."
        raise ConfigError(f"{where}unknown field {name}. {remedy}")
    kind = fields[name][1]
    if isinstance(value, str) and not from_text and str in (kind, *typing.get_args(kind)) and not _is_list(kind):
        return value
    # A parser for every field of a file would take a quarter of a second.
    converted = value if type(value) is kind and not from_text else _parsed(where, name, kind, value)
    # jsonargparse lets None stand for "not given" in any type; a number must also be one that can be compared.
    refused = converted is None and type(None) not in typing.get_args(kind)
    if refused or (isinstance(converted, float) and not math.isfinite(converted)):
        raise ConfigError(f"{where}{_type_complaint(name, kind, value)}")
    return converted


def _parsed(where: str, name: str, kind: Any, value: Any) -> Any:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        return parser.parse_object({"value": value}).value
    except argparse.ArgumentError:
        raise ConfigError(f"{where}{_type_complaint(name, kind, value)}") from None


def _without_other_corpus(chosen: Mapping[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """Returns the emptied field of the kind of corpus that was not chosen, where the other one was."""
    instead = {"corpus.files": ("corpus.hub", None), "corpus.hub": ("corpus.files", [])}
    return {other: (empty, "") for name, (other, empty) in instead.items() if name in chosen and chosen[name][0]}


def _type_complaint(name: str, kind: Any, value: Any) -> str:
    choices = choices_of(kind)
    if choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"{name} is {reprlib.repr(value)}; it must be one of {', '.join(choices)}.{hint}"
    core = next((part for part in typing.get_args(kind) if part is not type(None)), kind) if _is_union(kind) else kind
    wanted = {
        int: "a whole number written in digits, such as 1000000 (not 1e6)",
        float: "a finite number, such as 0.0005 or 5e-4",
        bool: "true or false",
        str: 'text; put it in quotes ("no", "on" and plain numbers are not text in YAML)',
    }.get(core, "a list of texts, such as [a.txt, b.txt]")
    nullable = ", or null" if type(None) in typing.get_args(kind) else ""
    shown = "null" if value is None else reprlib.repr(value)
    return f"{name} is {shown}; it must be {wanted}{nullable}."


def _check_bounds(field: dataclasses.Field, name: str, value: Any, where: str) -> None:
    try:
        check_range(field, value)
    except ConfigError as error:
        # check_range names the field alone; its section goes in front.
        raise ConfigError(f"{where}{name.removesuffix(field.name)}{error}") from None


def _build(section: type[Section], prefix: str, values: Mapping[str, Any], where: str) -> Any:
    """Constructs a section and those in it from dotted values."""
    arguments = {}
    for field in dataclasses.fields(section):
        name = f"{prefix}{field.name}"
        if _is_section(field.type):
            arguments[field.name] = _build(field.type, f"{name}.", values, where)
        elif name in values:
            arguments[field.name] = values[name]
    try:
        return section(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}{f'section {prefix[:-1]}: ' if prefix else ''}{error}") from None


def _value_at(config: Section, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _shown(value: Any) -> str:
    """Returns a value as YAML spells it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list


def _metavar(kind: Any) -> str:
    choices = choices_of(kind)
    if choices:
        return "{" + ",".join(choices) + "}"
    parts = [part for part in typing.get_args(kind) if part is not type(None)] if _is_union(kind) else [kind]
    return {int: "INTEGER", float: "NUMBER", bool: "{true,false}", str: "TEXT"}.get(parts[0], "TEXT")


def _help_text(field: dataclasses.Field, kind: Any) -> str:
    words = {"minimum": "at least", "maximum": "at most", "above": "above", "below": "below"}
    bounds = [f"{text} {field.metadata[name]}" for name, text in words.items() if name in field.metadata]
    default = field.default_factory() if field.default is dataclasses.MISSING else field.default
    shown = (" ".join(default) or "none") if _is_list(kind) else _shown(default)
    return f"{field.metadata['help']} ({'; '.join([*bounds, f'default: {shown}'])})"
