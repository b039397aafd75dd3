"""Ten thousand mixed lines: the ids and offsets are those of BertTokenizerFast."""

import random

import pytest
import transformers

from electra_keras.config import TokenizerConfig
from electra_keras.data.tokenizer import WordPieceTokenizer

LINES = 10_000
ENGLISH = (
    "the of and replaced token detection trains encoders faster don't e.g. U.S. 3.14 2,000 http://a.b/c?d=e x_y [MASK] C++ «quoted» — …"
)
CHINESE = "我们的模型通过检测被替换的词元来学习句子表示，效果很好。北京、上海；㐀𠀀豈々〇ㄅ한국어かなカナ"
ACCENTED = "café naïve Ångström İstanbul ǅ ﬁnance Σίσυφος ΌΣΟΣ straße ŒUVRE Việt e\u0301te\u0300 n\u0303 Ё й שָׁלוֹם مَرْحَبًا हिन्दी ไทย"
EMOJI = "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ ☃ 🤷🏼‍♂️ ㊗️"
CONTROL = "\x00\x01\x07\x08\t\n\r\x0b\x0c\x1b\x1c\x7f\x85\xa0\xad\u061c\u1680\u200b\u200d\u200e\u2028\u2029"
CONTROL += "\u202e\u2060\u3000\ufeff\ufffd\U000e0001"


def mixed_lines():
    """Draws words and stray characters of all kinds, glued together or not, and now and then a very long word."""
    chance = random.Random(20)
    words = [*ENGLISH.replace("[MASK]", "mask").split(), *ACCENTED.split(), *EMOJI.split()]
    characters = CHINESE + CONTROL + EMOJI + ACCENTED + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~aZ09"
    for _ in range(LINES):
        parts = []
        for _ in range(chance.randint(0, 20)):
            kind = chance.random()
            if kind < 0.45:
                word = chance.choice(words)
                parts.append(chance.choice([word, word.upper(), word.title()]))
            elif kind < 0.65:
                parts.append("".join(chance.choices(CHINESE, k=chance.randint(1, 6))))
            elif kind < 0.995:
                parts.append("".join(chance.choices(characters, k=chance.randint(1, 4))))
            else:
                parts.append(chance.choice("aé水") * chance.randint(95, 105))
            parts.append(chance.choice([" ", " ", " ", "", "  ", "\u3000"]))
        yield "".join(parts)


@pytest.fixture(scope="module")
def lines():
    return list(mixed_lines())


@pytest.mark.parametrize(
    "settings",
    [{}, {"lowercase": False}, {"strip_accents": False}, {"lowercase": False, "strip_accents": True, "split_chinese": False}],
    ids=lambda settings: ", ".join(f"{name} {value}" for name, value in settings.items()) or "uncased",
)
def test_ids_and_offsets_are_those_of_bert_tokenizer_fast(tmp_path, lines, settings):
    tokenizer = WordPieceTokenizer.train(lines[:2000], TokenizerConfig(vocab_size=1500, **settings))
    tokenizer.save(tmp_path)
    witness = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    expected = witness(lines, add_special_tokens=False, return_offsets_mapping=True)
    different, tokens, unknown = [], 0, 0
    for line, encoding, ids, offsets in zip(
        lines, tokenizer.encode_batch(lines), expected["input_ids"], expected["offset_mapping"], strict=True
    ):
        tokens += len(ids)
        unknown += ids.count(tokenizer.unk_id)
        if encoding.token_ids != ids or encoding.offsets != offsets:
            different.append(line)
    assert len(lines) == LINES and different == []
    # The vocabulary is small, but not so small that everything is unknown to it.
    assert tokens > 100_000 and 0 < unknown < tokens / 2
