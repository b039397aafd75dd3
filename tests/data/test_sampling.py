from electra_keras.data.documents import Document, is_validation
from electra_keras.data.sampling import sample_texts

DOCUMENTS = [Document(f"document number {number:03d}", "") for number in range(200)]


def test_small_corpora_are_taken_whole_but_for_validation():
    expected = [document.text for document in DOCUMENTS if not is_validation(document, 0.2)]
    assert sample_texts(DOCUMENTS, 0.2) == expected
    assert len(expected) < 200


def test_of_large_corpora_a_part_is_taken_that_content_decides():
    characters = 50 * len(DOCUMENTS[0].text)
    sample = sample_texts(DOCUMENTS, 0.2, characters)
    assert len(sample) == 50
    assert set(sample_texts(reversed(DOCUMENTS), 0.2, characters)) == set(sample)
    assert not any(is_validation(Document(text, ""), 0.2) for text in sample)
    # From all parts of the corpus.
    assert len({int(text[-3:]) // 20 for text in sample}) >= 8


def test_one_large_document_is_better_than_none():
    assert sample_texts([Document("x" * 100, "")], 1e-9, 10) == ["x" * 100]
