import concurrent.futures
import json
import math
import os
import pathlib
import subprocess
import sys
import threading
import zlib

import keras
import numpy as np
import pytest

from electra_keras import detector as detector_module
from electra_keras.artifacts import RunDirectory
from electra_keras.cli import main
from electra_keras.config import Config, ModelConfig, ObjectiveConfig, PackingConfig
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.data.windows import split_windows
from electra_keras.detector import Detector, TokenScore, newest_run, open_run, run_folder
from electra_keras.errors import RunError
from electra_keras.modeling.models import build_discriminator
from electra_keras.modeling.weights import named_weights

pytestmark = pytest.mark.backend

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "chef", "ate", "cook", "##ed", "!", "水", "שלום", "cafe"]
SEQUENCE_LENGTH = 64
MODEL = ModelConfig(
    num_layers=2, hidden_dim=8, num_heads=2, intermediate_dim=16, embedding_dim=4, max_positions=64, generator_width_fraction=0.5
)


def arrays_for(config=MODEL):
    """Returns weights that depend on their names alone, so that every backend gets the same."""

    def values(name, shape):
        draw = np.random.default_rng(zlib.crc32(f"{name} 8".encode())).normal(size=shape)
        if name.endswith("gamma"):
            return (1 + 0.1 * draw).astype(np.float32)
        # Small offsets, so that the tokens themselves decide.
        return (draw * (0.1 if name.endswith(("bias", "beta")) else 0.7)).astype(np.float32)

    variables = named_weights({"discriminator": build_discriminator(config, len(VOCAB))})
    return {name: values(name, tuple(variable.shape)) for name, variable in variables.items()}


def make_run(path, *, objective="electra", finished=True):
    config = Config(model=MODEL, packing=PackingConfig(sequence_length=SEQUENCE_LENGTH), objective=ObjectiveConfig(name=objective))
    arrays = arrays_for() | {"generator/output_bias/bias": np.zeros(len(VOCAB), np.float32)}
    run = RunDirectory.create(path, config, WordPieceTokenizer(VOCAB), {"objective": objective})
    if finished:
        run.finish(arrays)
    else:
        run.save_checkpoint(3, arrays, {}, keep=1)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture(scope="module")
def detector(run):
    return Detector.load(run.path)


def layer_norm(x, arrays, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * arrays[f"{name}/gamma"] + arrays[f"{name}/beta"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def witness(token_ids):
    """Returns the probabilities of one sequence, [CLS] and [SEP] put around it here; NumPy in float64, one head at a time."""
    arrays = {name: array.astype(np.float64) for name, array in arrays_for().items()}

    def dense(x, name):
        return x @ arrays[f"discriminator/{name}/kernel"] + arrays[f"discriminator/{name}/bias"]

    ids = [2, *token_ids, 3]
    tables = {name: arrays[f"embeddings/{name}/embeddings"] for name in ("word", "position", "segment")}
    x = tables["word"][ids] + tables["position"][: len(ids)] + tables["segment"][0]
    x = dense(layer_norm(x, arrays, "embeddings/norm"), "embeddings_project")
    for index in range(2):
        layer = f"layer_{index}"
        query, key, value = np.split(dense(x, f"{layer}/attention/qkv"), 3, axis=-1)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            scores = np.exp(query[:, head] @ key[:, head].T / 2.0)
            heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, head])
        mixed = dense(np.concatenate(heads, -1), f"{layer}/attention/output")
        x = layer_norm(x + mixed, arrays, f"discriminator/{layer}/attention_norm")
        wide = gelu(dense(x, f"{layer}/intermediate"))
        x = layer_norm(x + dense(wide, f"{layer}/output"), arrays, f"discriminator/{layer}/output_norm")
    logits = dense(gelu(dense(x, "detection_head/dense")), "detection_head/prediction")[1:-1, 0]
    return 1 / (1 + np.exp(-logits))


def probabilities(detection):
    return np.array([token.probability for token in detection.tokens])


def test_scores_are_those_of_an_independent_forward_pass_on_every_backend(detector):
    detection = detector.score("The chef cooked!")
    assert [token.token for token in detection.tokens] == ["the", "chef", "cook", "##ed", "!"]
    expected = witness([5, 6, 8, 9, 10])
    np.testing.assert_allclose(probabilities(detection), expected, atol=1e-5)
    # The numbers are no constant that any model would give.
    assert np.ptp(expected) > 0.5
    assert all(type(token.probability) is float for token in detection.tokens)


def test_offsets_are_code_points_of_the_text_given(detector):
    text = "😀 The  Café 水שלום\tchef"
    detection = detector.score(text)
    assert detection.text == text
    assert [(token.token, text[token.start : token.end]) for token in detection.tokens] == [
        ("[UNK]", "😀"),
        ("the", "The"),
        ("cafe", "Café"),
        ("水", "水"),
        ("שלום", "שלום"),
        ("chef", "chef"),
    ]
    assert detection.tokens[0] == TokenScore("[UNK]", 0, 1, detection.tokens[0].probability)


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x01\x1b", "\u200b\u200f"])
def test_text_without_tokens_gets_none(detector, text):
    assert detector.score(text).tokens == ()


