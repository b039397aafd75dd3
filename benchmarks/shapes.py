"""What is measured: the shapes, and the batches that every engine gets."""

import dataclasses

import numpy as np

from electra_keras.config import MaskingRates, ModelConfig
from electra_keras.data.masking import Batch, mask_batch
from electra_keras.modeling.presets import PRESETS

NUM_BATCHES = 4
SPECIAL_IDS = (0, 1, 2, 3, 4)
CLS_ID, SEP_ID, MASK_ID = 2, 3, 4


@dataclasses.dataclass(frozen=True)
class Shape:
    """One size of model and batch."""

    name: str
    model: ModelConfig
    vocab_size: int
    sequence_length: int
    batch_size: int

    @property
    def tokens(self) -> int:
        """Tokens a step."""
        return self.batch_size * self.sequence_length

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that `changed` can change."""
        return {"batch_size": self.batch_size, "sequence_length": self.sequence_length, "num_layers": self.model.num_layers}

    def changed(self, *, num_layers: int | None = None, **sizes: int) -> "Shape":
        """Returns the shape with other num_layers, batch_size or sequence_length."""
        model = self.model if num_layers is None else dataclasses.replace(self.model, num_layers=num_layers)
        return dataclasses.replace(self, model=model, **sizes)

    def with_dropout(self, dropout: float) -> "Shape":
        """Returns the shape with both kinds of dropout set."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, dropout=dropout, attention_dropout=dropout))


_TINY = ModelConfig(num_layers=4, hidden_dim=128, num_heads=2, intermediate_dim=512, embedding_dim=128, generator_width_fraction=0.5)
_SMOKE = ModelConfig(
    num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32, embedding_dim=16, max_positions=16, generator_width_fraction=0.5
)
_BASE = PRESETS["base"]
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("smoke", _SMOKE, vocab_size=64, sequence_length=16, batch_size=2),
        Shape("bench_tiny", _TINY, vocab_size=8_192, sequence_length=128, batch_size=32),
        # The paper's small model (table 6), whose generator has a quarter of the width.
        Shape("small_128", ModelConfig(), vocab_size=30_522, sequence_length=128, batch_size=16),
        Shape("small_512", ModelConfig(), vocab_size=30_522, sequence_length=512, batch_size=4),
        # Base, whose generator has a third of the width; for GPUs.
        Shape("base_128", _BASE, vocab_size=30_522, sequence_length=128, batch_size=64),
        Shape("base_512", _BASE, vocab_size=30_522, sequence_length=512, batch_size=16),
    )
}


def random_batches(shape: Shape, seed: int = 0) -> list[Batch]:
    """Returns batches of full length, [CLS] tokens [SEP], masked as training data is."""
    rng = np.random.default_rng(seed)
    batches = []
    for number in range(NUM_BATCHES):
        token_ids = rng.integers(len(SPECIAL_IDS), shape.vocab_size, (shape.batch_size, shape.sequence_length), dtype=np.int32)
        token_ids[:, 0], token_ids[:, -1] = CLS_ID, SEP_ID
        lengths = np.full((shape.batch_size, 2), shape.sequence_length, np.int32)
        example_ids = np.arange(shape.batch_size) + number * shape.batch_size
        rates = MaskingRates()
        batches.append(mask_batch(token_ids, lengths, example_ids, 0, rates=rates, seed=seed, special_ids=SPECIAL_IDS, mask_id=MASK_ID))
    return batches
