import keras
import pytest

from electra_keras.modeling.kernels.attention_by_head import _num_parts

pytestmark = pytest.mark.backend


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX takes some heads at a time")
def test_as_many_heads_at_a_time_as_the_cache_holds():
    # 16 heads of 512 x 512 scores, 64 of 128 x 128; 3 heads that fit, 3 of which only one fits, few queries, and sizes not known yet.
    sizes = [(16, 512, 512), (64, 128, 128), (3, 10, 10), (3, 700, 700), (64, 19, 128), (None, 128, 128), (16, 77, None)]
    assert [_num_parts(*size) for size in sizes] == [8, 2, 1, 3, 1, 1, 1]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX takes some heads at a time")
def test_parts_stay_few_since_each_is_compiled_by_itself():
    # The paper's base as configured, 12 heads with more batches, a prime number of heads, a length of which one head fills the cache.
    sizes = [(256 * 12, 512, 512), (20 * 12, 512, 512), (127, 128, 128), (10, 1024, 1024)]
    assert [_num_parts(*size) for size in sizes] == [8, 8, 1, 5]
