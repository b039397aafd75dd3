"""What candidates of benchmarks/speedrun.py do that no field of the configuration says."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from electra_keras.config import Config
from electra_keras.data.examples import ExampleSource, evenly_spread
from electra_keras.data.prepared import PreparedData
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives.electra import Electra
from electra_keras.objectives.masked_tokens import sample_replacements
from electra_keras.objectives.protocol import Batch, Measurement, Models, Phase, Sampler, Tensor
from electra_keras.training.optimizers import build_optimizer
from electra_keras.training.pretrainer import ElectraPretrainer

HOT_TEMPERATURE = 2.0
# Pairs of neighbours that counts are taken from, at most.
MAX_PAIRS = 2_000_000


@dataclasses.dataclass(frozen=True)
class OtherDraws(Electra):
    """Replaced-token detection whose replacements in training, and there alone, come from another sampler, `draw`."""

    draw: Sampler

    def measure(self, models: Models, batch: Batch, sampler: Sampler, phase: Phase, training: bool) -> Measurement:
        """Generates replacements and lets the discriminator find them."""
        return super().measure(models, batch, self.draw if training else sampler, phase, training)


def hot_draws(logits: Tensor, temperature: float, batch: Batch) -> Tensor:
    """Draws from the generator at HOT_TEMPERATURE times the temperature; int32 (batch, masked)."""
    return sample_replacements(logits, HOT_TEMPERATURE * temperature, batch)


class FollowerDraws:
    """Draws a token that in the corpus stands behind the left neighbour, as often as it stands there.

    Where nothing does, behind [MASK] above all, any token of the corpus is drawn, as often as it occurs.

    Args:
        split: gives the counts.
        vocab_size: entries of the vocabulary.
        special_ids: tokens that are never drawn.
    """

    def __init__(self, split: ExampleSource, vocab_size: int, special_ids: tuple[int, ...]):
        length = split.token_ids(np.zeros(1, np.int64)).shape[1]
        rows = split.token_ids(evenly_spread(split.num_examples, max(1, MAX_PAIRS // (length - 1))))
        before, after = rows[:, :-1].ravel(), rows[:, 1:].ravel()
        counted = ~np.isin(after, special_ids)
        before, after = before[counted], after[counted]
        counts = np.bincount(before, minlength=vocab_size)
        ends = np.cumsum(counts)
        self.followers = after[np.argsort(before, kind="stable")].astype(np.int32)
        self.counts = np.where(counts > 0, counts, len(after)).astype(np.int32)
        self.starts = np.where(counts > 0, ends - counts, 0).astype(np.int32)

    def __call__(self, logits: Tensor, temperature: float, batch: Batch) -> Tensor:
        """Returns int32 (batch, masked); logits and temperature are not looked at."""
        left = ops.take_along_axis(batch.token_ids, ops.maximum(batch.mask_positions - 1, 0), axis=1)
        counts = ops.take(self.counts, left)
        chosen = ops.cast(ops.floor(batch.sample_uniforms * ops.cast(counts, "float32")), "int32")
        # A float32 just below 1 times a count may round up to the count.
        return ops.take(self.followers, ops.take(self.starts, left) + ops.minimum(chosen, counts - 1))


def sampler(name: str, data: PreparedData) -> Sampler:
    """Returns the sampler that a plan calls "hot" or "followers"."""
    match name:
        case "hot":
            return hot_draws
        case "followers":
            tokenizer = data.tokenizer
            return FollowerDraws(data.split("train"), tokenizer.vocab_size, tokenizer.special_ids)
        case other:
            raise ValueError(f"There is no sampler {other!r}; there are hot and followers.")


def zero_outputs(models: Mapping[str, keras.Model]) -> None:
    """Sets the matrices to 0 that end attention and feed-forward, so that every layer starts as its LayerNorms alone."""
    for name, variable in named_weights(models).items():
        if name.endswith("/output/kernel"):
            variable.assign(np.zeros(variable.shape, np.float32))


def average_weights(model: ElectraPretrainer, config: Config) -> None:
    """Gives a freshly compiled model an optimizer that averages the weights as well; `fit` ends by setting them to the average."""
    optimizer = build_optimizer(config.optimizer, model.models, config.training.num_steps)
    optimizer.use_ema = True
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
