import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from electra_keras.config import Config, CorpusConfig, PackingConfig, TokenizerConfig, TrainingConfig
from electra_keras.data.prepare import prepare, prepare_files
from electra_keras.data.prepared import PreparedData
from electra_keras.errors import CorpusError, ShardError, TokenizerError, UserError

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and"]


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    """Processes take longer to start than these corpora take to prepare."""
    monkeypatch.setattr("electra_keras.data.workers.available_cores", lambda: 1)


@pytest.fixture
def corpus(tmp_path):
    """300 documents of three short lines."""
    chance = np.random.default_rng(0)
    lines = [" ".join(chance.choice(WORDS, size=8)) + "." for _ in range(900)]
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join("\n".join(lines[start : start + 3]) for start in range(0, 900, 3)))
    return path


@pytest.fixture
def config(corpus):
    return Config(
        corpus=CorpusConfig(files=[str(corpus)], validation_fraction=0.2),
        tokenizer=TokenizerConfig(vocab_size=64),
        packing=PackingConfig(sequence_length=16),
        training=TrainingConfig(batch_size=4),
    )


@pytest.fixture
def lines():
    """What prepare reports."""
    return []


def changed(config, section, **values):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def plain_text(text):
    return " ".join(text.replace(".", " .").split())


def words_of(data, name):
    split = data.split(name)
    rows, specials = split.token_ids(np.arange(split.num_examples)), set(data.tokenizer.special_ids)
    tokens = [data.tokenizer.vocab[token_id] for token_id in rows.ravel().tolist() if token_id not in specials]
    return " ".join(tokens).replace(" ##", "")


@pytest.mark.parametrize("style", ["segments", "blocks"])
def test_every_word_of_the_corpus_arrives_in_its_split(corpus, config, tmp_path, lines, style):
    data = prepare(changed(config, "packing", style=style), tmp_path / "out", lines.append)
    texts = [plain_text(text) for text in corpus.read_text().split("\n\n")]
    for name in ("train", "validation"):
        words = words_of(data, name)
        present = [text for text in texts if text in words]
        assert words == " ".join(present)
        split, section = data.split(name), data.manifest["splits"][name]
        lengths = split.lengths(np.arange(split.num_examples))
        assert section["documents"] == len(present)
        assert split.num_tokens == section["num_tokens"] == lengths[:, 1].sum()
        assert (split.token_ids(np.arange(split.num_examples)) != data.tokenizer.pad_id).sum() == split.num_tokens
    assert sum(split["documents"] for split in data.manifest["splits"].values()) == 300
    assert data.sequence_length == 16
    if style == "blocks":
        assert (lengths[:-1, 1] == 16).all()


def test_the_manifest_and_the_files(config, tmp_path, lines):
    prepare(config, tmp_path / "out", lines.append)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    shards = [f"{split}-00000-{kind}.npy" for split in ("train", "validation") for kind in ("lengths", "tokens")]
    assert names == ["manifest.json", "tokenizer_config.json", *shards, "vocab.txt"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["versions"]["python"] == sys.version.split()[0]
    assert len(manifest["splits"]["train"]["shards"][0]["tokens"]["sha256"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "out"]
    assert any("documents/s" in line and "characters/s" in line for line in lines)
    counts = [manifest["splits"][split]["num_examples"] for split in ("train", "validation")]
    assert lines[-1].startswith(f"Prepared {tmp_path / 'out'}: {counts[0]} training and {counts[1]} held-out examples")


def test_the_number_of_workers_changes_nothing(config, tmp_path, lines, monkeypatch):
    one = prepare(config, tmp_path / "one", lines.append)
    monkeypatch.setattr("electra_keras.data.workers.available_cores", lambda: 3)
    monkeypatch.setattr("electra_keras.data.encoding.BATCH_CHARACTERS", 100)
    three = prepare(config, tmp_path / "three", lines.append)
    assert three.manifest == one.manifest


def test_the_same_inputs_are_reused(config, tmp_path, lines):
    first = prepare(config, tmp_path / "out", lines.append)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    # Fields that are no inputs of prepare may change.
    second = prepare(changed(config, "training", seed=7, num_steps=3), tmp_path / "out", lines.append)
    assert second.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert lines[-1].startswith("Reusing the prepared data")


def test_another_packing_reuses_the_vocabulary(config, tmp_path, lines, monkeypatch):
    first = prepare(config, tmp_path / "out", lines.append)
    monkeypatch.setattr("electra_keras.data.tokenizer.train_vocabulary", lambda *_: pytest.fail("trained again"))
    second = prepare(changed(config, "packing", sequence_length=24), tmp_path / "out", lines.append)
    assert any("changed since are packing." in line for line in lines)
    assert any(line.startswith("Reusing the vocabulary") for line in lines)
    assert (second.sequence_length, second.tokenizer.fingerprint) == (24, first.tokenizer.fingerprint)


def test_changed_text_and_settings_are_noticed(corpus, config, tmp_path, lines):
    first = prepare(config, tmp_path / "out", lines.append)
    corpus.write_text(corpus.read_text().replace("cat", "cow"))
    second = prepare(config, tmp_path / "out", lines.append)
    assert any("changed since are corpus." in line for line in lines)
    assert "cow" in second.tokenizer.vocab
    assert second.tokenizer.fingerprint != first.tokenizer.fingerprint
    third = prepare(changed(config, "tokenizer", lowercase=False), tmp_path / "out", lines.append)
    assert third.tokenizer.settings["lowercase"] is False


def test_a_vocabulary_file_is_used_and_its_content_counts(config, tmp_path, lines):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "."]))
    given = changed(config, "tokenizer", vocab_file=str(path))
    assert prepare(given, tmp_path / "out", lines.append).tokenizer.vocab[5:-1] == WORDS
    moved = changed(given, "tokenizer", vocab_file=str(path.rename(tmp_path / "moved.txt")), vocab_size=999)
    prepare(moved, tmp_path / "out", lines.append)
    assert lines[-1].startswith("Reusing the prepared data")
    (tmp_path / "moved.txt").write_text((tmp_path / "moved.txt").read_text() + "\nextra")
    assert prepare(moved, tmp_path / "out", lines.append).tokenizer.vocab_size == 17


