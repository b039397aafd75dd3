import keras
import numpy as np
import pytest
from scipy.special import softmax

from electra_keras.modeling.kernels import attention, attention_by_head
from electra_keras.modeling.kernels.attention import attend, attend_portable

pytestmark = pytest.mark.backend


@pytest.fixture
def parts():
    random = np.random.default_rng(0)
    query, key, value = random.normal(0, 1.5, (3, 2, 5, 3, 4)).astype(np.float32)
    padding_mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], dtype=np.int32)
    return query, key, value, padding_mask


def attend_numpy(query, key, value, padding_mask):
    """The definition, in float64."""
    scores = np.einsum("bqnd,bknd->bnqk", query.astype(np.float64), key) / np.sqrt(query.shape[-1])
    scores = np.where(padding_mask[:, None, None, :] == 1, scores, -np.inf)
    return np.einsum("bnqk,bknd->bqnd", softmax(scores, axis=-1), value)


@pytest.mark.parametrize("form", [attend, attend_portable])
def test_equals_the_definition(form, parts, compiled):
    mixed = compiled(form)(*map(keras.ops.convert_to_tensor, parts))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mixed), attend_numpy(*parts), atol=1e-6)


@pytest.mark.parametrize("form", [attend, attend_portable])
def test_fewer_queries_than_tokens(form, parts, compiled):
    query, *others = parts
    few = query[:, [4, 1]]
    mixed = compiled(form)(*map(keras.ops.convert_to_tensor, (few, *others)))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mixed), attend_numpy(few, *others), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="cuDNN's attention is called through JAX")
@pytest.mark.parametrize(("queries", "form"), [(128, "cuDNN"), (20, "cuDNN"), (19, "written out")])
def test_on_a_gpu_jax_hands_cudnn_what_it_takes(queries, form, monkeypatch):
    import jax
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    # A GPU as far as tracing goes, which checks shapes, dtypes and mask.
    monkeypatch.setattr(attention, "compiles_for_cpu", lambda: False)
    monkeypatch.setattr(attention, "_jax_computes_on_gpu", lambda: True)
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: False)
    query, key = (np.zeros((2, length, 2, 64), "bfloat16") for length in (queries, 128))
    padding_mask = np.ones((2, 128), np.int32)
    step = jax.make_jaxpr(jax.grad(lambda query: attend(query, key, key, padding_mask).astype("float32").sum()))(query)
    assert ("cuDNN" if "dot_product_attention_fwd" in str(step) else "written out") == form


@pytest.mark.parametrize("form", [attend, attend_portable])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 3e-3), ("bfloat16", 3e-2)])
def test_sixteen_bits_keep_their_dtype_and_their_digits(form, dtype, tolerance, parts, compiled):
    *vectors, padding_mask = parts
    vectors = [keras.ops.cast(vector, dtype) for vector in vectors]
    mixed = compiled(form)(*vectors, keras.ops.convert_to_tensor(padding_mask))
    assert keras.backend.standardize_dtype(mixed.dtype) == dtype
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.cast(mixed, "float32")), attend_numpy(*parts), atol=tolerance)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="there the scores themselves are of 16 bits")
@pytest.mark.parametrize("head_dim", [8, 16])
def test_the_scale_of_the_scores_is_not_rounded_to_bfloat16(head_dim, compiled):
    # The root of 8 is no power of two, that of 16 is: both must leave the error that the results' own rounding makes.
    random = np.random.default_rng(0)
    query, key, value = map(rounded_to_bfloat16, random.normal(size=(3, 4, 32, 2, head_dim)) * np.array([4, 4, 1]).reshape(3, 1, 1, 1, 1))
    padding_mask = np.ones((4, 32), dtype=np.int32)
    vectors = [keras.ops.cast(vector, "bfloat16") for vector in (query, key, value)]
    mixed = compiled(attend)(*vectors, keras.ops.convert_to_tensor(padding_mask))
    exact = attend_numpy(query, key, value, padding_mask)
    error = keras.ops.convert_to_numpy(keras.ops.cast(mixed, "float32")) - exact
    assert np.sqrt(np.mean(error**2) / np.mean(exact**2)) < 2.5e-3


