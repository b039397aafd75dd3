"""WordPiece as in BERT, by Hugging Face `tokenizers`: text to ids, tokens and offsets.

Ids and offsets are those of transformers' `BertTokenizerFast` with one difference, made on purpose: text that happens to
spell a special token, such as "[MASK]", is encoded as the plain characters it consists of. A corpus or a user who writes
about masks must not be able to put control tokens into a batch.

The original's own Python (model/tokenization.py) differs from both in rare text: it takes words of up to 200 characters, writes a word's
last sigma as a final one, and knows the characters that came after Unicode 8 and the Chinese U+2B820 to U+2B91F as what they are.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from electra_keras.config import TokenizerConfig
from electra_keras.data.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_vocabulary, train_vocabulary
from electra_keras.errors import TokenizerError
from electra_keras.files import atomic_open, sha256_of_json, write_json

VOCABULARY_FILE = "vocab.txt"
SETTINGS_FILE = "tokenizer_config.json"
# Longer words are unknown, as in transformers; in the original those over 200.
MAX_CHARACTERS_PER_WORD = 100
# About 200,000 English words, or 100 MB.
MAX_REMEMBERED_CHARACTERS = 1_500_000
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One text's tokens, without special tokens.

    Attributes:
        token_ids: ids in [0, vocab_size).
        tokens: the vocabulary's entries, "##" before those that continue a word.
        offsets: for every token its start and end in code points of the text given.
    """

    token_ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]


