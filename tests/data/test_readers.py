import gzip
import json
import lzma
import os
import pathlib
import sys

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from electra_keras.data.readers import find_files, read_documents
from electra_keras.errors import CorpusError

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def texts(path, text_field="text"):
    return [document.text for document in read_documents(pathlib.Path(path), text_field)]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("suffix", COMPRESS)
def test_blank_lines_end_documents(tmp_path, suffix):
    content = "First é 日本.\nSecond 😀.\n\n \t\u3000\n\nOther.\n"
    path = write(tmp_path / f"corpus.txt{suffix}", COMPRESS[suffix](content.encode()))
    assert texts(path) == ["First é 日本.\nSecond 😀.", "Other."]
    assert {document.source for document in read_documents(path, "text")} == {str(path)}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_rows_of_json_lines_are_documents(tmp_path, suffix):
    rows = [{"body": "One.\r\nTwo.", "n": 1}, {"body": None}, {"body": "\ud83d"}, {"body": ""}]
    content = "\n".join(map(json.dumps, rows)) + "\n\n"
    path = write(tmp_path / f"corpus.jsonl{suffix}", COMPRESS[suffix](content.encode()))
    assert texts(path, "body") == ["One.\nTwo.", "\ud83d"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_rows_of_parquet_are_documents(tmp_path, suffix):
    plain = parquet(tmp_path / "plain.parquet", body=["One.\nTwo.", None, "Three."], n=[1, 2, 3])
    path = write(tmp_path / f"corpus.parquet{suffix}", COMPRESS[suffix](plain.read_bytes()))
    assert texts(path, "body") == ["One.\nTwo.", "Three."]


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_nothing_depends_on_where_blocks_end(tmp_path, monkeypatch, block):
    monkeypatch.setattr("electra_keras.data.readers.BLOCK_BYTES", block)
    path = write(tmp_path / "corpus.txt", "\ufeffé日😀\r\nb\r\rc\n\nlast")
    assert texts(path) == ["é日😀\nb", "c", "last"]


def test_lines_without_end_come_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("electra_keras.data.readers.MAX_LINE_CHARACTERS", 10)
    monkeypatch.setattr("electra_keras.data.readers.BLOCK_BYTES", 4)
    path = write(tmp_path / "corpus.txt", "one two three four " + "x" * 25)
    (text,) = texts(path)
    assert text.replace("\n", "") == "one two three four " + "x" * 25
    assert max(map(len, text.split("\n"))) <= 14
    assert text.startswith("one two \n")


def test_several_compressed_frames_are_one_file(tmp_path):
    frames = b"".join(COMPRESS[".zst"](part) for part in (b"One.\n", b"Two.\n"))
    assert texts(write(tmp_path / "corpus.txt.zst", frames)) == ["One.\nTwo."]


def test_frames_of_long_distance_are_read(tmp_path):
    # By hand, since writing one takes its window's memory: magic number, no flags, window of 2**28 bytes, one last raw block.
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(28 - 10) << 3]) + (5 << 3 | 1).to_bytes(3, "little") + b"Text."
    assert texts(write(tmp_path / "corpus.txt.zst", frame)) == ["Text."]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_truncated_and_mislabelled_files_are_errors(tmp_path, suffix):
    content = COMPRESS[suffix](bytes(range(32, 127)) * 50)
    with pytest.raises(CorpusError, match=r"cut\.txt.*damaged"):
        texts(write(tmp_path / f"cut.txt{suffix}", content[:-12]))
    with pytest.raises(CorpusError, match=r"plain\.txt.*damaged"):
        texts(write(tmp_path / f"plain.txt{suffix}", b"plain text " * 20))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("empty.txt", b"", r"empty\.txt holds no text"),
        ("blank.txt", b"\n \n\t\n", r"blank\.txt holds no text"),
        ("image.txt", b"text\nPNG\x00\x01", r"image\.txt is binary: byte 8"),
        ("latin.txt", "line one\ncaf\xe9 au lait".encode("latin-1"), r"latin\.txt is not UTF-8 at line 2, byte 12"),
        ("cut.txt", "caf\u00e9".encode()[:-1], r"cut\.txt is not UTF-8 at line 1, byte 3"),
        ("rows.jsonl", b'{"text": "a"}\n\n{"body": "b"}\n', r"rows\.jsonl, line 3 has no field 'text' \(it has body\)"),
        ("list.jsonl", b"[1]\n", r"list\.jsonl, line 1 has no field 'text' \(it has a list, no object\)"),
        ("number.jsonl", b'{"text": 3}\n', r"number\.jsonl, line 1: the field 'text' is no text but int"),
        ("broken.jsonl", b'{"text": "a"}\n{"text":\n', r"broken\.jsonl, line 2 is not JSON"),
        ("text.parquet", b"PAR0 this is not", r"text\.parquet is not a Parquet file"),
    ],
)
def test_bad_content_is_named_with_its_place(tmp_path, name, content, message):
    with pytest.raises(CorpusError, match=message):
        texts(write(tmp_path / name, content))


