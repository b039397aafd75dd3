"""The example script, run as a user would, on a small corpus."""

import importlib.util
import pathlib

import numpy as np
import pytest
from witnesses.corpora import write_corpus

pytestmark = pytest.mark.backend

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "pretrain_from_script.py"


@pytest.fixture
def script(monkeypatch):
    # It names its configuration relative to the project.
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("pretrain_from_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_and_validates(script, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.txt", documents=200)
    history = script.main(corpus, str(tmp_path / "data"), num_steps=2)
    assert {"loss", "generator_loss", "detection_loss", "val_detection_auc", "val_generator_loss"} <= history.keys()
    assert np.isfinite(history["loss"]).all()


def test_it_stays_short():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 40
