"""From signals to states: what silence means, and for whom."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.fleet.device import Device, DeviceState
from plantops_cli.fleet.judging import Patience, state_of, steady_until
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.rhythm import Signal
from tests.support.device_story import HEARTBEAT, START, TELEMETRY, Story, beating, regular

jitters = st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=40)
intervals = st.floats(0.3, 3_600)


def device(telemetry: Sequence[float] = (), heartbeat: Sequence[float] = ()) -> Device:
    """A device that was heard at these moments."""
    made = Device(b"a", is_expected=False)
    made.telemetry, made.heartbeat = signal(telemetry), signal(heartbeat)
    made.first_at = min([*telemetry, *heartbeat])
    made.state = DeviceState.ONLINE
    return made


def signal(moments: Sequence[float]) -> Signal | None:
    made = Signal() if moments else None
    for at in moments:
        assert made
        made.hear(at, at)
    return made


TENS = (0, 10, 20, 30)


@pytest.mark.parametrize(
    ("now", "state", "until"),
    [
        (30, DeviceState.ONLINE, 50),
        (50, DeviceState.LATE, 70),
        (70, DeviceState.OFFLINE, math.inf),
    ],
)
def test_a_state_comes_with_the_moment_until_which_it_holds(now: float, state: DeviceState, until: float) -> None:
    assert state_of(device(telemetry=TENS), now, Patience()) == (state, until)


def test_offline_after_bounds_the_patience_with_each_topic() -> None:
    assert state_of(device(telemetry=TENS), 44, Patience(15)) == (DeviceState.ONLINE, 45)
    assert state_of(device(telemetry=TENS), 45, Patience(15)) == (DeviceState.OFFLINE, math.inf)


def test_a_topic_that_the_rest_of_the_fleet_uses_is_lacking_after_four_of_their_intervals() -> None:
    fleet = Patience(telemetry_seconds=20.0)
    long_known = device(heartbeat=(*TENS, 40, 50, 60, 70, 80))
    assert state_of(long_known, 79, fleet) == (DeviceState.ONLINE, 80)
    assert state_of(long_known, 80, fleet) == (DeviceState.MUTE, 100)
    assert state_of(long_known, 80, Patience()) == (DeviceState.ONLINE, 100)


def test_a_device_with_both_topics_in_time_is_steady_until_the_first_is_overdue() -> None:
    assert steady_until(device(telemetry=TENS, heartbeat=(*TENS, 35)), Patience()) == 50
    assert steady_until(device(telemetry=TENS, heartbeat=TENS), Patience(5)) == 35


@pytest.mark.parametrize(
    "unsteady",
    [device(telemetry=TENS), device(heartbeat=TENS), device(telemetry=TENS, heartbeat=(*TENS, 60))],
    ids=["no heartbeat", "no telemetry", "late a moment ago"],
)
def test_one_that_may_be_about_to_change_is_not_steady(unsteady: Device) -> None:
    assert steady_until(unsteady, Patience()) == -math.inf


def test_patience_grows_for_one_topic_alone() -> None:
    grown = Patience(60).lengthened(10.0, is_telemetry=True).lengthened(30.0, is_telemetry=False)
    assert grown == Patience(60, heartbeat_seconds=30.0, telemetry_seconds=10.0)
    assert (grown.longest(is_telemetry=True), grown.longest(is_telemetry=False)) == (10.0, 30.0)


# Never late, if regular


@given(interval=intervals, jitter=jitters)
def test_a_device_that_beats_regularly_is_never_anything_but_online(interval: float, jitter: list[float]) -> None:
    story = Story()
    story.play(regular(HEARTBEAT, interval, jitter))
    assert story.states == [DeviceState.ONLINE]


@given(pace=st.tuples(intervals, intervals), jitter=st.tuples(jitters, jitters))
def test_nor_one_that_has_two_rhythms(pace: tuple[float, float], jitter: tuple[list[float], list[float]]) -> None:
    beats = regular(TELEMETRY, pace[0], jitter[0]) + regular(HEARTBEAT, pace[1], jitter[1])
    # as long as both go on
    end = START + min(interval * (len(misses) - 1.2) for interval, misses in zip(pace, jitter, strict=True))
    story = Story()
    story.play([beat for beat in beats if beat[0] <= end])
    assert story.states == [DeviceState.ONLINE]


def test_a_device_whose_interval_is_unknown_is_offline_after_four_hours() -> None:
    story = Story()
    story.hear(TELEMETRY, START)
    assert story.look(START + 14_399) is DeviceState.ONLINE
    assert story.look(START + 14_400) is DeviceState.OFFLINE


# Late and offline, if it stops


@given(interval=st.floats(0.7, 3_600), jitter=jitters, looks=st.lists(st.floats(0, 10), max_size=10))
def test_one_that_stops_is_late_after_two_intervals_and_offline_after_four(
    interval: float, jitter: list[float], looks: list[float]
) -> None:
    story = Story()
    beats = regular(HEARTBEAT, interval, jitter)
    story.play(beats)
    story.changes.clear()
    last = beats[-1][0]
    found = story.report(last).heartbeat_interval_seconds
    for share in sorted(looks):
        story.look(last + share * interval)
    story.look(last + 100 * interval)
    assert found is not None
    patience = max(found, 1.0)
    assert story.states == [DeviceState.LATE, DeviceState.OFFLINE]
    assert [change.at - last for change in story.changes] == pytest.approx([2 * patience, 4 * patience])
    assert [change.silent_seconds for change in story.changes] == pytest.approx([2 * patience, 4 * patience])


def test_of_two_topics_the_faster_one_makes_it_late_and_the_slower_one_offline() -> None:
    story = Story()
    story.play(regular(TELEMETRY, 5.0, [0.0] * 25) + regular(HEARTBEAT, 30.0, [0.0] * 5))
    story.changes.clear()
    story.look(START + 10_000)
    assert [(change.at - START, change.state) for change in story.changes] == [
        (120 + 10, DeviceState.LATE),
        (120 + 120, DeviceState.OFFLINE),
    ]


def test_offline_after_overrules_the_interval() -> None:
    story = beating(presence=Presence(offline_after_seconds=25))
    story.look(START + 1_000)
    assert [(change.at - START, change.state) for change in story.changes] == [
        (20, DeviceState.LATE),
        (25, DeviceState.OFFLINE),
    ]


def test_offline_after_less_than_two_intervals_leaves_no_time_to_be_late() -> None:
    story = beating(presence=Presence(offline_after_seconds=15))
    story.look(START + 1_000)
    assert [(change.at - START, change.state) for change in story.changes] == [(15, DeviceState.OFFLINE)]


def test_a_device_that_died_before_all_was_known_of_it_is_offline_by_what_the_others_do() -> None:
    story = Story()
    for n in range(20):
        story.hear(b"devices/b/heartbeat", START + 5 * n)
    # two heartbeats only
    story.play(regular(TELEMETRY, 2.0, [0.0] * 6) + regular(HEARTBEAT, 5.0, [0.0] * 2))
    story.changes.clear()
    story.look(START + 1_000)
    assert [(change.at - START, change.state) for change in story.changes if change.device_id == "a"] == [
        (10 + 4, DeviceState.LATE),
        (5 + 20, DeviceState.OFFLINE),
    ]


# Back again: hysteresis


def test_one_that_is_back_is_late_until_it_is_regular() -> None:
    story = beating()
    story.hear(TELEMETRY, START + 500)
    assert story.look(START + 501) is DeviceState.LATE
    story.hear(TELEMETRY, START + 510)
    assert story.look(START + 510) is DeviceState.ONLINE


@given(gaps=st.lists(st.floats(0.06, 80), min_size=1, max_size=60))
def test_no_state_flaps_whatever_the_gaps(gaps: list[float]) -> None:
    story = beating()
    moments = [START]
    for gap in gaps:
        moments.append(moments[-1] + gap)
        story.look(moments[-1] - gap / 3)
        story.hear(TELEMETRY, moments[-1])
    returns = [change.at for change in story.changes if change.state is DeviceState.ONLINE]
    departures = [START, *(change.at for change in story.changes if change.before is DeviceState.ONLINE)]
    for at in returns:
        # at least one whole interval in time, the one that ends now
        left = max(departure for departure in departures if departure < at)
        assert sum(left < moment <= at for moment in moments) >= 2
    assert all(one.state is not other.state for one, other in pairwise(story.changes))


def test_one_that_misses_every_other_beat_does_not_flap() -> None:
    story = beating()
    story.play(regular(TELEMETRY, 25.0, [0.0] * 3, begin=START + 25))
    assert story.states == [DeviceState.LATE]


# Mute, and no heartbeat


def test_a_device_that_only_beats_on_is_mute() -> None:
    story = beating(TELEMETRY, HEARTBEAT)
    story.hear(HEARTBEAT, *(START + 10 * turn for turn in range(1, 9)))
    assert [(change.at - START, change.state) for change in story.changes] == [
        (20, DeviceState.LATE),
        (40, DeviceState.MUTE),
    ]


def test_a_device_whose_telemetry_only_goes_on_has_no_heartbeat() -> None:
    story = beating(TELEMETRY, HEARTBEAT)
    story.hear(TELEMETRY, *(START + 10 * turn for turn in range(1, 9)))
    assert [(change.at - START, change.state) for change in story.changes] == [
        (20, DeviceState.LATE),
        (40, DeviceState.NO_HEARTBEAT),
    ]


def test_a_mute_device_that_dies_is_late_and_offline() -> None:
    story = beating(TELEMETRY, HEARTBEAT)
    story.hear(HEARTBEAT, *(START + 10 * turn for turn in range(1, 9)))
    story.look(START + 1_000)
    assert story.states == [DeviceState.LATE, DeviceState.MUTE, DeviceState.LATE, DeviceState.OFFLINE]


def test_a_sensor_that_works_again_ends_it_once_it_is_regular() -> None:
    story = beating(TELEMETRY, HEARTBEAT)
    story.hear(HEARTBEAT, *(START + 10 * turn for turn in range(1, 9)))
    story.hear(TELEMETRY, START + 81)
    assert story.look(START + 82) is DeviceState.MUTE
    story.hear(HEARTBEAT, START + 90)
    story.hear(TELEMETRY, START + 91)
    assert story.look(START + 92) is DeviceState.ONLINE


def test_while_the_slow_heartbeat_is_waited_for_a_dead_device_is_late_not_mute() -> None:
    story = Story()
    story.play(regular(TELEMETRY, 2.0, [0.0] * 61) + regular(HEARTBEAT, 30.0, [0.0] * 5))
    assert story.look(START + 120 + 50) is DeviceState.LATE


def test_a_dead_sensor_that_was_never_heard_is_found_by_what_the_others_send() -> None:
    story = beating(b"devices/b/telemetry", b"devices/b/heartbeat")
    story.hear(HEARTBEAT, *(START + 5 * turn for turn in range(8)))
    assert story.look(START + 39) is DeviceState.ONLINE
    assert story.look(START + 40) is DeviceState.MUTE
    story.hear(TELEMETRY, START + 42)
    assert story.look(START + 43) is DeviceState.ONLINE


def test_it_is_found_too_when_the_others_are_heard_later() -> None:
    story = Story()
    story.hear(HEARTBEAT, *(START + 5 * turn for turn in range(40)))
    assert story.states == [DeviceState.ONLINE]
    for turn in range(4):
        story.hear(b"devices/b/telemetry", START + 196 + turn / 2)
    assert story.look(START + 198) is DeviceState.MUTE


def test_in_a_fleet_without_heartbeats_nobody_lacks_one() -> None:
    story = beating(TELEMETRY)
    story.hear(TELEMETRY, *(START + 10 * turn for turn in range(1, 200)))
    assert story.states == []


def test_a_device_that_comes_back_has_time_for_both_topics() -> None:
    story = Story()
    story.play(regular(TELEMETRY, 60.0, [0.0] * 5) + regular(HEARTBEAT, 10.0, [0.0] * 25))
    back = START + 2_000
    story.look(back)
    story.changes.clear()
    for turn in range(6):
        story.hear(HEARTBEAT, back + 10 * turn)
    story.play(
        regular(HEARTBEAT, 10.0, [0.0] * 10, begin=back + 60)
        + regular(TELEMETRY, 60.0, [0.0] * 2, begin=back + 60)
    )
    assert [(change.at - back, change.state) for change in story.changes] == [
        (0, DeviceState.LATE),
        (120, DeviceState.ONLINE),
    ]
