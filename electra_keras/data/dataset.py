"""Batches for `keras.Model.fit`: shuffled anew every epoch, resumable at any step.

A step's batch is computed from the step's number alone: step -> places in the endless row of epochs -> example ids -> tokens -> masks.
So resuming is starting to count elsewhere. Grain counts, maps and prefetches; a batch
is built whole, because Grain's own shuffle, repeat and batch take a Python call per example and stage (1.1 ms for 64 examples on
2 cores, before a token is read), and its shuffle adds the epoch to the seed: one run's second epoch would be another's first.
"""

import dataclasses
import sys
from typing import TYPE_CHECKING

import numpy as np

from electra_keras.config import Config, MaskingRates
from electra_keras.data.examples import ExampleSource, evenly_spread
from electra_keras.data.hashing import hash_counters, shuffle_places
from electra_keras.data.masking import Batch, mask_batch
from electra_keras.errors import CorpusError

if TYPE_CHECKING:
    # Grain loads JAX, which takes a second and is not needed to mask or to look at data.
    import grain

    from electra_keras.data.tokenizer import WordPieceTokenizer

# First counter of the draw that seeds an epoch's order; masking uses 1 and 2.
_ORDER_DRAW = 3
# Masks and replacements of held-out text are the same in every run, whatever its own seed.
VALIDATION_SEED = 2020
# A batch takes a millisecond or two, so little is needed to stay ahead of the training step.
_PREFETCH_THREADS = 1
_PREFETCH_BATCHES = 4


def training_batches(
    split: ExampleSource,
    tokenizer: "WordPieceTokenizer",
    *,
    batch_size: int,
    rates: MaskingRates,
    seed: int,
    start_step: int = 0,
) -> "grain.IterDataset":
    """Returns the batches of training, without end; pass `steps_per_epoch` to `fit`.

    Every epoch goes through all examples once, in an order of its own; where the examples are no multiple of the batch size,
    a batch joins the end of one epoch and the start of the next, so none is dropped.

    Args:
        split: the examples.
        tokenizer: gives the special ids.
        batch_size: examples an update.
        rates: how the examples are masked.
        seed: of order and masks; >= 0.
        start_step: updates already made; batch k of the data set is that of step start_step + k + 1.

    Returns:
        Grain data set of (x, y, sample_weight), see `electra_keras.data.masking.mask_batch`; iterating twice gives the same twice.

    Raises:
        CorpusError: there are fewer examples than a batch holds.
    """
    import grain

    if split.num_examples < batch_size:
        raise CorpusError(
            f"The training data holds {split.num_examples} examples, less than one batch of {batch_size}; "
            "add text, lower training.batch_size, or shorten packing.sequence_length."
        )
    builder = _BatchBuilder(split, tokenizer, rates, seed)

    def batch_of_step(step: int) -> Batch:
        epochs, example_ids = _shuffled(step * batch_size, batch_size, split.num_examples, seed)
        return builder.build(example_ids, epochs)

    # The last step whose places fit into 64 bits; nobody gets there.
    steps = grain.MapDataset.range(start_step, sys.maxsize // batch_size)
    return _prefetched(steps.map(batch_of_step))


def num_validation_batches(split: ExampleSource, *, batch_size: int, num_examples: int) -> int:
    """Returns how many batches `validation_batches` gives for the same arguments: `validation_steps` of `fit`, which can't know."""
    return -(-min(num_examples, split.num_examples) // batch_size)


def validation_batches(
    split: ExampleSource,
    tokenizer: "WordPieceTokenizer",
    *,
    batch_size: int,
    rates: MaskingRates,
    seed: int,
    num_examples: int,
) -> "grain.IterDataset":
    """Returns the batches of one validation: always the same examples with the same masks, in the same order.

    All batches have the same shape, or compiling backends would compile twice: the last is filled up with empty rows, whose
    padding_mask and sample_weight are 0 and whose tokens are [PAD]; they count nowhere.

    Args:
        split: the examples.
        tokenizer: gives the special ids.
        batch_size: rows a batch.
        rates: how the examples are masked.
        seed: of the masks; >= 0. Keep it apart from training.seed, so that runs of different seeds are compared on the same masks.
        num_examples: examples read, at most, at even distances over the split.

    Returns:
        Grain data set of `num_validation_batches` tuples (x, y, sample_weight), which can be iterated again and again.

    Raises:
        CorpusError: the split is empty.
    """
    import grain

    if split.num_examples == 0:
        raise CorpusError("The validation data holds no example; add text or raise corpus.validation_fraction.")
    example_ids = evenly_spread(split.num_examples, num_examples)
    builder = _BatchBuilder(split, tokenizer, rates, seed)

    def batch_at(index: int) -> Batch:
        return builder.build(example_ids[index * batch_size : (index + 1) * batch_size], epochs=0, num_rows=batch_size)

    num_batches = num_validation_batches(split, batch_size=batch_size, num_examples=num_examples)
    return _prefetched(grain.MapDataset.range(num_batches).map(batch_at))


def held_out_batches(
    split: ExampleSource, tokenizer: "WordPieceTokenizer", config: Config, num_examples: int
) -> tuple["grain.IterDataset", int]:
    """Returns the batches that training validates on and `evaluate` measures on, and their number for `validation_steps`.

    Args:
        split: the examples.
        tokenizer: gives the special ids.
        config: masking.validation, and training's micro-batch size.
        num_examples: examples read, at most.
    """
    batch_size = config.training.batch_size // config.training.gradient_accumulation_steps
    batches = validation_batches(
        split, tokenizer, batch_size=batch_size, rates=config.masking.validation, seed=VALIDATION_SEED, num_examples=num_examples
    )
    return batches, num_validation_batches(split, batch_size=batch_size, num_examples=num_examples)


@dataclasses.dataclass(frozen=True)
class _BatchBuilder:
    """Reads and masks examples by number."""

    split: ExampleSource
    tokenizer: "WordPieceTokenizer"
    rates: MaskingRates
    seed: int

    def build(self, example_ids: np.ndarray, epochs: int | np.ndarray, num_rows: int | None = None) -> Batch:
        """Returns the masked batch of the examples, with empty rows up to num_rows."""
        token_ids = self.split.token_ids(example_ids)
        lengths = self.split.lengths(example_ids)
        missing = 0 if num_rows is None else num_rows - len(example_ids)
        if missing:
            token_ids = np.pad(token_ids, ((0, missing), (0, 0)), constant_values=self.tokenizer.pad_id)
            lengths = np.pad(lengths, ((0, missing), (0, 0)))
            example_ids = np.pad(example_ids, (0, missing))
        tokenizer = self.tokenizer
        return mask_batch(
            token_ids,
            lengths,
            example_ids,
            epochs,
            rates=self.rates,
            seed=self.seed,
            # [UNK] stands for a word and can be masked, as in the original.
            special_ids=(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id),
            mask_id=tokenizer.mask_id,
        )


def _shuffled(first: int, count: int, num_examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epochs and example ids, both int64 (count,), at places first, first + 1, ... of the endless row of epochs."""
    epochs, places = np.divmod(np.arange(first, first + count, dtype=np.int64), num_examples)
    return epochs, shuffle_places(places, num_examples, hash_counters(_ORDER_DRAW, seed, epochs))


def _prefetched(batches: "grain.MapDataset") -> "grain.IterDataset":
    import grain

    return batches.to_iter_dataset(grain.ReadOptions(num_threads=_PREFETCH_THREADS, prefetch_buffer_size=_PREFETCH_BATCHES))
