"""Runs from start to end: what they leave, how they resume, what they refuse."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

from electra_keras.artifacts import RunDirectory
from electra_keras.config_loading import save_config
from electra_keras.data.prepare import prepare
from electra_keras.data.prepared import PreparedData
from electra_keras.errors import RunError, TrainingDiverged, UserError
from electra_keras.training import callbacks
from electra_keras.training.run import prepared_data, pretrain

pytestmark = pytest.mark.backend


def changed(config, section, **fields):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **fields)})


TIMES = {"tokens_per_second", "input_wait_fraction", "training_seconds"}


def timeless(lines):
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def assert_same_end(run, expected):
    """Bitwise the same weights, and the same metrics but for the time they took."""
    ours, theirs = run.final_weights(), expected.final_weights()
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert timeless(run.metrics()) == timeless(expected.metrics())


class Crash(Exception):
    pass


@pytest.fixture
def crash(monkeypatch):
    """Makes the process fail in step `crash.at`, as a kill would: nothing gets the chance to clean up."""
    settings = types.SimpleNamespace(at=None)
    original = callbacks.MetricsLog.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        if self.session.start_step + batch + 1 == settings.at:
            raise Crash
        original(self, batch, logs)

    monkeypatch.setattr(callbacks.MetricsLog, "on_train_batch_end", on_train_batch_end)
    return settings


def run_until(step, crash, config, path, data_dir):
    """Starts a run that fails in the given step; what comes after does not fail."""
    crash.at = step
    with pytest.raises(Crash):
        pretrain(config, path, data_dir=data_dir, report=lambda line: None)
    crash.at = None
    return RunDirectory(path)


def test_a_finished_run_has_everything(finished, config, data_dir):
    run = RunDirectory.open(finished.path)
    assert run.description["data"] == PreparedData.open(data_dir).manifest["input_hash"]
    # So that it goes on, and is evaluated, without being told again.
    assert run.data_path == pathlib.Path(data_dir)
    assert run.is_finished
    assert run.config == dataclasses.replace(config, backend=keras.backend.backend())
    lines = run.metrics()
    assert [line["step"] for line in lines if "generator_loss" in line] == [2, 4, 6]
    assert [line["step"] for line in lines if "val_detection_auc" in line] == [3, 6]
    wanted = {"step", "generator_loss", "generator_accuracy", "detection_loss", "replaced_fraction", "gradient_norm", "learning_rate"}
    assert wanted | TIMES <= lines[0].keys()
    validated = {"val_generator_loss", "val_detection_loss", "val_detection_auc", "val_precision", "val_recall"}
    assert validated <= lines[1].keys()
    assert lines[0]["tokens_per_second"] > 0
    assert all(0 <= line["input_wait_fraction"] <= 1 for line in lines if "input_wait_fraction" in line)
    seconds = [line["training_seconds"] for line in lines if "training_seconds" in line]
    # To 0.01 s, which a compiled step of this size hardly takes.
    assert 0 < seconds[0] <= seconds[1] <= seconds[2]
    # Updates are counted from 0, so line 2 reports the rate of update 1: warmup 1/10, decay 5/6.
    assert lines[0]["learning_rate"] == pytest.approx(config.optimizer.learning_rate * 0.1 * 5 / 6, rel=1e-5)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [4, 6]
    np.testing.assert_array_equal(
        run.checkpoints()[-1].weights()["embeddings/word/embeddings"], run.final_weights()["embeddings/word/embeddings"]
    )


@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_killed_run_resumes_to_the_same_end(step, tmp_path, config, data_dir, finished, crash):
    run = run_until(step, crash, config, tmp_path / "run", data_dir)
    assert_same_end(pretrain(config, run.path, resume=True, data_dir=data_dir), finished)


def test_metrics_written_after_the_checkpoint_are_not_doubled(tmp_path, config, data_dir, finished, crash):
    run = run_until(6, crash, config, tmp_path / "run", data_dir)
    run.append_metrics({"step": 5, "generator_loss": 1.0})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "gener')
    assert_same_end(pretrain(config, run.path, resume=True, data_dir=data_dir), finished)


def test_sigterm_saves_and_leaves(tmp_path, config, data_dir, finished, monkeypatch, capsys):
    original = callbacks.MetricsLog.on_train_batch_end

    def signal_at_step_3(self, batch, logs=None):
        original(self, batch, logs)
        if self.session.start_step + batch + 1 == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(callbacks.MetricsLog, "on_train_batch_end", signal_at_step_3)
    with pytest.raises(SystemExit) as left:
        pretrain(config, tmp_path / "run", data_dir=data_dir)
    assert left.value.code == 128 + signal.SIGTERM
    assert "SIGTERM at step 3: saved" in capsys.readouterr().out
    run = RunDirectory.open(tmp_path / "run")
    assert run.checkpoints()[-1].step == 3
    assert not run.is_finished
    monkeypatch.undo()
    assert_same_end(pretrain(config, run.path, resume=True, data_dir=data_dir), finished)


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path, config, data_dir):
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        (run.path / "theirs").touch()
        with pytest.raises(UserError, match=r"Another process is training in .*run"):
            pretrain(config, run.path, resume=True, data_dir=data_dir)
    assert os.listdir(run.path) == ["theirs"]


def test_sigkill_from_outside(tmp_path, config, data_dir, finished):
    run = RunDirectory(tmp_path / "run")
    save_config(config, tmp_path / "config.yaml")
    command = [sys.executable, "-m", "electra_keras", "pretrain", "--config", str(tmp_path / "config.yaml"), "--run_dir", str(run.path)]
    process = subprocess.Popen([*command, "--data_dir", str(data_dir)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not run.checkpoints() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert run.checkpoints(), "the process saved no checkpoint"
    assert_same_end(pretrain(config, run.path, resume=True, data_dir=data_dir), finished)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, config, data_dir, finished, crash):
    run = run_until(5, crash, config, tmp_path / "run", data_dir)
    newest = run.checkpoints()[-1]
    content = (newest.folder / "weights.safetensors").read_bytes()
    (newest.folder / "weights.safetensors").write_bytes(content[: len(content) // 2])
    said = []
    resumed = pretrain(config, run.path, resume=True, data_dir=data_dir, report=said.append)
    assert any("damaged" in line and "Falling back to step 2" in line for line in said)
    assert_same_end(resumed, finished)


def test_no_whole_checkpoint_is_an_error(tmp_path, config, data_dir, crash):
    run = run_until(3, crash, config, tmp_path / "run", data_dir)
    (run.checkpoints()[0].folder / "state.safetensors").unlink()
    with pytest.raises(RunError, match=r"No checkpoint .* is whole"):
        pretrain(config, tmp_path / "run", resume=True, data_dir=data_dir)


def test_resume_starts_an_absent_run_and_leaves_a_finished_one(tmp_path, config, data_dir, finished):
    said = []
    run = pretrain(config, tmp_path / "run", resume=True, data_dir=data_dir, report=said.append)
    assert_same_end(run, finished)
    before = (run.path / "weights.safetensors").stat().st_mtime_ns
    pretrain(config, run.path, resume=True, data_dir=data_dir, report=said.append)
    assert "is finished" in said[-1]
    assert (run.path / "weights.safetensors").stat().st_mtime_ns == before


def test_damaged_final_weights_are_written_again(tmp_path, config, data_dir, finished):
    run = pretrain(config, tmp_path / "run", data_dir=data_dir, report=lambda line: None)
    (run.path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="Resume the run"):
        run.final_weights()
    assert_same_end(pretrain(config, run.path, resume=True, data_dir=data_dir, report=lambda line: None), finished)


def test_a_finished_run_can_be_extended(tmp_path, config, data_dir):
    run = pretrain(config, tmp_path / "run", data_dir=data_dir, report=lambda line: None)
    longer, said = changed(config, "training", num_steps=8, log_every_steps=1), []
    pretrain(longer, run.path, resume=True, data_dir=data_dir, report=said.append)
    assert f"Changed for the rest of {run.path}: training.num_steps: 6 -> 8; training.log_every_steps: 2 -> 1." in said
    assert [line["step"] for line in run.metrics() if "generator_loss" in line] == [2, 4, 6, 7, 8]
    assert run.config.training.num_steps == 8
    with pytest.raises(RunError, match="num_steps can only be raised"):
        pretrain(config, run.path, resume=True, data_dir=data_dir)


@pytest.mark.parametrize("kind", ["pretraining", "imported"])
def test_trained_weights_without_a_checkpoint_are_not_trained_over(kind, tmp_path, config, data_dir):
    run = RunDirectory.create(tmp_path / "run", config, PreparedData.open(data_dir).tokenizer, {"kind": kind})
    run.append_metrics({"step": 6})
    run.finish({"scalar": np.float32(1)})
    longer = changed(config, "training", num_steps=8)
    with pytest.raises(RunError, match=f"no checkpoint of a training to go on with.*--model.init_from {run.path}"):
        pretrain(longer, run.path, resume=True, data_dir=data_dir)
    assert run.is_finished and run.weights_are_whole() and run.metrics() == [{"step": 6}]


@pytest.mark.parametrize("place", ["run/data", "beside"])
def test_a_run_goes_on_with_the_data_that_it_was_started_with(place, tmp_path, config, corpus):
    mine, folder, said = tmp_path / "corpus.txt", tmp_path / place, []
    mine.write_text(pathlib.Path(corpus).read_text())
    config = changed(config, "corpus", files=[str(mine)])
    data = prepare(config, folder, said.append)
    run = RunDirectory.create(tmp_path / "run", config, data.tokenizer, {"data": data.manifest["input_hash"]})
    mine.write_text("\n\n".join(f"Another text, number {number}." for number in range(200)))
    assert prepared_data(run, config, folder, said.append).manifest == data.manifest
    assert "the run was started with it" in said[-1]
    (folder / "train-00000-tokens.npy").unlink()
    assert prepared_data(run, config, folder, said.append).manifest != data.manifest
    assert "sees other text" in said[-1]


def test_a_typing_error_is_found_before_the_corpus_is_prepared(tmp_path, config):
    with pytest.raises(UserError, match="holds no run"):
        pretrain(changed(config, "model", init_from="absent"), tmp_path / "run", report=pytest.fail)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(config, data_dir, finished):
    with pytest.raises(RunError, match=r"already holds a run\. Add --resume true"):
        pretrain(config, finished.path, data_dir=data_dir)


def test_another_configuration_is_refused_with_the_difference(config, data_dir, finished):
    other = changed(config, "optimizer", learning_rate=0.5)
    with pytest.raises(RunError, match=r"optimizer\.learning_rate: 0\.002 -> 0\.5.*--config .*finished/config\.yaml has them all"):
        pretrain(other, finished.path, resume=True, data_dir=data_dir)


def test_a_folder_of_other_things_is_refused(tmp_path, config, data_dir):
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(RunError, match=r"not empty and holds no run \(thesis.txt\)"):
        pretrain(config, tmp_path, data_dir=data_dir)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]


def test_what_a_killed_start_left_does_not_stand_in_the_way(tmp_path, config, data_dir):
    run = RunDirectory(tmp_path / "run")
    (run.path / ".data.partial").mkdir(parents=True)
    save_config(config, run.path / "config.yaml")
    (run.path / "vocab.txt").write_text("[PAD]\n")
    short = changed(config, "training", num_steps=1)
    assert pretrain(short, run.path, data_dir=data_dir, report=lambda line: None).is_finished


def test_divergence_stops_with_step_and_checkpoint(tmp_path, config, data_dir):
    # Without warmup and clipping a rate of 1e30 makes the weights infinite in the first updates.
    wild = changed(changed(config, "optimizer", learning_rate=1e30, warmup_steps=0, clip_norm=None), "training", checkpoint_every_steps=1)
    with pytest.raises(TrainingDiverged, match=r"at step \d+; .*(checkpoint).*learning_rate"):
        pretrain(wild, tmp_path / "run", data_dir=data_dir)
    for checkpoint in RunDirectory(tmp_path / "run").checkpoints():
        assert all(np.isfinite(array).all() for array in checkpoint.weights().values())


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_resumes(precision, tmp_path, config, data_dir, crash):
    mixed = changed(config, "training", precision=precision)
    expected = pretrain(mixed, tmp_path / "whole", data_dir=data_dir, report=lambda line: None)
    run = run_until(5, crash, mixed, tmp_path / "cut", data_dir)
    assert_same_end(pretrain(mixed, run.path, resume=True, data_dir=data_dir), expected)
    losses = [line["generator_loss"] for line in expected.metrics() if "generator_loss" in line]
    assert np.isfinite(losses).all()
    assert all(array.dtype == np.float32 for array in expected.final_weights().values())


@pytest.mark.parametrize("other", [{"num_layers": 2}, {"generator_width_fraction": 1.0}, {"embedding_sharing": "none"}])
def test_a_model_of_another_shape_is_refused_before_the_corpus_is_prepared(other, tmp_path, config, finished):
    other = changed(config, "model", init_from=str(finished.path), **other)
    with pytest.raises(RunError, match=r"does not fit this model \(.*\)\. --config .*config\.yaml has its own"):
        pretrain(other, tmp_path / "run", report=pytest.fail)


def test_init_from_another_run(tmp_path, config, data_dir, finished):
    started = changed(changed(config, "model", init_from=str(finished.path)), "training", num_steps=1)
    # The first update has rate 0, so after one step the weights are those that the run started from.
    run = pretrain(started, tmp_path / "run", data_dir=data_dir, report=lambda line: None)
    for name, array in finished.final_weights().items():
        np.testing.assert_array_equal(run.final_weights()[name], array, err_msg=name)


def test_mlm_trains_and_has_no_detection_figures(tmp_path, config, data_dir):
    run = pretrain(changed(config, "objective", name="mlm"), tmp_path / "run", data_dir=data_dir, report=lambda line: None)
    lines = run.metrics()
    assert all(json.dumps(line) for line in lines)
    assert "detection_loss" not in lines[0]
    assert "val_generator_loss" in lines[1]
