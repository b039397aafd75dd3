import itertools
import json
import pickle
import random

import pytest

from electra_keras.config import TokenizerConfig
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import TokenizerError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the",
    "cat",
    "##s",
    "sat",
    "Cat",
    "café",
    "cafe",
    "日",
    "本",
    "日本",
    "!",
    "[",
    "]",
    "mask",
    "😀",
    "i",
    "σ",
    "ς",
    "##a",
    "a",
    "##b",
]
TEXTS = [
    "The cats sat!",
    "Café CAFÉ cafe\u0301",
    "日本 日 本日本語",
    "😀 cats😀 \U0001f468\u200d\U0001f469",
    "a\x00b a\x07b a\ufffdb a\x85b a\u2028b",
    "\tthe\r\ncat\u3000sat\u00a0 ",
    "İ Σίσυφος ﬁ Å",
    "שלום עולם مرحبا",
    "x" * 101 + " the",
    "",
    "   ",
]


@pytest.fixture
def tokenizer():
    return WordPieceTokenizer([*SPECIAL, *WORDS])


def test_words_are_cut_into_the_longest_entries_and_offsets_count_code_points(tokenizer):
    encoding = tokenizer.encode("😀 The CATS xyz")
    assert encoding.tokens == ["😀", "the", "cat", "##s", "[UNK]"]
    assert encoding.token_ids == [tokenizer.vocab.index(token) for token in encoding.tokens]
    assert encoding.offsets == [(0, 1), (2, 5), (6, 9), (9, 10), (11, 14)]


def test_special_ids_come_from_the_vocabulary():
    tokenizer = WordPieceTokenizer(["[MASK]", "the", *SPECIAL[:4]])
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (2, 3, 4, 5, 0)
    assert tokenizer.special_ids == (2, 3, 4, 5, 0)
    assert tokenizer.vocab_size == 6


def test_text_that_spells_a_special_token_is_plain_text(tokenizer):
    encoding = tokenizer.encode("the [MASK]")
    assert encoding.tokens == ["the", "[", "mask", "]"]
    assert tokenizer.mask_id not in encoding.token_ids


def test_lone_surrogates_keep_the_offsets_of_what_follows(tokenizer):
    assert tokenizer.encode("\ud83d the").offsets == [(2, 5)]


@pytest.mark.parametrize(
    "lowercase, strip_accents, split_chinese", list(itertools.product([True, False], [None, True, False], [True, False]))
)
def test_ids_and_offsets_are_those_of_transformers(tmp_path, lowercase, strip_accents, split_chinese):
    transformers = pytest.importorskip("transformers", reason="transformers is the witness; it is not installed")
    tokenizer = WordPieceTokenizer([*SPECIAL, *WORDS], lowercase=lowercase, strip_accents=strip_accents, split_chinese=split_chinese)
    tokenizer.save(tmp_path)
    for name in ("BertTokenizerFast", "ElectraTokenizerFast"):
        witness = getattr(transformers, name).from_pretrained(str(tmp_path))
        for text in TEXTS:
            expected = witness(text, add_special_tokens=False, return_offsets_mapping=True)
            encoding = tokenizer.encode(text)
            assert encoding.token_ids == expected["input_ids"], text
            assert encoding.offsets == expected["offset_mapping"], text


def test_saved_special_tokens_are_known_to_transformers(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers", reason="transformers is the witness; it is not installed")
    tokenizer.save(tmp_path)
    witness = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert witness("the")["input_ids"] == [tokenizer.cls_id, tokenizer.vocab.index("the"), tokenizer.sep_id]
    assert (witness.pad_token_id, witness.mask_token_id) == (tokenizer.pad_id, tokenizer.mask_id)


def test_ids_alone_are_the_ids_of_encodings(tokenizer):
    letters = "ab \u0301é\t\n\x07\x1c\x85\u2028\u3000日本Σσ İ😀.,-\u200d\x00\ufffdﬁ" + "a" * 10
    chance = random.Random(0)
    texts = TEXTS + ["".join(chance.choices(letters, k=chance.randint(0, 50))) for _ in range(500)]
    for _ in range(2):  # the second time, every word is remembered
        token_ids, counts = tokenizer.encode_ids(texts)
        encodings = tokenizer.encode_batch(texts)
        assert counts.tolist() == [len(encoding.token_ids) for encoding in encodings]
        assert token_ids.tolist() == [token_id for encoding in encodings for token_id in encoding.token_ids]


def test_remembered_words_are_forgotten_before_they_fill_the_memory(tokenizer, monkeypatch):
    monkeypatch.setattr("electra_keras.data.tokenizer.MAX_REMEMBERED_CHARACTERS", 10)
    for number in range(50):
        token_ids, _ = tokenizer.encode_ids([f"cats {number:05d}"])
        assert token_ids.tolist() == [6, 7, 1]
        assert len(tokenizer._word_ids) <= 4


def test_no_text_has_no_ids(tokenizer):
    token_ids, counts = tokenizer.encode_ids([])
    assert token_ids.shape == counts.shape == (0,)
    assert tokenizer.encode("").token_ids == []


def test_saved_and_loaded_tokenizers_are_the_same(tmp_path):
    tokenizer = WordPieceTokenizer([*SPECIAL, "The", "\u2028", "é"], lowercase=False, strip_accents=False, split_chinese=False)
    tokenizer.save(tmp_path)
    loaded = WordPieceTokenizer.load(tmp_path)
    assert loaded.vocab == tokenizer.vocab
    assert loaded.settings == tokenizer.settings
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (tmp_path / "vocab.txt").read_bytes().decode().split("\n")[:2] == ["[PAD]", "[UNK]"]


def test_the_fingerprint_tells_vocabularies_and_settings_apart(tokenizer):
    others = [
        WordPieceTokenizer([*SPECIAL, *reversed(WORDS)]),
        WordPieceTokenizer([*SPECIAL, *WORDS], lowercase=False),
        WordPieceTokenizer([*SPECIAL, *WORDS], strip_accents=True),
        WordPieceTokenizer([*SPECIAL, *WORDS], split_chinese=False),
    ]
    assert len({tokenizer.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert WordPieceTokenizer([*SPECIAL, *WORDS]).fingerprint == tokenizer.fingerprint


def test_workers_can_be_sent_a_tokenizer(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("The cats") == tokenizer.encode("The cats")


def test_settings_come_from_the_configuration(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join([*SPECIAL, "The", "the"]), encoding="utf-8")
    assert WordPieceTokenizer.from_vocab_file(path, TokenizerConfig(lowercase=False)).encode("The").tokens == ["The"]
    assert WordPieceTokenizer.from_vocab_file(path, TokenizerConfig(lowercase=True)).encode("The").tokens == ["the"]


def test_loading_from_elsewhere_says_what_is_missing(tmp_path, tokenizer):
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json.*No such file"):
        WordPieceTokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(TokenizerError, match=r"vocab\.txt.*No such file"):
        WordPieceTokenizer.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"do_lower_case": True})])
def test_damaged_settings_are_an_error(tmp_path, tokenizer, text):
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(TokenizerError, match="not the settings file"):
        WordPieceTokenizer.load(tmp_path)
