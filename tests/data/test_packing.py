import random

import numpy as np
import pytest

from electra_keras.config import PackingConfig
from electra_keras.data.packing import BlockStream, Layout, segment_bounds

PAD, CLS, SEP = 0, 2, 3
LAYOUT = Layout(sequence_length=8, dtype="uint16", pad_id=PAD, cls_id=CLS, sep_id=SEP)


def segments(lines, config, seed=0):
    """The segments that segment_bounds chooses, as lists of tokens numbered from 0."""
    bounds = segment_bounds(lines, config, seed)
    return [(list(range(start, middle)), list(range(middle, end))) for start, middle, end in bounds]


def witness(lines, config, seed):
    """The original's rules on lists of tokens, line by line, with what is cut off put back before the next line."""
    chance, longest = random.Random(seed), config.sequence_length
    tokens = iter(range(sum(lines)))
    waiting = [[next(tokens) for _ in range(count)] for count in lines if count]
    gathered, size, examples = [], 0, []

    def next_target():
        return chance.randint(5, longest) if chance.random() < config.short_target_prob else longest

    target = next_target()
    while waiting or gathered:
        if waiting and size < target:
            gathered.append(waiting.pop(0))
            size += len(gathered[-1])
            continue
        first_target = 100_000 if chance.random() < config.single_segment_prob else (target - 3) // 2
        first, second = [], []
        for line in gathered:
            if not second and (not first or len(first) + len(line) < first_target or (len(first) < first_target and chance.random() < 0.5)):
                first += line
            else:
                second += line
        kept_first = first[: longest - 2]
        kept_second = second[: max(0, longest - len(kept_first) - 3)] if len(kept_first) == len(first) else []
        examples.append((kept_first, kept_second))
        last = (kept_first + kept_second)[-1]
        waiting = [rest for line in gathered if (rest := [token for token in line if token > last])] + waiting
        gathered, size = [], 0
        target = next_target()
    return examples


@pytest.mark.parametrize("seed", range(40))
def test_segments_follow_the_originals_rules(seed):
    chance = random.Random(1_000 + seed)
    config = PackingConfig(sequence_length=chance.choice([8, 16, 64]), single_segment_prob=0.3, short_target_prob=0.3)
    lines = [chance.choice([0, 1, 2, 5, 9, 30, 150]) for _ in range(chance.randint(0, 30))]
    assert segments(lines, config, seed) == witness(lines, config, seed)


@pytest.mark.parametrize("single, shorter", [(0, 0), (1, 0), (0, 1), (0.5, 0.5)])
def test_no_token_is_lost_and_no_example_is_too_long(single, shorter):
    config = PackingConfig(sequence_length=16, single_segment_prob=single, short_target_prob=shorter)
    for seed in range(30):
        lines = [random.Random(seed).randint(0, 40) for _ in range(12)]
        examples = segments(lines, config, seed)
        assert [token for first, second in examples for token in first + second] == list(range(sum(lines)))
        for first, second in examples:
            assert first
            assert len(first) + len(second) + (3 if second else 2) <= 16
        if single == 1:
            assert not any(second for _, second in examples)


def test_hand_computed_segments():
    config = PackingConfig(sequence_length=16, single_segment_prob=0, short_target_prob=0)
    # A aims at (16 - 3) // 2 = 6 tokens: two lines of 2 stay below, a third would reach it and goes to A or B by chance.
    found = {tuple(map(len, segments([2] * 8, config, seed)[0])) for seed in range(20)}
    assert found == {(4, 9), (6, 7)}
    # A first line over the target is A alone; over the length it is cut, and the rest opens the next example.
    assert [tuple(map(len, pair)) for pair in segments([7, 9], config)] == [(7, 6), (3, 0)]
    assert [tuple(map(len, pair)) for pair in segments([20], config)] == [(14, 0), (6, 0)]


def test_the_shares_of_single_and_short_examples_are_the_configured_ones():
    config = PackingConfig(sequence_length=128, single_segment_prob=0.1, short_target_prob=0.05)
    examples = [pair for seed in range(300) for pair in segments([10] * 400, config, seed)[:-1]]
    assert len(examples) > 5_000
    assert sum(not second for _, second in examples) / len(examples) == pytest.approx(0.1, abs=0.02)
    short = sum(len(first) + len(second) < 120 for first, second in examples) / len(examples)
    # Targets are drawn from 5 to 128, and lines of ten fill up to ten tokens more.
    assert short == pytest.approx(0.05 * 106 / 124, abs=0.01)


