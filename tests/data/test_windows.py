import itertools
import random

import pytest

from electra_keras.data.windows import PaddedBatch, Window, batches_of_few_shapes, split_windows, tight_batches


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


@pytest.fixture
def many_lengths():
    generator = random.Random(0)
    cases = []
    for _ in range(200):
        longest, batch_tokens = generator.choice([5, 16, 40, 64, 128, 512]), generator.choice([1, 48, 64, 160, 512, 2048])
        cases.append(([generator.randint(1, longest) for _ in range(generator.randrange(120))], longest, batch_tokens))
    return cases


@pytest.mark.parametrize("plan", [batches_of_few_shapes, tight_batches])
def test_batches_hold_every_window_once_and_no_more_tokens_than_allowed(plan, many_lengths):
    for lengths, longest, batch_tokens in many_lengths:
        batches = list(plan(lengths, longest, batch_tokens))
        assert sorted(member for batch in batches for member in batch.members) == list(range(len(lengths)))
        for batch in batches:
            assert batch.num_rows * batch.length <= batch_tokens or batch.num_rows == 1
            assert max(lengths[member] for member in batch.members) <= batch.length <= longest


def test_few_shapes_waste_little(many_lengths):
    for lengths, longest, batch_tokens in many_lengths:
        for batch in batches_of_few_shapes(lengths, longest, batch_tokens):
            assert 4 * len(batch.members) >= 3 * batch.num_rows >= 3 * len(batch.members)
            assert batch.length <= 16 or batch.length < 2 * max(lengths[member] for member in batch.members)


def test_tight_batches_waste_only_what_their_members_differ_by(many_lengths):
    for lengths, longest, batch_tokens in many_lengths:
        batches = list(tight_batches(lengths, longest, batch_tokens))
        for batch in batches:
            assert batch.num_rows == len(batch.members)
            assert batch.num_rows == 1 or batch.length == max(lengths[member] for member in batch.members)
        # Sorted: no batch holds a window shorter than the longest of the batch before. Full: the next window had no room.
        for batch, following in itertools.pairwise(batches):
            shortest = min(lengths[member] for member in following.members)
            assert max(lengths[member] for member in batch.members) <= shortest
            assert (batch.num_rows + 1) * shortest > batch_tokens


def test_written_out_batches():
    # Of five windows of 17 to 24 tokens, four fill a batch, at three quarters of 32; the fifth, the longest, goes alone.
    lengths = [24, 3, 20, 17, 22, 18]
    assert list(batches_of_few_shapes(lengths, 64, 128)) == [
        PaddedBatch([1], 1, 16),
        PaddedBatch([3, 5, 2, 4], 4, 24),
        PaddedBatch([0], 1, 32),
    ]
    assert list(tight_batches(lengths, 64, 80)) == [PaddedBatch([1, 3, 5, 2], 4, 20), PaddedBatch([4, 0], 2, 24)]
    # Three rows in four: a filler is cheaper than two more calls.
    assert list(batches_of_few_shapes([30, 30, 30], 32, 512)) == [PaddedBatch([0, 1, 2], 4, 32)]
    assert list(tight_batches([30, 30, 30], 32, 512)) == [PaddedBatch([0, 1, 2], 3, 30)]


@pytest.mark.parametrize("plan", [batches_of_few_shapes, tight_batches])
def test_no_windows_make_no_batch(plan):
    assert list(plan([], 32, 16)) == []


@pytest.mark.parametrize("plan", [batches_of_few_shapes, tight_batches])
def test_a_single_window_is_padded_to_a_power_of_two_or_the_models_own_length(plan):
    assert list(plan([19], 40, 512)) == [PaddedBatch([0], 1, 32)]
    assert list(plan([33], 40, 512)) == [PaddedBatch([0], 1, 40)]
