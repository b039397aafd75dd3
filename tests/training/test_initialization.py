"""Starting values from the corpus and for the positions, against their definitions."""

import dataclasses

import numpy as np
import pytest
from keras import ops
from witnesses.tiny import VOCAB_SIZE, tiny_config

from electra_keras.artifacts import RunDirectory
from electra_keras.config import MaskingConfig, MaskingRates
from electra_keras.data.statistics import pmi_embeddings
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import ConfigError, RunError
from electra_keras.modeling.weights import named_weights
from electra_keras.objectives import build_objective
from electra_keras.training import neighbor_attention
from electra_keras.training.initialization import check_start, initialize

pytestmark = pytest.mark.backend


class FakeTokenizer:
    vocab_size = VOCAB_SIZE
    special_ids = (0, 1, 2, 3, 4)
    fingerprint = "mine"


class FakeData:
    """Documents in which token 5 + i is always followed by token 6 + i."""

    tokenizer = FakeTokenizer()

    def __init__(self):
        starts = np.random.default_rng(0).integers(0, 10, 50)
        words = 5 + (starts[:, None] + np.arange(8)) % 14
        self.ids = np.pad(words, ((0, 0), (1, 1)), constant_values=2).astype(np.int32)

    def split(self, name):
        assert name == "train"
        return self

    num_examples = 50
    num_tokens = 500

    def token_ids(self, indices):
        return self.ids[indices]

    def lengths(self, indices):
        return np.full((len(indices), 2), 10, np.int32)

    def unigram_counts(self):
        counts = np.bincount(self.ids[:, 1:-1].ravel(), minlength=VOCAB_SIZE)
        return counts.astype(np.int64)


def built(**changes):
    config = tiny_config(**changes)
    models = build_objective(config.objective).build_models(config, VOCAB_SIZE)
    return config, models


def values(models):
    return {name: ops.convert_to_numpy(variable.value).copy() for name, variable in named_weights(models).items()}


def test_nothing_changes_unasked():
    config, models = built()
    before = values(models)
    initialize(models, config, FakeData())
    for name, array in values(models).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_pmi_vectors_go_into_the_shared_word_embeddings():
    config, models = built(model__embedding_initialization="pmi")
    before = values(models)
    initialize(models, config, FakeData())
    after = values(models)
    expected = pmi_embeddings(FakeData(), VOCAB_SIZE, 6, special_ids=FakeTokenizer.special_ids, scale=0.05)
    np.testing.assert_allclose(after["embeddings/word/embeddings"], expected, rtol=1e-6)
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    assert changed == {"embeddings/word/embeddings"}


def test_without_sharing_both_get_the_vectors_and_a_difference_stays_zero():
    config, models = built(model__embedding_initialization="pmi", model__embedding_sharing="none")
    initialize(models, config, FakeData())
    after = values(models)
    np.testing.assert_array_equal(after["generator/own_embeddings/word/embeddings"], after["discriminator/own_embeddings/word/embeddings"])
    config, models = built(model__embedding_initialization="pmi", model__embedding_sharing="disentangled")
    initialize(models, config, FakeData())
    assert not values(models)["discriminator/embeddings_difference/word/embeddings"].any()


def test_unigram_biases_predict_token_frequencies_and_the_share_replaced():
    config, models = built(model__output_bias_initialization="unigram")
    config = dataclasses.replace(config, masking=MaskingConfig(train=MaskingRates(mask_prob=0.2)))
    initialize(models, config, FakeData())
    after = values(models)
    counts = FakeData().unigram_counts() + 1.0
    frequencies = counts / counts.sum()
    np.testing.assert_allclose(np.exp(after["generator/output_bias/bias"]), frequencies, rtol=1e-5)
    probability = 1 / (1 + np.exp(-after["discriminator/detection_head/prediction/bias"]))
    assert probability == pytest.approx(0.2 * (1 - (frequencies**2).sum()), rel=1e-5)


def test_heads_attend_to_their_offsets():
    # One head of every offset, on LayerNorm's output of positions alone: the softmax must peak where it should.
    hidden_dim, num_heads, length = 128, 4, 24
    embeddings = neighbor_attention.position_embeddings(length, hidden_dim, 0.05).astype(np.float64)
    words = np.random.default_rng(1).normal(0, 0.05, (length, hidden_dim))
    words[:, -neighbor_attention.POSITION_DIM :] = 0
    tokens = embeddings + words
    tokens = (tokens - tokens.mean(1, keepdims=True)) / tokens.std(1, keepdims=True)
    kernel = np.random.default_rng(2).normal(0, hidden_dim**-0.5, (hidden_dim, 3 * hidden_dim)).astype(np.float32)
    projected = tokens @ neighbor_attention.query_key_value_kernel(kernel, num_heads)
    query, key, _ = np.split(projected, 3, axis=1)
    for head, offset in enumerate(neighbor_attention.OFFSETS[:num_heads]):
        columns = slice(head * 32, (head + 1) * 32)
        scores = query[:, columns] @ key[:, columns].T / np.sqrt(32)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        inner = np.arange(4, length - 4)
        assert (weights[inner].argmax(1) == inner + offset).all()
        assert weights[inner, inner + offset].mean() > 0.5


