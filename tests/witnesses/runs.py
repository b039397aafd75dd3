"""Fixtures of finished and prepared runs, for the tests of training and of all that reads runs."""

import dataclasses

import pytest
from witnesses.corpora import write_corpus
from witnesses.tiny import tiny_config

from electra_keras.config import CorpusConfig, ModelConfig, PackingConfig, TokenizerConfig, TrainingConfig

NUM_STEPS = 6


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.txt")


@pytest.fixture(scope="session")
def config(corpus):
    """Six steps with dropout; reports every 2, validates every 3, saves every 2."""
    return dataclasses.replace(
        tiny_config(),
        corpus=CorpusConfig(files=[corpus], validation_fraction=0.2),
        tokenizer=TokenizerConfig(vocab_size=60),
        packing=PackingConfig(sequence_length=16),
        model=ModelConfig(
            num_layers=1,
            hidden_dim=8,
            num_heads=2,
            intermediate_dim=16,
            embedding_dim=8,
            max_positions=16,
            generator_width_fraction=0.5,
        ),
        training=TrainingConfig(
            num_steps=NUM_STEPS,
            batch_size=4,
            log_every_steps=2,
            validate_every_steps=3,
            validation_examples=8,
            checkpoint_every_steps=2,
            seed=3,
        ),
    )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory, config):
    """The corpus, prepared once for all tests."""
    from electra_keras.data.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare(config, folder, lambda line: None)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, config, data_dir):
    """An uninterrupted run."""
    from electra_keras.training.run import pretrain

    return pretrain(config, tmp_path_factory.mktemp("runs") / "finished", data_dir=data_dir, report=lambda line: None)
