"""Everything that a run resumed at a step needs, as named arrays and back."""

import keras
import numpy as np
from keras import ops

from electra_keras.arrays import Arrays
from electra_keras.errors import RunError
from electra_keras.modeling.weights import load_named_weights, named_weights
from electra_keras.training.pretrainer import ElectraPretrainer


def weight_arrays(model: ElectraPretrainer) -> Arrays:
    """Returns the models' weights by structural name."""
    return {name: to_array(variable) for name, variable in named_weights(model.models).items()}


def state_arrays(model: ElectraPretrainer) -> Arrays:
    """Returns optimizer slots and step, seed states and the metrics of the running report."""
    return {name: to_array(variable) for name, variable in _state_variables(model).items()}


def restore(model: ElectraPretrainer, weights: Arrays, state: Arrays) -> None:
    """Puts a compiled, built model back into the state that was saved.

    `fit` resets the metrics when it starts, so `restore_metrics` has to follow from a callback.

    Raises:
        RunError: the arrays belong to another model or optimizer.
    """
    load_named_weights(model.models, weights)
    variables = _state_variables(model)
    unknown = sorted(state.keys() ^ variables.keys())
    if unknown:
        raise RunError(f"The checkpoint's training state does not fit this optimizer: {', '.join(unknown[:5])} on one side only.")
    for name, variable in variables.items():
        if tuple(variable.shape) != state[name].shape:
            raise RunError(f"The checkpoint's {name} has shape {state[name].shape}; this run needs {tuple(variable.shape)}.")
    for name, variable in variables.items():
        variable.assign(state[name])


def restore_metrics(model: ElectraPretrainer, state: Arrays) -> None:
    """Puts the metrics of the running report back."""
    for name, variable in _state_variables(model).items():
        if name.startswith("metric/"):
            variable.assign(state[name])


def to_array(variable: keras.Variable) -> np.ndarray:
    """Copies a variable to the host."""
    return np.array(ops.convert_to_numpy(variable.value))


def _state_variables(model: ElectraPretrainer) -> dict[str, keras.Variable]:
    # Optimizer, seed and metric variables have no structural names; their order is fixed by the configuration.
    weights = {id(variable) for variable in named_weights(model.models).values()}
    groups = {
        "optimizer": model.optimizer.variables,
        "seed": [variable for variable in model.non_trainable_variables if id(variable) not in weights],
        "metric": model.metrics_variables,
    }
    return {f"{group}/{index:05d}": variable for group, variables in groups.items() for index, variable in enumerate(variables)}
