"""One detector in one process: reads commands from standard input, answers on standard output, one JSON object a line.

Every engine turns texts into one probability a token, in Python floats, from text to list; ours adds each token's place in the text. It
scores everything once before it is timed, so that compilation is paid.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import accelerator
import memory
import numpy as np
from turns import take_answers

from electra_keras.backend import BACKENDS

OUR_ENGINES = BACKENDS
BATCH_SIZE = 32

# Texts -> for every text the probabilities of its tokens, special tokens left out.
Score = Callable[[Sequence[str]], list[list[float]]]


def main() -> None:
    """Loads the engine that the first argument describes, scores everything once, and answers until standard input ends."""
    job = json.loads(sys.argv[1])
    answer = take_answers()
    with open(job["lines"], encoding="utf-8") as file:
        lines = json.load(file)
    started = time.perf_counter()
    tasks = our_tasks(job["engine"], job["run"]) if job["engine"] in OUR_ENGINES else peer_tasks(job["huggingface"], job["max_length"])
    ready = {"load_seconds": time.perf_counter() - started}
    accelerator.check_use(job["engine"] if job["engine"] in OUR_ENGINES else "torch")
    started = time.perf_counter()
    for name, score in tasks.items():
        scores = score([job["text"]] if name == "text" else lines)
        np.save(f"{job['probabilities']}-{name}.npy", np.concatenate([np.asarray(row, np.float32) for row in scores]))
    answer({**ready, "tasks": [*tasks], "first_seconds": time.perf_counter() - started})
    for line in sys.stdin:
        command = json.loads(line)
        score, texts = tasks[command["task"]], [job["text"]] if command["task"] == "text" else lines
        answer({"seconds": [timed(score, texts) for _ in range(command["repeats"])], "peak_rss": memory.peak_bytes()})


def timed(score: Score, texts: Sequence[str]) -> float:
    """Returns the seconds that texts take."""
    started = time.perf_counter()
    score(texts)
    return time.perf_counter() - started


def our_tasks(backend: str, run_dir: str) -> dict[str, Score]:
    """Returns our detector, which sorts texts by length itself."""
    os.environ["KERAS_BACKEND"] = backend
    from electra_keras.detector import Detector

    detector = Detector.load(run_dir)

    def score(texts: Sequence[str]) -> list[list[float]]:
        return [[token.probability for token in detection.tokens] for detection in detector.score_batch(texts)]

    return {"text": score, "file": score}


def peer_tasks(folder: str, max_length: int) -> dict[str, Score]:
    """Returns the loops that people write around Hugging Face's discriminator: batches in the file's order, or sorted by length."""
    import torch
    from transformers import BertTokenizerFast, ElectraForPreTraining

    tokenizer = BertTokenizerFast.from_pretrained(folder)
    device = accelerator.torch_device()
    model = ElectraForPreTraining.from_pretrained(folder).eval().to(device)

    @torch.inference_mode()
    def score_padded(inputs) -> list[list[float]]:
        inputs = inputs.to(device)
        probabilities = torch.sigmoid(model(**inputs).logits).tolist()
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return [row[1 : length - 1] for row, length in zip(probabilities, lengths, strict=True)]

    def in_file_order(texts: Sequence[str]) -> list[list[float]]:
        scores = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = list(texts[start : start + BATCH_SIZE])
            scores += score_padded(tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt"))
        return scores

    def sorted_by_length(texts: Sequence[str]) -> list[list[float]]:
        token_ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        order = sorted(range(len(texts)), key=lambda index: len(token_ids[index]))
        scores: list[list[float]] = [[] for _ in texts]
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            padded = tokenizer.pad({"input_ids": [token_ids[index] for index in batch]}, return_tensors="pt")
            for index, row in zip(batch, score_padded(padded), strict=True):
                scores[index] = row
        return scores

    return {"text": in_file_order, "file": in_file_order, "file_sorted": sorted_by_length}


if __name__ == "__main__":
    main()
