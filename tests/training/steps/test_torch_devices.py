"""The training step on a device other than the CPU, by PyTorch's one that holds shapes and no numbers.

It shows what would cost time on an accelerator, or fail there: a number that Python reads, which waits for the device, and operands on two
devices.
"""

import keras
import pytest
from keras import ops
from witnesses.tiny import VOCAB_SIZE, random_batch, tiny_config

from electra_keras.training.run import build_pretrainer

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="devices of PyTorch"),
]


@pytest.fixture
def on_numberless_device(monkeypatch):
    import torch
    from keras.src.backend.torch import core

    monkeypatch.setattr(core, "DEFAULT_DEVICE", torch.device("meta"))
    with torch.library._scoped_library("aten", "IMPL") as library:
        # The one operation of a step that has no form without numbers. It changes its arguments and returns nothing.
        library.impl("_fused_adamw_.tensor_lr", lambda *arguments, **named_arguments: None, "Meta")
        yield


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_step_reads_no_number_and_stays_on_its_device(on_numberless_device, dropout, precision, algorithm):
    config = tiny_config(
        training__precision=precision,
        training__gradient_accumulation_steps=2,
        optimizer__name=algorithm,
        model__dropout=dropout,
        model__attention_dropout=dropout,
    )
    model = build_pretrainer(config, VOCAB_SIZE)
    batch = keras.tree.map_structure(ops.convert_to_tensor, random_batch(batch_size=4))
    logs = model.train_step(batch)
    assert {tensor.device.type for tensor in [*logs.values(), *(variable.value for variable in model.variables)]} == {"meta"}


def test_a_number_that_is_read_and_a_second_device_show(on_numberless_device):
    import torch

    with pytest.raises(RuntimeError, match="item"):
        float(ops.ones(()))
    with pytest.raises(RuntimeError, match="device"):
        ops.ones((2,)) + torch.ones(2)