def test_values_and_the_third_of_the_kernel_that_makes_them_stay_random():
    kernel = np.random.default_rng(2).normal(size=(64, 192)).astype(np.float32)
    result = neighbor_attention.query_key_value_kernel(kernel, 2)
    np.testing.assert_array_equal(result[:, 128:], kernel[:, 128:])
    assert not np.array_equal(result[:, :128], kernel[:, :128])


def test_a_projection_keeps_positions_apart_from_words():
    kernel = np.random.default_rng(3).normal(size=(128, 64)).astype(np.float32)
    result = neighbor_attention.projection_kernel(kernel)
    positions = neighbor_attention.position_embeddings(10, 128, 0.05)
    np.testing.assert_allclose((positions @ result)[:, -32:], positions[:, -32:], rtol=1e-6)
    assert not (positions @ result)[:, :-32].any()


def test_neighbors_set_positions_segments_and_first_layers_alone():
    config, models = built(
        model__attention_initialization="neighbors",
        model__embedding_dim=64,
        model__hidden_dim=128,
        model__num_heads=2,
        # The generator is narrower than the initialisation needs, and it is left as it is.
        model__generator_width_fraction=0.25,
    )
    before = values(models)
    initialize(models, config, FakeData())
    after = values(models)
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    assert changed == {
        "embeddings/position/embeddings",
        "embeddings/segment/embeddings",
        "discriminator/embeddings_project/kernel",
        "discriminator/layer_0/attention/qkv/kernel",
    }
    assert not after["embeddings/segment/embeddings"].any()


def test_narrow_models_are_refused():
    narrow = {"model__attention_initialization": "neighbors"}
    with pytest.raises(ConfigError, match=r"embedding_dim of at least 64, not 6"):
        check_start(tiny_config(**narrow))
    with pytest.raises(ConfigError, match=r"hidden_dim of at least 64, not 8"):
        check_start(tiny_config(**narrow, model__embedding_dim=64))
    wide = {**narrow, "model__embedding_dim": 64, "model__hidden_dim": 64}
    check_start(tiny_config(**wide))
    with pytest.raises(ConfigError, match=r"heads of at least 2 dimensions, not 1"):
        check_start(tiny_config(**wide, model__num_heads=64))


def test_init_from_nothing_is_an_error(tmp_path):
    config, models = built(model__init_from=str(tmp_path / "absent"))
    with pytest.raises(RunError, match="holds no run"):
        initialize(models, config, FakeData())
    with pytest.raises(RunError, match="holds no run"):
        check_start(config)


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]


def run_to_start_from(folder, missing=(), **changes):
    run = RunDirectory.create(folder, tiny_config(**changes), WordPieceTokenizer(VOCABULARY), {"missing": list(missing)})
    return {"model__init_from": str(run.path)}


@pytest.mark.parametrize(
    ("theirs", "ours", "difference"),
    [
        ({}, {"model__num_layers": 1}, r"\(num_layers: 2 -> 1; the generator's num_layers: 2 -> 1\)"),
        ({}, {"model__generator_width_fraction": 1.0}, r"\(the generator's hidden_dim: 4 -> 8; .*num_heads: 1 -> 2; .*: 8 -> 16\)"),
        ({}, {"model__generator_depth_fraction": 0.5}, r"\(the generator's num_layers: 2 -> 1\)"),
        ({}, {"model__embedding_sharing": "none"}, r"\(embedding_sharing: shared -> none\)"),
        ({"model__embedding_sharing": "disentangled"}, {}, r"\(embedding_sharing: disentangled -> shared\)"),
        ({"objective__name": "mlm"}, {}, r"\(objective.name: mlm -> electra\)"),
        ({}, {"objective__name": "mlm", "model__embedding_dim": 8}, r"\(objective.name: electra -> mlm; embedding_dim: 6 -> 8\)"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_any_text_is_read(theirs, ours, difference, tmp_path):
    start = run_to_start_from(tmp_path / "run", **theirs)
    check_start(tiny_config(**theirs, **start))
    with pytest.raises(RunError, match=rf"does not fit this model {difference}\. --config .*config\.yaml has its own"):
        check_start(tiny_config(**ours, **start))


def test_an_encoder_alone_asks_for_no_generator(tmp_path):
    start = run_to_start_from(tmp_path / "run", objective__name="mlm")
    check_start(tiny_config(**start, objective__name="mlm", model__generator_width_fraction=1.0, model__embedding_sharing="disentangled"))


def test_a_run_that_was_imported_in_part_is_refused_before_any_text_is_read(tmp_path):
    start = run_to_start_from(tmp_path / "run", missing=("detection head", "generator"))
    with pytest.raises(RunError, match="holds no detection head and no generator"):
        check_start(tiny_config(**start))


def test_another_vocabulary_file_is_refused_before_any_text_is_read(tmp_path):
    start = run_to_start_from(tmp_path / "run")
    own, other = tmp_path / "run" / "vocab.txt", tmp_path / "other.txt"
    other.write_text("\n".join([*VOCABULARY, "c"]))
    check_start(tiny_config(**start, tokenizer__vocab_file=str(own)))
    for changes in ({"tokenizer__vocab_file": str(other)}, {"tokenizer__vocab_file": str(own), "tokenizer__lowercase": False}):
        with pytest.raises(RunError, match=r"another vocabulary; set tokenizer\.vocab_file to .*run/vocab\.txt"):
            check_start(tiny_config(**start, **changes))
