"""A tiny configuration and batches made of random numbers, for tests of models and training."""

import dataclasses

import numpy as np

from electra_keras.config import Config, ModelConfig, OptimizerConfig, PackingConfig, TrainingConfig

VOCAB_SIZE, LENGTH, MASKED = 19, 12, 3


def tiny_config(**changes) -> Config:
    """Two layers of 8, without dropout; changes are dotted names with "__" for the dot."""
    config = Config(
        packing=PackingConfig(sequence_length=LENGTH),
        model=ModelConfig(
            num_layers=2,
            hidden_dim=8,
            num_heads=2,
            intermediate_dim=16,
            embedding_dim=6,
            max_positions=LENGTH,
            generator_width_fraction=0.5,
            dropout=0.0,
            attention_dropout=0.0,
        ),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=10),
        training=TrainingConfig(num_steps=60, batch_size=4),
    )
    for name, value in changes.items():
        section, field = name.split("__")
        config = dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **{field: value})})
    return config


def random_batch(seed=0, batch_size=4):
    """Returns (x, y, sample_weight) with padding at the end of some rows and among the predictions."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, LENGTH + 1, batch_size)
    lengths[0] = LENGTH
    order = np.arange(LENGTH)
    real = order < lengths[:, None]
    positions = np.stack([np.sort(rng.choice(np.arange(1, length - 1), MASKED, replace=False)) for length in lengths])
    weights = np.ones((batch_size, MASKED), np.float32)
    weights[-1, 1:] = 0
    positions = np.where(weights > 0, positions, 0)
    x = {
        "token_ids": np.where(real, rng.integers(5, VOCAB_SIZE, (batch_size, LENGTH)), 0).astype(np.int32),
        "segment_ids": (real & (order >= lengths[:, None] // 2)).astype(np.int32),
        "padding_mask": real.astype(np.int32),
        "mask_positions": positions.astype(np.int32),
        "sample_uniforms": rng.random((batch_size, MASKED)).astype(np.float32),
    }
    return x, rng.integers(5, VOCAB_SIZE, (batch_size, MASKED)).astype(np.int32), weights
