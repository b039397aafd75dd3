import keras
import pytest
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.training.run import build_pretrainer

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="the step of PyTorch"),
]


def test_training_keeps_freed_memory_and_measuring_does_not(monkeypatch):
    calls = []
    monkeypatch.setattr("electra_keras.training.steps.torch.keep_freed_memory", lambda: calls.append("kept"))
    model = build_pretrainer(tiny_config(), VOCAB_SIZE)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    x, y, weights = random_batch()
    model.test_on_batch(x, y, sample_weight=weights)
    assert calls == []
    for _ in range(2):
        model.train_on_batch(x, y, sample_weight=weights)
    assert calls == ["kept"]