def test_large_vocabularies_are_stored_in_four_bytes(config, tmp_path, lines):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(70_000)), *WORDS, "."]))
    data = prepare(changed(config, "tokenizer", vocab_file=str(path)), tmp_path / "out", lines.append)
    assert data.manifest["dtype"] == "uint32"
    assert data.split("train").token_ids(np.arange(4)).max() > 65_536


def test_unigram_counts_are_those_of_the_training_split(config, tmp_path, lines):
    data = prepare(config, tmp_path / "out", lines.append)
    words = words_of(data, "train").split()
    counts = data.unigram_counts()
    assert counts.dtype == np.int64
    assert counts[data.tokenizer.vocab.index("cat")] == words.count("cat") > 0
    assert counts[[data.tokenizer.pad_id, data.tokenizer.cls_id, data.tokenizer.sep_id]].tolist() == [0, 0, 0]
    assert counts.sum() == data.split("train").num_tokens - specials_in(data)


def specials_in(data):
    split = data.split("train")
    lengths = split.lengths(np.arange(split.num_examples))
    return 2 * split.num_examples + int((lengths[:, 0] < lengths[:, 1]).sum())


@pytest.mark.parametrize(
    "section, values, message",
    [
        ("training", {"batch_size": 10_000}, r"smaller than one batch: its \d+ training documents make \d+ examples .* is 10,000"),
        ("corpus", {"validation_fraction": 1e-9}, "None of the 300 documents fell into the validation split"),
        ("corpus", {"validation_fraction": 1 - 1e-9}, "no training documents"),
        ("tokenizer", {"vocab_file": "absent.txt"}, r"Cannot read the vocabulary absent\.txt"),
    ],
)
def test_inputs_that_cannot_serve_leave_nothing_behind(config, tmp_path, lines, section, values, message):
    with pytest.raises((CorpusError, TokenizerError), match=message):
        prepare(changed(config, section, **values), tmp_path / "out", lines.append)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


def test_a_batch_size_that_grew_is_checked_when_reusing(config, tmp_path, lines):
    prepare(config, tmp_path / "out", lines.append)
    with pytest.raises(CorpusError, match="smaller than one batch"):
        prepare(changed(config, "training", batch_size=10_000), tmp_path / "out", lines.append)
    assert PreparedData.open(tmp_path / "out").split("train").num_examples


def test_a_bad_file_leaves_the_earlier_data(corpus, config, tmp_path, lines):
    prepare(config, tmp_path / "out", lines.append)
    corpus.write_bytes(corpus.read_bytes() + b"\xff")
    with pytest.raises(CorpusError, match="not UTF-8"):
        prepare(config, tmp_path / "out", lines.append)
    PreparedData.open(tmp_path / "out")


def test_folders_of_others_are_not_touched(config, tmp_path, lines):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something that prepare did not make"):
        prepare(config, tmp_path / "out", lines.append)
    with pytest.raises(UserError, match=r"corpus\.txt is a file"):
        prepare(config, tmp_path / "corpus.txt", lines.append)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_manifest_of_something_else_does_not_make_a_folder_prepared_data(config, tmp_path, lines):
    others = tmp_path / "extension"
    (others / "sub").mkdir(parents=True)
    (others / "manifest.json").write_text('{"name": "my extension", "manifest_version": 3}')
    with pytest.raises(UserError, match=r"did not make \(manifest\.json, sub\)\. Move it away"):
        prepare(config, others, lines.append)
    (others / "sub").rmdir()
    with pytest.raises(UserError, match=r"did not make \(manifest\.json\)\. Move it away"):
        prepare(config, others, lines.append)
    assert (others / "manifest.json").is_file()
    assert lines == []


