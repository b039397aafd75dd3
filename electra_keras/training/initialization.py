"""Starting values that come from the corpus, from the positions, or from another run, in place of random ones."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from electra_keras.artifacts import CONFIG, RunDirectory
from electra_keras.config import Config, ModelConfig
from electra_keras.data.prepared import PreparedData
from electra_keras.data.statistics import pmi_embeddings, unigram_log_probs
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import RunError
from electra_keras.modeling.constants import NUM_SEGMENTS
from electra_keras.modeling.weights import load_named_weights, named_weights
from electra_keras.training.neighbor_attention import (
    POSITION_DIM,
    check_head_width,
    check_width,
    position_embeddings,
    projection_kernel,
    query_key_value_kernel,
)

# Root mean square of the word vectors' entries, small beside the LayerNorm that follows.
EMBEDDING_SCALE = 0.05


def check_start(config: Config) -> None:
    """Raises what `initialize` would raise for a configuration alone, before any text is read.

    A vocabulary that is yet to be trained is compared by `initialize`.

    Raises:
        RunError: `init_from` names no run, or one of another shape, or without a part, or of another vocabulary than `vocab_file`.
        TokenizerError: `vocab_file`, which is read only beside `init_from`, cannot be used.
        ConfigError: the model or its heads are too narrow for an initialisation.
    """
    model = config.model
    if model.init_from is not None:
        run = RunDirectory.open(model.init_from)
        _check_models(run, config)
        if config.tokenizer.vocab_file is not None:
            _check_vocabulary(run, WordPieceTokenizer.from_vocab_file(config.tokenizer.vocab_file, config.tokenizer))
    elif model.attention_initialization == "neighbors":
        check_width(model.embedding_dim, "embedding_dim")
        check_width(model.hidden_dim, "hidden_dim")
        check_head_width(model.hidden_dim // model.num_heads)


def _check_models(run: RunDirectory, config: Config) -> None:
    missing = run.description.get("missing")
    if missing:
        raise RunError(
            f"model.init_from {run.path} holds no {' and no '.join(missing)}. Import it again as a whole, "
            "with --generator_from where the generator lies apart."
        )
    ours, theirs = _decisive_fields(config), _decisive_fields(run.config)
    unlike = [f"{name}: {theirs[name]} -> {value}" for name, value in ours.items() if theirs.get(name, value) != value]
    if unlike:
        raise RunError(
            f"model.init_from {run.path} does not fit this model ({'; '.join(unlike)}). --config {run.path / CONFIG} has its own."
        )


def _decisive_fields(config: Config) -> dict[str, Any]:
    """Returns what two configurations must have in common for the weights of one to fit the models of the other."""
    model = config.model
    fields: dict[str, Any] = {"objective.name": config.objective.name, **model.discriminator_shape()}
    fields |= {"embedding_dim": model.embedding_dim, "max_positions": model.max_positions}
    if config.objective.detects:
        fields |= {f"the generator's {name}": size for name, size in model.generator_shape().items()}
        fields["embedding_sharing"] = model.embedding_sharing
    return fields


def initialize(models: Mapping[str, keras.Model], config: Config, data: PreparedData, report: Callable[[str], None] = print) -> None:
    """Sets the starting values that a configuration asks for, in place.

    Args:
        models: freshly built.
        config: its section model names the initialisations, and the run to start from.
        data: gives the token statistics.
        report: is told when a damaged checkpoint of `init_from` is passed over.

    Raises:
        RunError: `init_from` names no run, or one of another shape or vocabulary.
        ConfigError: the model is too narrow for an initialisation.
    """
    model = config.model
    if model.init_from is not None:
        _start_from(models, RunDirectory.open(model.init_from), data, report)
        return
    weights = named_weights(models)
    if model.embedding_initialization == "pmi":
        _set(weights, "word/embeddings", _word_vectors(model, data))
    if model.output_bias_initialization == "unigram":
        log_probs = unigram_log_probs(data.unigram_counts())
        _set(weights, "output_bias/bias", log_probs)
        _set(weights, "detection_head/prediction/bias", _detection_bias(log_probs, config.masking.train.mask_prob))
    if model.attention_initialization == "neighbors":
        _look_at_neighbors(weights, model)


def _word_vectors(model: ModelConfig, data: PreparedData) -> np.ndarray:
    positions = POSITION_DIM if model.attention_initialization == "neighbors" else 0
    tokenizer, width = data.tokenizer, model.embedding_dim - positions
    vectors = pmi_embeddings(data.split("train"), tokenizer.vocab_size, width, special_ids=tokenizer.special_ids, scale=EMBEDDING_SCALE)
    return np.pad(vectors, ((0, 0), (0, positions)))


def _detection_bias(log_probs: np.ndarray, mask_prob: float) -> np.ndarray:
    """Returns float32 (1,): the log-odds of a replacement while the generator still draws by token frequency.

    Two draws from the same frequencies differ with chance 1 - sum of their squares.
    """
    replaced = mask_prob * (1.0 - float(np.sum(np.exp(2.0 * log_probs.astype(np.float64)))))
    return np.array([np.log(replaced / (1.0 - replaced))], np.float32)


def _look_at_neighbors(weights: Mapping[str, keras.Variable], model: ModelConfig) -> None:
    """Sets positions, and the first layer of every encoder but the generator.

    A generator that starts so as well stays far ahead of the discriminator, which then detects less (configs/pretrain/tiny.yaml, 700
    steps: AUC 0.77 against a generator of loss 4.03, where it is 0.84 at 4.43 with a generator that starts at random).
    """
    _set(weights, "position/embeddings", position_embeddings(model.max_positions, model.embedding_dim, EMBEDDING_SCALE))
    # Anything that all tokens share would blur the sinusoids that the heads compare.
    _set(weights, "segment/embeddings", np.zeros((NUM_SEGMENTS, model.embedding_dim), np.float32))
    for name, variable in weights.items():
        if name.startswith("generator/"):
            continue
        kernel = ops.convert_to_numpy(variable.value)
        if name.endswith("/embeddings_project/kernel"):
            variable.assign(projection_kernel(kernel))
        elif name.endswith("/layer_0/attention/qkv/kernel"):
            variable.assign(query_key_value_kernel(kernel, model.num_heads))


def _set(weights: Mapping[str, keras.Variable], ending: str, value: np.ndarray) -> None:
    """Sets all weights of a kind; a difference to shared embeddings stays at zero, whatever the embeddings are."""
    for name, variable in weights.items():
        if name.endswith(f"/{ending}") and "embeddings_difference" not in name:
            variable.assign(value)


def _start_from(models: Mapping[str, keras.Model], run: RunDirectory, data: PreparedData, report: Callable[[str], None]) -> None:
    _check_vocabulary(run, data.tokenizer)
    load_named_weights(models, run.final_weights(report), ignore_extra=True)


def _check_vocabulary(run: RunDirectory, tokenizer: WordPieceTokenizer) -> None:
    if run.tokenizer().fingerprint != tokenizer.fingerprint:
        raise RunError(
            f"model.init_from {run.path} was trained with another vocabulary; set tokenizer.vocab_file to {run.path / 'vocab.txt'}."
        )
