"""Weights by structural names, which stay the same whatever was built before and on every backend.

Keras' own paths repeat between generator and discriminator. Here a weight is called by its model, its layer and its part:
"generator/layer_0/attention/qkv/kernel"; the embeddings that both use belong to no model: "embeddings/word/embeddings".
"""

from collections.abc import Mapping

import keras
import numpy as np

from electra_keras.errors import RunError

SHARED_LAYER = "embeddings"


def named_weights(models: Mapping[str, keras.Model]) -> dict[str, keras.Variable]:
    """Names every weight of some models, shared ones once, without optimizer and seed state.

    The name of a weight depends on its own model alone: a discriminator by itself has the names that it has beside a generator.

    Args:
        models: the models by the name that their weights begin with.

    Returns:
        Variables by name, in the order of the layers.

    Raises:
        ValueError: two different weights would have one name.
    """
    named: dict[str, keras.Variable] = {}
    for model_name, model in models.items():
        for layer in model.layers:
            for variable in layer.weights:
                name = _structural_name(variable, layer.name, model_name)
                if named.setdefault(name, variable) is not variable:
                    raise ValueError(
                        f"Two weights are called {name}; give the models' embeddings different sharing or the layers different names."
                    )
    return named


def load_named_weights(models: Mapping[str, keras.Model], arrays: Mapping[str, np.ndarray], *, ignore_extra: bool = False) -> None:
    """Sets every weight of some models, or none when one does not fit.

    Args:
        models: as for `named_weights`.
        arrays: values by name, for instance read from safetensors.
        ignore_extra: whether arrays that no weight asks for are passed over, as when only the discriminator is wanted.

    Raises:
        RunError: names are left over on one side, or a shape differs; nothing has been changed then.
    """
    absent = [model for model in models if not any(name.startswith(f"{model}/") for name in arrays)]
    if absent:
        remedy = (
            "Import the run again with its generator (--generator_from), or use a run that has both."
            if absent == ["generator"] and any(name.startswith("discriminator/") for name in arrays)
            else "Use a run that was trained with the same objective.name."
        )
        raise RunError(f"The weights hold no {' and no '.join(absent)}. {remedy}")
    variables = named_weights(models)
    problems = []
    missing = sorted(variables.keys() - arrays.keys())
    extra = [] if ignore_extra else sorted(arrays.keys() - variables.keys())
    if missing:
        problems.append(f"the file has no {_listing(missing)}")
    if extra:
        problems.append(f"the model has no {_listing(extra)}")
    shapes = {name: (tuple(arrays[name].shape), tuple(variables[name].shape)) for name in sorted(variables.keys() & arrays.keys())}
    unlike = [f"{name} {theirs} and not {ours}" for name, (theirs, ours) in shapes.items() if theirs != ours]
    if unlike:
        problems.append(f"the file has {_listing(unlike)}")
    if problems:
        raise RunError("The weights do not fit the model: " + "; ".join(problems) + ". Use the configuration that they were trained with.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _structural_name(variable: keras.Variable, layer_name: str, model_name: str) -> str:
    # The part before the layer's own name depends on where the model was built, inside another layer for instance.
    parts = variable.path.split("/")
    path = "/".join(parts[parts.index(layer_name) :])
    return path if layer_name == SHARED_LAYER else f"{model_name}/{path}"


def _listing(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
