import contextlib
import dataclasses
import errno
import inspect
import io
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

from electra_keras import __version__, cli, errors, process
from electra_keras import detector as detector_module
from electra_keras.artifacts import RunDirectory
from electra_keras.cli import main
from electra_keras.config import Config, CorpusConfig, ObjectiveConfig
from electra_keras.config_loading import save_config
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.detector import Detection, TokenScore

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch, tmp_path):
    """A folder of its own, no colour, and a backend choice that is only recorded."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # Set here, so that what commands make of them is undone.
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    monkeypatch.setenv("XLA_FLAGS", "")
    chosen = []
    monkeypatch.setattr(process, "choose_backend", lambda argument, config: chosen.append((argument, config)) or "jax")
    monkeypatch.setattr(process, "import_keras_without_extras", lambda: None)
    monkeypatch.setattr(cli, "is_installed", lambda name: True)
    return chosen


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("recipe: modern\nbackend: torch\ntraining: {seed: 3}\n")
    return str(path)


def replace_function(monkeypatch, module, name, function):
    """Puts a function in the place of one that the command line imports when it needs it."""
    replacement = types.ModuleType(module)
    setattr(replacement, name, function)
    monkeypatch.setitem(sys.modules, module, replacement)


def error_of(capsys, argv):
    """Runs a command that must fail and returns its one message."""
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("electra-keras: error: ") and output.err.count("\n") == 1, output.err
    return output.err.removeprefix("electra-keras: error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give a command: prepare, pretrain, evaluate, detect, import, export, push."),
        (
            ["detct"],
            "unknown command 'detct'; the commands are prepare, pretrain, evaluate, detect, import, export, push. Did you mean detect?",
        ),
        (["qqq"], "unknown command 'qqq'; the commands are prepare, pretrain, evaluate, detect, import, export, push."),
        (["--hepl"], "unknown option --hepl. Did you mean --help?"),
        (["detect", "--txt", "a"], "unknown option --txt. Did you mean --text?"),
        (["detect", "--zzz=1"], "unknown option --zzz. `electra-keras detect --help` lists the options."),
        (["detect", "--text"], "--text needs a value; one that begins with a dash is written --text=-value."),
        (["detect", "two", "words"], "unrecognized arguments: two words. Give text with --text, or a file with --file;"),
        (["detect", "--format", "jsn"], "(choose from 'text', 'json'). Did you mean json?"),
        (["detect", "--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (["detect", "--text", ""], "--text is empty. Give some text to score."),
        (["detect", "--text", " \n"], "--text is empty. Give some text to score."),
        (["detect", "--text", "a", "--file", "b"], "--text and --file are both given; give one."),
        (["detect", "--file", "absent.txt"], "There is no file absent.txt."),
        (["detect", "--text", "a", "--model", "a" * 300], f"File name too long: {'a' * 300}. Free some space, or choose another folder or"),
        (["detect", "--text", "a", "--model", "absent"], "There is no run directory absent, nor runs/absent."),
        (["detect", "--text", "a"], "There is no finished run in runs/ yet. Train one with `make demo`"),
        (["evaluate"], "missing: --run_dir. Give it, or see --help."),
        (["evaluate", "--run_dir", "absent"], "There is no run directory absent, nor runs/absent."),
        (["evaluate", "--run_dir", "r", "--files", "a", "--data_dir", "d"], "--files and --data_dir are both given; give one."),
        (["pretrain", "--conifg", "c", "--run_dir", "r"], "unknown option --conifg. Did you mean --config?"),
        (["pretrain"], "missing: --run_dir. Give it, or see --help."),
        (["pretrain", "--run_dir", "r"], "missing: --config. Give it, or see --help."),
        (["pretrain", "--run_dir", "r", "--resume=false"], "missing: --config. Give it, or see --help."),
        (["pretrain", "--run_dir", "r", "--resume"], "missing: --config. Give it, or see --help. r holds no run yet whose configuration"),
        (["pretrain", "--config", "absent.yaml", "--run_dir", "r"], "There is no configuration file absent.yaml."),
        (["prepare", "--config", "C", "--run_dir", "o"], "unknown option --run_dir."),
    ],
)
def test_bad_input_is_one_message_with_the_remedy_and_exit_code_2(capsys, config_file, tmp_path, argv, message):
    before = sorted(os.listdir(tmp_path))
    assert message in error_of(capsys, [config_file if word == "C" else word for word in argv])
    assert sorted(os.listdir(tmp_path)) == before, "something was written"


@pytest.mark.parametrize("command", [["pretrain", "--run_dir", "new"], ["prepare", "--out_dir", "new"]])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--training.num_step", "5"], "unknown option --training.num_step. Did you mean --training.num_steps?"),
        (["--num_steps=5"], "unknown option --num_steps. Did you mean --training.num_steps?"),
        (["--packing.sequence", "9"], "unknown option --packing.sequence. Did you mean --packing.sequence_length?"),
        (["--corpus", "{}"], "unknown option --corpus."),
        (["--corpus.files"], "--corpus.files needs a value"),
        (["--training.num_steps", "1e6"], "training.num_steps is '1e6'; it must be a whole number written in digits"),
        (["--training.num_steps", "many"], "training.num_steps is 'many'; it must be a whole number"),
        (["--training.num_steps="], "training.num_steps is ''; it must be a whole number"),
        (["--masking.train.mask_prob", "1"], "masking.train.mask_prob is 1.0; it must be below 1"),
        (["--model.hidden_dim", "130"], "section model: hidden_dim 130 is not divisible by num_heads 4"),
        (["--corpus.files", "a.txt", "--corpus.hub", "owner/name"], "corpus.files and corpus.hub are both set; set one."),
        (["--packing.sequence_length", "1024"], "packing.sequence_length 1024 is over model.max_positions 512"),
    ],
)
def test_a_bad_field_on_the_command_line_is_named_with_the_remedy(capsys, config_file, tmp_path, command, words, message):
    assert message in error_of(capsys, [*command, "--config", config_file, *words])
    assert not (tmp_path / "new").exists()


def test_resume_is_true_or_false(capsys, config_file):
    message = error_of(capsys, ["pretrain", "--config", config_file, "--run_dir", "r", "--resume", "maybe"])
    assert message == "--resume is maybe; it must be true or false."


def test_a_bad_configuration_file_is_named(capsys, tmp_path):
    (tmp_path / "bad.yaml").write_text("training: {num_stpes: 5}\n")
    message = error_of(capsys, ["pretrain", "--config", "bad.yaml", "--run_dir", "r"])
    assert message == "bad.yaml: unknown field training.num_stpes. Did you mean training.num_steps?"


@pytest.mark.parametrize("kind", [value for _, value in inspect.getmembers(errors, inspect.isclass)], ids=lambda kind: kind.__name__)
def test_every_user_error_is_a_message_without_a_traceback(capsys, monkeypatch, config_file, kind):
    def fail(config, out_dir):
        raise kind("what, where, remedy")

    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", fail)
    assert error_of(capsys, ["prepare", "--config", config_file, "--out_dir", "o"]) == "what, where, remedy"


@pytest.mark.parametrize(
    ("code", "file", "words"),
    [
        (errno.ENOSPC, "shard.npy", "No space left on device: shard.npy"),
        (errno.ENOSPC, None, "No space left on device"),
        (errno.EACCES, "shard.npy", "Permission denied: shard.npy"),
    ],
)
def test_a_full_or_forbidden_disk_is_a_message(capsys, monkeypatch, config_file, code, file, words):
    def fail(config, out_dir):
        raise OSError(code, os.strerror(code), file)

    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", fail)
    assert error_of(capsys, ["prepare", "--config", config_file, "--out_dir", "o"]).startswith(f"{words}. Free some space")


@pytest.mark.parametrize("bug", [ValueError("bug"), OSError(errno.EBADF, "Bad file descriptor")])
def test_a_bug_keeps_its_traceback(monkeypatch, config_file, bug):
    def fail(config, out_dir):
        raise bug

    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", fail)
    with pytest.raises(type(bug)):
        main(["prepare", "--config", config_file, "--out_dir", "o"])


def test_a_line_can_be_read_as_soon_as_it_is_printed(monkeypatch, config_file):
    raw, seen = io.BytesIO(), []

    def work(config, out_dir):
        print("Read 10 documents.")
        seen.append(raw.getvalue())

    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", work)
    with contextlib.redirect_stdout(io.TextIOWrapper(raw)):
        assert main(["prepare", "--config", config_file, "--out_dir", "o"]) == 0
    assert seen == [b"Read 10 documents.\n"]


def test_ctrl_c_is_one_line_and_exit_code_130(capsys, monkeypatch, config_file):
    def interrupt(config, out_dir):
        raise KeyboardInterrupt

    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", interrupt)
    assert main(["prepare", "--config", config_file, "--out_dir", "o"]) == 130
    assert capsys.readouterr().err == "electra-keras: interrupted.\n"


def test_a_run_that_a_signal_stopped_passes_its_exit_code_on(monkeypatch, config_file):
    def stop(config, run_dir, **options):
        raise SystemExit(143)

    replace_function(monkeypatch, "electra_keras.training.run", "pretrain", stop)
    assert main(["pretrain", "--config", config_file, "--run_dir", "r"]) == 143


def test_prepare_gets_the_resolved_configuration(monkeypatch, quiet_environment, config_file):
    calls = []
    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", lambda *arguments: calls.append(arguments))
    assert main(["prepare", "--config", config_file, "--out_dir", "o", "--corpus.files", "a.txt", "b*.gz", "--training.seed", "5"]) == 0
    ((config, out_dir),) = calls
    assert (out_dir, config.recipe, config.training.seed, config.corpus.files) == ("o", "modern", 5, ["a.txt", "b*.gz"])
    assert quiet_environment == [], "preparing needs no backend"


@pytest.mark.parametrize(
    ("words", "resume", "data_dir", "backends"),
    [
        ([], False, None, (None, "torch")),
        (["--resume"], True, None, (None, "torch")),
        (["--resume", "true"], True, None, (None, "torch")),
        (["--resume=false", "--backend", "tensorflow"], False, None, ("tensorflow", "torch")),
        (["--data_dir", "d", "--resume"], True, "d", (None, "torch")),
    ],
)
def test_pretrain_gets_what_was_asked_for(monkeypatch, quiet_environment, config_file, words, resume, data_dir, backends):
    calls = []

    def train(config, run_dir, *, resume, data_dir):
        calls.append((config.training.seed, run_dir, resume, data_dir, list(quiet_environment)))

    replace_function(monkeypatch, "electra_keras.training.run", "pretrain", train)
    assert main(["pretrain", "--config", config_file, "--run_dir", "r", *words]) == 0
    assert calls == [(3, "r", resume, data_dir, [backends])]


def test_an_unknown_backend_is_refused_by_its_option(capsys, monkeypatch, config_file):
    monkeypatch.undo()
    message = error_of(capsys, ["pretrain", "--config", config_file, "--run_dir", "r", "--backend", "tensorfow"])
    assert message == "--backend is 'tensorfow'; it must be one of jax, tensorflow, torch. Did you mean tensorflow?"


@pytest.fixture
def run(tmp_path):
    config = Config(backend="torch", objective=ObjectiveConfig(name="electra"))
    run = RunDirectory.create(
        tmp_path / "runs" / "demo",
        config,
        WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]),
        {"objective": "electra"},
    )
    run.finish({})
    return run


@pytest.fixture
def measured(monkeypatch):
    calls = []

    def evaluate(run_dir, files, data_dir):
        print("reading 10 examples")
        calls.append((run_dir, files))
        return {"detection_auc": 0.81239, "detection_loss": None, "recall": float("nan"), "num_tokens": 12345}

    replace_function(monkeypatch, "electra_keras.evaluation", "evaluate", evaluate)
    return calls


def test_evaluate_prints_one_json_object(capsys, quiet_environment, run, measured):
    assert main(["evaluate", "--run_dir", str(run.path), "--files", "a.txt", "b.txt", "--format", "json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {"detection_auc": 0.81239, "detection_loss": None, "recall": None, "num_tokens": 12345}
    assert output.err == "reading 10 examples\n"
    assert measured == [(run.path, ["a.txt", "b.txt"])]
    assert quiet_environment == [(None, "torch")], "the run's own backend, unless another is asked for"


def test_evaluate_finds_a_run_by_its_name(run, measured):
    assert main(["evaluate", "--run_dir", "demo"]) == 0
    assert measured == [(pathlib.Path("runs", "demo"), None)]


def test_a_run_goes_on_with_its_own_configuration_and_what_is_given_on_top(monkeypatch, quiet_environment, run):
    seen = []
    replace_function(monkeypatch, "electra_keras.training.run", "pretrain", lambda config, run_dir, **options: seen.append(config))
    assert main(["pretrain", "--run_dir", "runs/demo", "--resume", "true", "--training.num_steps", "7"]) == 0
    training = dataclasses.replace(run.config.training, num_steps=7)
    assert seen == [dataclasses.replace(run.config, training=training)]
    assert quiet_environment == [(None, "torch")]


def test_a_run_that_was_started_with_files_and_a_data_set_goes_on(monkeypatch, run):
    save_config(dataclasses.replace(run.config, corpus=CorpusConfig(files=["a.txt"], hub="owner/name")), run.path / "config.yaml")
    seen = []
    replace_function(monkeypatch, "electra_keras.training.run", "pretrain", lambda config, run_dir, **options: seen.append(config))
    assert main(["pretrain", "--run_dir", "runs/demo", "--resume"]) == 0
    assert seen == [run.config]


@pytest.mark.parametrize("words", [[], ["--resume", "false"]])
def test_the_configuration_of_a_run_is_taken_only_to_go_on_with_it(capsys, run, words):
    assert error_of(capsys, ["pretrain", "--run_dir", "runs/demo", *words]) == "missing: --config. Give it, or see --help."


def test_evaluate_prints_a_table(capsys, run, measured):
    assert main(["evaluate", "--run_dir", str(run.path), "--backend", "jax"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["detection_auc", "0.8124"],
        ["detection_loss", "-"],
        ["recall", "nan"],
        ["num_tokens", "12,345"],
    ]


class WordDetector:
    """Gives every word of a text the probability 0.25."""

    def __init__(self):
        self.batches = []

    def score_batch(self, texts):
        self.batches.append(list(texts))
        return [Detection(text, tuple(self.scores(text))) for text in texts]

    def scores(self, text):
        position = 0
        for word in text.replace("\x00", " ").split():
            position = text.index(word, position)
            yield TokenScore(word, position, position + len(word), 0.25)
            position += len(word)


@pytest.fixture
def detector(monkeypatch, run):
    words = WordDetector()

    def load(path):
        print("falling back to step 3")
        words.path = path
        return words

    monkeypatch.setattr(detector_module.Detector, "load", load)
    return words


def test_detect_scores_a_text_with_the_newest_run(capsys, quiet_environment, detector):
    assert main(["detect", "--text", "the 水\ncafé"]) == 0
    output = capsys.readouterr()
    assert output.out == "the[0.25] 水[0.25]\ncafé[0.25]\n"
    assert output.err == "falling back to step 3\n"
    assert str(detector.path) == "runs/demo"
    assert quiet_environment == [(None, "torch")], "the run's own backend, unless another is asked for"


def test_detect_takes_the_default_where_the_runs_backend_is_not_installed(monkeypatch, quiet_environment, detector):
    monkeypatch.setattr(cli, "is_installed", lambda name: name != "torch")
    assert main(["detect", "--text", "the"]) == 0
    assert main(["detect", "--text", "the", "--backend", "torch"]) == 0
    assert quiet_environment == [(None, None), ("torch", None)]


def test_detect_as_json_is_one_line_a_text(capsys, detector):
    assert main(["detect", "--model", "demo", "--format", "json", "--text", "the 水\ncafé"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == [
        {"token": "the", "start": 0, "end": 3, "probability": 0.25},
        {"token": "水", "start": 4, "end": 5, "probability": 0.25},
        {"token": "café", "start": 6, "end": 10, "probability": 0.25},
    ]


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_detect_answers_every_line_with_a_line(capsys, monkeypatch, tmp_path, detector, source):
    content = "a b\n\n  \nשלום😀\n".encode()
    if source == "file":
        (tmp_path / "lines.txt").write_bytes(content)
        argv = ["--file", "lines.txt"]
    else:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        argv = []
    assert main(["detect", "--format", "json", *argv]) == 0
    tokens = [[token["token"] for token in json.loads(line)] for line in capsys.readouterr().out.splitlines()]
    assert tokens == [["a", "b"], [], [], ["שלום😀"]]
    assert detector.batches == [["a b", "", "  ", "שלום😀"]]


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_detect_and_evaluate_need_a_standard_output(capsys, monkeypatch, run, measured, detector, output_format):
    monkeypatch.setattr(sys, "stdout", None)
    evaluation = ["evaluate", "--run_dir", str(run.path)]
    for argv in (["detect", "--text", "the", "--format", output_format], evaluation):
        assert main(argv) == 2
        assert capsys.readouterr().err.startswith("electra-keras: error: Standard output is closed")


def test_work_on_disk_needs_no_standard_output(monkeypatch, config_file):
    monkeypatch.setattr(sys, "stdout", None)
    replace_function(monkeypatch, "electra_keras.data.prepare", "prepare", lambda config, out_dir: print("Prepared."))
    assert main(["prepare", "--config", config_file, "--out_dir", "o"]) == 0


def test_detect_reads_a_pipe_given_as_a_file(capsys, detector):
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as writer:
        writer.write(b"a b\n")
    # What a shell makes of <(command).
    assert main(["detect", "--file", f"/dev/fd/{reading}"]) == 0
    os.close(reading)
    assert capsys.readouterr().out == "a[0.25] b[0.25]\n"


def test_detect_colours_when_asked_to(capsys, monkeypatch, detector):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["detect", "--text", "the"]) == 0
    legend, line = capsys.readouterr().out.splitlines()
    assert legend.startswith("P(replaced)") and line == "\x1b[38;5;16;48;5;224mthe\x1b[0m"


def test_detect_of_control_characters_alone_is_refused(capsys, detector):
    assert main(["detect", "--format", "json", "--text", "\x00\x00"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "--text holds no tokens, only white space or control characters" in output.err


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"fine\n\xff\n", "line 2 is not UTF-8")])
def test_detect_refuses_a_file_before_it_prints_anything(capsys, tmp_path, detector, content, message):
    (tmp_path / "lines.txt").write_bytes(content)
    assert message in error_of(capsys, ["detect", "--file", "lines.txt"])


def test_detect_refuses_closed_and_empty_standard_input(capsys, monkeypatch, detector):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["detect"]) == 2
    assert "Standard input is closed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["detect"]) == 2
    assert "standard input is empty" in capsys.readouterr().err


def test_detect_says_what_to_do_when_it_waits_for_typing(capsys, monkeypatch, detector):
    terminal = io.TextIOWrapper(io.BytesIO(b"a\n"))
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["detect"]) == 0
    assert "Ctrl-D ends" in capsys.readouterr().err


@pytest.mark.parametrize(("encoding", "name", "said"), [("ascii", "müll", r"m\xfcll"), ("utf-8", "out\udcff", r"out\udcff")])
def test_names_of_files_that_the_output_cannot_spell_are_no_error(monkeypatch, encoding, name, said):
    monkeypatch.setattr(cli, "_run", lambda argv: print(argv[0]))
    raw = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(raw, encoding=encoding)) as stream:
        assert main([name]) == 0
        stream.flush()
        assert raw.getvalue().decode() == f"{said}\n"


def test_detect_survives_an_output_that_knows_ascii_only(monkeypatch, detector):
    for output_format, expected in (("text", b"\\u6c34[0.25]\n"), ("json", '[{"token": "水"'.encode())):
        raw = io.BytesIO()
        with contextlib.redirect_stdout(io.TextIOWrapper(raw, encoding="ascii")) as stream:
            assert main(["detect", "--text", "水", "--format", output_format]) == 0
            stream.flush()
            assert raw.getvalue().startswith(expected)


def test_tensorflows_chatter_is_turned_down_unless_it_was_asked_for(monkeypatch, detector):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    main(["detect", "--text", "a"])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    main(["detect", "--text", "a"])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"electra-keras {__version__}\n"


@pytest.mark.parametrize("command", ["prepare", "pretrain", "evaluate", "detect"])
def test_help_of_every_command_names_its_options(capsys, command):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"{option} " in text for option in cli._COMMANDS[command].options)
    assert ("--training.num_steps INTEGER" in text) == (command in ("prepare", "pretrain"))


def test_help_says_what_resuming_takes_and_which_backend_wins(capsys):
    assert main(["pretrain", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "with --resume, by default the config.yaml of the run in --run_dir" in text
    assert "without --config as it was started" in text
    assert "--backend wins over KERAS_BACKEND, which wins over the configuration's backend" in text


def test_help_loads_nothing_heavy():
    script = (
        "import sys\n"
        "from electra_keras.cli import main\n"
        "assert main(['pretrain', '--help']) == 0\n"
        "heavy = {'keras', 'numpy', 'jax', 'tensorflow', 'torch', 'tokenizers', 'grain', 'datasets', 'sklearn'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["pretrain", "--help"], ["--version"]])
def test_a_reader_that_leaves_early_is_no_error(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        command = [sys.executable, "-m", "electra_keras", *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        finished = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.fixture
def unread():
    """A stream into a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:
        yield stream