def test_what_was_put_into_prepared_data_is_not_deleted_with_it(config, tmp_path, lines):
    first = prepare(config, tmp_path / "out", lines.append)
    notes = tmp_path / "out" / "notes.txt"
    notes.write_text("years of work")
    assert prepare(config, tmp_path / "out", lines.append).manifest == first.manifest
    with pytest.raises(UserError, match=r"did not make \(notes\.txt\)\. Move it away"):
        prepare(changed(config, "packing", sequence_length=24), tmp_path / "out", lines.append)
    assert PreparedData.open(tmp_path / "out").manifest == first.manifest
    (tmp_path / "out" / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"did not make \(notes\.txt\)\. Move it away.*It is not reused: .*vocab\.txt"):
        prepare(config, tmp_path / "out", lines.append)
    assert notes.read_text() == "years of work"


def test_data_whose_shards_are_gone_is_made_again(config, tmp_path, lines):
    first = prepare(config, tmp_path / "out", lines.append)
    for shard in (tmp_path / "out").glob("*.npy"):
        shard.unlink()
    assert prepare(config, tmp_path / "out", lines.append).manifest == first.manifest
    assert any(line.startswith("Not reusing") and "missing" in line for line in lines)


def test_damaged_data_is_made_again(config, tmp_path, lines):
    prepare(config, tmp_path / "out", lines.append)
    shard = tmp_path / "out" / "train-00000-tokens.npy"
    shard.write_bytes(shard.read_bytes()[:-10])
    data = prepare(config, tmp_path / "out", lines.append)
    assert any("Not reusing" in line and "train-00000-tokens.npy" in line for line in lines)
    assert PreparedData.open(tmp_path / "out").manifest == data.manifest


def test_a_full_disk_is_one_clear_error(config, tmp_path, lines, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("electra_keras.data.shards._GrowingArray.append", full)
    with pytest.raises(UserError, match=r"Cannot write .*out: No space left on device"):
        prepare(config, tmp_path / "out", lines.append)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


def test_a_place_that_cannot_be_written_is_an_error(config, lines):
    with pytest.raises(UserError, match="Cannot write /proc/electra/out"):
        prepare(config, "/proc/electra/out", lines.append)


def test_a_killed_prepare_leaves_nothing_that_opens(config, tmp_path, lines):
    big = tmp_path / "big.txt"
    text = pathlib.Path(config.corpus.files[0]).read_text()
    big.write_text("\n\n".join(f"{number} {text}" for number in range(400)))
    script = (
        "import sys\nfrom electra_keras.config import *\nfrom electra_keras.data.prepare import prepare\n"
        "corpus = CorpusConfig(files=[sys.argv[1]], validation_fraction=0.2)\n"
        "tokenizer = TokenizerConfig(vocab_file=sys.argv[3])\n"
        "prepare(Config(corpus=corpus, tokenizer=tokenizer, packing=PackingConfig(sequence_length=16)), sys.argv[2])\n"
    )
    prepare(config, tmp_path / "small", lines.append)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(big), str(tmp_path / "out"), str(tmp_path / "small" / "vocab.txt")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    shard = tmp_path / ".out.partial" / "train-00000-tokens.npy"
    deadline = time.monotonic() + 60
    while not shard.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert shard.exists()
    for folder in (tmp_path / "out", tmp_path / ".out.partial"):
        with pytest.raises(ShardError, match="holds no prepared data"):
            PreparedData.open(folder)
    assert prepare(config, tmp_path / "out", lines.append).split("train").num_examples
    assert not (tmp_path / ".out.partial").exists()


def test_other_files_are_prepared_with_the_models_tokenizer(corpus, config, tmp_path, lines):
    data = prepare(config, tmp_path / "out", lines.append)
    other = tmp_path / "other.txt"
    other.write_text("The cat sat.\n\nA dog ran.")
    measured = prepare_files([str(other)], config, data.tokenizer, tmp_path / "other", lines.append)
    assert measured.split("validation").num_examples == 2
    assert measured.split("train").num_examples == 0
    assert words_of(measured, "validation") == "the cat sat . a dog ran ."
    assert measured.unigram_counts().sum() == 0
    assert PreparedData.open(tmp_path / "other").tokenizer.fingerprint == data.tokenizer.fingerprint


def test_other_files_must_hold_tokens_and_go_into_an_empty_folder(config, tmp_path, lines):
    data = prepare(config, tmp_path / "out", lines.append)
    other = tmp_path / "other.txt"
    other.write_text("\x07\x08")
    with pytest.raises(CorpusError, match="holds no token"):
        prepare_files([str(other)], config, data.tokenizer, tmp_path / "other", lines.append)
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match="is not empty"):
        prepare_files([str(other)], config, data.tokenizer, tmp_path / "out", lines.append)
