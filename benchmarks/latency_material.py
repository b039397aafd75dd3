"""What the latency benchmark scores: a run, lines of text that its model takes whole, and one text that fills the model.

Texts are paragraphs of the built-in corpus' first part, the docstrings of Python's standard library, in the corpus' order.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from electra_keras.artifacts import RunDirectory
from electra_keras.config import Config, CorpusConfig, ModelConfig, PackingConfig
from electra_keras.data.corpus import documents
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.data.vocabulary import SPECIAL_TOKENS
from electra_keras.interop.layout import EncoderSize, to_run_weights
from electra_keras.modeling.presets import PRESETS

VOCAB_SIZE = 30_522
SEQUENCE_LENGTH = 128
TEXT_TOKENS = 128


@dataclasses.dataclass(frozen=True)
class Material:
    """What every engine gets.

    Attributes:
        lines: texts of at most the model's length, in the corpus' order.
        num_tokens: tokens of all lines, special tokens included.
        text: one text of `text_tokens` tokens.
        text_tokens: special tokens included.
    """

    lines: list[str]
    num_tokens: int
    text: str
    text_tokens: int


def corpus_lines() -> list[str]:
    """Returns every paragraph of the standard library's docstrings, without white space around it."""
    lines = (line.strip() for document in documents(CorpusConfig(builtin_packages=[])) for line in document.text.split("\n"))
    return [line for line in lines if line]


def choose_material(run: RunDirectory, candidates: Sequence[str], num_lines: int) -> Material:
    """Chooses the first lines that the run's model takes whole; where there are too few, they come again.

    A longer line would be scored in windows by us, and cut by the peer.
    """
    tokenizer, sequence_length = run.tokenizer(), run.config.packing.sequence_length
    counts = [len(encoding.token_ids) for encoding in tokenizer.encode_batch(candidates)]
    whole = [(line, count + 2) for line, count in zip(candidates, counts, strict=True) if 0 < count <= sequence_length - 2]
    chosen = list(itertools.islice(itertools.cycle(whole), num_lines))
    lines = [line for line, _ in chosen]
    text_tokens = min(TEXT_TOKENS, sequence_length)
    return Material(lines, sum(count for _, count in chosen), text_of_length(tokenizer, lines, text_tokens - 2), text_tokens)


def text_of_length(tokenizer: WordPieceTokenizer, lines: Sequence[str], num_tokens: int) -> str:
    """Joins lines until they hold so many tokens, without special tokens, and cuts behind the last one."""
    joined = " ".join(itertools.islice(itertools.cycle(lines), num_tokens))
    text = joined[: tokenizer.encode(joined).offsets[num_tokens - 1][1]]
    found = len(tokenizer.encode(text).token_ids)
    if found != num_tokens:
        raise ValueError(f"The text has {found} tokens instead of {num_tokens}: its last token changes where the text ends.")
    return text


def write_random_run(
    folder: str | os.PathLike,
    lines: Sequence[str],
    *,
    model: ModelConfig = PRESETS["small"],
    vocab_size: int = VOCAB_SIZE,
    sequence_length: int = SEQUENCE_LENGTH,
) -> RunDirectory:
    """Writes a finished run of random weights: the same from the same lines.

    Matrices are scaled so that probabilities spread over (0, 1); with the usual small numbers all would be one half, and an engine that
    computed something else would not be seen.
    """
    full = EncoderSize(
        vocab_size, model.embedding_dim, model.max_positions, model.num_layers, model.hidden_dim, model.num_heads, model.intermediate_dim
    )
    generator = np.random.default_rng(0)
    weights = {name: _random_weight(name, shape, generator) for name, shape in full.weight_shapes("detection").items()}
    config = Config(model=model, packing=PackingConfig(sequence_length=sequence_length))
    run = RunDirectory.create(pathlib.Path(folder), config, WordPieceTokenizer(made_up_vocabulary(lines, vocab_size)), {"kind": "random"})
    run.finish(to_run_weights(weights, "discriminator", own_embeddings=False))
    return run


def _random_weight(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, 1.0 if name.endswith("gamma") else 0.0, np.float32)
    scale = 1.0 if name.startswith("embeddings/") else 1 / np.sqrt(shape[0])
    return generator.normal(scale=scale, size=shape).astype(np.float32)


def made_up_vocabulary(lines: Sequence[str], vocab_size: int) -> list[str]:
    """Returns special tokens, the ASCII characters alone and within words, the lines' commonest words, and unused entries."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*SPECIAL_TOKENS, *characters, *(f"##{character}" for character in characters if character.isalnum())]
    words = collections.Counter(word for line in lines for word in re.findall(r"[a-z]{2,}", line.lower()))
    common = sorted(words, key=lambda word: (-words[word], word))
    vocabulary = [*pieces, *common][:vocab_size]
    return [*vocabulary, *(f"[unused{index}]" for index in range(vocab_size - len(vocabulary)))]
