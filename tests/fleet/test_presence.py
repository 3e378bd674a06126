"""The account of a fleet: who is kept, what proves nothing, and what an outage of ours is worth."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.presence import Change, Presence
from plantops_cli.fleet.rhythm import Rhythm
from plantops_cli.messages import Message
from tests.support.device_story import HEARTBEAT, START, TELEMETRY, Story, beating
from tests.support.samples import message

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
            if not is_heard and turn[topic] < end:
                turn[topic] += math.ceil((end - turn[topic]) / interval) * interval
            while turn[topic] < end:
                if turn[topic] >= begin:
                    beats.append((turn[topic], topic))
                turn[topic] += interval
        for at, topic in sorted(beats):
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
    assert all(report.rate is None or report.rate >= 0 for report in reports)


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
    [change] = story.changes
    assert change[:5] == (START + 100_001, "a", DeviceState.NEVER_SEEN, DeviceState.ONLINE, 0.0)
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


# What keeps a state from telling everything


def test_a_change_says_what_is_not_known_of_the_device() -> None:
    story = Story()
    story.hear(TELEMETRY, START)
    story.presence.hear(message(retain=True, topic="devices/b/heartbeat"), START)
    told = {change.device_id: change.remarks for change in story.presence.changes(START) + story.changes}
    assert told == {
        "a": ("telemetry rhythm not known yet", "heartbeat not heard yet"),
        "b": ("retained only",),
    }


def test_a_topic_that_falls_quiet_before_its_rhythm_is_known_is_remarked_once_and_changes_nothing() -> None:
    story = Story()
    story.hear(TELEMETRY, START, START + 10)
    assert story.presence.remarks(START + 49) == []
    [remark] = story.presence.remarks(START + 1_000)
    assert remark[:6] == (START + 50, "a", DeviceState.ONLINE, DeviceState.ONLINE, 40, "telemetry")
    assert "telemetry quiet before its rhythm was known" in remark.remarks
    assert story.presence.remarks(START + 2_000) == story.presence.changes(START + 2_000) == []
    assert story.report(START + 2_000).is_quiet


def test_the_topics_of_what_was_heard_are_counted_by_what_is_known_of_their_rhythm() -> None:
    story = beating(TELEMETRY)
    story.hear(b"devices/b/telemetry", START - 50, START - 45)
    story.presence.hear(message(retain=True, topic="devices/c/heartbeat"), START)
    counts = story.presence.count_rhythms(START)
    assert {key: number for key, number in counts.items() if number} == {
        ("telemetry", Rhythm.KNOWN): 1,
        ("telemetry", Rhythm.QUIET): 1,
        ("heartbeat", Rhythm.NOT_HEARD): 2,
    }
    assert story.presence.retained_only_count == 1


# What may still be on its way


def test_silence_counts_no_further_than_it_is_certain_that_nothing_is_on_its_way() -> None:
    presence = beating(TELEMETRY, HEARTBEAT).presence
    presence.certain_at = START + 15
    assert presence.changes(START + 100) == []
    # what was held back comes at once, one topic after the other
    presence.heard(TELEMETRY, b"{}", START + 100)
    assert presence.changes(START + 100) == []
    presence.heard(HEARTBEAT, b"{}", START + 100)
    presence.certain_at = START + 110
    assert presence.changes(START + 110) == []
    presence.certain_at = START + 120
    assert [(change.at, change.state) for change in presence.changes(START + 125)] == [
        (START + 120, DeviceState.LATE)
    ]


def test_messages_of_another_time_are_counted_by_themselves() -> None:
    presence = Presence()
    for is_live in (True, False, False):
        presence.heard(TELEMETRY, b"{}", START, is_live=is_live)
    assert (presence.message_count, presence.old_count) == (3, 2)


def test_an_id_need_not_be_ascii() -> None:
    presence = Presence(roster=["fügen-1"])
    presence.heard("devices/fügen-1/telemetry".encode(), b"{}", START)
    assert [(report.device_id, report.messages) for report in presence.reports(START)] == [("fügen-1", 1)]
