"""YAML files read strictly: plain data, one mapping, no key lost."""

import os
import pathlib
from typing import Any

import yaml

from electra_keras.errors import ConfigError


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a YAML file that holds one mapping.

    A key that stands twice is refused, since YAML would drop the first silently.

    Raises:
        ConfigError: the file is missing, unreadable, empty, not UTF-8, not YAML, or not a mapping; names the line where there is one.
    """
    text = _read_text(path)
    try:
        # A subclass of SafeLoader: plain data only, no Python objects.
        content = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem or error.context}. Correct that line.") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a configuration: nested too deeply. Write it as configs/ does.") from None
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: an impossible date, for one, which YAML tries to build.
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}. Give a YAML configuration.") from None
    if content is None:
        raise ConfigError(f"{path} is empty. Give a YAML configuration, for example one from configs/.")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not sections with fields. Write it as configs/ does.")
    return content


def _read_text(path: str | os.PathLike) -> str:
    try:
        # utf-8-sig: some editors put a byte order mark in front.
        return pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}. Check the path; configs/ holds ready ones.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a YAML file: it is not UTF-8 text. Give a YAML configuration.") from None
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL character.
        raise ConfigError(f"Cannot read the configuration file {path}: {error}. Give a readable YAML file.") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice in its section", key.start_mark)
            seen.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep=deep)
