"""Who is alive, told on a simulated clock."""

import math
import random
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.presence import Change, Presence
from plantops_cli.messages import Message
from tests.support.samples import message

TELEMETRY, HEARTBEAT = b"devices/a/telemetry", b"devices/a/heartbeat"
START = 1_000.0

jitters = st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=40)
intervals = st.floats(0.3, 3_600)


@dataclass
class Story:
    """One device, ``a`` unless told otherwise, and everything that was said about it."""

    presence: Presence = field(default_factory=Presence)
    changes: list[Change] = field(default_factory=list)

    def look(self, at: float) -> DeviceState:
        self.changes += self.presence.changes(at)
        return self.report(at).state

    def report(self, at: float, device_id: str = "a") -> DeviceReport:
        return next(report for report in self.presence.reports(at) if report.device_id == device_id)

    def hear(self, topic: bytes, *moments: float, payload: bytes = b"{}") -> None:
        for at in moments:
            self.changes += self.presence.changes(at)
            self.presence.heard(topic, payload, at)
            self.changes += self.presence.changes(at)

    def play(self, beats: Iterable[tuple[float, bytes]]) -> None:
        """Hear beats in their order, and look ten times between each two of them."""
        ordered = sorted(beats)
        for (at, topic), (following, _) in pairwise([*ordered, ordered[-1]]):
            self.hear(topic, at)
            for step in range(10):
                self.look(at + (following - at) * step / 10)

    @property
    def states(self) -> list[DeviceState]:
        return [change.state for change in self.changes]


def regular(
    topic: bytes, interval: float, jitter: Sequence[float], *, begin: float = START
) -> list[tuple[float, bytes]]:
    """Beats at a fixed pace, each of which misses its time by so much of the interval."""
    return [(begin + interval * (turn + part), topic) for turn, part in enumerate(jitter)]


def beating(*topics: bytes, interval: float = 10.0, count: int = 8, presence: Presence | None = None) -> Story:
    """A device that has beaten regularly, the last time at ``START``; telemetry first."""
    story = Story(presence or Presence())
    for turn in range(count):
        for topic in topics or (TELEMETRY,):
            story.hear(topic, START - interval * (count - 1 - turn))
    story.changes.clear()
    return story


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


# Our own outages


@given(
    seed=st.integers(0, 1 << 30),
    outages=st.lists(st.tuples(st.floats(1, 300), st.floats(0.1, 100_000)), min_size=1, max_size=4),
)
def test_an_outage_of_ours_changes_no_verdict(seed: int, outages: list[tuple[float, float]]) -> None:
    chance = random.Random(seed)
    presence = Presence()
    pace = {
        f"devices/{n}/{kind}".encode(): chance.uniform(1, 50)
        for n in range(8)
        for kind in ("telemetry", "heartbeat")
    }
    silent = {topic for topic in pace if chance.random() < 0.3}
    turn = {topic: START + chance.uniform(0, interval) for topic, interval in pace.items()}

    def pass_time(begin: float, end: float, *, is_heard: bool) -> None:
        beats = []
        for topic, interval in pace.items():
            while turn[topic] < end:
                if turn[topic] >= begin:
                    beats.append((turn[topic], topic))
                turn[topic] += interval
        for at, topic in sorted(beats):
            if is_heard:
                presence.heard(topic, b"{}", at)

    pass_time(START, START + 400, is_heard=True)
    now = START + 400
    for topic in silent:
        turn[topic] = math.inf
    for listened, missed in outages:
        pass_time(now, now + listened, is_heard=True)
        now += listened
        presence.lost(now)
        presence.changes(now)
        before = {report.device_id: report.state for report in presence.reports(now)}
        assert presence.changes(now + missed / 2) == []
        pass_time(now, now + missed, is_heard=False)
        now += missed
        presence.resumed(now)
        assert presence.changes(now) == []
        assert {report.device_id: report.state for report in presence.reports(now)} == before
    healthy = {topic.split(b"/")[1].decode() for topic in pace} - {
        topic.split(b"/")[1].decode() for topic in silent
    }
    pass_time(now, now + 300, is_heard=True)
    assert not [change for change in presence.changes(now + 300) if change.device_id in healthy]


def test_a_device_that_stopped_during_an_outage_is_found_after_it() -> None:
    story = beating()
    story.presence.lost(START + 5)
    story.presence.resumed(START + 5_000)
    story.look(START + 10_000)
    assert [(change.at - START, change.state) for change in story.changes] == [
        (5_020, DeviceState.LATE),
        (5_040, DeviceState.OFFLINE),
    ]


def test_silence_before_an_outage_still_counts() -> None:
    story = beating()
    story.presence.lost(START + 25)
    story.presence.resumed(START + 1_025)
    story.look(START + 2_000)
    assert [(change.at - START, change.state) for change in story.changes] == [
        (20, DeviceState.LATE),
        (1_040, DeviceState.OFFLINE),
    ]


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


# Whatever happens

