"""The run directory on disk: what it keeps, what it refuses, what it survives."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from witnesses.tiny import tiny_config

from electra_keras import artifacts
from electra_keras.artifacts import RunDirectory
from electra_keras.config import TokenizerConfig
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import RunError, UserError

WEIGHTS = {"encoder/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.float32(2.5)}
STATE = {"optimizer/00000": np.int32(7), "seed/00000": np.array([1, 2], np.uint32)}


@pytest.fixture
def run(tmp_path):
    tokenizer = WordPieceTokenizer.train(["one two three four five six seven"] * 3, TokenizerConfig(vocab_size=40))
    return RunDirectory.create(tmp_path / "run", tiny_config(), tokenizer, {"kind": "pretraining"})


def test_a_run_opens_with_what_it_was_created_with(run):
    opened = RunDirectory.open(run.path)
    assert opened.config == tiny_config()
    assert opened.objective == "electra"
    assert not opened.is_finished
    assert opened.tokenizer().fingerprint == opened.description["tokenizer"]


def test_opening_nothing_says_how_to_make_a_run(tmp_path):
    with pytest.raises(RunError, match=r"holds no run.*electra-keras pretrain"):
        RunDirectory.open(tmp_path / "nowhere")


def test_another_format_version_is_refused(run):
    (run.path / "run.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(RunError, match="format version 99"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_description_names_the_file(run, content):
    (run.path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        RunDirectory.open(run.path)


def test_a_changed_vocabulary_is_noticed(run):
    words = (run.path / "vocab.txt").read_text().splitlines()
    (run.path / "vocab.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    with pytest.raises(RunError, match="not the one the run was trained with"):
        run.tokenizer()


def test_checkpoints_keep_values_types_and_scalars(run):
    run.save_checkpoint(3, WEIGHTS, STATE, keep=2)
    checkpoint = run.newest_checkpoint()
    assert checkpoint.step == 3
    for saved, loaded in ((WEIGHTS, checkpoint.weights()), (STATE, checkpoint.state())):
        assert saved.keys() == loaded.keys()
        for name, array in saved.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype
            assert loaded[name].shape == array.shape


def test_only_the_newest_checkpoints_stay(run):
    for step in (1, 2, 10, 11):
        run.save_checkpoint(step, WEIGHTS, STATE, keep=2)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [10, 11]


def test_a_run_that_went_on_before_a_damaged_checkpoint_drops_it_and_not_its_own(run):
    for step in (100, 200):
        run.save_checkpoint(step, WEIGHTS, STATE, keep=2)
    (run.checkpoints()[-1].folder / "state.safetensors").write_bytes(b"")
    run.save_checkpoint(150, WEIGHTS, STATE, keep=1)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [150]
    run.newest_checkpoint().verify()


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip", "manifest"])
def test_a_damaged_checkpoint_falls_back_and_says_so(run, damage):
    run.save_checkpoint(1, WEIGHTS, STATE, keep=2)
    newest = run.save_checkpoint(2, {**WEIGHTS, "scalar": np.float32(9)}, STATE, keep=2).folder
    target = newest / ("checkpoint.json" if damage == "manifest" else "state.safetensors")
    content = target.read_bytes()
    match damage:
        case "truncate":
            target.write_bytes(content[:-1])
        case "remove":
            target.unlink()
        case "flip":
            target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "manifest":
            target.write_text("{}")
    said = []
    checkpoint = run.newest_checkpoint(said.append)
    assert checkpoint.step == 1
    assert len(said) == 1
    assert "Falling back to step 1" in said[0]
    assert str(newest) in said[0]


def test_a_full_disk_leaves_the_older_checkpoint(run, monkeypatch):
    run.save_checkpoint(1, WEIGHTS, STATE, keep=1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(UserError, match="No space left"):
            run.save_checkpoint(2, WEIGHTS, STATE, keep=1)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [1]
    run.newest_checkpoint().verify()


def test_a_half_written_checkpoint_is_never_seen(run):
    folder = run.path / "checkpoints" / ".step_00000005"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"half")
    assert run.checkpoints() == []
    run.save_checkpoint(5, WEIGHTS, STATE, keep=1)
    run.newest_checkpoint().verify()


def test_data_is_where_it_was_prepared_while_it_is_there(tmp_path, run):
    elsewhere = tmp_path / "elsewhere"
    other = RunDirectory.create(tmp_path / "other", run.config, run.tokenizer(), {"data_dir": str(elsewhere)})
    assert other.data_path == other.path / "data"
    elsewhere.mkdir()
    assert other.data_path == elsewhere
    assert run.data_path == run.path / "data"


def test_final_weights_come_from_the_checkpoint_until_the_run_is_finished(run):
    with pytest.raises(RunError, match="no checkpoint yet"):
        run.final_weights()
    run.save_checkpoint(1, WEIGHTS, STATE, keep=1)
    np.testing.assert_array_equal(run.final_weights()["scalar"], 2.5)
    run.finish({"scalar": np.float32(3)})
    assert run.is_finished
    np.testing.assert_array_equal(run.final_weights()["scalar"], 3)
    assert load_file(run.path / "weights.safetensors").keys() == {"scalar"}


def test_damaged_final_weights_are_refused(run):
    run.finish(WEIGHTS)
    (run.path / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(RunError, match="missing or damaged"):
        run.final_weights()


def test_metrics_survive_a_torn_last_line_and_are_cut(run):
    for step in (1, 2, 3):
        run.append_metrics({"step": step, "loss": step / 3})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    run.cut_metrics(2)
    assert [line["step"] for line in run.metrics()] == [1, 2]
    run.append_metrics({"step": 3})
    assert (run.path / "metrics.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize("damaged", ["not json", "1", "{}"])
def test_a_damaged_metrics_line_is_named(run, damaged):
    (run.path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{damaged}\n{{"step": 2}}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2"):
        run.metrics()


def test_a_locked_folder_goes_again_when_nothing_was_put_in(tmp_path):
    with RunDirectory(tmp_path / "a" / "run").locked():
        assert (tmp_path / "a" / "run").is_dir()
    assert not (tmp_path / "a" / "run").exists()
    with RunDirectory(tmp_path / "kept").locked():
        (tmp_path / "kept" / "file").touch()
    assert (tmp_path / "kept" / "file").exists()


def test_who_finds_a_folder_locked_leaves_it(tmp_path):
    # Empty, as while another process prepares its corpus elsewhere. A third process would otherwise train there beside the first.
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        for _ in range(2):
            with pytest.raises(UserError, match="Another process"), run.locked():
                pytest.fail("it is locked")
        assert run.path.is_dir()
    assert not run.path.exists()


def test_killed_as_it_is_reopened_a_run_is_not_taken_for_finished(run, monkeypatch):
    run.finish(WEIGHTS)
    longer = tiny_config(training__num_steps=2 * run.config.training.num_steps)
    written = []

    def killed_at_the_second(path, write):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write()

    save_config, write_json = artifacts.save_config, artifacts.write_json
    monkeypatch.setattr(artifacts, "save_config", lambda config, path: killed_at_the_second(path, lambda: save_config(config, path)))
    monkeypatch.setattr(artifacts, "write_json", lambda path, value: killed_at_the_second(path, lambda: write_json(path, value)))
    with pytest.raises(KeyboardInterrupt):
        run.reopen(longer)
    assert len(written) == 2
    assert not run.is_finished


def test_a_run_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"Cannot make the run directory .*file/run"), RunDirectory(tmp_path / "file" / "run").locked():
        pytest.fail("there is no folder")
