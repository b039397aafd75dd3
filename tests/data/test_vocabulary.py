import os
import subprocess
import sys

import pytest
from tokenizers import models

from electra_keras.config import TokenizerConfig
from electra_keras.data import vocabulary
from electra_keras.data.tokenizer import WordPieceTokenizer, word_splitter
from electra_keras.data.vocabulary import SPECIAL_TOKENS, choose_alphabet, count_characters, read_vocabulary
from electra_keras.errors import TokenizerError

# Many pairs of letters that occur equally often: the ties that make plain training differ from run to run.
TEXTS = [f"{first}{second}{third}" for first in "abcdefghij" for second in "klmnopqrst" for third in "uvwxyzabcd"]


@pytest.fixture
def splitter():
    return word_splitter(models.WordPiece(unk_token="[UNK]"), lowercase=True, strip_accents=None, split_chinese=True)


def test_training_is_the_same_in_every_process():
    script = (
        "from electra_keras.config import TokenizerConfig\n"
        "from electra_keras.data.tokenizer import WordPieceTokenizer\n"
        f"texts = {TEXTS!r}\n"
        "print(WordPieceTokenizer.train(texts, TokenizerConfig(vocab_size=150)).fingerprint)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True) for _ in range(3)]
    assert len({run.stdout for run in runs}) == 1
    assert len(runs[0].stdout.strip()) == 64


def test_ids_are_in_canonical_order():
    vocab = WordPieceTokenizer.train(TEXTS, TokenizerConfig(vocab_size=150)).vocab
    assert vocab[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] == list(SPECIAL_TOKENS)
    assert vocab[5:] == sorted(vocab[5:])
    assert len(vocab) == 150


def test_frequent_words_become_entries_and_rare_characters_do_not():
    tokenizer = WordPieceTokenizer.train(["the cat sat"] * 10_000 + ["Ω"], TokenizerConfig(vocab_size=64))
    assert tokenizer.encode("The CAT sat Ω").tokens == ["the", "cat", "sat", "[UNK]"]


def test_pairs_below_the_minimum_frequency_are_not_merged():
    texts = ["aab"] * 3 + ["cde"] * 2
    assert "aab" in WordPieceTokenizer.train(texts, TokenizerConfig(vocab_size=64, min_frequency=3)).vocab
    assert "cde" not in WordPieceTokenizer.train(texts, TokenizerConfig(vocab_size=64, min_frequency=3)).vocab
    assert "cde" in WordPieceTokenizer.train(texts, TokenizerConfig(vocab_size=64, min_frequency=2)).vocab


@pytest.mark.parametrize("characters_per_batch", [1, 1 << 20])
def test_characters_are_counted_after_cleaning(characters_per_batch, splitter, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHARACTERS_PER_BATCH", characters_per_batch)
    assert count_characters(splitter, ["Éé e\x07\t", "E日", "😀日"]) == {"e": 4, "日": 2, "😀": 1}


def test_half_a_surrogate_pair_is_no_obstacle():
    # As \ud83d in JSON, what is left of an emoji that was cut in two.
    tokenizer = WordPieceTokenizer.train(["the cat \ud83d sat"] * 9, TokenizerConfig(vocab_size=64))
    assert tokenizer.encode("the cat sat").tokens == ["the", "cat", "sat"]


def test_only_characters_that_can_stand_within_a_word_get_a_continuation(splitter):
    assert choose_alphabet(splitter, {"a": 9, ".": 8, "日": 7}, vocab_size=100, min_frequency=1) == [".", "a", "日", "##a"]


def test_the_alphabet_leaves_room_for_word_pieces(splitter):
    counts = {chr(0x430 + number): 100 - number for number in range(32)}
    alphabet = choose_alphabet(splitter, counts, vocab_size=40, min_frequency=1)
    assert alphabet == [*map(chr, range(0x430, 0x43A)), *(f"##{chr(code)}" for code in range(0x430, 0x43A))]


def test_a_vocabulary_is_never_larger_than_asked_for(splitter):
    # Three quarters of the entries for Chinese and a quarter for the ends of words leave none for the special tokens.
    counts = {chr(0x4E00 + number): 300 - number for number in range(200)} | {letter: 500 for letter in "abcdefghijklm"}
    assert len(choose_alphabet(splitter, counts, vocab_size=40, min_frequency=1)) == 35
    texts = ["".join(character * count for character, count in counts.items())] + list("abcdefgh") * 500
    assert WordPieceTokenizer.train(texts, TokenizerConfig(vocab_size=40)).vocab_size == 40


def test_characters_in_the_last_ten_thousandth_of_the_text_get_no_entry(splitter):
    assert choose_alphabet(splitter, {"a": 100_000, "b": 9, "c": 1}, vocab_size=100, min_frequency=1) == ["a", "##a"]
    assert choose_alphabet(splitter, {"a": 100_000, "b": 11, "c": 1}, vocab_size=100, min_frequency=1) == ["a", "b", "##a", "##b"]


def test_no_text_cannot_train():
    with pytest.raises(TokenizerError, match="no characters"):
        WordPieceTokenizer.train(["", " \n"], TokenizerConfig())


@pytest.mark.parametrize(
    "content, message",
    [
        ("\n".join(SPECIAL_TOKENS[:4]), r"no \[MASK\] in .*words\.txt"),
        ("\n".join([*SPECIAL_TOKENS, "cat", "dog", "cat"]), r"Lines 6 and 8 of .*words\.txt are both 'cat'"),
        ("\n".join(["[PAD]", "", *SPECIAL_TOKENS[1:]]), r"Line 2 of .*words\.txt is empty"),
        (b"[PAD]\n\xff\n", "not UTF-8 at byte 6"),
        ("", "Line 1 .* is empty"),
    ],
)
def test_vocabularies_that_cannot_serve_are_named_with_the_line(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TokenizerError, match=message):
        WordPieceTokenizer.from_vocab_file(path, TokenizerConfig())


def test_a_missing_vocabulary_is_an_error(tmp_path):
    with pytest.raises(TokenizerError, match=r"absent\.txt.*No such file"):
        read_vocabulary(tmp_path / "absent.txt")


def test_line_ends_of_windows_are_read(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join([*SPECIAL_TOKENS, "cat", ""]).encode())
    assert read_vocabulary(path) == [*SPECIAL_TOKENS, "cat"]


def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*SPECIAL_TOKENS, "cat"]).encode("utf-8-sig"))
    assert read_vocabulary(path) == [*SPECIAL_TOKENS, "cat"]
