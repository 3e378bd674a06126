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
    judgement = state_of(device(telemetry=TENS), now, Patience())
    assert (judgement.state, judgement.until) == (state, until)


def test_offline_after_bounds_the_patience_with_each_topic() -> None:
    assert state_of(device(telemetry=TENS), 44, Patience(15)) == (DeviceState.ONLINE, 45, None)
    assert state_of(device(telemetry=TENS), 45, Patience(15)) == (DeviceState.OFFLINE, math.inf, None)


def test_a_topic_that_others_use_is_lacking_only_if_somebody_said_how_long_that_may_take() -> None:
    used = frozenset(("telemetry", "heartbeat"))
    long_known = device(heartbeat=(*TENS, 40, 50, 60, 70, 80))
    assert state_of(long_known, 79, Patience(80, used)) == (DeviceState.ONLINE, 80, None)
    assert state_of(long_known, 80, Patience(80, used)) == (DeviceState.MUTE, 100, "telemetry")
    assert state_of(long_known, 80, Patience(80)).state is DeviceState.ONLINE
    assert state_of(long_known, 80, Patience(None, used)) == (DeviceState.ONLINE, 100, None)


def test_who_is_late_is_so_by_the_topic_that_turned_last() -> None:
    telemetry_first = device(telemetry=TENS, heartbeat=(*TENS, 35))
    assert state_of(telemetry_first, 52, Patience()) == (DeviceState.LATE, 55, "telemetry")
    assert state_of(telemetry_first, 56, Patience()) == (DeviceState.LATE, 70, "heartbeat")


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


def test_silence_of_a_topic_whose_interval_is_unknown_changes_no_state() -> None:
    story = Story()
    story.hear(TELEMETRY, START, START + 10, START + 20)
    assert story.look(START + 1_000_000) is DeviceState.ONLINE


def test_unless_somebody_said_how_long_silence_may_last() -> None:
    story = Story(Presence(offline_after_seconds=60))
    story.hear(TELEMETRY, START)
    assert story.look(START + 59) is DeviceState.ONLINE
    assert story.look(START + 60) is DeviceState.OFFLINE


def test_slow_devices_beside_a_fast_one_are_judged_by_themselves() -> None:
    story = Story()
    slow = [
        (START + 30 * turn + n, f"devices/slow-{n}/{kind}".encode())
        for turn in range(4)
        for n in range(5)
        for kind in ("telemetry", "heartbeat")
    ]
    story.play([*slow, *regular(TELEMETRY, 1.0, [0.0] * 120), *regular(HEARTBEAT, 1.0, [0.0] * 120)])
    assert set(story.states) == {DeviceState.ONLINE}


def test_how_often_others_beat_says_nothing_about_one_that_was_never_heard_to() -> None:
    story = beating(b"devices/b/telemetry", b"devices/b/heartbeat")
    story.hear(HEARTBEAT, *(START + 5 * turn for turn in range(80)))
    assert story.look(START + 400) is DeviceState.ONLINE
    assert story.report(START + 400).remarks == ("telemetry not heard yet",)


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


def test_a_device_that_died_before_all_was_known_of_it_is_offline_by_what_is_known() -> None:
    story = Story()
    # two heartbeats only
    story.play(regular(TELEMETRY, 2.0, [0.0] * 6) + regular(HEARTBEAT, 5.0, [0.0] * 2))
    story.changes.clear()
    story.look(START + 1_000)
    assert [(change.at - START, change.state) for change in story.changes] == [
        (10 + 4, DeviceState.LATE),
        (10 + 8, DeviceState.OFFLINE),
    ]


def test_a_heartbeat_of_unknown_interval_proves_that_a_device_lives_and_is_mute() -> None:
    story = beating(TELEMETRY)
    story.hear(HEARTBEAT, START + 1, START + 401, START + 801)
    story.look(START + 1_000)
    assert [(change.at - START, change.state) for change in story.changes] == [
        (20, DeviceState.LATE),
        (41, DeviceState.OFFLINE),
        (401, DeviceState.LATE),
        (441, DeviceState.MUTE),
    ]


