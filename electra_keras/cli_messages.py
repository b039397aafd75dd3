"""What the command line says about words it does not know and values it does not get."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from electra_keras.config_loading import closest
from electra_keras.errors import ConfigError


def refuse_unknown_words(argv: Sequence[str], options_of: Mapping[str, Iterable[str]]) -> None:
    """Names the near-miss of a mistyped command or option, before argparse complains of what it then misses.

    Args:
        argv: the command line without the program's name.
        options_of: command -> its options, with their dashes.

    Raises:
        ConfigError: the command or an option is unknown.
    """
    if not argv or argv[0] in ("-h", "--help", "--version"):
        return
    command = argv[0]
    if command.startswith("-"):
        match = difflib.get_close_matches(command, ["--help", "--version"], n=1)
        hint = f"Did you mean {match[0]}?" if match else f"Give a command first: {', '.join(options_of)}."
        raise ConfigError(f"unknown option {command}. {hint}")
    if command not in options_of:
        match = difflib.get_close_matches(command, options_of, n=1)
        hint = f" Did you mean {match[0]}?" if match else ""
        raise ConfigError(f"unknown command {command!r}; the commands are {', '.join(options_of)}.{hint}")
    known = {"--help", *options_of[command]}
    for word in argv[1:]:
        name = word.partition("=")[0]
        if name == "--":
            return
        # With a space in it, argparse too takes the word for a value.
        if name.startswith("--") and name not in known and " " not in name:
            match = closest(name.removeprefix("--"), [option.removeprefix("--") for option in known])
            hint = f"Did you mean --{match}?" if match else f"`electra-keras {command} --help` lists the options."
            raise ConfigError(f"unknown option {name}. {hint}")


def plain_message(message: str, commands: Iterable[str]) -> str:
    """Says a complaint of jsonargparse in the words of the command line, with the remedy."""
    if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
        names = [f"--{name.rsplit('.', 1)[-1]}" for name in missing[1].split(", ")]
        return f"missing: {', '.join(names)}. Give {'it' if len(names) == 1 else 'them'}, or see --help."
    if '"subcommand"' in message:
        return f"give a command: {', '.join(commands)}. `electra-keras COMMAND --help` lists its options."
    if valueless := re.match(r"argument (\S+): expected (?:one|at least one) argument", message):
        return f"{valueless[1]} needs a value; one that begins with a dash is written {valueless[1]}=-value."
    if wrong := re.match(r"Parser key \"(.+?)\":\s+Expected a <class 'bool'>. Got value: (.*)", message):
        return f"--{wrong[1]} is {wrong[2]}; it must be true or false."
    return " ".join(message.split())
