"""The benchmark of detection: what it scores, and its arithmetic."""

import json
import pathlib
import types

import numpy as np
import pytest

from electra_keras.artifacts import RunDirectory
from electra_keras.config import ModelConfig

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "latency.py"
MODEL = ModelConfig(
    num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, embedding_dim=4, max_positions=16, generator_width_fraction=0.5
)
LINES = ["The cat sat.", "The cat and the dog sat on the mat, all of them, the whole long day!", "A dog."]


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's own modules, which lie beside the script."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import latency
    import latency_material

    return latency, latency_material


@pytest.fixture
def run(modules, tmp_path):
    return modules[1].write_random_run(tmp_path / "run", LINES, model=MODEL, vocab_size=120, sequence_length=16)


def test_the_made_up_vocabulary_has_the_commonest_words(modules):
    vocabulary = modules[1].made_up_vocabulary(LINES, 130)
    assert len(set(vocabulary)) == 130 and vocabulary[-1].startswith("[unused")
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert vocabulary.index("the") < vocabulary.index("cat") < vocabulary.index("all")
    assert "!" in vocabulary and "##z" in vocabulary and "##!" not in vocabulary


def test_a_random_run_is_finished_and_the_same_every_time(modules, run, tmp_path):
    again = modules[1].write_random_run(tmp_path / "again", LINES, model=MODEL, vocab_size=120, sequence_length=16)
    assert RunDirectory.open(run.path).is_finished
    weights = run.final_weights()
    assert weights["discriminator/layer_0/attention/qkv/kernel"].shape == (8, 24)
    assert all((again.final_weights()[name] == array).all() for name, array in weights.items())


def test_lines_fit_the_model_and_the_text_fills_it(modules, run):
    material = modules[1].choose_material(run, LINES, 5)
    # The long line is left out; the others come again.
    assert material.lines == ["The cat sat.", "A dog.", "The cat sat.", "A dog.", "The cat sat."]
    counts = [len(encoding.token_ids) + 2 for encoding in run.tokenizer().encode_batch(material.lines)]
    assert material.num_tokens == sum(counts)
    assert len(run.tokenizer().encode(material.text).token_ids) + 2 == material.text_tokens == 16


def test_their_model_computes_where_pytorch_does(modules, run, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    import latency_engines

    from electra_keras.interop.exporting import export_run

    export_run(run.path, "huggingface", tmp_path / "theirs", report=lambda line: None)
    # PyTorch's device without numbers stands for a GPU: all goes there, and the probabilities cannot be read back.
    monkeypatch.setattr(latency_engines.accelerator, "torch_device", lambda: "meta")
    for score in latency_engines.peer_tasks(str(tmp_path / "theirs" / "discriminator"), 16).values():
        with pytest.raises(RuntimeError, match="meta tensor"):
            score(LINES)


def test_detectors_leave_memory_of_a_gpu_to_each_other(modules, monkeypatch):
    latency, _ = modules
    given = []
    monkeypatch.setattr(latency, "EngineProcess", lambda *arguments: given.append(arguments) or types.SimpleNamespace(answer=dict))
    latency.Worker({"engine": "jax"})
    assert latency.SHARED_MEMORY.items() <= given[0][2].items()


def test_a_detector_that_does_not_see_the_gpu_scores_nothing(modules, tmp_path, monkeypatch):
    import latency_engines

    (tmp_path / "lines.json").write_text("[]")
    monkeypatch.setattr(latency_engines, "take_answers", lambda: pytest.fail)
    monkeypatch.setattr(latency_engines, "our_tasks", lambda *arguments: {"text": pytest.fail})
    monkeypatch.setattr(latency_engines.accelerator, "name", lambda: "NVIDIA A100")
    monkeypatch.setattr(latency_engines.accelerator, "sees_gpu", lambda library: library == "torch")
    job = {"engine": "jax", "run": "run", "lines": str(tmp_path / "lines.json"), "text": "A text."}
    monkeypatch.setattr("sys.argv", ["latency_engines.py", json.dumps(job)])
    with pytest.raises(RuntimeError, match="NVIDIA A100, and jax"):
        latency_engines.main()


def test_ratios_are_taken_within_rounds_and_differences_found(modules):
    latency, material = modules
    worker = {
        "jax": {"text": [[1.0, 1.0], [2.0, 4.0]], "file": [[1.0], [4.0]]},
        "hf": {"text": [[3.0, 3.0], [9.0, 9.0]], "file": [[3.0], [12.0]], "file_sorted": [[2.0], [8.0]]},
    }
    ready = {"load_seconds": 1.0, "first_seconds": 2.0}
    texts = material.Material(["a", "b"], 10, "text", 4)
    rows = [
        latency.row_of(types.SimpleNamespace(engine=name, seconds=seconds, ready=ready, peak_rss=1), texts)
        for name, seconds in worker.items()
    ]
    same, other = np.array([0.5, 0.25]), np.array([0.5, 0.375])
    scores = {"jax": {"text": same, "file": other}, "hf": {"text": same, "file": same, "file_sorted": same}}
    jax, hf = latency.compare(rows, scores)
    assert (jax["text_speed_over_hf"], jax["file_speed_over_hf"], jax["file_speed_over_hf_sorted"]) == (3.0, 3.0, 2.0)
    assert jax["max_difference"] == 0.125 and hf["max_difference"] == 0.0
    assert (jax["text_p50_seconds"], jax["text_p95_seconds"]) == (1.5, 3.7)
    assert (jax["file_texts_per_second"], jax["file_tokens_per_second"]) == (0.8, 4.0)
    assert "| jax | 1500.0 ms | 3700.0 ms | 3.00 | 1 | 3.00 | 2.00 | 1.2e-01 |" in latency.table(rows)
