import hashlib

from electra_keras.data.documents import Document, is_validation, join_paragraphs, split_lines


def test_the_content_alone_decides_the_split():
    key = int.from_bytes(hashlib.sha256(b"some text").digest()[:8])
    assert Document("some text", "a.txt").content_key == Document("some text", "b.txt").content_key == key
    fraction = key / 2**64
    assert is_validation(Document("some text", "a.txt"), fraction + 1e-6)
    assert not is_validation(Document("some text", "b.txt"), fraction - 1e-6)


def test_about_the_fraction_is_held_out():
    held_out = sum(is_validation(Document(f"text {number}", ""), 0.1) for number in range(10_000))
    assert 900 < held_out < 1_100


def test_lone_surrogates_have_a_key_too():
    assert Document("\ud800", "").content_key != Document("\ud801", "").content_key


def test_none_ends_a_document_and_white_space_is_skipped():
    paragraphs = [None, "one", "", " \t", "two", None, None, "three"]
    assert list(join_paragraphs(paragraphs, "here")) == [Document("one\ntwo", "here"), Document("three", "here")]


def test_long_documents_go_on_as_further_ones(monkeypatch):
    monkeypatch.setattr("electra_keras.data.documents.MAX_DOCUMENT_CHARACTERS", 10)
    assert [document.text for document in join_paragraphs(["12345", "67890", "1"], "")] == ["12345\n67890", "1"]


def test_lines_end_at_line_breaks_only():
    assert split_lines("a\r\nb\rc\nd\x0ce\u2028f") == ["a", "b", "c", "d\x0ce\u2028f"]
