"""The same weights in transformers' ELECTRA and in ours must give the same logits."""

import keras
import numpy as np
import pytest

from electra_keras.modeling.models import build_discriminator, build_generator
from electra_keras.modeling.weights import load_named_weights, named_weights

pytestmark = pytest.mark.backend

torch = pytest.importorskip("torch", reason="the witness needs torch")
transformers = pytest.importorskip("transformers", reason="the witness needs transformers")

VOCAB_SIZE = 10


def random_witness(architecture, config, shape):
    """Returns transformers' model with every weight random, biases and LayerNorms too."""
    model = architecture(
        transformers.ElectraConfig(
            vocab_size=VOCAB_SIZE,
            embedding_size=config.embedding_dim,
            hidden_size=shape["hidden_dim"],
            num_hidden_layers=shape["num_layers"],
            num_attention_heads=shape["num_heads"],
            intermediate_size=shape["intermediate_dim"],
            max_position_embeddings=config.max_positions,
        )
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale_of_norm = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(scale_of_norm + 0.6 * torch.randn(parameter.shape, generator=generator))
    return model


def our_arrays(witness, model_name, num_layers):
    """Returns the witness' weights under our names."""
    state = {name: values.numpy() for name, values in witness.state_dict().items()}
    arrays = {}

    def dense(ours, *theirs):
        arrays[f"{ours}/kernel"] = np.concatenate([state[f"{name}.weight"].T for name in theirs], axis=1)
        arrays[f"{ours}/bias"] = np.concatenate([state[f"{name}.bias"] for name in theirs])

    def norm(ours, theirs):
        arrays[f"{ours}/gamma"], arrays[f"{ours}/beta"] = state[f"{theirs}.weight"], state[f"{theirs}.bias"]

    for ours, theirs in (("word", "word"), ("position", "position"), ("segment", "token_type")):
        arrays[f"embeddings/{ours}/embeddings"] = state[f"electra.embeddings.{theirs}_embeddings.weight"]
    norm("embeddings/norm", "electra.embeddings.LayerNorm")
    if "electra.embeddings_project.weight" in state:
        dense(f"{model_name}/embeddings_project", "electra.embeddings_project")
    for index in range(num_layers):
        ours, theirs = f"{model_name}/layer_{index}", f"electra.encoder.layer.{index}"
        dense(f"{ours}/attention/qkv", *(f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")))
        dense(f"{ours}/attention/output", f"{theirs}.attention.output.dense")
        norm(f"{ours}/attention_norm", f"{theirs}.attention.output.LayerNorm")
        dense(f"{ours}/intermediate", f"{theirs}.intermediate.dense")
        dense(f"{ours}/output", f"{theirs}.output.dense")
        norm(f"{ours}/output_norm", f"{theirs}.output.LayerNorm")
    if model_name == "discriminator":
        dense("discriminator/detection_head/dense", "discriminator_predictions.dense")
        dense("discriminator/detection_head/prediction", "discriminator_predictions.dense_prediction")
    else:
        dense("generator/masked_lm_head/dense", "generator_predictions.dense")
        norm("generator/masked_lm_head/norm", "generator_predictions.LayerNorm")
        arrays["generator/output_bias/bias"] = state["generator_lm_head.bias"]
    return arrays


def witness_logits(witness, batch):
    names = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "padding_mask"}
    with torch.no_grad():
        return witness(**{theirs: torch.tensor(batch[ours], dtype=torch.long) for theirs, ours in names.items()}).logits.numpy()


# Three heads with a projection, one head without, and a single wide layer.
CHANGES = [{}, {"embedding_dim": 12, "num_heads": 1}, {"num_layers": 1, "hidden_dim": 24, "intermediate_dim": 40}]


@pytest.mark.parametrize("changes", CHANGES)
def test_discriminator_logits(config_with, changes, batch, token_inputs):
    config = config_with(**changes)
    witness = random_witness(transformers.ElectraForPreTraining, config, config.discriminator_shape())
    discriminator = build_discriminator(config, VOCAB_SIZE)
    load_named_weights({"discriminator": discriminator}, our_arrays(witness, "discriminator", config.num_layers))
    expected = witness_logits(witness, batch)
    assert expected.std() > 0.05
    real = batch["padding_mask"] == 1
    logits = keras.ops.convert_to_numpy(discriminator(token_inputs))
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"generator_width_fraction": 1.0, "embedding_dim": 12}])
def test_generator_logits(config_with, changes, batch):
    config = config_with(**changes)
    witness = random_witness(transformers.ElectraForMaskedLM, config, config.generator_shape())
    generator = build_generator(config, VOCAB_SIZE)
    load_named_weights({"generator": generator}, our_arrays(witness, "generator", config.num_layers))
    expected = np.take_along_axis(witness_logits(witness, batch), batch["mask_positions"][:, :, None], axis=1)
    assert expected.std() > 0.05
    np.testing.assert_allclose(keras.ops.convert_to_numpy(generator(batch)), expected, atol=1e-5)


def test_discriminator_gradients(config, batch, token_inputs, gradients):
    witness = random_witness(transformers.ElectraForPreTraining, config, config.discriminator_shape())
    names = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "padding_mask"}
    inputs = {theirs: torch.tensor(batch[ours], dtype=torch.long) for theirs, ours in names.items()}
    arrays = our_arrays(witness, "discriminator", config.num_layers)
    # In float32 the witness' own gradients are up to 2e-5 from the exact ones, more than ours may be.
    witness.double()
    torch.sum(torch.sin(witness(**inputs).logits) * inputs["attention_mask"]).backward()
    expected = our_arrays_of_gradients(witness, config)

    discriminator = build_discriminator(config, VOCAB_SIZE)
    load_named_weights({"discriminator": discriminator}, arrays)
    weights = named_weights({"discriminator": discriminator})
    mask = keras.ops.convert_to_tensor(batch["padding_mask"].astype(np.float32))
    found = gradients(lambda: keras.ops.sum(keras.ops.sin(discriminator(token_inputs)) * mask), list(weights.values()))
    for name, gradient in zip(weights, found, strict=True):
        scale = max(1.0, np.abs(expected[name]).max())
        np.testing.assert_allclose(gradient, expected[name], atol=1e-5 * scale, err_msg=name)


def our_arrays_of_gradients(witness, config):
    with torch.no_grad():
        values = {name: parameter.clone() for name, parameter in witness.named_parameters()}
        for parameter in witness.parameters():
            parameter.copy_(parameter.grad)
        arrays = {name: array.copy() for name, array in our_arrays(witness, "discriminator", config.num_layers).items()}
        for name, parameter in witness.named_parameters():
            parameter.copy_(values[name])
    return arrays
