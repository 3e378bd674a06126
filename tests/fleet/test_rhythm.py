"""How often a topic speaks, and what its silence means, told on a simulated clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.rhythm import (
    FINE,
    HEARD_ONCE_QUIET_SECONDS,
    OVERDUE,
    SILENT,
    Rhythm,
    Signal,
    silent_after,
)
from tests.support.device_story import START, TELEMETRY, Story, beating, regular


def speaking(*moments: float) -> Signal:
    signal = Signal()
    for at in moments:
        signal.hear(at, at)
    return signal


@given(interval=st.floats(10, 600), size=st.integers(1, 180))
def test_a_burst_is_one_beat(interval: float, size: int) -> None:
    story = Story()
    for turn in range(12):
        story.hear(TELEMETRY, *(START + turn * interval + n * 0.005 for n in range(size)))
    assert story.states == [DeviceState.ONLINE]
    assert story.report(START + 11 * interval + 1).interval_seconds == pytest.approx(interval, rel=0.1)


def test_a_device_that_speeds_up_is_followed() -> None:
    story = beating(interval=60.0)
    story.hear(TELEMETRY, *(START + n for n in range(1, 80)))
    assert story.report(START + 80).interval_seconds == pytest.approx(1.0)
    assert story.states == []


def test_a_device_that_slows_down_is_late_at_first_and_then_followed() -> None:
    story = beating(interval=10.0)
    story.play(regular(TELEMETRY, 60.0, [0.0] * 12, begin=START + 60))
    assert story.look(START + 13 * 60 - 1) is DeviceState.ONLINE
    assert story.report(START + 13 * 60 - 1).interval_seconds == pytest.approx(60.0)


def test_one_lost_message_in_three_changes_no_estimate() -> None:
    story = Story()
    story.hear(TELEMETRY, *(START + 10.0 * turn for turn in range(30) if turn % 4 != 2))
    assert story.report(START + 300).interval_seconds == pytest.approx(10.0)


def test_the_first_interval_is_unknown() -> None:
    story = Story()
    story.hear(TELEMETRY, START, START + 10, START + 20)
    assert story.report(START + 20).interval_seconds is None
    assert story.look(START + 1_000) is DeviceState.ONLINE
    story = Story()
    story.hear(TELEMETRY, START, START + 10, START + 20, START + 30)
    assert story.report(START + 30).interval_seconds == pytest.approx(10.0)


def test_the_gap_over_an_outage_is_no_interval() -> None:
    story = beating()
    for turn in range(10):
        story.presence.lost(START + 1_000 * turn + 15)
        story.presence.resumed(START + 1_000 * turn + 900)
        story.hear(TELEMETRY, START + 1_000 * turn + 905)
        story.hear(TELEMETRY, START + 1_000 * turn + 915)
        story.presence.lost(START + 1_000 * turn + 916)
        story.presence.resumed(START + 1_000 * turn + 1_000)
    assert story.report(START + 10_000).interval_seconds == pytest.approx(10.0)


def test_an_interval_needs_three_gaps_and_is_one_that_most_do_not_exceed() -> None:
    assert speaking(0, 10, 20).interval == 0.0
    assert speaking(0, 10, 20, 30).interval == pytest.approx(10.0)
    assert speaking(0, 10, 20, 30, 90, 100, 110).interval == pytest.approx(10.0)


def test_it_is_said_when_what_is_known_of_an_interval_changes_and_only_then() -> None:
    signal = speaking(0)
    assert signal.hear(10, 10)
    assert signal.hear(20, 20)
    assert signal.hear(30, 30)
    assert not signal.hear(40, 40)


def test_a_known_interval_stands_until_three_gaps_in_a_row_say_otherwise() -> None:
    signal = speaking(0, 10, 20, 30)
    signal.miss(32, 33)
    for at in (40, 46, 52):
        signal.hear(at, at)
        assert signal.interval == pytest.approx(10.0)
    signal.hear(58, 58)
    assert signal.interval == pytest.approx(6.0)


def test_of_gaps_that_are_not_in_a_row_each_counts_for_a_fifth_more() -> None:
    signal = Signal()
    for at in (0, 100, 200):
        # each as short as a beat that is a fifth late and one that is a fifth early make it
        signal.hear(at, at)
        signal.hear(at + 6, at + 6)
        signal.miss(at + 7, at + 8)
    assert signal.interval == pytest.approx(6 * 1.2 * 1.2)


def test_what_is_known_of_a_rhythm_is_told_in_steps() -> None:
    assert Signal().rhythm(0) is Rhythm.UNKNOWN
    assert speaking(0).rhythm(HEARD_ONCE_QUIET_SECONDS - 1) is Rhythm.UNKNOWN
    assert speaking(0).rhythm(HEARD_ONCE_QUIET_SECONDS) is Rhythm.QUIET
    assert speaking(0, 10).rhythm(49) is Rhythm.UNKNOWN
    assert speaking(0, 10, 18).rhythm(58) is Rhythm.QUIET
    assert speaking(0, 10, 20, 30).rhythm(10_000) is Rhythm.KNOWN


def test_only_what_is_not_known_is_remarked() -> None:
    assert Rhythm.NOT_HEARD.remark("heartbeat") == "heartbeat not heard yet"
    assert Rhythm.UNKNOWN.remark("telemetry") == "telemetry rhythm not known yet"
    assert Rhythm.QUIET.remark("telemetry") == "telemetry quiet before its rhythm was known"
    assert Rhythm.KNOWN.remark("telemetry") == ""


def test_there_is_something_to_say_of_a_topic_when_it_is_overdue_or_quiet() -> None:
    assert speaking(0, 10, 20, 30).turns_at(None) == 50
    assert speaking(0, 10).turns_at(None) == 50
    assert speaking(0, 10).turns_at(15) == 25


def test_a_topic_whose_interval_is_unknown_is_fine_for_ever() -> None:
    grade = speaking(0, 10, 20).grade(1e9, None)
    assert (grade.now, grade.is_judged) == (FINE, False)
    assert speaking(0, 10, 20).grade(30, 10).is_judged


def test_a_grade_tells_since_when_it_is_so() -> None:
    signal = speaking(0, 10, 20, 30)
    assert [signal.grade(at, None).turned_at(at) for at in (40, 55, 75)] == [-math.inf, 50, 70]


def test_silence_counts_no_further_than_is_certain() -> None:
    signal = speaking(0, 10, 20, 30)
    signal.hear(75, 75, certain_at=45)
    assert signal.held == FINE
    signal.hear(120, 120, certain_at=100)
    assert signal.held == OVERDUE


def test_a_topic_is_overdue_after_two_intervals_and_silent_after_four() -> None:
    signal = speaking(0, 10, 20, 30)
    assert [signal.grade(at, None).now for at in (49, 50, 69, 70)] == [FINE, OVERDUE, OVERDUE, SILENT]


def test_what_was_overdue_is_held_against_it_until_it_is_regular() -> None:
    signal = speaking(0, 10, 20, 30, 55)
    assert (signal.grade(55, None).now, signal.grade(55, None).worst) == (FINE, OVERDUE)
    signal.hear(65, 65)
    assert signal.grade(65, None).worst == FINE


def test_a_topic_of_a_tenth_of_a_second_is_judged_as_if_it_spoke_once_in_a_second() -> None:
    assert silent_after(0.1, None) == 4.0


def test_how_long_it_may_be_silent_is_four_intervals_unless_somebody_said_otherwise() -> None:
    assert silent_after(10.0, None) == 40.0
    assert silent_after(10.0, 25.0) == 25.0
    assert silent_after(0.0, None) == math.inf


def test_an_outage_of_ours_is_taken_out_of_its_silence() -> None:
    signal = speaking(0, 10, 20, 30)
    signal.miss(55, 155)
    assert signal.heard_at == 130
    assert signal.last_at == 30
    assert signal.grade(169, None).now == OVERDUE
    assert signal.grade(170, None).now == SILENT


def test_who_waits_anew_counts_from_then_on() -> None:
    signal = speaking(0, 10, 20, 30)
    signal.wait_anew(100)
    assert signal.overdue_at(None) == 120
    assert signal.silent_at(None) == 140
