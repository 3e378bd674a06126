"""Sequence numbers and the clocks of devices."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.fleet.sequence import (
    REORDERING,
    DeviceClock,
    SequenceNumbers,
    find,
    moment_of,
    number_of,
    sequence_number_of,
)

HIGHEST = [15, 255, 65_535, 2**32 - 1]


def after(*numbers: int) -> SequenceNumbers:
    sequence = SequenceNumbers()
    for number in numbers:
        sequence.take(number)
    return sequence


def account(*numbers: int) -> tuple[int, int, int, int]:
    """Missing, out of order, duplicates, restarts."""
    sequence = after(*numbers)
    return sequence.missing, sequence.out_of_order, sequence.duplicates, sequence.restarts


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


@pytest.mark.parametrize("highest", HIGHEST)
@pytest.mark.parametrize("lost_before", range(5))
def test_to_come_round_at_the_end_is_no_restart_whatever_is_lost_there(highest: int, lost_before: int) -> None:
    lost_after = 4 - lost_before
    assert account(*range(highest - 15, highest + 1), *range(16)) == (0, 0, 0, 0)
    assert account(*range(highest - 15, highest + 1 - lost_before), *range(lost_after, 16)) == (4, 0, 0, 0)


@pytest.mark.parametrize("highest", HIGHEST)
def test_around_the_end_numbers_come_late_or_twice_as_anywhere(highest: int) -> None:
    before = range(highest - 6, highest)
    assert account(*before, 0, highest, 1, 2) == (0, 1, 0, 0)
    assert account(*before, 1, highest, 0, 2) == (0, 2, 0, 0)
    assert account(*before, highest, highest - 1, 0, 0, highest, 1) == (0, 0, 3, 0)


@pytest.mark.parametrize("highest", HIGHEST[1:])
def test_what_is_late_right_after_we_began_may_be_from_before_the_end(highest: int) -> None:
    assert account(0, highest, 1, 2) == (0, 1, 0, 0)


@given(
    st.sampled_from([256, 65_536]),
    st.integers(0, 255),
    st.integers(0, 1 << 20),
    st.sampled_from([0.0, 0.01, 0.05]),
)
def test_the_account_agrees_with_the_truth_over_wraps_too(size: int, first: int, seed: int, lost: float) -> None:
    chance = random.Random(seed)
    begin = size - 100 - first % 100
    # which 0 may be one that the device leaves out is another rule
    sent = [
        n for n in range(begin, begin + 400) if n % 100 == begin % 100 or n % size == 0 or chance.random() >= lost
    ]
    came = [begin, *sorted(sent[1:], key=lambda n: n + chance.uniform(0, 16))]
    assert account(*(n % size for n in came))[::3] == (sent[-1] + 1 - begin - len(sent), 0)


def test_a_signed_counter_comes_round_to_its_lowest_number() -> None:
    assert account(126, 127, -128, -127) == (0, 0, 0, 0)
    assert account(32_766, 32_767, -32_767) == (1, 0, 0, 0)
    assert account(32_766, 32_767, 0, 1) == (0, 0, 0, 0)


def test_a_zero_that_is_skipped_at_every_wrap_is_not_lost() -> None:
    assert account(254, 255, *range(1, 256), *range(1, 256), 1, 2) == (0, 0, 0, 0)
    assert account(254, 255, 1, 2) == (1, 0, 0, 0)
    assert account(0, *range(1, 256), *range(1, 256), 1, 2) == (2, 0, 0, 0)


def test_what_goes_on_beyond_the_end_did_not_come_round_there() -> None:
    assert account(*range(251), *range(300)) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "numbers",
    [
        (5, 6, 7, 0, 1, 2),
        (5, 6, 7, 1, 2, 3),
        (*range(8), 0, 1, 2),
        (*range(1, 11), 1, 2, 3),
        (*range(100), 0, 1, 2),
        (200, 201, 202, 0, 1, 2),
        (60_000, 60_001, 1, 2, 3),
        (1_005, 1_006, 1_007, *range(1_000, 1_010)),
    ],
    ids=["0", "1", "0 again", "1 again", "far off", "below 255", "below 65,535", "what was saved"],
)
def test_to_begin_anew_is_a_restart_and_no_duplicates(numbers: tuple[int, ...]) -> None:
    assert account(*numbers) == (0, 0, 0, 1)


def test_what_is_lost_right_after_a_restart_is_missing() -> None:
    assert account(5, 6, 7, 0, 2, 3) == (1, 0, 0, 1)


@pytest.mark.parametrize(
    ("numbers", "duplicates"),
    [
        ((5, 6, 7, 5, 6, 7, 8), 3),
        ((100, 101, 102, 101, 102, 103), 2),
        ((254, 255, 0, 255, 0, 1), 2),
        ((7, 7, 8), 1),
    ],
)
def test_what_is_delivered_again_is_a_duplicate_and_no_restart(numbers: tuple[int, ...], duplicates: int) -> None:
    assert account(*numbers) == (0, 0, duplicates, 0)


def test_what_was_sent_before_we_listened_is_late_and_neither_there_twice_nor_missing() -> None:
    assert account(5, 6, 7, 3, 4, 8) == (0, 2, 0, 0)


@pytest.mark.parametrize("stray", [999_999, 100, 0])
def test_one_stray_number_neither_loses_nor_restarts_anything(stray: int) -> None:
    assert account(300, 301, stray, 302, 303) == (0, 1, 0, 0)


def test_during_an_outage_of_ours_a_counter_may_come_round() -> None:
    sequence = after(254, 255, 0, *range(1, 201))
    sequence.outage()
    sequence.take(50)
    assert (sequence.missed, sequence.missing, sequence.restarts) == (105, 0, 0)


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


@pytest.mark.parametrize(
    "value", ["1763928902", "1763928902.0", " 1763928902000 ", "1763928902000000", "1763928902000000000"]
)
def test_a_timestamp_may_be_digits_in_text(value: str) -> None:
    assert moment_of(value) == pytest.approx(1_763_928_902)


def test_eight_digits_are_a_date() -> None:
    assert moment_of("20251123") == moment_of("2025-11-23")


@pytest.mark.parametrize("value", ["2025-11-23T20:15:02Z", "2025-11-23T21:15:02+01:00", "2025-11-23T20:15:02"])
def test_a_timestamp_may_be_text(value: str) -> None:
    assert moment_of(value) == 1_763_928_902


@pytest.mark.parametrize(
    "value", ["yesterday", "", None, True, [], {}, "9999-99-99", "9" * 400, "\u0661\u0662\u0663", "nan", "1e5"]
)
def test_anything_else_is_no_timestamp(value: object) -> None:
    assert moment_of(value) is None


def test_a_field_is_found_on_its_path() -> None:
    document = {"soil": {"moisture": 4}, "n": 1}
    assert find(document, ("soil", "moisture")) == 4
    assert find(document, ("n",)) == 1
    assert find(document, ("n", "m")) is None
    assert find([1], ("n",)) is None
    assert number_of(True) is None


@pytest.mark.parametrize(
    ("value", "number"), [(7, 7), (7.0, 7), ("7", 7), ("0007", 7), (" 7 ", 7), ("-7", -7), (2**70, 2**70)]
)
def test_a_sequence_number_may_be_digits_in_text(value: object, number: int) -> None:
    assert sequence_number_of(value) == number


@pytest.mark.parametrize("value", [7.5, True, None, "", "7.5", "0x7", "seven", "\u0667", "9" * 5_000, [7], 1e400])
def test_anything_else_is_no_sequence_number(value: object) -> None:
    assert sequence_number_of(value) is None
