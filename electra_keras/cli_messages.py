"""What the command line says: about words it does not know, values it does not get, and what its figures mean."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from electra_keras.config_loading import closest
from electra_keras.errors import ConfigError

# What `evaluate` measures, for whoever sees it the first time.
EXPLANATIONS = {
    "generator_loss": "nats a masked token; the higher, the easier its replacements are to find",
    "generator_accuracy": "share of masked tokens that the generator fills in right",
    "detection_loss": "nats a token; lower is better",
    "replaced_fraction": "share of tokens that are replaced",
    "detection_auc": "chance that a replaced token is ranked above an original one; 1 is perfect, 0.5 is guessing",
    "average_precision": "area under the precision-recall curve; guessing gives the share replaced",
    "precision": "share of the tokens called replaced (probability 0.5 or more) that are",
    "recall": "share of the replaced tokens that are called so",
    "accuracy": "share of tokens judged right; misleads, since calling every token original scores high",
    "calibration_error": "how far probabilities lie from what they promise; 0 is best",
    "num_examples": "measured on so many sequences",
    "num_tokens": "and so many tokens, without padding",
}


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


def plain_message(message: str, commands: Iterable[str], command: str | None = None) -> str:
    """Says a complaint of jsonargparse in the words of the command line, with the remedy.

    Args:
        message: the complaint.
        commands: all commands.
        command: the one that was given, where it is one of them.
    """
    if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
        names = [f"--{name.rsplit('.', 1)[-1]}" for name in missing[1].split(", ")]
        return f"missing: {', '.join(names)}. Give {'it' if len(names) == 1 else 'them'}, or see --help."
    if '"subcommand"' in message:
        return f"give a command: {', '.join(commands)}. `electra-keras COMMAND --help` lists its options."
    if valueless := re.match(r"argument (\S+): expected (?:one|at least one) argument", message):
        return f"{valueless[1]} needs a value; one that begins with a dash is written {valueless[1]}=-value."
    if wrong := re.match(r"Parser key \"(.+?)\":\s+Expected a <class 'bool'>. Got value: (.*)", message):
        return f"--{wrong[1]} is {wrong[2]}; it must be true or false."
    plain = " ".join(message.split())
    if plain.startswith("unrecognized arguments: "):
        remedy = "Give text with --text, or a file with --file; put text with spaces in quotes."
        return f"{plain}. {remedy if command == 'detect' else f'`electra-keras {command} --help` lists the options.'}"
    if choice := re.fullmatch(r"argument \S+: invalid choice: '(.*)' \(choose from (.*)\)", plain):
        match = closest(choice[1], choice[2].replace("'", "").split(", "))
        return f"{plain}. Did you mean {match}?" if match else plain
    return plain


def explained_figures(figures: Mapping[str, float | None]) -> list[str]:
    """Returns a table of measured figures, each line with its name, its value and what it means.

    Args:
        figures: name -> value; None, where there was nothing to measure, is shown as a dash.
    """
    values = {name: "-" if value is None else format(value, ",d" if isinstance(value, int) else ".4f") for name, value in figures.items()}
    name_width, value_width = max(map(len, values)), max(map(len, values.values()))
    return [f"{name:<{name_width}}  {value:>{value_width}}  {EXPLANATIONS.get(name, '')}".rstrip() for name, value in values.items()]
