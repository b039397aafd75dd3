import keras
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from electra_keras.modeling.kernels.cross_entropy import token_losses
from electra_keras.modeling.kernels.sampling import draw_tokens

pytestmark = pytest.mark.backend

LARGEST_UNIFORM = np.float32(1 - 2**-24)


@pytest.fixture
def draw(compiled):
    def draw(logits, uniforms, block_size=16):
        tensors = [keras.ops.convert_to_tensor(np.asarray(values, dtype=np.float32)) for values in (logits, uniforms)]
        return keras.ops.convert_to_numpy(compiled(lambda *parts: draw_tokens(*parts, block_size=block_size))(*tensors))

    return draw


def inverse_cdf(logits, uniforms):
    """The definition, in float64: the first token whose cumulative probability lies beyond the uniform number."""
    cumulative = np.cumsum(softmax(logits.astype(np.float64), axis=-1), axis=-1)
    flat = zip(cumulative.reshape(-1, logits.shape[-1]), uniforms.reshape(-1), strict=True)
    return np.array([np.searchsorted(row, uniform, side="right") for row, uniform in flat]).reshape(uniforms.shape)


@pytest.mark.parametrize(("vocab_size", "block_size"), [(1, 16), (10, 16), (128, 128), (129, 128), (1000, 128), (30, 1)])
def test_equals_the_inverse_of_the_cumulative_distribution(draw, vocab_size, block_size):
    random = np.random.default_rng(vocab_size)
    logits = random.normal(0, 2, (4, 50, vocab_size)).astype(np.float32)
    uniforms = random.random((4, 50), dtype=np.float32)
    tokens = draw(logits, uniforms, block_size=block_size)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, inverse_cdf(logits, uniforms))


def test_uncompiled_form_draws_the_same_tokens():
    random = np.random.default_rng(5)
    logits = random.normal(0, 2, (3, 20, 300)).astype(np.float32)
    uniforms = random.random((3, 20), dtype=np.float32)
    tokens = draw_tokens(keras.ops.convert_to_tensor(logits), keras.ops.convert_to_tensor(uniforms))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(tokens), inverse_cdf(logits, uniforms))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_frequencies_follow_the_softmax(temperature):
    logits = np.random.default_rng(1).normal(0, 1.5, 30).astype(np.float32)
    draws = 20_000
    tiled = keras.ops.convert_to_tensor(np.tile(logits, (draws, 1)))
    uniforms = keras.random.uniform((draws,), seed=keras.random.SeedGenerator(11))
    tokens = keras.ops.convert_to_numpy(draw_tokens(tiled, uniforms, temperature))
    counts = np.bincount(tokens, minlength=30)
    expected = softmax(logits.astype(np.float64) / temperature) * draws
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("certain", [0, 6, 7, 8, 19])
def test_a_token_with_all_the_mass_is_always_drawn(draw, certain):
    logits = np.full((3, 20), -np.inf)
    logits[:, certain] = 2.0
    assert draw(logits, [0.0, 0.5, LARGEST_UNIFORM], block_size=8).tolist() == [certain] * 3


def test_excluded_tokens_are_never_drawn_even_at_the_ends(draw):
    logits = np.random.default_rng(3).normal(0, 1, (400, 100))
    allowed = np.random.default_rng(4).random((400, 100)) < 0.05
    allowed[:, 50] = True
    logits[~allowed] = -np.inf
    uniforms = np.random.default_rng(5).random(400, dtype=np.float32)
    uniforms[:100], uniforms[100:200] = 0.0, LARGEST_UNIFORM
    tokens = draw(logits, uniforms)
    assert allowed[np.arange(400), tokens].all()


def test_rounding_at_the_upper_end_stays_on_a_token_of_positive_probability(draw):
    # Ten thousand equal weights and a tail of impossible tokens: float32 sums round, and the largest uniform number hits the end.
    logits = np.full((1, 10_050), 0.1)
    logits[:, 10_000:] = -np.inf
    token = draw(logits, [LARGEST_UNIFORM], block_size=128)[0]
    assert 9_990 <= token < 10_000


def test_nan_logits_still_give_an_id_in_range(draw):
    logits = np.full((2, 40), np.nan)
    tokens = draw(logits, [0.3, 0.9])
    assert ((tokens >= 0) & (tokens < 40)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_logits_are_drawn_in_float32(dtype, compiled):
    logits = keras.ops.cast(np.random.default_rng(6).normal(0, 2, (64, 500)).astype(np.float32), dtype)
    uniforms = np.random.default_rng(7).random(64, dtype=np.float32)
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
    tokens = keras.ops.convert_to_numpy(compiled(draw_tokens)(logits, keras.ops.convert_to_tensor(uniforms)))
    np.testing.assert_array_equal(tokens, inverse_cdf(rounded, uniforms))


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow does not show what it has compiled")
def test_the_loss_and_the_draw_share_their_exponentials():
    logits = np.random.default_rng(0).normal(size=(2, 3, 300)).astype(np.float32)
    token_ids, uniforms = np.zeros((2, 3), np.int32), np.full((2, 3), 0.5, np.float32)
    parts = [keras.ops.convert_to_tensor(part) for part in (logits, token_ids, uniforms)]

    def compute(logits, token_ids, uniforms):
        return keras.ops.sum(token_losses(logits, token_ids)), draw_tokens(logits, uniforms)

    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(jax.grad(compute, has_aux=True)).lower(*parts).compile().as_text()
        passes = [line for line in compiled.splitlines() if " exponential(" in line and "300]" in line]
    else:
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        from electra_keras.training.steps.torch_gradients import slimmed

        recording = slimmed(make_fx(compute)(*parts))
        passes = recording.graph.find_nodes(op="call_function", target=torch.ops.aten._softmax.default)
    assert len(passes) == 1
