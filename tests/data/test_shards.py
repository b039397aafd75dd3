import numpy as np
import pytest

from electra_keras.data.packing import Examples, Layout
from electra_keras.data.shards import ShardWriter, Split, check_shard_file
from electra_keras.errors import ShardError

LAYOUT = Layout(sequence_length=4, dtype="uint16", pad_id=0, cls_id=1, sep_id=2)
ROWS = np.arange(40, dtype=np.uint16).reshape(10, 4)
LENGTHS = np.stack([np.full(10, 2), np.arange(10)], axis=1).astype(np.int32)


@pytest.fixture
def description(tmp_path, monkeypatch):
    """Ten examples written in uneven portions, four to a shard."""
    monkeypatch.setattr("electra_keras.data.shards.SHARD_BYTES", 4 * 4 * 2)
    with ShardWriter(tmp_path, "train", LAYOUT) as writer:
        for start, end in ((0, 1), (1, 1), (1, 9), (9, 10)):
            writer.write(Examples(ROWS[start:end], LENGTHS[start:end]))
        shards = writer.finish()
    return {"num_examples": writer.num_examples, "num_tokens": writer.num_tokens, "shards": shards}


def test_shards_are_plain_npy_files_of_bounded_size(tmp_path, description):
    assert [shard["num_examples"] for shard in description["shards"]] == [4, 4, 2]
    assert (description["num_examples"], description["num_tokens"]) == (10, 45)
    names = [f"train-0000{number}-tokens.npy" for number in range(3)]
    np.testing.assert_array_equal(np.concatenate([np.load(tmp_path / name) for name in names]), ROWS)
    assert np.load(tmp_path / names[0]).dtype == np.uint16


def test_examples_are_read_in_any_order_across_shards(tmp_path, description):
    split = Split(tmp_path, description, 4)
    indices = np.array([9, 0, 4, 3, 3, 8])
    np.testing.assert_array_equal(split.token_ids(indices), ROWS[indices])
    np.testing.assert_array_equal(split.lengths(indices), LENGTHS[indices])
    assert split.token_ids(indices).dtype == split.lengths(indices).dtype == np.int32
    assert split.token_ids(np.array([], np.int64)).shape == (0, 4)
    assert (split.num_examples, split.num_tokens) == (10, 45)


@pytest.mark.parametrize("index", [-1, 10])
def test_examples_that_are_not_there_are_errors(tmp_path, description, index):
    with pytest.raises(IndexError, match="10 examples, numbered from 0"):
        Split(tmp_path, description, 4).token_ids(np.array([0, index]))


def test_files_that_changed_are_noticed(tmp_path, description):
    file = description["shards"][0]["tokens"]
    path = tmp_path / file["file"]
    check_shard_file(tmp_path, file, content=True)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    check_shard_file(tmp_path, file, content=False)
    with pytest.raises(ShardError, match=r"train-00000-tokens\.npy is damaged"):
        check_shard_file(tmp_path, file, content=True)
    path.write_bytes(content[:-2])
    with pytest.raises(ShardError, match=f"has {len(content) - 2} bytes where its manifest says {len(content)}"):
        check_shard_file(tmp_path, file, content=False)
    path.unlink()
    with pytest.raises(ShardError, match=r"train-00000-tokens\.npy is missing"):
        check_shard_file(tmp_path, file, content=False)


def test_a_split_may_be_empty(tmp_path):
    with ShardWriter(tmp_path, "train", LAYOUT) as writer:
        shards = writer.finish()
    split = Split(tmp_path, {"num_examples": 0, "num_tokens": 0, "shards": shards}, 4)
    assert split.token_ids(np.arange(0)).shape == (0, 4)
    with pytest.raises(IndexError, match="0 examples"):
        split.lengths(np.array([0]))