def test_half_a_surrogate_pair_shifts_nothing(detector):
    detection = detector.score("\udcff the chef")
    assert [(token.token, token.start, token.end) for token in detection.tokens] == [("the", 2, 5), ("chef", 6, 10)]


def test_long_texts_are_scored_whole_each_token_in_its_best_window(detector):
    ids = np.random.default_rng(0).integers(5, 9, size=150)
    detection = detector.score(" ".join(VOCAB[index] for index in ids))
    expected = np.full(150, np.nan)
    for window in split_windows(150, SEQUENCE_LENGTH - 2, (SEQUENCE_LENGTH - 2) // 2):
        scores = witness(ids[window.start : window.stop])
        expected[window.score_start : window.score_stop] = scores[window.score_start - window.start : window.score_stop - window.start]
    np.testing.assert_allclose(probabilities(detection), expected, atol=1e-5)


@pytest.mark.parametrize("num_tokens", [SEQUENCE_LENGTH - 2, SEQUENCE_LENGTH - 1])
def test_a_text_just_as_long_as_the_model_and_one_longer(detector, num_tokens):
    detection = detector.score(" ".join(["the"] * num_tokens))
    assert len(detection.tokens) == num_tokens
    if num_tokens == SEQUENCE_LENGTH - 2:
        np.testing.assert_allclose(probabilities(detection), witness([5] * num_tokens), atol=1e-5)


def test_a_text_scores_the_same_in_any_company(detector):
    texts = ["the chef", "", "ate " * 100, "水", "the chef cooked the 水 !" * 5, "chef " * 40]
    together = detector.score_batch(texts, batch_tokens=128)
    assert [detection.text for detection in together] == texts
    for detection, text in zip(together, texts, strict=True):
        alone = detector.score(text)
        assert [token._replace(probability=0) for token in detection.tokens] == [token._replace(probability=0) for token in alone.tokens]
        # A product over more rows adds up in another order: 5e-6 were seen.
        np.testing.assert_allclose(probabilities(detection), probabilities(alone), rtol=0, atol=1e-5)
    assert detector.score_batch([]) == []


def test_shapes_that_cost_a_compilation_stay_few(detector, monkeypatch):
    shapes = set()

    def record(inputs):
        assert {array.shape for array in inputs.values()} == {inputs["token_ids"].shape}
        assert (inputs["padding_mask"].sum(axis=1) >= 3).all(), "a row of padding alone"
        shapes.add(inputs["token_ids"].shape)
        return np.zeros(inputs["token_ids"].shape, np.float32)

    monkeypatch.setattr(detector, "_logits", record)
    for num_texts in range(1, 80):
        detector.score_batch(["the " * num_tokens for num_tokens in range(1, 1 + num_texts)], batch_tokens=320)
        detector.score_batch(["the"] * num_texts + ["the " * 20] * num_texts + ["the " * 40] * num_texts, batch_tokens=320)
        detector.score("the " * num_texts)
    single = {(1, 16), (1, 32), (1, 64)}
    if keras.backend.backend() == "torch":
        # Of several rows all shapes share a recording.
        assert {(rows, length) for rows, length in shapes if rows == 1} == single
    else:
        few_rows = single | {(4, 16), (16, 16), (4, 32), (4, 64)}
        assert shapes == few_rows | {(20, 16), (10, 24), (10, 32), (5, 48), (5, 64)}


def test_a_hundred_thousand_characters(detector):
    text = ("The chef ate! " * 7143)[:100_000]
    detection = detector.score(text)
    assert detection.tokens[-1].end == len(text.rstrip())
    assert len(detection.tokens) == 4 * 7142 + 3
    assert all(0 < token.probability < 1 for token in detection.tokens)


def test_a_word_of_a_hundred_thousand_characters_is_unknown_and_whole(detector):
    (token,) = detector.score("x" * 100_000).tokens
    assert (token.token, token.start, token.end) == ("[UNK]", 0, 100_000)


def test_threads_may_share_a_detector(detector):
    texts = [f"{'the chef ' * count}!" for count in range(1, 13)]
    alone = [probabilities(detector.score(text)) for text in texts]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.score, texts))
    for expected, detection in zip(alone, together, strict=True):
        np.testing.assert_array_equal(probabilities(detection), expected)


def test_threads_do_not_call_one_model_at_once(detector, monkeypatch):
    inside, most = [], []

    def logits(inputs):
        inside.append(inputs)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.pop()
        return np.zeros(inputs["token_ids"].shape)

    monkeypatch.setattr(detector, "_logits", logits)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(detector.score, ["the chef"] * 4))
    assert most == [1, 1, 1, 1]


def test_extreme_logits_neither_overflow_nor_warn(detector, monkeypatch):
    monkeypatch.setattr(detector, "_logits", lambda inputs: np.where(inputs["token_ids"] == 5, -1e4, 1e4))
    with np.errstate(all="raise", under="ignore"):
        assert probabilities(detector.score("the chef")).tolist() == [0.0, 1.0]