steps = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from([TELEMETRY, HEARTBEAT, b"devices/b/heartbeat", b"elsewhere"])),
    st.tuples(st.just("retained"), st.sampled_from([TELEMETRY, b"devices/c/heartbeat"])),
    st.tuples(st.sampled_from(["lost", "resumed", "look"]), st.just(b"")),
)
payloads = st.sampled_from(
    [b"{}", b"", b"x", b'{"n":1,"at":1e300}', b'{"n":-5,"at":"2026-11-23"}', b'{"n":1.5,"at":true}']
)


@example(
    # b's interval becomes known after a went offline
    story=[
        (0.0, ("hear", b"devices/b/heartbeat"), b"{}"),
        (1.0, ("hear", TELEMETRY), b"{}"),
        (0.0, ("hear", b"devices/b/heartbeat"), b"{}"),
        (1.0, ("hear", b"devices/b/heartbeat"), b"{}"),
        (1.0, ("lost", b""), b"{}"),
        (0.0, ("hear", b"devices/b/heartbeat"), b"{}"),
    ],
    offline_after=1.0,
)
@given(
    story=st.lists(st.tuples(st.floats(0, 50), steps, payloads), max_size=60),
    offline_after=st.one_of(st.none(), st.floats(0.5, 100)),
)
def test_the_changes_tell_the_whole_story_in_its_order(
    story: list[tuple[float, tuple[str, bytes], bytes]], offline_after: float | None
) -> None:
    presence = Presence(roster=["a"], offline_after_seconds=offline_after, seq="n", clock="at", field="n")
    changes, at = list[Change](), START
    for pause, (what, topic), payload in story:
        at += pause
        if what == "lost":
            presence.lost(at)
        elif what == "resumed":
            presence.resumed(at)
        elif what == "look":
            changes += presence.changes(at)
        else:
            presence.heard(topic, payload, at, is_live=what == "hear")
    changes += presence.changes(at)
    told = {"a": DeviceState.NEVER_SEEN}
    for change in changes:
        assert change.before == told.get(change.device_id)
        assert change.state is not change.before
        assert START <= change.at <= at
        assert change.silent_seconds >= 0
        told[change.device_id] = change.state
    reports = presence.reports(at)
    assert told == {report.device_id: report.state for report in reports}
    assert sum(presence.count(at).values()) == len(reports)
    assert all(report.rate >= 0 for report in reports)


# What proves nothing


@pytest.mark.parametrize("old", [message(retain=True), message(dup=True)])
def test_a_message_of_another_time_proves_nothing_about_now(old: Message) -> None:
    old = replace(old, topic="devices/a/telemetry")
    story = Story()
    story.presence.hear(old, START)
    assert story.look(START) is DeviceState.NEVER_SEEN
    report = story.report(START)
    assert report.is_retained_only
    assert report.last_telemetry is None
    assert report.messages == 0
    story = beating()
    story.presence.hear(old, START + 30)
    assert story.look(START + 30) is DeviceState.LATE


def test_a_device_on_the_roster_is_never_seen_until_it_is_heard() -> None:
    story = Story(Presence(roster=["a", "b"]))
    assert story.look(START + 100_000) is DeviceState.NEVER_SEEN
    story.hear(HEARTBEAT, START + 100_001)
    assert story.changes == [(START + 100_001, "a", DeviceState.NEVER_SEEN, DeviceState.ONLINE, 0.0)]
    assert story.presence.count(START + 100_001)[DeviceState.NEVER_SEEN] == 1


def test_who_is_expected_is_known_only_with_a_roster() -> None:
    with_roster, without = Presence(roster=["a"]), Presence()
    for presence in (with_roster, without):
        presence.heard(TELEMETRY, b"{}", START)
        presence.heard(b"devices/b/telemetry", b"{}", START)
    assert [report.is_expected for report in with_roster.reports(START)] == [True, False]
    assert [report.is_expected for report in without.reports(START)] == [None, None]
    assert (with_roster.unknown_count, without.unknown_count) == (1, 0)


@pytest.mark.parametrize(
    "topic",
    [b"devices/a/other", b"devices/a", b"devices//telemetry", b"x/a/telemetry", b"devices/a/b/telemetry", b""],
)
def test_other_topics_are_passed_over(topic: bytes) -> None:
    presence = Presence()
    presence.heard(topic, b"{}", START)
    assert (presence.message_count, presence.passed_over, presence.reports(START)) == (1, 1, [])


def test_no_more_devices_are_kept_than_allowed() -> None:
    presence = Presence(max_devices=2)
    for name in ("a", "b", "c", "a"):
        presence.heard(f"devices/{name}/telemetry".encode(), b"{}", START)
    assert [report.device_id for report in presence.reports(START)] == ["a", "b"]
    assert presence.passed_over == 1


def test_changes_that_nobody_asks_for_do_not_pile_up() -> None:
    presence = Presence(max_changes=3)
    for n in range(10):
        presence.heard(f"devices/{n}/telemetry".encode(), b"{}", START + n)
    assert [change.device_id for change in presence.changes(START + 10)] == ["7", "8", "9"]
    assert presence.changes(START + 10) == []


