"""Imported models against transformers' own: hidden states of every layer, logits, losses, and gradients of the objective."""

import copy

import keras
import numpy as np
import pytest
import torch
from keras import ops
from witnesses.electra_in_huggingface import POSITIONS, SHAPES, inputs_of, save, save_pair

from electra_keras.interop.exporting import run_encoders
from electra_keras.interop.huggingface import read_encoder
from electra_keras.interop.importing import import_run
from electra_keras.interop.layout import to_run_weights
from electra_keras.modeling.weights import load_named_weights, named_weights
from electra_keras.objectives import build_objective
from electra_keras.objectives.protocol import Batch
from electra_keras.training.pretrainer import ElectraPretrainer

pytestmark = pytest.mark.backend

BATCH, MASKED = 4, 3
# So large that rounding the weights after the step hides nothing of the gradient.
RATE = 1e4


class Pair:
    """One pair in both libraries, and a batch for it."""

    def __init__(self, shape, folder):
        self.discriminator, self.generator = save_pair(shape, folder / "theirs")
        self.run = import_run(folder / "theirs", folder / "run", report=lambda line: None)
        self.config = self.run.config
        self.objective = build_objective(self.config.objective)
        self.models = self.objective.build_models(self.config, shape.vocab_size)
        load_named_weights(self.models, self.run.final_weights())
        rng = np.random.default_rng(0)
        lengths = np.array([POSITIONS, POSITIONS - 4, 7, POSITIONS])
        real = np.arange(POSITIONS) < lengths[:, None]
        # Not [PAD]: torch.nn.Embedding has a padding_idx, whose row gets no gradient.
        ids = rng.integers(1, shape.vocab_size, (BATCH, POSITIONS))
        positions = np.stack([np.sort(rng.choice(np.arange(1, length), MASKED, replace=False)) for length in lengths])
        weights = np.ones((BATCH, MASKED), np.float32)
        weights[2, 2] = 0
        self.x = {
            "token_ids": np.where(real, ids, 0).astype(np.int32),
            "segment_ids": (real & (np.arange(POSITIONS) >= lengths[:, None] // 2)).astype(np.int32),
            "padding_mask": real.astype(np.int32),
            "mask_positions": np.where(weights > 0, positions, 0).astype(np.int32),
            "sample_uniforms": rng.random((BATCH, MASKED)).astype(np.float32),
        }
        self.y = rng.integers(0, shape.vocab_size, (BATCH, MASKED)).astype(np.int32)
        self.weights = weights
        self.sampled_ids = rng.integers(1, shape.vocab_size, (BATCH, MASKED)).astype(np.int32)
        self.sampled_ids[0] = self.y[0]

    def sampler(self, logits, temperature, batch):
        return ops.convert_to_tensor(self.sampled_ids)

    def their_losses(self):
        """Returns the generator's and the detection loss as transformers computes them."""
        rows, columns = np.nonzero(self.weights)
        places = (rows, self.x["mask_positions"][rows, columns])
        labels = np.full_like(self.x["token_ids"], -100)
        labels[places] = self.y[rows, columns]
        generator_loss = self.generator(**inputs_of(self.x), labels=torch.tensor(labels, dtype=torch.long)).loss
        corrupted, replaced = self.x["token_ids"].copy(), np.zeros_like(self.x["token_ids"])
        corrupted[places] = self.sampled_ids[rows, columns]
        replaced[places] = (self.sampled_ids != self.y)[rows, columns]
        inputs = inputs_of({**self.x, "token_ids": corrupted})
        return generator_loss, self.discriminator(**inputs, labels=torch.tensor(replaced, dtype=torch.long)).loss


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    return Pair(SHAPES[request.param], tmp_path_factory.mktemp("pair"))


def close(found, expected, mask):
    assert np.abs(expected[mask]).max() > 0.1
    np.testing.assert_allclose(ops.convert_to_numpy(found).reshape(expected.shape)[mask], expected[mask], rtol=0, atol=1e-5)


def test_names_are_those_of_the_models(pair):
    names = {name: tuple(variable.shape) for name, variable in named_weights(pair.models).items()}
    found = {}
    for encoder in run_encoders(pair.run):
        role = "generator" if encoder.head == "masked_lm" else "discriminator"
        empty = {name: np.zeros(shape) for name, shape in encoder.size.weight_shapes(encoder.head).items()}
        own = pair.config.model.embedding_sharing == "none"
        found |= {name: array.shape for name, array in to_run_weights(empty, role, own_embeddings=own).items()}
    assert found == names


@pytest.mark.parametrize("role", ["discriminator", "generator"])
def test_hidden_states_of_every_layer(pair, role):
    model, witness = pair.models[role], getattr(pair, role)
    layers = [layer for layer in model.layers if layer.name.startswith("layer_")]
    outputs = keras.Model(model.inputs, [model.get_layer("flatten").output, *(layer.output for layer in layers)])(
        {name: ops.convert_to_tensor(pair.x[name]) for name in [tensor.name for tensor in model.inputs]}
    )
    with torch.no_grad():
        states = witness(**inputs_of(pair.x), output_hidden_states=True).hidden_states
        embedded = witness.electra.embeddings(inputs_of(pair.x)["input_ids"], inputs_of(pair.x)["token_type_ids"])
    expected = [(state.numpy(), pair.x["padding_mask"] == 1) for state in (embedded, *states[1:])]
    if role == "generator":
        # Its last layer gives the masked positions alone.
        expected[-1] = (np.take_along_axis(expected[-1][0], pair.x["mask_positions"][:, :, None], axis=1), pair.weights > 0)
    assert len(outputs) == len(expected) == witness.config.num_hidden_layers + 1
    for found, (state, counted) in zip(outputs, expected, strict=True):
        close(found, state, counted)


def test_detection_logits(pair):
    inputs = {name: pair.x[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    with torch.no_grad():
        expected = pair.discriminator(**inputs_of(pair.x)).logits.numpy()
    close(pair.models["discriminator"](inputs), expected, pair.x["padding_mask"] == 1)


def test_masked_lm_logits(pair):
    inputs = {name: array for name, array in pair.x.items() if name != "sample_uniforms"}
    with torch.no_grad():
        logits = pair.generator(**inputs_of(pair.x)).logits.numpy()
    expected = np.take_along_axis(logits, pair.x["mask_positions"][:, :, None], axis=1)
    close(pair.models["generator"](inputs), expected, pair.weights > 0)


def test_losses(pair):
    batch = Batch.from_data((pair.x, pair.y, pair.weights))
    phase = pair.objective.phases()[0]
    sums = pair.objective.measure(pair.models, batch, pair.sampler, phase, False).sums
    counts = pair.objective.counts(batch)
    found = [float(sums[name]) / float(counts[count]) for name, count in pair.objective.quantities.items() if name.endswith("_loss")]
    expected = [loss.item() for loss in pair.their_losses()]
    assert min(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_gradients_of_the_objective(pair, tmp_path):
    generator_loss, detection_loss = pair.their_losses()
    for model in (pair.generator, pair.discriminator):
        model.zero_grad()
    (generator_loss + 50 * detection_loss).backward()
    expected = their_gradients(pair, tmp_path)

    model = ElectraPretrainer(pair.objective, pair.models, sampler=pair.sampler)
    model.compile(optimizer=keras.optimizers.SGD(RATE))
    before = pair.run.final_weights()
    model.fit(pair.x, pair.y, sample_weight=pair.weights, batch_size=BATCH, shuffle=False, verbose=0)
    weights = named_weights(pair.models)
    found = {name: (before[name] - ops.convert_to_numpy(weights[name].value)) / RATE for name in before}
    load_named_weights(pair.models, before)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = np.abs(gradient).max()
        assert scale > 1e-3, name
        assert np.abs(found[name] - gradient).max() <= 1e-4 * scale, name


def their_gradients(pair, folder):
    """Returns the gradients of transformers' modules under the names of a run, those of shared embeddings added up."""
    gradients = {}
    own = pair.config.model.embedding_sharing == "none"
    for role in ("generator", "discriminator"):
        model = getattr(pair, role)
        holder = copy.deepcopy(model)
        with torch.no_grad():
            for place, parameter in zip(holder.parameters(), model.parameters(), strict=True):
                place.copy_(parameter.grad)
        weights = read_encoder(save(holder, folder / role)).weights
        for name, gradient in to_run_weights(weights, role, own_embeddings=own).items():
            gradients[name] = gradients.get(name, 0) + gradient
    return gradients