def test_results_that_nobody_reads_end_the_command_quietly(capfd, unread, detector):
    with contextlib.redirect_stdout(unread):
        assert main(["detect", "--text", "the"]) == 0
    assert capfd.readouterr().err == "falling back to step 3\n"


@pytest.mark.parametrize(
    ("command", "module", "function"),
    [
        (["prepare", "--out_dir", "o"], "electra_keras.data.prepare", "prepare"),
        (["pretrain", "--run_dir", "r"], "electra_keras.training.run", "pretrain"),
    ],
)
def test_work_outlives_the_reader_of_its_progress(capfd, monkeypatch, unread, config_file, command, module, function):
    def work(*arguments, **options):
        print("step 2")
        print("Finished.")

    replace_function(monkeypatch, module, function, work)
    with contextlib.redirect_stdout(unread):
        assert main([*command, "--config", config_file]) == 0
    assert capfd.readouterr().err.splitlines()[1:] == ["step 2", "Finished."]


def test_ctrl_c_while_the_command_is_being_loaded_is_one_line():
    script = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'electra_keras.cli':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "from electra_keras.__main__ import main\n"
        "sys.exit(main())\n"
    )
    finished = subprocess.run([sys.executable, "-c", script, "detect"], capture_output=True, text=True, cwd=ROOT)
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "electra-keras: interrupted.\n")