def test_an_id_need_not_be_ascii() -> None:
    presence = Presence(roster=["fügen-1"])
    presence.heard("devices/fügen-1/telemetry".encode(), b"{}", START)
    assert [(report.device_id, report.messages) for report in presence.reports(START)] == [("fügen-1", 1)]


# What else is counted


def test_invalid_telemetry_is_counted_and_the_first_error_kept() -> None:
    story = Story()
    story.hear(TELEMETRY, START, payload=b"nonsense")
    story.hear(TELEMETRY, START + 1, payload=b"")
    story.hear(HEARTBEAT, START + 2, payload=b"I am alive")
    report = story.report(START + 2)
    assert report.invalid == story.presence.invalid_count == 2
    assert report.error is not None
    assert report.error.startswith("not JSON: ")


def test_a_contract_decides_what_is_invalid() -> None:
    story = Story(Presence(contract=lambda payload: None if payload == b"{}" else "no"))
    story.hear(TELEMETRY, START, payload=b"{}")
    story.hear(TELEMETRY, START, payload=b"[1]")
    assert (story.report(START).invalid, story.report(START).error) == (1, "no")


def test_messages_and_bytes_are_counted() -> None:
    story = Story()
    story.hear(TELEMETRY, START, payload=b"12345")
    story.hear(HEARTBEAT, START, payload=b"1")
    assert (story.report(START).messages, story.report(START).size_bytes) == (2, 6)


@pytest.mark.parametrize("seconds", [20, 100, 1_000])
def test_the_rate_is_that_of_the_last_minute(seconds: int) -> None:
    story = Story()
    story.hear(TELEMETRY, *(START + n / 2 for n in range(2 * seconds)))
    assert story.report(START + seconds).rate == pytest.approx(2.0, rel=0.05)
    assert story.report(START + seconds + 200).rate < 0.25


def test_the_latest_numbers_of_a_field_are_kept() -> None:
    story = Story(Presence(field="soil.moisture"))
    for n in range(100):
        story.hear(TELEMETRY, START + n, payload=b'{"soil":{"moisture":%d}}' % n)
    story.hear(TELEMETRY, START + 100, payload=b'{"soil":{"moisture":"wet"}}')
    assert story.report(START + 100).values == tuple(range(68, 100))


def test_the_latest_payload_is_kept_on_request() -> None:
    for is_kept, expected in ((True, b'{"n":1}'), (False, None)):
        story = Story(Presence(is_payload_kept=is_kept))
        story.hear(TELEMETRY, START, payload=b'{"n":1}')
        story.hear(HEARTBEAT, START, payload=b"1")
        assert story.report(START).payload == expected


def test_sequence_numbers_are_followed_for_each_topic() -> None:
    story = Story(Presence(seq="seq"))
    for n in (1, 2, 5, 4, 4):
        story.hear(TELEMETRY, START + n, payload=b'{"seq":%d}' % n)
    story.hear(HEARTBEAT, START + 6, payload=b'{"seq":900}')
    report = story.report(START + 6)
    assert (report.missing, report.out_of_order, report.duplicates, report.restarts) == (1, 1, 1, 0)


def test_what_was_skipped_during_our_outage_is_not_the_device_s_fault() -> None:
    story = Story(Presence(seq="seq"))
    story.hear(TELEMETRY, START, payload=b'{"seq":1}')
    story.presence.lost(START + 1)
    story.presence.resumed(START + 60)
    story.hear(TELEMETRY, START + 61, payload=b'{"seq":11}')
    story.hear(TELEMETRY, START + 62, payload=b'{"seq":13}')
    assert (story.report(START + 62).missing, story.report(START + 62).missed) == (1, 9)


def test_timestamps_tell_lag_jitter_and_skew() -> None:
    story = Story(Presence(clock="at", clock_offset_seconds=1_700_000_000))
    for at, stamp in ((0.0, -2.0), (1.0, 0.5), (2.0, 1.0)):
        story.hear(TELEMETRY, START + at, payload=b'{"at":%f}' % (1_700_000_000 + START + stamp))
    report = story.report(START + 2)
    assert report.lag_seconds == pytest.approx(1.0, abs=1e-3)
    assert report.skew_seconds == pytest.approx(0.5, abs=1e-3)
    assert report.jitter_seconds is not None
    assert 0 < report.jitter_seconds < 1.5


def test_a_device_takes_no_more_than_a_kilobyte() -> None:
    payload = b'{"soil_moisture":41.5}'
    topics = [f"devices/plant-{n:06}/{kind}".encode() for n in range(5_000) for kind in ("telemetry", "heartbeat")]
    tracemalloc.start()
    try:
        presence = Presence()
        at = START
        for _ in range(10):
            at += 10
            for topic in topics:
                at += 1e-5
                presence.heard(topic, payload, at)
            presence.changes(at)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / 5_000 <= 1_048
