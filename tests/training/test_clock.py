import grain
import numpy as np
import pytest

from electra_keras.training.clock import Clock, TimedBatches


@pytest.fixture
def now(monkeypatch):
    """The time, which passes only when a test says so."""
    seconds_now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: seconds_now)

    def passes(seconds):
        nonlocal seconds_now
        seconds_now += seconds

    return passes


def test_pauses_do_not_count(now):
    clock = Clock()
    now(3)
    clock.pause()
    now(50)
    clock.go_on()
    now(4)
    assert clock.read() == 7


def test_a_report_starts_at_zero_and_the_earlier_ones_are_kept(now):
    clock = Clock()
    now(3)
    clock.start_report()
    clock.waiting_seconds = 1.0
    now(2)
    clock.start_report()
    now(1)
    assert (clock.read(), clock.earlier_seconds, clock.waiting_seconds) == (1, 5, 0)


def test_a_checkpoint_carries_it_over(now):
    clock = Clock()
    now(3)
    clock.start_report()
    now(2)
    clock.waiting_seconds = 0.5
    clock.pause()
    state = {"optimizer/00000": np.zeros(1), **clock.state()}
    now(1000)
    restored = Clock.from_state(state)
    assert list(state) == ["optimizer/00000"]
    now(4)
    assert (restored.read(), restored.earlier_seconds, restored.waiting_seconds) == (6, 3, 0.5)


def test_waiting_is_what_the_batches_took(now):
    def slow(value):
        now(0.25)
        return value * 10

    clock = Clock()
    # No threads of its own, so that the time of the test passes in order.
    batches = grain.MapDataset.range(4).map(slow).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    timed = TimedBatches(batches, clock)
    assert list(timed) == [0, 10, 20, 30]
    assert clock.waiting_seconds == pytest.approx(1.0)


def test_timed_batches_can_be_moved_to_a_position():
    batches = TimedBatches(grain.MapDataset.range(5).to_iter_dataset(), Clock())
    iterator = iter(batches)
    next(iterator)
    state = iterator.get_state()
    assert next(iterator) == 1
    iterator.set_state(state)
    assert list(iterator) == [1, 2, 3, 4]
