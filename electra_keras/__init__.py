"""ELECTRA pre-training in Keras 3 on JAX, TensorFlow and PyTorch.

Importing the package loads no backend: the names below are imported when they are first asked for.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Config": "electra_keras.config",
    "Detector": "electra_keras.detector",
    "UserError": "electra_keras.errors",
    "load_config": "electra_keras.config_loading",
    "save_config": "electra_keras.config_loading",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
