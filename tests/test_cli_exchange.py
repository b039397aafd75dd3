"""What the commands that exchange models say to options that cannot be used, before anything is read or written."""

import pathlib
import sys
import types

import pytest

from electra_keras.cli import main
from electra_keras.cli_exchange import EXPORT_OPTIONS, IMPORT_OPTIONS, PUSH_OPTIONS

OPTIONS = {"import": IMPORT_OPTIONS, "export": EXPORT_OPTIONS, "push": PUSH_OPTIONS}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_lists_every_option(capsys, command):
    assert main([command, "--help"]) == 0
    output = capsys.readouterr().out
    for option, settings in OPTIONS[command].items():
        assert option in output and settings["help"].split()[0] in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("import --from theirs", "missing: --run_dir"),
        ("import --run_dir run", "missing: --from"),
        ("import --from theirs --run_dir run --only both", "--only: invalid choice: 'both'"),
        ("import --from absent --run_dir run", "There is no absent. Give a folder, a TensorFlow checkpoint"),
        ("import --from absent/model.ckpt-7 --run_dir run", "Give a folder, a TensorFlow checkpoint|Cannot fetch absent/model.ckpt-7"),
        ("export --run_dir run --out_dir out", "missing: --to"),
        ("export --run_dir run --to tflite --out_dir out", "--to: invalid choice: 'tflite'"),
        ("export --run_dir run --to onx --out_dir out", "--to: invalid choice: 'onx'"),
        ("export --run_dir run --to onx --out_dir out", "Did you mean onnx?"),
        (
            "export run --run_dir run --to onnx --out_dir out",
            "unrecognized arguments: run. `electra-keras export --help` lists the options.",
        ),
        ("export --run_dir run --to onnx --outdir out", "unknown option --outdir. Did you mean --out_dir?"),
        ("export --run_dir absent --to onnx --out_dir out", "There is no run directory absent, nor runs/absent."),
        ("push --run_dir run", "missing: --repo"),
        ("push --run_dir absent --repo owner/name", "There is no run directory absent, nor runs/absent."),
        ("push --run_dir . --repo mine", "'mine' is no name on the hub; it must be OWNER/NAME"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_message_and_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main(words.split()) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and output.err.startswith("electra-keras: error: ")
    assert any(part in output.err for part in message.split("|"))
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


@pytest.mark.parametrize(
    ("words", "module", "function"),
    [
        ("export --to onnx --out_dir out", "exporting", "export_run"),
        ("push --repo owner/name", "sharing", "push_run"),
    ],
)
def test_a_run_is_found_by_its_name(tmp_path, monkeypatch, words, module, function):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.setattr("electra_keras.cli_exchange.prepare_backend", lambda argument, config_backend: "jax")
    seen, replacement = [], types.ModuleType(module)
    setattr(replacement, function, lambda run_dir, *arguments, **options: seen.append(run_dir))
    monkeypatch.setitem(sys.modules, f"electra_keras.interop.{module}", replacement)
    assert main([*words.split(), "--run_dir", "mine"]) == 0
    assert seen == [pathlib.Path("runs", "mine")]
