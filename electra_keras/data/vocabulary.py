"""WordPiece vocabularies: trained the same way every time, and checked when they are read.

Training by Hugging Face `tokenizers` alone gives another vocabulary in every process: it numbers the single characters in
the order of a randomly seeded hash map, and these numbers break the ties between pairs of equal count. Choosing the
alphabet here and passing it in as "special tokens" fixes the numbers, and with them the whole training.
"""

import collections
import os
import pathlib
import sys
from collections.abc import Collection, Sequence

import numpy as np
from tokenizers import Tokenizer, trainers

from electra_keras.data.portions import portions
from electra_keras.errors import TokenizerError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
# Characters are kept, the most frequent first, until this share of the text is written in them: the rest are typos of
# scraping and stray foreign letters, which would take up a small vocabulary. Words with them become [UNK].
ALPHABET_COVERAGE = 0.9999
# And never so many that the alphabet (twice: at the start of a word and within) leaves no room for word pieces.
MAX_ALPHABET_FRACTION = 0.25
MAX_ISOLATED_FRACTION = 0.75
CHARACTERS_PER_BATCH = 1 << 20


def train_vocabulary(splitter: Tokenizer, texts: Collection[str], vocab_size: int, min_frequency: int) -> list[str]:
    """Learns a WordPiece vocabulary.

    Args:
        splitter: tokenizer whose normalizer and pre-tokenizer cut text into words; its model is trained along.
        texts: read twice.
        vocab_size: entries, special tokens included; fewer come out when the texts have too few distinct words.
        min_frequency: occurrences a pair needs to be merged.

    Returns:
        The special tokens in their order, then everything else sorted by code points.

    Raises:
        TokenizerError: the texts hold no characters to learn from.
    """
    alphabet = choose_alphabet(splitter, count_characters(splitter, texts), vocab_size, min_frequency)
    if not alphabet:
        raise TokenizerError("The corpus has no characters to train a vocabulary on. Give more text, or tokenizer.vocab_file.")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *alphabet],
        limit_alphabet=0,
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    splitter.train_from_iterator(portions(texts, CHARACTERS_PER_BATCH), trainer)
    return [*SPECIAL_TOKENS, *sorted(set(splitter.get_vocab()) - set(SPECIAL_TOKENS))]


def count_characters(splitter: Tokenizer, texts: Collection[str]) -> dict[str, int]:
    """Counts the characters of the texts after cleaning, case folding and the like, white space left out."""
    raw = np.zeros(sys.maxunicode + 1, np.int64)
    for batch in portions(texts, CHARACTERS_PER_BATCH):
        # A tenth of the time that collections.Counter takes.
        found = np.bincount(np.frombuffer("".join(batch).encode("utf-32-le"), np.uint32))
        raw[: len(found)] += found
    counts = collections.Counter()
    for code_point in np.flatnonzero(raw):
        # BERT's normalizer works on each character alone, so counting first and cleaning the few distinct ones is exact.
        for cleaned in splitter.normalizer.normalize_str(chr(code_point)):
            counts[cleaned] += int(raw[code_point])
    return {character: count for character, count in counts.items() if not character.isspace()}


def choose_alphabet(splitter: Tokenizer, counts: dict[str, int], vocab_size: int, min_frequency: int) -> list[str]:
    """Returns the characters that get an entry, and for those that can stand within a word one with "##" as well.

    Args:
        splitter: tells which characters always stand alone (punctuation, Chinese).
        counts: occurrences of every character.
        vocab_size: bounds the alphabet, see the constants above; with the special tokens it never has more entries.
        min_frequency: rarer characters are left out.
    """
    room = vocab_size - len(SPECIAL_TOKENS)
    inner_room, isolated_room = int(vocab_size * MAX_ALPHABET_FRACTION), int(vocab_size * MAX_ISOLATED_FRACTION)
    uncovered = sum(counts.values())
    enough = uncovered * (1 - ALPHABET_COVERAGE)
    first, within = [], []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if uncovered <= enough or count < min_frequency:
            break
        uncovered -= count
        isolated = len(splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(f"a{character}"))) > 1
        has_room = len(first) < isolated_room and (isolated or len(within) < inner_room)
        if has_room and len(first) + len(within) + (1 if isolated else 2) <= room:
            first.append(character)
            if not isolated:
                within.append(CONTINUATION + character)
    return sorted(first) + sorted(within)


def read_vocabulary(path: str | os.PathLike) -> list[str]:
    """Reads a vocab.txt, one entry a line, in the order of the ids.

    Raises:
        TokenizerError: the file is missing, not UTF-8, lacks a special token, or has a line twice or empty.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise TokenizerError(f"Cannot read the vocabulary {path}: {error.strerror}. Check tokenizer.vocab_file.") from error
    except UnicodeDecodeError as error:
        raise TokenizerError(f"The vocabulary {path} is not UTF-8 at byte {error.start}. Save it as UTF-8 text.") from error
    # Not str.splitlines: separators such as U+2028 are entries in some published vocabularies.
    vocab = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    check_vocabulary(vocab, os.fspath(path))
    return vocab


def check_vocabulary(vocab: Sequence[str], name: str) -> None:
    """Raises TokenizerError when a special token is missing, or an entry is empty or given twice.

    Args:
        vocab: the entries in the order of their ids.
        name: where they come from, for the message.
    """
    lines = {}
    for number, token in enumerate(vocab, start=1):
        if not token:
            raise TokenizerError(f"Line {number} of {name} is empty. Remove it; every line is one vocabulary entry.")
        if token in lines:
            raise TokenizerError(f"Lines {lines[token]} and {number} of {name} are both {token!r}. Every entry may stand there only once.")
        lines[token] = number
    missing = [token for token in SPECIAL_TOKENS if token not in lines]
    if missing:
        raise TokenizerError(
            f"There is no {' and no '.join(missing)} in {name}. A WordPiece vocabulary needs {', '.join(SPECIAL_TOKENS)}, one a line."
        )
