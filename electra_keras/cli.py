"""The command line: `electra-keras`, or `python -m electra_keras`.

Only the standard library, jsonargparse and the configuration are imported here; every command imports what it runs when
it runs, so that `--help` answers at once and the backend is chosen before keras is imported.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jsonargparse

from electra_keras import __version__, terminal
from electra_keras.backend import is_installed
from electra_keras.cli_exchange import EXPORT_OPTIONS, FINISHED_RUN, IMPORT_OPTIONS, PUSH_OPTIONS, export, import_model, push
from electra_keras.cli_messages import explained_figures, plain_message, refuse_unknown_words
from electra_keras.config import Config, check_one_source
from electra_keras.config_loading import add_config_arguments, config_fields, given_overrides, load_config
from electra_keras.errors import ConfigError, UserError
from electra_keras.files import MENDABLE
from electra_keras.process import compute_in_asking_thread, load_backend
from electra_keras.standard_output import lasting_output, reports_on_stderr
from electra_keras.text_lines import check_text_file, line_batches, typed_lines


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments without the program's name; None for the process' own.

    Returns:
        The exit code: 0; 2 when something the user gave cannot be used, with one message on stderr; 128 plus its number when a
        signal stopped the command (Ctrl-C: 130).
    """
    # In a pipe or a log file, too, a line shall be there as soon as it is printed, and before the error that may follow. Names of files
    # and text may hold what the stream cannot spell.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        _run(sys.argv[1:] if argv is None else list(argv))
        # Where nobody reads its help, argparse keeps the error to itself; it comes again here.
        print(end="", flush=True)
        return 0
    except SystemExit as finished:
        # A training run that a signal has stopped.
        return int(finished.code or 0)
    except UserError as error:
        print(f"electra-keras: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("electra-keras: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in MENDABLE:
            # A bug, which keeps its traceback.
            raise
        place = f": {error.filename}" if error.filename else ""
        print(f"electra-keras: error: {error.strerror}{place}. Free some space, or choose another folder or name.", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> None:
    refuse_unknown_words(argv, {name: command.known_options() for name, command in _COMMANDS.items()})
    try:
        arguments = build_parser().parse_args(argv).as_flat()
    except argparse.ArgumentError as error:
        raise ConfigError(plain_message(str(error), _COMMANDS, next(iter(argv), None))) from None
    except SystemExit:
        return  # --help and --version have been printed.
    command = _COMMANDS[arguments.subcommand]
    prefix = f"{arguments.subcommand}."
    command.run({name.removeprefix(prefix): value for name, value in vars(arguments).items() if name.startswith(prefix)})


def prepare(arguments: Mapping[str, Any]) -> None:
    """Turns the corpus into shards of examples."""
    config = load_config(arguments["config"], given_overrides(arguments))
    check_one_source(config.corpus)

    from electra_keras.data.prepare import prepare as prepare_data

    with lasting_output():
        prepare_data(config, arguments["out_dir"])


def pretrain(arguments: Mapping[str, Any]) -> None:
    """Trains a run directory."""
    overrides = given_overrides(arguments)
    wanted = overrides.pop("backend", None)
    config = _training_config(arguments, overrides)
    if load_backend(wanted, config.backend) == "jax":
        compute_in_asking_thread()

    from electra_keras.training.run import pretrain as train

    with lasting_output():
        train(config, arguments["run_dir"], resume=arguments["resume"], data_dir=arguments.get("data_dir"))


def _training_config(arguments: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """Returns what is to be trained: as --config says, or else as the run that --resume goes on with was started."""
    from electra_keras.artifacts import CONFIG, RunDirectory

    run = RunDirectory(arguments["run_dir"])
    goes_on = arguments["resume"] and run.exists()
    if "config" not in arguments and not goes_on:
        reason = f" {run.path} holds no run yet whose configuration --resume could take." if arguments["resume"] else ""
        raise ConfigError(f"missing: --config. Give it, or see --help.{reason}")
    config = load_config(arguments.get("config", run.path / CONFIG), overrides)
    if not goes_on:
        check_one_source(config.corpus)
    return config


def evaluate(arguments: Mapping[str, Any]) -> None:
    """Prints a run's figures on held-out text."""
    if arguments.get("files") is not None and arguments.get("data_dir") is not None:
        raise ConfigError("--files and --data_dir are both given; give one.")

    from electra_keras.artifacts import RunDirectory
    from electra_keras.detector import run_folder

    run = RunDirectory.open(run_folder(arguments["run_dir"]))
    load_backend(arguments.get("backend"), run.config.backend)

    from electra_keras.evaluation import evaluate as measure

    with reports_on_stderr():
        figures = measure(run.path, arguments.get("files"), data_dir=arguments.get("data_dir"))
    if arguments["format"] == "json":
        # JSON has no NaN.
        print(json.dumps({name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}))
        return
    print(*explained_figures(figures), sep="\n")


def detect(arguments: Mapping[str, Any]) -> None:
    """Prints P(replaced) for every token of the given texts."""
    text, file = arguments.get("text"), arguments.get("file")
    if text is not None and file is not None:
        raise ConfigError("--text and --file are both given; give one.")
    if text is not None and not text.strip():
        raise UserError("--text is empty. Give some text to score.")
    if file is not None:
        check_text_file(file)

    from electra_keras.detector import Detector, is_pretrained_elsewhere, newest_run, open_run

    model = arguments.get("model") or newest_run()
    run = None if is_pretrained_elsewhere(model) else open_run(model)
    recorded = run.config.backend if run is not None else None
    # A run can be scored on any backend: one that its own machine has, and this one lacks, is no reason to fail.
    load_backend(arguments.get("backend"), recorded if recorded and is_installed(recorded) else None)
    with reports_on_stderr():
        detector = Detector.load(model if run is None else run.path)
    with contextlib.ExitStack() as stack:
        if text is not None:
            batches: Iterable[list[str]] = [[text]]
        elif file is not None:
            batches = line_batches(stack.enter_context(open(file, "rb")), file)
        else:
            batches = typed_lines()
        for lines in _formatted(map(detector.score_batch, batches), arguments["format"], refuse_empty=text is not None):
            print("\n".join(lines))


def _formatted(batches: Iterable[Sequence[Any]], output_format: str, *, refuse_empty: bool) -> Iterator[list[str]]:
    """Yields output lines for every batch of detections, after setting standard output up for them."""
    color = output_format == "text" and terminal.use_color(sys.stdout)
    if output_format == "json":
        # JSON is UTF-8 whatever the locale says.
        sys.stdout.reconfigure(encoding="utf-8")
    heading = [terminal.legend()] if color else []
    for detections in batches:
        if refuse_empty and not detections[0].tokens:
            raise UserError("--text holds no tokens, only white space or control characters. Give some text to score.")
        if output_format == "json":
            yield [json.dumps([token._asdict() for token in detection.tokens], ensure_ascii=False) for detection in detections]
        else:
            yield [*heading, *(terminal.render(detection.text, detection.tokens, color=color) for detection in detections)]
        heading = []


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: what it runs, and its options beside the configuration's fields."""

    run: Callable[[Mapping[str, Any]], None]
    help: str
    options: Mapping[str, Mapping[str, Any]]
    takes_config: bool = False

    def known_options(self) -> list[str]:
        """Returns every option's name, with its dashes."""
        return [*self.options, *(f"--{name}" for name in (config_fields() if self.takes_config else ()))]


_CONFIG = {
    "required": True,
    "metavar": "C.yaml",
    "help": "configuration; configs/ holds ready ones, and every --section.field overrides it",
}
_PRETRAIN_CONFIG = {
    **_CONFIG,
    # Checked once it is known whether there is a run to go on with.
    "required": False,
    "help": f"{_CONFIG['help']}; with --resume, by default the config.yaml of the run in --run_dir",
}
_DATA_DIR = {"metavar": "D", "help": "folder of prepared data (default: data in the run's folder)"}
_BACKEND = {"metavar": "{jax,tensorflow,torch}", "help": "Keras backend; wins over KERAS_BACKEND and the run's"}
_COMMANDS = {
    "prepare": Command(
        prepare,
        "turn the corpus into examples on disk",
        {
            "--config": _CONFIG,
            "--out_dir": {"required": True, "metavar": "D", "help": "folder for the shards; reused when nothing has changed"},
        },
        takes_config=True,
    ),
    "pretrain": Command(
        pretrain,
        "train a generator and a discriminator",
        {
            "--config": _PRETRAIN_CONFIG,
            "--run_dir": {"required": True, "metavar": "D", "help": "folder of the run"},
            "--resume": {
                "type": bool,
                "nargs": "?",
                "const": True,
                "default": False,
                "help": "continue the run in --run_dir, without --config as it was started; or start it where there is none",
            },
            "--data_dir": _DATA_DIR,
        },
        takes_config=True,
    ),
    "evaluate": Command(
        evaluate,
        "measure a run on held-out text",
        {
            "--run_dir": FINISHED_RUN,
            "--files": {"nargs": "+", "metavar": "F", "help": "text to evaluate on (default: the run's own validation part)"},
            "--data_dir": _DATA_DIR,
            "--format": {"choices": ["table", "json"], "default": "table", "help": "table, or one JSON object"},
            "--backend": _BACKEND,
        },
    ),
    "detect": Command(
        detect,
        "show which tokens look replaced",
        {
            "--model": {
                "metavar": "D",
                "help": "a run's folder, its name under runs/ (default: the newest there), or a pretrained discriminator",
            },
            "--text": {"metavar": "T", "help": "the text to score"},
            "--file": {"metavar": "F", "help": "UTF-8 file to score line by line (default: standard input)"},
            "--format": {
                "choices": ["text", "json"],
                "default": "text",
                "help": "text: tokens shaded by probability; json: a list of {token, start, end, probability} for every input line",
            },
            "--backend": _BACKEND,
        },
    ),
    "import": Command(import_model, "make a run of a pretrained model", IMPORT_OPTIONS),
    "export": Command(export, "write a run's models for another library, or as a detector for inference", EXPORT_OPTIONS),
    "push": Command(push, "upload a run's models to the Hugging Face hub", PUSH_OPTIONS),
}


def build_parser() -> jsonargparse.ArgumentParser:
    """Returns the parser of all commands; it raises argparse.ArgumentError instead of leaving the process."""
    parser = jsonargparse.ArgumentParser(
        prog="electra-keras",
        description="ELECTRA pre-training in Keras 3: raw text in, a trained encoder and a replaced-token detector out.",
        exit_on_error=False,
        allow_abbrev=False,
        version=__version__,
    )
    subcommands = parser.add_subcommands(metavar="COMMAND")
    for name, command in _COMMANDS.items():
        part = jsonargparse.ArgumentParser(description=command.help, exit_on_error=False, allow_abbrev=False)
        for option, settings in command.options.items():
            part.add_argument(option, **{"default": argparse.SUPPRESS, **settings})
        if command.takes_config:
            add_config_arguments(part)
        subcommands.add_subcommand(name, part, help=command.help)
    return parser
