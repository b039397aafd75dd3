"""Masked language modelling against PyTorch's cross-entropy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from keras import ops
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.objectives import build_objective
from electra_keras.objectives.protocol import Batch

pytestmark = pytest.mark.backend


def test_loss_and_accuracy():
    config = tiny_config(objective__name="mlm")
    objective = build_objective(config.objective)
    models = objective.build_models(config, VOCAB_SIZE)
    assert models.keys() == {"encoder"}
    data = random_batch()
    batch = Batch.from_data(data)
    logits = torch.tensor(ops.convert_to_numpy(models["encoder"](batch.masked_inputs(), training=False)))
    targets, weights = torch.tensor(data[1].astype(np.int64)), torch.tensor(data[2])
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    measurement = objective.measure(models, batch, None, objective.phases()[0], False)
    assert float(measurement.sums["generator_loss"]) == pytest.approx(float((losses * weights).sum()), rel=1e-5)
    hits = ((logits.argmax(-1) == targets) * weights).sum()
    assert float(measurement.sums["generator_accuracy"]) == float(hits)
