"""Sequence numbers and the clocks of devices."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.fleet.sequence import REORDERING, DeviceClock, SequenceNumbers, find, moment_of, number_of


def after(*numbers: int) -> SequenceNumbers:
    sequence = SequenceNumbers()
    for number in numbers:
        sequence.take(number)
    return sequence


def test_in_order_nothing_is_wrong() -> None:
    sequence = after(*range(7, 500))
    assert (sequence.missing, sequence.out_of_order, sequence.duplicates, sequence.restarts) == (0, 0, 0, 0)


def test_what_is_skipped_is_missing_until_it_comes() -> None:
    assert after(1, 2, 6).missing == 3
    late = after(1, 2, 6, 4)
    assert (late.missing, late.out_of_order) == (2, 1)


def test_what_comes_twice_is_a_duplicate_late_or_not() -> None:
    assert after(1, 2, 2).duplicates == 1
    assert after(1, 2, 3, 4, 2).duplicates == 1
    assert after(1, 4, 2, 2).duplicates == 1


def test_a_device_that_starts_anew_is_told_from_a_late_message() -> None:
    assert after(1_000, 1_001, 1, 2, 3).restarts == 1
    assert after(1_000, 1_001, 1, 2, 3).missing == 0
    assert after(1_000, 1_000 - REORDERING + 1).restarts == 0


@given(count=st.integers(2, 300), seed=st.integers(0, 1 << 20), lost=st.floats(0, 0.5))
def test_the_account_agrees_with_the_truth(count: int, seed: int, lost: float) -> None:
    chance = random.Random(seed)
    sent = [0, *(n for n in range(1, count) if chance.random() >= lost), count]
    # each is put off by less than the window
    came = [0, *sorted(sent[1:], key=lambda n: n + chance.uniform(0, REORDERING / 2))]
    twice = [n for n in came for _ in range(1 + (chance.random() < 0.1))]
    sequence = after(*twice)
    assert sequence.missing == count + 1 - len(sent)
    assert sequence.duplicates == len(twice) - len(came)
    assert sequence.restarts == 0


def test_after_an_outage_of_ours_only_the_first_jump_is_excused() -> None:
    sequence = after(1, 2)
    sequence.outage()
    for number in (10, 12):
        sequence.take(number)
    assert (sequence.missed, sequence.missing) == (7, 1)


def test_a_clock_that_is_ahead_has_a_negative_skew() -> None:
    clock = DeviceClock()
    clock.take(105.0, arrived=100.0)
    assert (clock.lag_seconds, clock.skew_seconds, clock.jitter_seconds) == (-5.0, -5.0, 0.0)


def test_a_steady_lag_has_no_jitter() -> None:
    clock = DeviceClock()
    for n in range(10):
        clock.take(float(n), arrived=n + 3.0)
    assert (clock.jitter_seconds, clock.out_of_order, clock.duplicates) == (0.0, 0, 0)


def test_timestamps_tell_the_order_too() -> None:
    clock = DeviceClock()
    for stamp in (1.0, 2.0, 2.0, 1.5, 3.0):
        clock.take(stamp, arrived=stamp)
    assert (clock.out_of_order, clock.duplicates) == (1, 1)


@pytest.mark.parametrize(
    "value", [1_763_928_902, 1_763_928_902.0, 1_763_928_902_000, 1_763_928_902_000_000, 1_763_928_902_000_000_000]
)
def test_the_unit_of_a_timestamp_is_told_by_its_size(value: float) -> None:
    assert moment_of(value) == pytest.approx(1_763_928_902)


@pytest.mark.parametrize("value", ["2025-11-23T20:15:02Z", "2025-11-23T21:15:02+01:00", "2025-11-23T20:15:02"])
def test_a_timestamp_may_be_text(value: str) -> None:
    assert moment_of(value) == 1_763_928_902


@pytest.mark.parametrize("value", ["yesterday", "", None, True, [], {}, "9999-99-99"])
def test_anything_else_is_no_timestamp(value: object) -> None:
    assert moment_of(value) is None


def test_a_field_is_found_on_its_path() -> None:
    document = {"soil": {"moisture": 4}, "n": 1}
    assert find(document, ("soil", "moisture")) == 4
    assert find(document, ("n",)) == 1
    assert find(document, ("n", "m")) is None
    assert find([1], ("n",)) is None
    assert number_of(True) is None
