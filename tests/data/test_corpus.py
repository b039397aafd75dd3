import errno
import os

import pytest

from electra_keras.config import CorpusConfig
from electra_keras.data.builtin import BuiltinSource
from electra_keras.data.corpus import FileSource, documents, is_validation, open_corpus
from electra_keras.errors import CorpusError


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"Document {number} of a." for number in range(40)))
    (tmp_path / "b.txt").write_text("\n\n".join(f"Document {number} of b." for number in range(40)))
    return tmp_path


def test_files_win_over_the_hub_and_the_built_in_corpus(files):
    config = CorpusConfig(files=[f"{files}/*.txt"], hub="Salesforce/wikitext")
    assert isinstance(open_corpus(config), FileSource)
    assert [document.text for document in documents(config)][::40] == ["Document 0 of a.", "Document 0 of b."]
    assert isinstance(open_corpus(CorpusConfig(builtin_packages=[])), BuiltinSource)


def test_the_split_is_stable_when_files_are_added_or_reordered(files):
    def held_out(*names):
        config = CorpusConfig(files=[f"{files}/{name}" for name in names])
        return {document.text for document in documents(config) if is_validation(document, 0.3)}

    alone, both = held_out("a.txt"), held_out("a.txt", "b.txt")
    assert 0 < len(alone) < 40
    assert alone == {text for text in both if text.endswith("of a.")}
    assert held_out("b.txt", "a.txt") == both


def test_content_order_and_format_make_the_description_and_places_do_not(files, tmp_path):
    def describe(*names):
        return FileSource([f"{files}/{name}" for name in names], "text").describe()

    before = describe("a.txt", "b.txt")
    assert describe("b.txt", "a.txt") != before
    (tmp_path / "moved").mkdir()
    (files / "a.txt").rename(tmp_path / "moved" / "a.txt")
    assert describe("moved/a.txt", "b.txt") == before
    (files / "b.txt").write_text("Changed.")
    assert describe("moved/a.txt", "b.txt") != before


def test_a_missing_file_is_an_error_before_anything_is_read(files):
    with pytest.raises(CorpusError, match=r"There is no file .*c\.txt"):
        open_corpus(CorpusConfig(files=[f"{files}/a.txt", f"{files}/c.txt"]))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_is_named_with_its_remedy(files, monkeypatch, code):
    # Root may read everything, so the refusal itself is simulated.
    def refuse(file, digest):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("hashlib.file_digest", refuse)
    with pytest.raises(CorpusError, match=rf"Cannot read .*a\.txt: {os.strerror(code)}\. Check the path, the permissions"):
        FileSource([f"{files}/a.txt"], "text").describe()
