"""Objectives by name."""

import difflib

from electra_keras.config import ObjectiveConfig
from electra_keras.errors import ConfigError
from electra_keras.objectives.electra import Electra
from electra_keras.objectives.mlm import MaskedLanguageModel
from electra_keras.objectives.protocol import Objective

OBJECTIVES: dict[str, type] = {objective.name: objective for objective in (Electra, MaskedLanguageModel)}


def build_objective(config: ObjectiveConfig) -> Objective:
    """Returns the objective that a configuration names.

    Raises:
        ConfigError: no objective has that name; the nearest one is named.
    """
    if config.name not in OBJECTIVES:
        near = difflib.get_close_matches(config.name, OBJECTIVES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"objective.name is {config.name!r}; known objectives are {', '.join(OBJECTIVES)}.{hint}")
    return OBJECTIVES[config.name](config)
