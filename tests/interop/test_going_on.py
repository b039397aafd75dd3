"""Imported models in use: detecting, evaluating, and training on."""

import numpy as np
import pytest
import torch
from witnesses.corpora import WORDS, write_corpus
from witnesses.electra_in_huggingface import SPECIAL, Shape, build_pair, save_pair

from electra_keras.config_loading import load_config
from electra_keras.detector import Detector, is_pretrained_elsewhere
from electra_keras.errors import RunError, UserError
from electra_keras.evaluation import evaluate
from electra_keras.interop.exporting import export_run
from electra_keras.interop.importing import import_run
from electra_keras.training.run import pretrain

pytestmark = pytest.mark.backend

VOCABULARY = [*SPECIAL, *WORDS, "."]
SHAPE = Shape(len(VOCABULARY), 6, 1, 12, 3, 20, 1, 8, 2, 13)
TEXT = "the old tree sings. a river falls"


def silent(line):
    pass


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    save_pair(SHAPE, folder)
    for role in ("discriminator", "generator"):
        (folder / role / "vocab.txt").write_text("".join(f"{word}\n" for word in VOCABULARY))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, theirs):
    return import_run(theirs, tmp_path_factory.mktemp("imported") / "run", report=silent)


def probabilities(detector):
    return [token.probability for token in detector.score(TEXT).tokens]


def test_a_detector_is_loaded_from_the_folder_itself(theirs, run, tmp_path):
    ids = [2, *(VOCABULARY.index(word) for word in TEXT.replace(".", " .").split()), 3]
    with torch.no_grad():
        expected = torch.sigmoid(build_pair(SHAPE)[0](torch.tensor([ids])).logits)[0, 1:-1].numpy()
    assert np.ptp(expected) > 0.05
    assert is_pretrained_elsewhere(theirs) and not is_pretrained_elsewhere(run.path)
    for source in (theirs, theirs / "discriminator", run.path):
        np.testing.assert_allclose(probabilities(Detector.load(source)), expected, atol=1e-5)
    alone = import_run(theirs / "discriminator", tmp_path / "alone", report=silent)
    np.testing.assert_allclose(probabilities(Detector.load(alone.path)), expected, atol=1e-5)


def test_a_detector_is_loaded_by_its_name_on_the_hub(theirs, monkeypatch):
    asked = []

    def snapshot_download(repository, allow_patterns):
        asked.append(repository)
        return str(theirs / "discriminator")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = probabilities(Detector.load("google/electra-small-discriminator"))
    assert found == probabilities(Detector.load(theirs / "discriminator")) and set(asked) == {"google/electra-small-discriminator"}


def test_what_cannot_detect_says_so(theirs, tmp_path):
    with pytest.raises(UserError, match="generator holds no discriminator"):
        Detector.load(theirs / "generator")
    import_run(theirs / "generator", tmp_path / "mlm", report=silent)
    with pytest.raises(RunError, match="has no discriminator to detect with"):
        Detector.load(tmp_path / "mlm")
    import_run(theirs, tmp_path / "run", report=silent)
    export_run(tmp_path / "run", "huggingface", tmp_path / "out", report=silent)
    import_run(tmp_path / "out" / "encoder", tmp_path / "headless", report=silent)
    with pytest.raises(RunError, match="imported without a detection head"):
        Detector.load(tmp_path / "headless")
    with pytest.raises(RunError, match="imported without a detection head"):
        Detector.load(tmp_path / "out" / "encoder")


def test_a_missing_detector_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="There is no run directory runs/absent"):
        Detector.load("runs/absent")


def test_a_whole_pair_is_evaluated(run, tmp_path):
    figures = evaluate(run.path, [write_corpus(tmp_path / "corpus.txt")], report=silent)
    assert 0 < figures["detection_auc"] < 1 and figures["generator_loss"] > 0.1


def test_without_a_generator_evaluation_says_what_is_missing(theirs, tmp_path):
    import_run(theirs / "discriminator", tmp_path / "alone", report=silent)
    with pytest.raises(RunError, match="no generator"):
        evaluate(tmp_path / "alone", [write_corpus(tmp_path / "corpus.txt")], report=silent)


def settings(run, tmp_path, **overrides):
    names = {
        "corpus.files": [write_corpus(tmp_path / "corpus.txt")],
        "corpus.validation_fraction": 0.2,
        "tokenizer.vocab_file": str(run.path / "vocab.txt"),
        "model.init_from": str(run.path),
        "training.num_steps": 2,
        "training.batch_size": 4,
        "optimizer.learning_rate": 1e-12,
    }
    return load_config(run.path / "config.yaml", {**names, **overrides})


def test_training_goes_on_from_an_imported_run(run, tmp_path):
    continued = pretrain(settings(run, tmp_path), tmp_path / "continued", report=silent)
    before, after = run.final_weights(), continued.final_weights()
    assert before.keys() == after.keys() and continued.is_finished
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=1e-6, err_msg=name)
    assert {line["step"] for line in continued.metrics()} >= {2}
    export_run(continued.path, "huggingface", tmp_path / "out", report=silent)


def test_training_does_not_go_on_without_a_generator(theirs, tmp_path):
    alone = import_run(theirs / "discriminator", tmp_path / "alone", report=silent)
    with pytest.raises(RunError, match="no generator"):
        pretrain(settings(alone, tmp_path), tmp_path / "continued", report=pytest.fail)
