import itertools
import random

import pytest

from electra_keras.data.windows import Window, split_windows


def context(token, window, num_tokens):
    """Tokens that the model sees on the poorer side of a token; an edge of the text itself does not count."""
    left = token - window.start if window.start > 0 else num_tokens
    right = window.stop - 1 - token if window.stop < num_tokens else num_tokens
    return min(left, right)


def all_cases():
    cases = [(num_tokens, window, overlap) for num_tokens in range(26) for window in range(1, 9) for overlap in range(window)]
    generator = random.Random(0)
    for _ in range(60):
        window = generator.randint(2, 126)
        cases.append((generator.randint(1, 1500), window, generator.randrange(window)))
    return cases


def test_every_token_is_scored_once_where_it_has_most_context():
    for num_tokens, window, overlap in all_cases():
        windows = split_windows(num_tokens, window, overlap)
        scored = [token for part in windows for token in range(part.score_start, part.score_stop)]
        assert scored == list(range(num_tokens)), (num_tokens, window, overlap)
        for part in windows:
            for token in range(part.score_start, part.score_stop):
                assert part.start <= token < part.stop
                best = max(context(token, other, num_tokens) for other in windows if other.start <= token < other.stop)
                assert context(token, part, num_tokens) == best, (num_tokens, window, overlap, token)


def test_windows_are_full_overlap_enough_and_are_as_few_as_possible():
    for num_tokens, window, overlap in all_cases():
        windows = split_windows(num_tokens, window, overlap)
        for part in windows:
            assert part.stop - part.start == min(window, num_tokens)
        for left, right in itertools.pairwise(windows):
            assert left.stop - right.start >= overlap
        if num_tokens > window:
            fewest = next(count for count in range(2, num_tokens + 2) if count * window - (count - 1) * overlap >= num_tokens)
            assert len(windows) == fewest


def test_a_written_out_text():
    assert split_windows(10, 6, 2) == [Window(0, 6, 0, 5), Window(4, 10, 5, 10)]


def test_a_text_that_fits_is_one_window():
    assert split_windows(6, 6, 3) == [Window(0, 6, 0, 6)]
    assert split_windows(1, 6, 3) == [Window(0, 1, 0, 1)]


def test_an_empty_text_has_no_window():
    assert split_windows(0, 6, 3) == []


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_sizes_are_refused(window, overlap):
    with pytest.raises(ValueError, match=f"window is {window} and overlap {overlap}"):
        split_windows(10, window, overlap)