def test_no_device_is_offline_that_was_heard_less_long_ago_than_its_known_topic_may_be_silent() -> None:
    story = beating(HEARTBEAT, interval=5.0)
    story.hear(TELEMETRY, START - 10, START + 19)
    story.look(START + 1_000)
    assert [(change.at - START, change.state, change.silent_seconds) for change in story.changes[-2:]] == [
        (10, DeviceState.LATE, 10),
        (39, DeviceState.OFFLINE, 20),
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


@pytest.mark.parametrize("fast", [TELEMETRY, HEARTBEAT])
@pytest.mark.parametrize("gap", [8.5, 12.0, 25.0])
def test_a_fast_topic_that_was_silent_between_two_beats_of_the_slow_one_is_late_until_it_is_regular(
    fast: bytes, gap: float
) -> None:
    slow = HEARTBEAT if fast is TELEMETRY else TELEMETRY
    story = Story()
    stopped = START + 121
    again = regular(fast, 2.0, [0.0] * 35, begin=stopped + gap)
    story.play(regular(slow, 30.0, [0.0] * 7) + regular(fast, 2.0, [0.0] * 61, begin=START + 1) + again)
    assert story.states == [DeviceState.ONLINE, DeviceState.LATE, DeviceState.ONLINE]


def test_while_the_slow_heartbeat_is_waited_for_a_dead_device_is_late_not_mute() -> None:
    story = Story()
    story.play(regular(TELEMETRY, 2.0, [0.0] * 61) + regular(HEARTBEAT, 30.0, [0.0] * 5))
    assert story.look(START + 120 + 50) is DeviceState.LATE


def test_a_dead_sensor_that_was_never_heard_is_found_if_somebody_said_how_long_that_may_take() -> None:
    presence = Presence(offline_after_seconds=40)
    story = beating(b"devices/b/telemetry", b"devices/b/heartbeat", presence=presence)
    story.hear(HEARTBEAT, *(START + 5 * turn for turn in range(8)))
    assert story.look(START + 39) is DeviceState.ONLINE
    assert story.look(START + 40) is DeviceState.MUTE
    story.hear(TELEMETRY, START + 42)
    assert story.look(START + 43) is DeviceState.ONLINE


def test_it_is_found_too_when_the_others_are_heard_later() -> None:
    story = Story(Presence(offline_after_seconds=40))
    story.hear(HEARTBEAT, *(START + 5 * turn for turn in range(40)))
    assert story.states == [DeviceState.ONLINE]
    story.hear(b"devices/b/telemetry", START + 196)
    assert story.look(START + 197) is DeviceState.MUTE
    assert story.changes[-1].at == START + 196


# What a change is about


def test_a_change_tells_the_age_of_the_topic_that_it_is_about() -> None:
    story = beating(TELEMETRY, HEARTBEAT)
    story.hear(HEARTBEAT, *(START + 10 * turn for turn in range(1, 9)))
    story.look(START + 1_000)
    assert [(change.state, change.topic, change.silent_seconds) for change in story.changes] == [
        (DeviceState.LATE, "telemetry", 20),
        (DeviceState.MUTE, "telemetry", 40),
        (DeviceState.LATE, "heartbeat", 20),
        (DeviceState.OFFLINE, None, 40),
    ]


def test_who_has_no_heartbeat_is_silent_for_as_long_as_that() -> None:
    story = beating(TELEMETRY, HEARTBEAT)
    story.hear(TELEMETRY, START + 9, START + 18, START + 27, START + 36, START + 45)
    assert story.changes[-1][2:6] == (DeviceState.LATE, DeviceState.NO_HEARTBEAT, 45, "heartbeat")


def test_who_was_never_heard_is_silent_since_the_device_was_first() -> None:
    story = Story(Presence(offline_after_seconds=60))
    story.hear(b"devices/b/heartbeat", START)
    story.hear(TELEMETRY, *(START + 10 * turn for turn in range(8)))
    assert story.changes[-1][3:6] == (DeviceState.NO_HEARTBEAT, 60, "heartbeat")


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
