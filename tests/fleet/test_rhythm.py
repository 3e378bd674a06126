"""How often a topic speaks, and what its silence means, told on a simulated clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.rhythm import FINE, OVERDUE, SILENT, UNKNOWN_OFFLINE_SECONDS, Signal, silent_after
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


def test_it_is_said_when_an_interval_changes_and_only_then() -> None:
    signal = speaking(0, 10, 20)
    assert signal.hear(30, 30)
    assert not signal.hear(40, 40)


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
    assert silent_after(0.0, None) == UNKNOWN_OFFLINE_SECONDS


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