def test_float16_holds_a_long_row_of_large_values():
    # The undivided weights of 512 equal keys would add up to 512 * 200, beyond float16's 65,504.
    flat = keras.ops.zeros((1, 512, 1, 4), dtype="float16")
    value = keras.ops.full((1, 512, 1, 4), 200.0, dtype="float16")
    mask = keras.ops.ones((1, 512), dtype="int32")
    for form in (attend, attend_portable):
        mixed = keras.ops.convert_to_numpy(form(flat, flat, value, mask))
        np.testing.assert_allclose(mixed, 200.0, rtol=2e-3)


@pytest.mark.parametrize("form", [attend, attend_portable])
def test_an_example_of_padding_alone_stays_finite(form, parts):
    *vectors, padding_mask = parts
    padding_mask = np.zeros_like(padding_mask)
    mixed = form(*map(keras.ops.convert_to_tensor, (*vectors, padding_mask)))
    assert np.isfinite(keras.ops.convert_to_numpy(mixed)).all()


@pytest.mark.parametrize("form", [attend, attend_portable])
def test_huge_scores_do_not_overflow(form):
    query = keras.ops.convert_to_tensor(np.full((1, 2, 1, 4), 200.0, dtype=np.float32))
    key = keras.ops.convert_to_tensor(np.array([[200.0], [-200.0]], dtype=np.float32).reshape(1, 2, 1, 1) * np.ones(4, np.float32))
    value = keras.ops.convert_to_tensor(np.array([1.0, 2.0], dtype=np.float32).reshape(1, 2, 1, 1) * np.ones(4, np.float32))
    mixed = form(query, key, value, keras.ops.ones((1, 2), dtype="int32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mixed), 1.0, atol=1e-6)


def test_both_forms_have_the_same_gradient(parts, gradients):
    *vectors, padding_mask = parts
    variables = [keras.Variable(vector) for vector in vectors]
    mask = keras.ops.convert_to_tensor(padding_mask)

    def loss_of(form):
        return lambda: keras.ops.sum(keras.ops.sin(form(*(variable.value for variable in variables), mask)))

    for faster, portable in zip(gradients(loss_of(attend), variables), gradients(loss_of(attend_portable), variables), strict=True):
        np.testing.assert_allclose(faster, portable, atol=2e-6)


def rounded_to_bfloat16(vector):
    return keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(vector, "bfloat16"), "float32"))


