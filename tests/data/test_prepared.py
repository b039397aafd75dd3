import json

import numpy as np
import pytest

from electra_keras.data.packing import Layout
from electra_keras.data.prepared import PreparedData
from electra_keras.data.shards import ShardWriter
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import ShardError, TokenizerError

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog"]


@pytest.fixture
def folder(tmp_path):
    """Prepared data of a handful of examples, written by hand."""
    tokenizer = WordPieceTokenizer(VOCAB)
    tokenizer.save(tmp_path)
    layout = Layout(sequence_length=8, dtype="uint16", pad_id=0, cls_id=2, sep_id=3)
    splits = {}
    for name, stream in (("train", [5, 6, 5, 1, 5]), ("validation", [6])):
        with ShardWriter(tmp_path, name, layout) as writer:
            writer.write(layout.examples(np.array(stream), [(0, 1, len(stream))]))
            shards = writer.finish()
        splits[name] = {"num_examples": writer.num_examples, "num_tokens": writer.num_tokens, "shards": shards}
    manifest = {
        "format_version": 1,
        "input_hash": "0",
        "inputs": {},
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "sequence_length": 8,
        "splits": splits,
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def edit(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_was_written_is_read(folder):
    data = PreparedData.open(folder)
    assert data.split("train").token_ids(np.array([0])).tolist() == [[2, 5, 3, 6, 5, 1, 5, 3]]
    assert data.split("train").lengths(np.array([0])).tolist() == [[3, 8]]
    assert data.split("validation").lengths(np.array([0])).tolist() == [[3, 3]]
    assert data.tokenizer.vocab == VOCAB
    assert data.sequence_length == 8
    assert data.unigram_counts().tolist() == [0, 1, 0, 0, 0, 3, 1]


@pytest.mark.parametrize("file", ["train-00000-tokens.npy", "validation-00000-lengths.npy"])
def test_truncated_damaged_and_missing_shards_are_errors(folder, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-4])
    with pytest.raises(ShardError, match=f"{file} has .* it was cut"):
        PreparedData.open(folder, verify=False)
    (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ShardError, match=f"{file} is damaged"):
        PreparedData.open(folder)
    (folder / file).unlink()
    with pytest.raises(ShardError, match=f"{file} is missing"):
        PreparedData.open(folder)


def test_shards_of_another_tokenizer_are_refused(folder):
    WordPieceTokenizer([*VOCAB[:5], "dog", "cat"]).save(folder)
    with pytest.raises(ShardError, match="made with another tokenizer"):
        PreparedData.open(folder)
    WordPieceTokenizer(VOCAB, lowercase=False).save(folder)
    with pytest.raises(ShardError, match="made with another tokenizer"):
        PreparedData.open(folder)


def test_a_folder_without_vocabulary_is_an_error(folder):
    (folder / "vocab.txt").unlink()
    with pytest.raises(TokenizerError, match=r"vocab\.txt"):
        PreparedData.open(folder)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is damaged"),
        ("[]", "format version None"),
        ('{"format_version": 99}', "format version 99"),
        ('{"format_version": 1}', "is incomplete"),
    ],
)
def test_manifests_that_cannot_be_used_are_errors(folder, content, message):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ShardError, match=message):
        PreparedData.open(folder)


def test_a_missing_split_is_an_error(folder):
    edit(folder, splits={})
    with pytest.raises(ShardError, match="is incomplete"):
        PreparedData.open(folder)


def test_a_folder_without_manifest_is_no_prepared_data(tmp_path):
    with pytest.raises(ShardError, match="holds no prepared data"):
        PreparedData.open(tmp_path / "absent")