class WordPieceTokenizer:
    """A vocabulary and the settings of how text is cut into it.

    Args:
        vocab: the entries in the order of their ids; must hold the five special tokens and no entry twice.
        lowercase: fold case before splitting.
        strip_accents: remove accents; None follows `lowercase`, as in BERT.
        split_chinese: every Chinese character is a word of its own.

    Attributes:
        vocab: as given.
        settings: the other arguments.
        fingerprint: SHA-256 of both; equal fingerprints, equal ids.
        backend: the `tokenizers.Tokenizer` that does the work.

    Raises:
        TokenizerError: the vocabulary lacks a special token or repeats an entry.
    """

    def __init__(self, vocab: Sequence[str], *, lowercase: bool = True, strip_accents: bool | None = None, split_chinese: bool = True):
        check_vocabulary(vocab, "the vocabulary")
        self.vocab = list(vocab)
        self.settings = {"lowercase": lowercase, "strip_accents": strip_accents, "split_chinese": split_chinese}
        self.fingerprint = sha256_of_json({"vocab": self.vocab, **self.settings})
        ids = {token: index for index, token in enumerate(self.vocab)}
        self.special_ids = tuple(ids[token] for token in SPECIAL_TOKENS)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = self.special_ids
        model = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=MAX_CHARACTERS_PER_WORD)
        self.backend = word_splitter(model, **self.settings)
        self._word_ids: dict[str, list[int]] = {}
        self._remembered_characters = 0

    @classmethod
    def train(cls, texts: Iterable[str], config: TokenizerConfig) -> "WordPieceTokenizer":
        """Trains a vocabulary on texts, the same one every time.

        Args:
            texts: what the words and their counts are taken from.
            config: `vocab_size`, `min_frequency` and the settings of splitting.

        Raises:
            TokenizerError: the texts hold no characters to learn from.
        """
        settings = _settings(config)
        splitter = word_splitter(models.WordPiece(unk_token="[UNK]"), **settings)
        texts = [encodable(text) for text in texts]
        return cls(train_vocabulary(splitter, texts, config.vocab_size, config.min_frequency), **settings)

    @classmethod
    def from_vocab_file(cls, path: str | os.PathLike, config: TokenizerConfig) -> "WordPieceTokenizer":
        """Reads a vocab.txt, one entry a line, in the order of the ids.

        Raises:
            TokenizerError: the file is missing, not UTF-8, lacks a special token, or has a line twice or empty.
        """
        return cls(read_vocabulary(path), **_settings(config))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "WordPieceTokenizer":
        """Reads what `save` wrote.

        Raises:
            TokenizerError: one of the two files is missing or cannot be used.
        """
        path = pathlib.Path(folder) / SETTINGS_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            settings = {
                "lowercase": values["do_lower_case"],
                "strip_accents": values["strip_accents"],
                "split_chinese": values["tokenize_chinese_chars"],
            }
        except OSError as error:
            raise TokenizerError(f"Cannot read {path}: {error.strerror}. Give a folder that a tokenizer was saved to.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(f"{path} is not the settings file of a tokenizer ({error!r}). Prepare the data again.") from error
        return cls(read_vocabulary(path.parent / VOCABULARY_FILE), **settings)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes vocab.txt and tokenizer_config.json, which transformers' Bert and Electra tokenizers open as they are.

        KerasHub reads vocab.txt; it takes the settings as constructor arguments.
        """
        folder = pathlib.Path(folder)
        with atomic_open(folder / VOCABULARY_FILE) as file:
            file.writelines(f"{token}\n" for token in self.vocab)
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        values = {
            "tokenizer_class": "ElectraTokenizer",
            "do_lower_case": self.settings["lowercase"],
            "strip_accents": self.settings["strip_accents"],
            "tokenize_chinese_chars": self.settings["split_chinese"],
            **dict(zip(names, SPECIAL_TOKENS, strict=True)),
        }
        write_json(folder / SETTINGS_FILE, values)

    @property
    def vocab_size(self) -> int:
        """Number of entries, special tokens included."""
        return len(self.vocab)

    def encode(self, text: str) -> Encoding:
        """Cuts one text into tokens; adds no special tokens and never truncates."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Cuts many texts into tokens, on all cores."""
        encodings = self.backend.encode_batch([encodable(text) for text in texts], add_special_tokens=False)
        return [Encoding(encoding.ids, encoding.tokens, encoding.offsets) for encoding in encodings]

    def encode_ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cuts many texts into ids alone, for corpora: one array for all texts, without offsets, several times faster.

        Nothing in BERT's rules looks beyond a space, so what stands between two spaces is encoded once and remembered.

        Returns:
            int32 (total,): the ids of all texts, one text after the other.
            int64 (texts,): how many ids belong to each text.
        """
        words = [encodable(text).split(" ") for text in texts]
        known = self._remembered(itertools.chain.from_iterable(words))
        token_ids, counts = [], np.empty(len(texts), np.int64)
        for index, text_words in enumerate(words):
            start = len(token_ids)
            token_ids.extend(itertools.chain.from_iterable(map(known.__getitem__, text_words)))
            counts[index] = len(token_ids) - start
        return np.array(token_ids, np.int32), counts

    def _remembered(self, words: Iterable[str]) -> dict[str, list[int]]:
        """Returns the ids of at least these words."""
        if self._remembered_characters > MAX_REMEMBERED_CHARACTERS:
            self._word_ids, self._remembered_characters = {}, 0
        missing = list(set(words).difference(self._word_ids))
        encodings = self.backend.encode_batch_fast(missing, add_special_tokens=False)
        self._word_ids.update((word, encoding.ids) for word, encoding in zip(missing, encodings, strict=True))
        self._remembered_characters += sum(map(len, missing))
        return self._word_ids


def word_splitter(model: models.Model, lowercase: bool, strip_accents: bool | None, split_chinese: bool) -> Tokenizer:
    """Returns a `tokenizers.Tokenizer` that cleans text and splits it into words as BERT does."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def encodable(text: str) -> str:
    """Replaces lone surrogates, which no UTF-8 text can hold, by U+FFFD; offsets stay right."""
    if text.isascii():
        return text
    return LONE_SURROGATE.sub("\ufffd", text)


def _settings(config: TokenizerConfig) -> dict[str, bool | None]:
    return {"lowercase": config.lowercase, "strip_accents": config.strip_accents, "split_chinese": config.split_chinese}