def test_a_lower_precision_of_training_does_not_touch_detection(run):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        detection = Detector.load(run.path).score("The chef cooked!")
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(probabilities(detection), witness([5, 6, 8, 9, 10]), atol=1e-5)


def test_an_unfinished_run_is_scored_from_its_checkpoint(tmp_path):
    make_run(tmp_path / "unfinished", finished=False)
    detection = Detector.load(tmp_path / "unfinished").score("The chef")
    np.testing.assert_allclose(probabilities(detection), witness([5, 6]), atol=1e-5)


def test_a_run_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "mine")
    assert open_run("mine").path.samefile(tmp_path / "runs" / "mine")
    assert open_run("runs/mine").path.samefile(tmp_path / "runs" / "mine")
    with pytest.raises(RunError, match="There is no run directory yours, nor runs/yours"):
        open_run("yours")


def test_a_folder_here_wins_over_a_run_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("runs/mine", "mine"):
        (tmp_path / path).mkdir(parents=True)
        assert run_folder("mine") == pathlib.Path(path)


def test_a_run_without_a_discriminator_is_refused(tmp_path):
    make_run(tmp_path / "mlm", objective="mlm")
    with pytest.raises(RunError, match="objective mlm, which has no discriminator"):
        Detector.load(tmp_path / "mlm")


def test_damaged_weights_are_refused(tmp_path):
    run = make_run(tmp_path / "damaged")
    weights = run.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"weights.safetensors is missing or damaged"):
        Detector.load(run.path)


def test_weights_of_another_shape_are_refused(tmp_path):
    run = make_run(tmp_path / "other")
    arrays = arrays_for()
    run.finish({**arrays, "embeddings/word/embeddings": np.zeros((3, 4), np.float32)})
    with pytest.raises(RunError, match=r"the file has embeddings/word/embeddings \(3, 4\)"):
        Detector.load(run.path)


def test_the_newest_finished_run_with_a_discriminator_is_the_default(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"no finished run in .*make demo"):
        newest_run(tmp_path / "runs")
    times = {"old": 1, "new": 3, "older": 2, "mlm": 4, "unfinished": 5}
    for name in times:
        make_run(tmp_path / "runs" / name, objective="mlm" if name == "mlm" else "electra", finished=name != "unfinished")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "file.txt").write_text("")
    damaged = make_run(tmp_path / "runs" / "damaged")
    (damaged.path / "config.yaml").write_text("unknown: 1")
    for name, seconds in times.items():
        detector_module.os.utime(tmp_path / "runs" / name, (seconds, seconds))
    assert newest_run(tmp_path / "runs").name == "new"


def test_the_command_line_shows_the_same_scores(run, detector, capsys):
    assert main(["detect", "--model", str(run.path), "--format", "json", "--text", "The chef cooked!"]) == 0
    assert json.loads(capsys.readouterr().out) == [token._asdict() for token in detector.score("The chef cooked!").tokens]


def test_detection_loads_no_training_code(run):
    script = (
        "import sys\n"
        "from electra_keras.detector import Detector\n"
        f"Detector.load({str(run.path)!r}).score('the chef')\n"
        "unwanted = ('electra_keras.training', 'electra_keras.objectives', 'keras_hub', 'grain')\n"
        "print([name for name in sys.modules if name.startswith(unwanted)])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=pathlib.Path(__file__).parents[1]
    )
    assert finished.stdout.splitlines()[-1] == "[]"


DETECT_AND_COUNT = """
import sys
from electra_keras import cli, process
process.prepare_backend("jax", None)
import jax
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
code = cli.main(["detect", "--model", sys.argv[1], "--text", "the chef"])
print(code, events.count("/jax/compilation_cache/cache_hits"), events.count("/jax/compilation_cache/cache_misses"))
"""


def detect_and_count(run, cache):
    """Runs `detect` on JAX in a process of its own; returns its output, exit code, and the cache's hits and misses; and its messages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))}
    finished = subprocess.run(
        [sys.executable, "-c", DETECT_AND_COUNT, str(run.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[1],
        env={**environment, "KERAS_BACKEND": "jax", "XDG_CACHE_HOME": str(cache)},
    )
    shown, counts = finished.stdout.splitlines()
    return (shown, *map(int, counts.split())), finished.stderr


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone keeps what it compiles")
def test_a_second_command_finds_what_the_first_compiled(run, tmp_path):
    (first, code, hits, misses), _ = detect_and_count(run, tmp_path)
    assert (code, hits) == (0, 0) and misses > 0
    again, _ = detect_and_count(run, tmp_path)
    assert again == (first, 0, misses, 0)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone keeps what it compiles")
def test_a_cache_that_cannot_be_written_stops_no_command(run, tmp_path):
    (tmp_path / "file").write_text("")
    (shown, code, hits, misses), messages = detect_and_count(run, tmp_path / "file")
    assert shown.startswith("the[") and (code, hits, misses) == (0, 0, 0)
    assert "Compiled functions are not kept" in messages and "Set XDG_CACHE_HOME" in messages
