import keras
import pytest

from electra_keras.config import Config, ModelConfig
from electra_keras.training.run import build_pretrainer

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the step of TensorFlow"),
]

MODEL = ModelConfig(
    num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, embedding_dim=4, max_positions=128, generator_width_fraction=0.5
)


def test_the_step_is_compiled_by_xla_unless_asked_otherwise():
    model = build_pretrainer(Config(model=MODEL), 10)
    assert model.jit_compile is True
    model.compile(optimizer="sgd", jit_compile=False)
    assert model.jit_compile is False
    model.compile(optimizer="sgd", run_eagerly=True)
    assert model.jit_compile is False
    assert model.run_eagerly is True


def test_no_variable_is_one_that_tensorflow_keeps_on_the_host_whatever_the_device():
    model = build_pretrainer(Config(model=MODEL), 10)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    assert variables
    assert "int32" not in {variable.dtype for variable in variables}
