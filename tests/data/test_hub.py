import errno
import os
import sys

import pyarrow
import pyarrow.parquet
import pytest

from electra_keras.data.hub import HubSource, documents_of_rows, split_name
from electra_keras.errors import CorpusError

WIKITEXT = [
    "",
    " = Robert <unk> = \n",
    "",
    " Robert is an actor . \n",
    "",
    " = = Career = = \n",
    "",
    " He acted . \n",
    " = Other = \n",
    " Text . \n",
]


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    """A local folder laid out like Salesforce/wikitext."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "wikitext"
    for name, texts in (("train", WIKITEXT), ("test", ["Held out."])):
        path = folder / "wikitext-103-raw-v1" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table({"text": texts, "n": range(len(texts))}), path)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: wikitext-103-raw-v1\n  data_files:\n"
        "  - split: train\n    path: wikitext-103-raw-v1/train-*\n  - split: test\n    path: wikitext-103-raw-v1/test-*\n---\n"
    )
    return folder


def texts(source):
    return [document.text for document in source.documents()]


def test_a_local_folder_is_read_as_the_hub_is(data_set):
    source = HubSource(f"{data_set}:wikitext-103-raw-v1", "train", "text")
    expected = ["Robert <unk>\nRobert is an actor .\nCareer\nHe acted .", "Other\nText ."]
    assert texts(source) == texts(source) == expected
    assert texts(HubSource(str(data_set), "test", "text")) == ["Held out."]


def test_changed_files_are_noticed_and_a_moved_folder_is_not(data_set, tmp_path):
    before = HubSource(f"{data_set}:wikitext-103-raw-v1", "train", "text").describe()
    moved = data_set.rename(tmp_path / "elsewhere")
    assert HubSource(f"{moved}:wikitext-103-raw-v1", "train", "text").describe() == before
    pyarrow.parquet.write_table(pyarrow.table({"text": ["Changed."]}), moved / "wikitext-103-raw-v1" / "train-00000-of-00001.parquet")
    changed = HubSource(f"{moved}:wikitext-103-raw-v1", "train", "text")
    assert changed.describe() != before
    assert texts(changed) == ["Changed."]


@pytest.mark.parametrize("spelling", ["./wikitext", "wikitext/", "{folder}/", "{above}//wikitext", "{above}/./wikitext"])
@pytest.mark.parametrize("configuration", ["", ":wikitext-103-raw-v1"])
def test_a_folder_is_the_same_however_it_is_spelled(data_set, monkeypatch, spelling, configuration):
    monkeypatch.chdir(data_set.parent)
    source = HubSource(spelling.format(folder=data_set, above=data_set.parent) + configuration, "test", "text")
    assert texts(source) == ["Held out."]
    assert source.describe() == HubSource(f"{data_set}{configuration}", "test", "text").describe()
    assert source.describe()["name"] == configuration


def test_a_folders_own_name_may_hold_a_colon(data_set):
    renamed = data_set.rename(data_set.with_name("wiki:text"))
    assert texts(HubSource(f"{renamed}:wikitext-103-raw-v1", "test", "text")) == ["Held out."]
    source = HubSource(str(renamed), "test", "text")
    assert texts(source) == ["Held out."]
    assert source.describe()["name"] == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/set", ("owner/set", None)),
        ("owner/set:small", ("owner/set", "small")),
        ("owner/set:", ("owner/set", None)),
        (":small", (":small", None)),
        ("/nowhere/a:b/set", ("/nowhere/a:b/set", None)),
    ],
)
def test_a_configuration_stands_behind_the_last_colon(name, expected):
    assert split_name(name) == expected


def test_names_that_lead_nowhere_are_errors(data_set):
    with pytest.raises(CorpusError, match=r"'nope' not found.*wikitext-103-raw-v1"):
        HubSource(f"{data_set}:nope", "train", "text")
    with pytest.raises(CorpusError, match="nosplit"):
        HubSource(f"{data_set}:wikitext-103-raw-v1", "nosplit", "text")
    with pytest.raises(CorpusError, match=r"no column 'title' \(it has text, n\)"):
        texts(HubSource(f"{data_set}:wikitext-103-raw-v1", "train", "title"))
    with pytest.raises(CorpusError, match=r"'n' of .* is no text but int"):
        texts(HubSource(f"{data_set}:wikitext-103-raw-v1", "train", "n"))


def test_an_empty_split_is_an_error(data_set):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["", " "]}), data_set / "wikitext-103-raw-v1" / "test-00000-of-00001.parquet")
    with pytest.raises(CorpusError, match="holds no text"):
        texts(HubSource(str(data_set), "test", "text"))


def test_damaged_files_are_errors(data_set):
    (data_set / "wikitext-103-raw-v1" / "test-00000-of-00001.parquet").write_bytes(b"damaged")
    with pytest.raises(CorpusError, match="Cannot read the data set"):
        texts(HubSource(str(data_set), "test", "text"))


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no names that are not UTF-8")
def test_files_that_cannot_stand_in_the_description_are_errors(data_set, monkeypatch):
    misnamed = data_set / os.fsdecode(b"bad\xff.md")
    misnamed.touch()
    with pytest.raises(CorpusError, match=r"bad\\xff\.md is not UTF-8\. Rename it"):
        HubSource(str(data_set), "test", "text").describe()
    misnamed.unlink()
    monkeypatch.setattr("hashlib.file_digest", refuse)
    with pytest.raises(CorpusError, match=r"Cannot read .*README\.md: Permission denied\. Check"):
        HubSource(str(data_set), "test", "text").describe()


def refuse(file, digest):
    # Root may read everything, so the refusal itself is simulated.
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_without_a_network_the_remedy_is_named(monkeypatch):
    import datasets

    called = {}

    def unreachable(path, name, **options):
        called.update(path=path, name=name, **options)
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(CorpusError, match=r"Cannot reach .* Salesforce/wikitext:wikitext-103-raw-v1 .*corpus\.files"):
        HubSource("Salesforce/wikitext:wikitext-103-raw-v1", "train", "text")
    assert called == {"path": "Salesforce/wikitext", "name": "wikitext-103-raw-v1", "split": "train", "streaming": False}


@pytest.mark.parametrize(
    "rows, expected",
    [
        (["A whole\ndocument.", "", "Another."], ["A whole\ndocument.", "Another."]),
        (["One.", "Two."], ["One.", "Two."]),
        (["One. ", "Two.", " ", "Three."], ["One.\nTwo.", "Three."]),
        # One blank row in so many is no layout.
        ([*map(str, range(20)), ""], list(map(str, range(20)))),
    ],
)
def test_the_first_rows_tell_the_layout(rows, expected):
    assert [document.text for document in documents_of_rows(rows, [], "")] == expected
