import numpy as np
import pytest

from electra_keras.config import PackingConfig
from electra_keras.data.documents import Document, is_validation
from electra_keras.data.encoding import MAX_PIECE_CHARACTERS, DocumentEncoder, document_batches, pieces
from electra_keras.data.packing import Layout
from electra_keras.data.tokenizer import WordPieceTokenizer

TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"])
DOCUMENTS = [Document(f"{'a b c ' * number}\n{'d e ' * number}\n\nf", str(number)) for number in range(1, 12)]


def encoder(style="segments", fraction=0.4):
    packing = PackingConfig(sequence_length=12, style=style)
    return DocumentEncoder(TOKENIZER, Layout(12, "uint16", 0, 2, 3), packing, fraction)


def test_segments_hold_each_document_of_the_split_alone():
    encoded = encoder()(DOCUMENTS)
    for name, validation in (("train", False), ("validation", True)):
        members = [document for document in DOCUMENTS if is_validation(document, 0.4) == validation]
        assert members
        part = encoded[name]
        assert (part.documents, part.characters) == (len(members), sum(len(document.text) for document in members))
        alone = [encoder()([document])[name].examples for document in members]
        np.testing.assert_array_equal(part.examples.token_ids, np.concatenate([examples.token_ids for examples in alone]))
        np.testing.assert_array_equal(part.examples.lengths, np.concatenate([examples.lengths for examples in alone]))
        ids = [token for row in part.examples.token_ids for token in row.tolist() if token > 4]
        assert ids == [token for document in members for token in TOKENIZER.encode(document.text).token_ids]


def test_blocks_are_left_to_the_caller():
    part = encoder("blocks", fraction=1e-9)(DOCUMENTS[:2])["train"]
    assert part.examples is None
    assert part.token_ids.tolist() == [token for document in DOCUMENTS[:2] for token in TOKENIZER.encode(document.text).token_ids]


@pytest.mark.parametrize("line", ["", "short", "word " * 10_000, "x" * 50_000, "日" * (2 * MAX_PIECE_CHARACTERS)])
def test_long_lines_are_cut_at_spaces_and_nothing_is_lost(line):
    parts = list(pieces(line))
    assert "".join(parts) == line
    assert all(len(part) <= MAX_PIECE_CHARACTERS for part in parts)
    if " " in line:
        assert all(part.startswith(" ") for part in parts[1:])


def test_batches_are_of_about_equal_size(monkeypatch):
    monkeypatch.setattr("electra_keras.data.encoding.BATCH_CHARACTERS", 10)
    documents = [Document("x" * size, "") for size in (4, 4, 4, 30, 1)]
    assert [[len(document.text) for document in batch] for batch in document_batches(documents)] == [[4, 4, 4], [30], [1]]
    assert list(document_batches([])) == []
