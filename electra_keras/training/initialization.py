"""Starting values that come from the corpus or from another run, in place of random ones."""

from collections.abc import Mapping

import keras

from electra_keras.artifacts import RunDirectory
from electra_keras.config import ModelConfig
from electra_keras.data.prepared import PreparedData
from electra_keras.data.statistics import pmi_embeddings, unigram_log_probs
from electra_keras.errors import RunError
from electra_keras.modeling.weights import load_named_weights, named_weights

WORD_EMBEDDINGS = "word/embeddings"
OUTPUT_BIAS = "output_bias/bias"


def initialize(models: Mapping[str, keras.Model], config: ModelConfig, data: PreparedData) -> None:
    """Sets the starting values that a configuration asks for, in place.

    Args:
        models: freshly built.
        config: names the initialisations, and the run to start from.
        data: gives the token statistics.

    Raises:
        RunError: `init_from` names no run, or one of another shape or vocabulary.
    """
    if config.init_from is not None:
        _start_from(models, RunDirectory.open(config.init_from), data)
        return
    train, tokenizer = data.split("train"), data.tokenizer
    weights = named_weights(models)
    if config.embedding_initialization == "pmi":
        vectors = pmi_embeddings(train, tokenizer.vocab_size, config.embedding_dim, special_ids=tokenizer.special_ids)
        for variable in _ending_in(weights, WORD_EMBEDDINGS):
            variable.assign(vectors)
    if config.output_bias_initialization == "unigram":
        log_probs = unigram_log_probs(data.unigram_counts())
        for variable in _ending_in(weights, OUTPUT_BIAS):
            variable.assign(log_probs)


def _start_from(models: Mapping[str, keras.Model], run: RunDirectory, data: PreparedData) -> None:
    if run.tokenizer().fingerprint != data.tokenizer.fingerprint:
        raise RunError(
            f"model.init_from {run.path} was trained with another vocabulary; set tokenizer.vocab_file to {run.path / 'vocab.txt'}."
        )
    load_named_weights(models, run.final_weights(), ignore_extra=True)


def _ending_in(weights: Mapping[str, keras.Variable], ending: str) -> list[keras.Variable]:
    # A difference to shared embeddings starts at zero, whatever the embeddings are.
    found = [variable for name, variable in weights.items() if name.endswith(ending) and "difference" not in name]
    if not found:
        raise ValueError(f"No weight ends in {ending}; there are {', '.join(weights)}.")
    return found
