"""The benchmark of training steps: its arithmetic, and a run at the smallest size."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "throughput.py"


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's own modules, which lie beside the script."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import shapes
    import throughput

    return shapes, throughput


def test_model_flops_by_hand(modules):
    shapes, _ = modules
    from products import model_flops

    # 4,096 tokens: discriminator 4 x 458,752 and head 33,024; generator 3 x 131,072, the last layer's keys and values 16,384, and
    # projection 16,384. 608 predictions: the rest of that layer 114,688, head 16,384 and logits 2,097,152. Backward twice forward.
    tokens = 4 * 458_752 + 33_024 + 3 * 131_072 + 16_384 + 16_384
    expected = 3 * (4_096 * tokens + 608 * (114_688 + 16_384 + 2_097_152))
    assert model_flops(shapes.SHAPES["bench_tiny"]) == expected
    # With all of that layer.
    assert expected + 3 * (4_096 - 608) * 114_688 == pytest.approx(33e9, rel=0.02)


@pytest.mark.parametrize("batch", [1, 3])
def test_products_are_a_product_and_both_its_gradients(modules, batch):
    import products

    product = products.Product(batch, rows=4, inner=2, columns=5)
    left, right, gradient = products.operands(product)
    expected = (left @ right, gradient @ np.swapaxes(right, -1, -2), np.swapaxes(left, -1, -2) @ gradient)
    results = products.torch_products(product, "float32")()
    assert product.flops == sum(2 * array.size * inner for array, inner in zip(expected, (2, 5, 4), strict=True))
    for array, right_one in zip(results, expected, strict=True):
        np.testing.assert_allclose(np.asarray(array), right_one, rtol=1e-5, atol=1e-6)


def test_batches_are_of_full_length_and_masked(modules):
    shapes, _ = modules
    shape = shapes.SHAPES["bench_tiny"]
    for x, original_ids, weights in shapes.random_batches(shape):
        assert x["padding_mask"].all()
        assert weights.all()
        assert original_ids.shape == (32, 19)
        masked = np.take_along_axis(x["token_ids"], x["mask_positions"], axis=1) == shapes.MASK_ID
        assert 0.75 < masked.mean() < 0.95


def test_ratios_are_taken_within_rounds(modules):
    _, throughput = modules
    common = {"tokens_per_second": 1.0, "flops_per_second": 1e9}
    rows = [
        {"engine": "jax", "round_seconds": [1.0, 4.0, 1.0], "step_seconds": 1.0, **common},
        {"engine": "hf", "round_seconds": [3.0, 12.0, 3.0], "step_seconds": 3.0, **common},
        {"engine": "hf_gathered", "round_seconds": [2.0, 8.0, 2.0], "step_seconds": 2.0, **common},
        {"engine": "matmul_torch", "round_seconds": [1.0] * 3, "step_seconds": 1.0, **common, "flops_per_second": 4e9},
    ]
    jax = throughput.compare(rows)[0]
    assert (jax["speed_over_hf"], jax["speed_over_fastest_peer"], jax["fastest_peer"]) == (3.0, 2.0, "hf_gathered")
    assert jax["matmul_share"] == 0.25


@pytest.mark.parametrize(
    ("of_torch", "head", "shown"), [(5e6, "| GPU memory |", "| 4 MB | 9 MB |"), (None, "| step memory |", "| 7 MB | 9 MB |")]
)
def test_a_column_holds_memory_of_one_kind(modules, of_torch, head, shown):
    _, throughput = modules
    sizes = {"shape": "smoke", "precision": "float32", "dropout": 0.1, "tokens_per_second": 1.0, "step_memory": 7e6, "peak_rss": 9e6}
    ratios = {"speed_over_hf": None, "speed_over_fastest_peer": None, "matmul_share": None}
    rows = [{"engine": engine, "gpu_memory": value, **sizes, **ratios} for engine, value in (("jax", 4e6), ("torch", of_torch))]
    product = {"engine": "matmul_jax", "tokens_per_second": None}
    table = throughput.table([*rows, product])
    assert head in table.splitlines()[0] and table.splitlines()[2].endswith(shown)


def run(out, *arguments):
    command = [sys.executable, SCRIPT, "--out", out, "--shapes", "smoke", "--steps", "1", "--rounds", "1", *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.fspath(ROOT)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_a_run_at_the_smallest_size_in_two_sittings(tmp_path):
    pytest.importorskip("transformers")
    out = tmp_path / "throughput.json"
    # JAX's product: PyTorch's of bfloat16 takes minutes on processors without AVX-512.
    engines = ["jax", "hf", "hf_gathered", "products_torch", "matmul_jax"]
    first = run(out, "--engines", *engines, "--precisions", "float32", "--dropout", "0.1")
    rows = json.loads(out.read_text())["rows"]
    assert [row["engine"] for row in rows] == engines
    assert all(row["step_seconds"] > 0 and row["peak_rss"] > row["step_memory"] >= 0 for row in rows)
    assert all(row["speed_over_hf"] > 0 and 0 <= row["matmul_share"] < 1 for row in rows[:4])
    assert rows[1]["speed_over_hf"] == 1.0
    assert "| smoke | float32 | 0.1 | jax |" in first.stdout

    # A second sitting measures what is missing alone, and shows both groups.
    second = run(out, "--engines", "matmul_jax", "--precisions", "float32", "mixed_bfloat16", "--dropout", "0.1")
    after = json.loads(out.read_text())["rows"]
    assert after[:5] == rows
    assert [(row["engine"], row["precision"]) for row in after[5:]] == [("matmul_jax", "mixed_bfloat16")]
    assert second.stderr.count("ready after") == 1
    assert "| smoke | float32 | 0.1 | jax |" in second.stdout