def test_a_documents_first_example_is_short_as_often_as_others():
    # The original draws a target after every example, the last of a document too, for the next document's first.
    config = PackingConfig(sequence_length=128, single_segment_prob=0.1, short_target_prob=0.05)
    first = [next(segment_bounds([1] * 200, config, seed)) for seed in range(10_000)]
    short = sum(end - start < 120 for start, _, end in first) / len(first)
    assert short == pytest.approx(0.05 * 115 / 124, abs=0.007)


def test_the_seed_alone_decides():
    config = PackingConfig(sequence_length=32)
    runs = [tuple(segment_bounds([7] * 200, config, seed)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_examples_hold_special_tokens_and_padding():
    examples = LAYOUT.examples(np.arange(10, 20), [(0, 2, 4), (4, 9, 9), (9, 10, 10)])
    assert examples.token_ids.tolist() == [
        [CLS, 10, 11, SEP, 12, 13, SEP, PAD],
        [CLS, 14, 15, 16, 17, 18, SEP, PAD],
        [CLS, 19, SEP, PAD, PAD, PAD, PAD, PAD],
    ]
    assert examples.token_ids.dtype == np.uint16
    assert examples.lengths.tolist() == [[4, 7], [7, 7], [3, 3]]


def test_blocks_run_on_across_pushes_and_only_the_last_is_padded():
    stream = BlockStream(LAYOUT, single_segment_prob=1.0)
    parts = [stream.push(np.arange(10, 14)), stream.push(np.arange(14, 27)), stream.push(np.arange(27, 28)), stream.flush(), stream.flush()]
    assert [len(part.lengths) for part in parts] == [0, 2, 1, 0, 0]
    stream.push(np.arange(30, 32))
    parts.append(stream.flush())
    rows = np.concatenate([part.token_ids for part in parts]).tolist()
    assert rows == [
        [CLS, *range(10, 16), SEP],
        [CLS, *range(16, 22), SEP],
        [CLS, *range(22, 28), SEP],
        [CLS, 30, 31, SEP, *[PAD] * 4],
    ]
    assert np.concatenate([part.lengths for part in parts]).tolist() == [[8, 8]] * 3 + [[4, 4]]


def cut_into_blocks(portions, single_segment_prob):
    """All examples of a stream of tokens, numbered from 10, that arrives in portions."""
    stream = BlockStream(LAYOUT, single_segment_prob)
    ends = np.cumsum(portions)
    parts = [stream.push(np.arange(10 + end - size, 10 + end)) for size, end in zip(portions, ends, strict=True)] + [stream.flush()]
    return np.concatenate([part.token_ids for part in parts]), np.concatenate([part.lengths for part in parts])


def test_blocks_are_pairs_but_for_the_share_of_single_ones():
    rows, lengths = cut_into_blocks([30_000], 0.1)
    assert rows[rows > SEP].tolist() == list(range(10, 30_010))
    assert (lengths[:-1, 1] == 8).all() and (rows[np.arange(len(rows)), lengths[:, 0] - 1] == SEP).all()
    paired = lengths[:-1, 0] < 8
    assert ((rows[:-1] == SEP).sum(axis=1) == 1 + paired).all()
    assert paired.mean() == pytest.approx(0.9, abs=0.02)
    # [CLS], A and its [SEP]: A has 1 to 4 of the 5 tokens, each as often as the others.
    sizes, counts = np.unique(lengths[:-1, 0][paired], return_counts=True)
    assert sizes.tolist() == [3, 4, 5, 6]
    assert counts / paired.sum() == pytest.approx(0.25, abs=0.02)


def test_blocks_do_not_depend_on_the_portions_in_which_the_tokens_arrive():
    whole, pieces = (cut_into_blocks(portions, 0.5) for portions in ([300], [1, 5, 6, 7, 0, 181, 100]))
    np.testing.assert_array_equal(whole[0], pieces[0])
    np.testing.assert_array_equal(whole[1], pieces[1])