def test_the_place_of_a_bad_byte_counts_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("electra_keras.data.readers.BLOCK_BYTES", 3)
    content = "\ufeffab\ncdé\nef".encode() + b"\xff"
    with pytest.raises(CorpusError, match=f"line 3, byte {len(content) - 1} "):
        texts(write(tmp_path / "corpus.txt", content))


def test_a_missing_or_numeric_column_is_an_error(tmp_path):
    path = parquet(tmp_path / "rows.parquet", body=["a"], text=[1])
    with pytest.raises(CorpusError, match=r"no column 'title' \(it has body, text\)"):
        texts(path, "title")
    with pytest.raises(CorpusError, match="'text' is no text but int64"):
        texts(path)


def test_a_column_that_is_not_utf8_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("electra_keras.data.readers.PARQUET_BATCH_ROWS", 2)
    # Arrow believes whoever says that bytes are text.
    binary = pyarrow.array([b"fine", b"fine", b"fine", b"caf\xe9"])
    path = parquet(tmp_path / "latin.parquet", text=pyarrow.Array.from_buffers(pyarrow.string(), len(binary), binary.buffers()))
    with pytest.raises(CorpusError, match=r"latin\.parquet: the column 'text' is not UTF-8 in rows 3 to 4 \(unexpected end of data\)"):
        texts(path)


def test_unreadable_files_are_errors(tmp_path):
    with pytest.raises(CorpusError, match=r"Cannot read .*gone\.txt"):
        texts(tmp_path / "gone.txt")


def test_globs_are_sorted_and_files_come_once(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "odd[1].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, b"text")
    found = find_files([f"{tmp_path}/b.txt", f"{tmp_path}/*.txt", f"{tmp_path}/**/*.gz", f"{tmp_path}/odd[1].txt"])
    assert [path.name for path in found] == ["b.txt", "a.txt", "odd[1].txt", "c.jsonl.gz"]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no names that are not UTF-8")
def test_names_that_are_not_utf8_are_errors(tmp_path):
    write(tmp_path / os.fsdecode(b"bad\xff.txt"), b"text")
    with pytest.raises(CorpusError, match=r"bad\\xff\.txt is not UTF-8\. Rename it"):
        find_files([f"{tmp_path}/*.txt"])


@pytest.mark.parametrize(
    "name, message",
    [
        ("absent.txt", r"There is no file .*absent\.txt"),
        ("*.jsonl", r"No file matches .*\*\.jsonl"),
        ("", "is a folder; name its files"),
        ("page.html", r"page\.html is not read: its name must end in \.txt"),
        ("page.html.gz", r"page\.html\.gz is not read"),
    ],
)
def test_names_that_lead_nowhere_are_errors(tmp_path, name, message):
    write(tmp_path / "page.html", b"text")
    write(tmp_path / "page.html.gz", b"text")
    with pytest.raises(CorpusError, match=message):
        find_files([f"{tmp_path}/{name}"])
