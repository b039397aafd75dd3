import keras
import numpy as np
import pytest

from electra_keras.training.optimizers import Group, GroupedOptimizer

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="gradients of PyTorch"),
]


def tensors(values):
    import torch

    return [None if value is None else torch.tensor(value) for value in values]


def test_the_global_norm_is_that_of_all_gradients_together():
    from electra_keras.training.steps.torch_optimizer import global_norm

    assert float(global_norm(tensors([[3.0], None, [[4.0], [12.0]]]))) == 13.0
    assert float(global_norm([None])) == 0.0


def test_a_known_norm_clips_one_update():
    variable = keras.Variable(np.zeros(2, np.float32))
    optimizer = GroupedOptimizer([(variable, Group("adamw", 1.0, 0.0))], 1.0, clip_norm=1.0)

    def moment():
        return optimizer.slots[0][0].value.detach().numpy().copy()

    optimizer.apply_measured(tensors([[3.0, 4.0]]), [variable], tensors([10.0])[0])
    np.testing.assert_allclose(moment(), [0.03, 0.04], rtol=1e-6)
    # The next one computes its own, 5.
    optimizer.apply(tensors([[3.0, 4.0]]), [variable])
    np.testing.assert_allclose(moment(), [0.9 * 0.03 + 0.06, 0.9 * 0.04 + 0.08], rtol=1e-6)
