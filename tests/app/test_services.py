import dataclasses
import os

import numpy as np
import pytest

from app import services
from electra_keras.artifacts import RunDirectory
from electra_keras.config import Config, ModelConfig, ObjectiveConfig, PackingConfig, TrainingConfig
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.detector import Detection, Detector, TokenScore
from electra_keras.errors import UserError

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "."]
CONFIG = Config(
    model=ModelConfig(num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, embedding_dim=8, max_positions=16),
    packing=PackingConfig(sequence_length=16),
    training=TrainingConfig(num_steps=1500),
)


def make_run(path, objective="electra", weights=None, modified=None, description=None):
    config = dataclasses.replace(CONFIG, objective=ObjectiveConfig(name=objective))
    run = RunDirectory.create(path, config, WordPieceTokenizer(VOCAB), description or {})
    if weights is not None:
        run.finish(weights)
    if modified is not None:
        os.utime(path, (modified, modified))
    return run


@pytest.fixture
def counting_detector(monkeypatch):
    """A detector that scores every text as one token, with the number of models loaded so far as its probability's percent."""

    class CountingDetector:
        loads = 0
        scored = ()

        @classmethod
        def load(cls, path):
            cls.loads += 1
            return cls()

        def score(self, text):
            type(self).scored += (text,)
            return Detection(text, (TokenScore("all", 0, len(text), self.loads / 100),))

    monkeypatch.setattr(services, "Detector", CountingDetector)
    return CountingDetector


def test_no_folder_has_no_runs(tmp_path):
    assert services.list_runs(tmp_path / "runs") == ([], {})


def test_runs_are_listed_and_folders_without_one_are_not(tmp_path):
    make_run(tmp_path / "old", weights={}, modified=1_000)
    make_run(tmp_path / "new", weights={}, modified=2_000)
    make_run(tmp_path / "running", modified=3_000)
    make_run(tmp_path / "plain", objective="mlm", weights={}, modified=4_000)
    (tmp_path / "shards").mkdir()
    (tmp_path / "starting" / "data").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "note.txt").write_text("no run")
    runs, unusable = services.list_runs(tmp_path)
    assert [(run.name, run.is_finished, run.can_detect) for run in runs] == [
        ("new", True, True),
        ("old", True, True),
        ("running", False, True),
        ("plain", True, False),
    ]
    assert {run.num_steps for run in runs} == {1500}
    assert runs[0].description == "electra · 1 layers of 8 · 1,500 steps · finished"
    assert "not finished" in runs[2].description
    assert unusable == {}


def test_a_damaged_configuration_is_unusable_and_no_crash(tmp_path):
    make_run(tmp_path / "broken")
    (tmp_path / "broken" / "config.yaml").write_text("model: {num_layer: 2}\n")
    runs, unusable = services.list_runs(tmp_path)
    assert runs == []
    assert "num_layer" in unusable["broken"]


@pytest.mark.parametrize("lost", ["config.yaml", "run.json"])
def test_a_run_that_has_lost_a_file_is_named(tmp_path, lost):
    make_run(tmp_path / "broken", weights={})
    (tmp_path / "broken" / lost).unlink()
    runs, unusable = services.list_runs(tmp_path)
    assert runs == []
    assert str(tmp_path / "broken") in unusable["broken"] and "missing" in unusable["broken"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    # Permissions do not stop the superuser, whom tests may run as.
    monkeypatch.setattr(services.pathlib.Path, "is_file", refuse)
    monkeypatch.setattr(services.pathlib.Path, "stat", lambda path, **options: refuse(path) if path.name == "locked" else os.stat(path))
    monkeypatch.setattr(services.pathlib.Path, "is_dir", lambda path: True)
    runs, unusable = services.list_runs(tmp_path)
    assert runs == []
    assert "Permission denied" in unusable["locked"]


def test_an_imported_run_is_known_as_one(tmp_path):
    make_run(tmp_path / "trained", weights={}, description={"kind": "pretraining"})
    make_run(tmp_path / "small", weights={}, description={"kind": "imported", "source": "huggingface"})
    runs = {run.name: run for run in services.list_runs(tmp_path)[0]}
    assert runs["small"].is_imported and "imported from huggingface" in runs["small"].description
    assert not runs["trained"].is_imported


def test_models_and_scores_are_kept(tmp_path, counting_detector):
    make_run(tmp_path / "demo", weights={})
    run = services.list_runs(tmp_path)[0][0]
    assert services.score(run, "one") == services.score(run, "one") == [TokenScore("all", 0, 3, 0.01)]
    services.score(run, "two")
    assert counting_detector.loads == 1
    assert counting_detector.scored == ("one", "two")


def test_a_new_checkpoint_is_loaded_and_a_new_log_line_is_not(tmp_path, counting_detector):
    directory = make_run(tmp_path / "demo")
    directory.save_checkpoint(1, {"w": np.zeros(1)}, {}, keep=5)
    directory.append_metrics({"step": 1})
    before = services.list_runs(tmp_path)[0][0]
    services.score(before, "one")
    directory.append_metrics({"step": 2})
    assert services.list_runs(tmp_path)[0][0] == before
    directory.save_checkpoint(2, {"w": np.zeros(1)}, {}, keep=5)
    after = services.list_runs(tmp_path)[0][0]
    assert services.score(after, "one")[0].probability == 0.02


def test_a_failed_load_is_tried_again(tmp_path, monkeypatch, counting_detector):
    make_run(tmp_path / "demo")
    run = services.list_runs(tmp_path)[0][0]

    def refuse(path):
        raise UserError("No checkpoint yet.")

    load = counting_detector.load
    monkeypatch.setattr(counting_detector, "load", refuse)
    with pytest.raises(UserError, match="No checkpoint yet"):
        services.score(run, "one")
    monkeypatch.setattr(counting_detector, "load", load)
    assert len(services.score(run, "one")) == 1


def test_metrics_are_read_anew(tmp_path):
    directory = make_run(tmp_path / "demo")
    run = services.list_runs(tmp_path)[0][0]
    assert services.read_metrics(run) == []
    directory.append_metrics({"step": 1, "generator_loss": 2.5})
    assert services.read_metrics(run) == [{"step": 1, "generator_loss": 2.5}]


@pytest.mark.backend
def test_a_real_model_scores_as_the_detector_does(tmp_path):
    import keras

    from electra_keras.modeling.models import build_discriminator
    from electra_keras.modeling.weights import named_weights

    model = build_discriminator(CONFIG.model, len(VOCAB), seed=3)
    weights = {name: keras.ops.convert_to_numpy(variable) for name, variable in named_weights({"discriminator": model}).items()}
    make_run(tmp_path / "demo", weights=weights)
    make_run(tmp_path / "plain", objective="mlm", weights=weights)
    runs = {run.name: run for run in services.list_runs(tmp_path)[0]}
    tokens = services.score(runs["demo"], "The  cats sat.")
    expected = Detector.load(tmp_path / "demo").score("The  cats sat.").tokens
    assert [(token.token, token.start, token.end) for token in tokens] == [
        ("the", 0, 3), ("cat", 5, 8), ("##s", 8, 9), ("sat", 10, 13), (".", 13, 14),
    ]  # fmt: skip
    assert [token.probability for token in tokens] == pytest.approx([token.probability for token in expected], abs=1e-6)
    assert services.score(runs["demo"], "") == []
    with pytest.raises(UserError, match="mlm"):
        services.score(runs["plain"], "The cat")
