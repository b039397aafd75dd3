"""Objectives by name."""

from electra_keras.config import ObjectiveConfig
from electra_keras.objectives.electra import Electra
from electra_keras.objectives.mlm import MaskedLanguageModel
from electra_keras.objectives.protocol import Objective

OBJECTIVES: dict[str, type] = {objective.name: objective for objective in (Electra, MaskedLanguageModel)}


def build_objective(config: ObjectiveConfig) -> Objective:
    """Returns the objective that a configuration names; `ObjectiveConfig` lets no other name through."""
    return OBJECTIVES[config.name](config)
