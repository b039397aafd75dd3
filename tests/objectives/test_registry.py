"""Objectives by name, and what every one of them has to declare."""

import pytest
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.config import ObjectiveConfig
from electra_keras.errors import ConfigError
from electra_keras.objectives import OBJECTIVES, build_objective
from electra_keras.objectives.masked_tokens import sample_replacements
from electra_keras.objectives.protocol import Batch

pytestmark = pytest.mark.backend


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'elektra'; known objectives are electra, mlm\. Did you mean 'electra'"):
        build_objective(ObjectiveConfig(name="elektra"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_declarations_hold(name):
    config = tiny_config(objective__name=name)
    objective = build_objective(config.objective)
    assert objective.name == name
    models = objective.build_models(config, VOCAB_SIZE)
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
