"""Objectives by name, and what every one of them has to declare."""

from typing import get_args

import pytest
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.config_loading import config_fields
from electra_keras.objectives import OBJECTIVES, build_objective
from electra_keras.objectives.masked_tokens import sample_replacements
from electra_keras.objectives.protocol import Batch

pytestmark = pytest.mark.backend


def test_a_configuration_can_name_every_objective_and_no_other():
    _, kind = config_fields()["objective.name"]
    assert get_args(kind) == tuple(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_declarations_hold(name):
    config = tiny_config(objective__name=name)
    objective = build_objective(config.objective)
    assert objective.name == name
    assert objective.detects == config.objective.detects
    models = objective.build_models(config, VOCAB_SIZE)
    assert (models.keys() == {"generator", "discriminator"}) == objective.detects
    batch = Batch.from_data(random_batch())
    counts = objective.counts(batch)
    phases = objective.phases()
    assert sum(phase.share for phase in phases) == pytest.approx(1.0)
    for phase in phases:
        measurement = objective.measure(models, batch, sample_replacements, phase, False)
        assert measurement.sums.keys() == objective.quantities.keys()
        assert phase.loss_weights.keys() <= objective.quantities.keys()
        assert (measurement.detections is not None) == objective.detects
    assert set(objective.quantities.values()) <= counts.keys()
    assert float(counts["masked"]) == batch.mask_weights.shape[0] * batch.mask_weights.shape[1] - 2
