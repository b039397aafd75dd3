"""Evaluation of a finished run against scikit-learn and an independent ELECTRA in PyTorch."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from witnesses import electra_in_torch as witness
from witnesses.corpora import write_corpus

from electra_keras.artifacts import RunDirectory
from electra_keras.config import CorpusConfig
from electra_keras.data.dataset import held_out_batches
from electra_keras.data.prepared import PreparedData
from electra_keras.errors import CorpusError, RunError
from electra_keras.evaluation import evaluate
from electra_keras.files import write_json

pytestmark = pytest.mark.backend


def generator_loss_of_witness(run, data):
    """The mean generator loss over all held-out batches, by plain PyTorch from the run's weights."""
    weights = witness.tensors(run.final_weights())
    total, count = 0.0, 0.0
    batches, _ = held_out_batches(data.split("validation"), data.tokenizer, run.config, data.split("validation").num_examples)
    for x, y, sample_weight in batches:
        real = x["padding_mask"][:, 0] > 0
        batch = {name: torch.tensor(value[real].astype(np.int64)) for name, value in x.items() if name != "sample_uniforms"}
        batch |= {"original_ids": torch.tensor(y[real].astype(np.int64)), "mask_weights": torch.tensor(sample_weight[real])}
        loss, _ = witness.losses(weights, batch, torch.tensor(y[real].astype(np.int64)), num_layers=1, generator_heads=1, heads=2)
        total += loss.item() * sample_weight.sum()
        count += sample_weight.sum()
    return total / count


def test_figures_equal_the_witness(finished, data_dir):
    figures = evaluate(finished.path, data_dir=data_dir, report=lambda line: None)
    data = PreparedData.open(data_dir)
    assert figures["generator_loss"] == pytest.approx(generator_loss_of_witness(finished, data), rel=1e-5)
    assert figures["num_examples"] == data.split("validation").num_examples
    assert figures["num_tokens"] == data.split("validation").num_tokens
    wanted = {"detection_auc", "detection_loss", "generator_loss", "generator_accuracy", "precision", "recall", "replaced_fraction"}
    assert wanted <= figures.keys()
    assert 0 < figures["replaced_fraction"] < 0.2


def test_it_agrees_with_validation_while_training(finished, data_dir, config):
    # Validation read 8 examples with the same masks; on those alone the figures must agree with the last line of metrics.jsonl.
    last = finished.metrics()[-1]
    figures = evaluate(finished.path, data_dir=data_dir, num_examples=config.training.validation_examples, report=lambda line: None)
    for name in ("generator_loss", "generator_accuracy", "detection_loss", "replaced_fraction", "precision", "recall"):
        assert figures[name] == pytest.approx(last[f"val_{name}"], rel=1e-4, abs=1e-6), name
    assert figures["detection_auc"] == pytest.approx(last["val_detection_auc"], abs=2e-3)


def test_users_files_are_measured_whole(finished, data_dir, tmp_path):
    path = write_corpus(tmp_path / "mine.txt", documents=5, seed=9)
    figures = evaluate(finished.path, [path], report=lambda line: None)
    lines = (tmp_path / "mine.txt").read_text(encoding="utf-8").split("\n")
    tokens = sum(len(finished.tokenizer().encode(line).token_ids) for line in lines)
    # Every token once, and two or three special tokens an example.
    assert tokens + 2 * figures["num_examples"] <= figures["num_tokens"] <= tokens + 3 * figures["num_examples"]
    assert 0 <= figures["detection_auc"] <= 1
    again = evaluate(finished.path, [path], report=lambda line: None)
    assert again == figures


def test_missing_files_and_runs_are_named(finished, tmp_path):
    with pytest.raises(CorpusError, match=r"nothing\.txt"):
        evaluate(finished.path, [str(tmp_path / "nothing.txt")], report=lambda line: None)
    with pytest.raises(RunError, match="holds no run"):
        evaluate(tmp_path / "none", report=lambda line: None)


def test_a_run_is_measured_where_its_data_is_and_asks_for_some_where_it_is_gone(finished, data_dir, tmp_path):
    run = RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))
    assert evaluate(run.path, report=lambda line: None) == evaluate(run.path, data_dir=data_dir, report=lambda line: None)
    write_json(run.path / "run.json", {**run.description, "data_dir": str(tmp_path / "gone")})
    with pytest.raises(RunError, match=r"no prepared text .*--files"):
        evaluate(run.path, report=lambda line: None)


def test_mlm_has_no_detection_figures(tmp_path, config, data_dir):
    from electra_keras.training.run import pretrain

    mlm = dataclasses.replace(config, objective=dataclasses.replace(config.objective, name="mlm"))
    run = pretrain(mlm, tmp_path / "run", data_dir=data_dir, report=lambda line: None)
    figures = evaluate(run.path, data_dir=data_dir, report=lambda line: None)
    assert figures["generator_loss"] > 0
    assert figures["detection_auc"] is figures["precision"] is figures["detection_loss"] is None


def test_the_exact_auc_is_scikit_learns(finished, data_dir, monkeypatch):
    seen = []
    original = sklearn_metrics.roc_auc_score

    def watched(labels, scores, **options):
        seen.append((np.asarray(labels), np.asarray(scores)))
        return original(labels, scores, **options)

    monkeypatch.setattr(sklearn_metrics, "roc_auc_score", watched)
    figures = evaluate(finished.path, data_dir=data_dir, report=lambda line: None)
    ((labels, scores),) = seen
    ranks = np.argsort(np.argsort(scores)) + 1
    by_hand = (ranks[labels].sum() - labels.sum() * (labels.sum() + 1) / 2) / (labels.sum() * (~labels).sum())
    assert figures["detection_auc"] == pytest.approx(by_hand, abs=1e-3)
    assert len(labels) == figures["num_tokens"]


def test_a_corpus_of_another_run_is_refused(finished, tmp_path, config):
    from electra_keras.data.prepare import prepare

    other = dataclasses.replace(config, corpus=CorpusConfig(files=[write_corpus(tmp_path / "o.txt", seed=5)], validation_fraction=0.2))
    other = dataclasses.replace(other, tokenizer=dataclasses.replace(config.tokenizer, vocab_size=50))
    prepare(other, tmp_path / "data", lambda line: None)
    with pytest.raises(RunError, match="another vocabulary"):
        evaluate(finished.path, data_dir=tmp_path / "data", report=lambda line: None)


def test_a_corpus_of_longer_sequences_than_the_models_is_refused(finished, data_dir, tmp_path, config):
    from electra_keras.data.prepare import prepare

    longer = dataclasses.replace(
        config,
        tokenizer=dataclasses.replace(config.tokenizer, vocab_file=str(data_dir / "vocab.txt")),
        packing=dataclasses.replace(config.packing, sequence_length=32),
        model=dataclasses.replace(config.model, max_positions=32),
    )
    prepare(longer, tmp_path / "data", lambda line: None)
    with pytest.raises(RunError, match=r"sequences of 32 tokens, and the model of .* takes at most 16\. Prepare it with"):
        evaluate(finished.path, data_dir=tmp_path / "data", report=lambda line: None)