def assert_gradients_near_float32(rounded, padding_mask, drop, gradients):
    """The gradients of attend in bfloat16 are those of the written-out form in float32, to 3% of the largest."""
    variables = [keras.Variable(vector) for vector in rounded]
    mask = keras.ops.convert_to_tensor(padding_mask)

    def loss_of(form, dtype):
        def loss():
            mixed = form(*(keras.ops.cast(variable.value, dtype) for variable in variables), mask, drop)
            return keras.ops.sum(keras.ops.sin(keras.ops.cast(mixed, "float32")))

        return loss

    exact = gradients(loss_of(attend_portable, "float32"), variables)
    for found, wanted in zip(gradients(loss_of(attend, "bfloat16"), variables), exact, strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("queries", [5, 2])
def test_bfloat16_has_the_gradient_of_float32(doubled, queries, parts, gradients):
    # With and without a function on the weights: either may have a form of its own.
    *vectors, padding_mask = parts
    query, *others = (rounded_to_bfloat16(vector) for vector in vectors)
    drop = (lambda weights: 2.0 * weights) if doubled else None
    assert_gradients_near_float32([query[:, :queries], *others], padding_mask, drop, gradients)


@pytest.mark.parametrize("cached_scores", [1 << 19, 600, 10])
@pytest.mark.parametrize("length", [5, 16])
@pytest.mark.parametrize("drops", [False, True])
def test_bfloat16_at_lengths_with_and_without_tiles_drops_every_weight_by_its_own_factor(
    length, drops, cached_scores, gradients, compiled, monkeypatch
):
    # Transpositions in tiles fit one length alone; a factor differs from weight to weight, as dropout's does. Heads are taken all at once,
    # some at a time, and one by one.
    monkeypatch.setattr(attention_by_head, "CACHED_SCORES", cached_scores)
    random = np.random.default_rng(1)
    rounded = [rounded_to_bfloat16(vector) for vector in random.normal(size=(3, 2, length, 3, 4)).astype(np.float32)]
    factor = 1.25 * random.integers(0, 2, (2, 3, length, length)).astype(np.float32)
    padding_mask = np.ones((2, length), np.int32)
    padding_mask[1, [2, 4]] = 0

    def drop(weights):
        return weights * keras.ops.reshape(keras.ops.cast(keras.ops.convert_to_tensor(factor), weights.dtype), keras.ops.shape(weights))

    scores = np.einsum("bqnd,bknd->bnqk", *rounded[:2]) / 2.0
    weights = softmax(np.where(padding_mask[:, None, None, :] == 1, scores, -np.inf), axis=-1) * (factor if drops else 1.0)
    mask, function = keras.ops.convert_to_tensor(padding_mask), drop if drops else None
    mixed = compiled(lambda *vectors: attend(*vectors, mask, function))(*(keras.ops.cast(vector, "bfloat16") for vector in rounded))
    expected = np.einsum("bnqk,bknd->bqnd", weights, rounded[2])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.cast(mixed, "float32")), expected, atol=3e-2)
    assert_gradients_near_float32(rounded, padding_mask, function, gradients)


def test_dropout_acts_on_the_normalised_weights(parts):
    # Doubling every weight must double the result: what is dropped is linear in the softmax's weights.
    tensors = [keras.ops.convert_to_tensor(part) for part in parts]
    for form in (attend, attend_portable):
        doubled = form(*tensors, drop=lambda weights: 2.0 * weights)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(doubled), 2 * attend_numpy(*parts), atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_split_in_three_and_its_gradient(dtype, gradients):
    random = np.random.default_rng(0)
    stream, weights = (rounded_to_bfloat16(random.normal(size=(5, 12)).astype(np.float32)) for _ in range(2))
    variable = keras.Variable(stream)

    def parts():
        return attention.split_in_three(keras.ops.cast(variable.value, dtype))

    for part, expected in zip(parts(), np.split(stream, 3, axis=1), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.ops.stop_gradient(keras.ops.cast(part, "float32"))), expected)

    def loss():
        pairs = zip(parts(), np.split(weights, 3, axis=1), strict=True)
        return sum(keras.ops.sum(keras.ops.cast(part, "float32") * keras.ops.convert_to_tensor(weight)) for part, weight in pairs)

    np.testing.assert_array_equal(gradients(loss, [variable])[0], weights)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="XLA has a library for bfloat16 on every processor")
@pytest.mark.parametrize("drop", [None, lambda weights: 2.0 * weights])
@pytest.mark.parametrize(("capability", "multiplied"), [("AVX2", "float32"), ("AVX512", "bfloat16")])
def test_pytorch_attends_in_float32_where_it_has_no_library_for_bfloat16(capability, multiplied, drop, parts, monkeypatch, product_dtypes):
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    *vectors, padding_mask = parts
    vectors = [torch.tensor(vector, dtype=torch.bfloat16, requires_grad=True) for vector in vectors]
    with product_dtypes() as dtypes:
        mixed = attend(*vectors, torch.tensor(padding_mask), drop)
        gradients = torch.autograd.grad(mixed.sum(), vectors)
    assert set(dtypes) == {multiplied}
    assert {part.dtype for part in (mixed, *gradients)} == {torch.bfloat16}
