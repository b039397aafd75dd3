from electra_keras.detector import TokenScore
from electra_keras.segments import Segment, join_segments


def tokens(*values):
    return [TokenScore(*value) for value in values]


def test_tokens_that_share_a_character_make_one_segment():
    # A tokenizer that strips accents takes a Korean syllable apart, and both pieces point at it.
    scored = tokens(("ᄒ", 0, 1, 0.2), ("##ᅡᆫ", 0, 1, 0.7), ("국", 1, 2, 0.1))
    assert join_segments("한국", scored) == [Segment(0, 1, scored[:2]), Segment(1, 2, scored[2:])]
    assert [segment.probability for segment in join_segments("한국", scored)] == [0.7, 0.1]


def test_a_token_that_reaches_into_a_segment_makes_it_longer():
    scored = tokens(("ᄀ", 0, 1, 0.2), ("##ᅮᆨᄋ", 0, 2, 0.7), ("##ᅥ", 1, 2, 0.1))
    assert join_segments("국어", scored) == [Segment(0, 2, scored)]


def test_combining_marks_and_joiners_belong_to_the_token_before_them():
    scored = tokens(("e", 0, 1, 0.3), ("##t", 2, 3, 0.3), ("👩", 4, 5, 0.3))
    assert [(segment.start, segment.end) for segment in join_segments("e\u0301t 👩\u200d!", scored)] == [(0, 2), (2, 3), (4, 6)]
    assert join_segments(" ", []) == []
