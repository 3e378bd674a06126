"""A fleet in which nothing is wrong, over simulated days: no alarm, whatever the intervals and the network do."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plantops_cli.fleet.device import DeviceState
from tests.support.healthy_fleet import LONGEST_SECONDS, SHORTEST_SECONDS, Listening, Topic, alarms

START = 1_000.0
BEATS = 600  # of the fastest topic
Stretches = list[tuple[float, float]]

seeds = st.integers(0, 1 << 32)
# 0.2 s to 6 h, each order of magnitude as often as any other
intervals = st.floats(math.log(SHORTEST_SECONDS), math.log(LONGEST_SECONDS)).map(math.exp)
paces = st.lists(st.tuples(intervals, st.none() | intervals), min_size=1, max_size=8)


def topics_of(paces: list[tuple[float, float | None]], chance: random.Random) -> list[Topic]:
    """Devices with telemetry and perhaps a heartbeat, each with a way of its own to miss its time."""
    return [
        Topic(f"devices/{n}/{kind}".encode(), pace, chance, chance.random() < 0.5, chance.random() < 0.5)
        for n, both in enumerate(paces)
        for kind, pace in zip(("telemetry", "heartbeat"), both, strict=True)
        if pace
    ]


def stretches(chance: random.Random, end: float, number: int, longest: float) -> Stretches:
    """So many stretches of time that do not touch, each as long as that at most."""
    moments = sorted(chance.uniform(START, end) for _ in range(number))
    following = [*moments[1:], end]
    return [
        (at, min(at + chance.uniform(0.01, longest), at + 0.9 * (other - at)))
        for at, other in zip(moments, following, strict=True)
    ]


@settings(max_examples=25)
@given(paces=paces, seed=seeds, look=st.floats(0.3, 30))
def test_a_healthy_fleet_of_any_mix_of_intervals_gives_no_alarm(
    paces: list[tuple[float, float | None]], seed: int, look: float
) -> None:
    chance = random.Random(seed)
    fastest = min(pace for both in paces for pace in both if pace)
    listening = Listening(topics_of(paces, chance), chance, look_seconds=max(look, fastest / 3))
    assert alarms(listening.changes(START, START + BEATS * fastest)) == []


@settings(max_examples=25)
@given(paces=paces, seed=seeds, number=st.integers(1, 30), share=st.floats(0.1, 500), is_retained=st.booleans())
def test_nor_does_it_with_outages_of_our_own(
    paces: list[tuple[float, float | None]], seed: int, number: int, share: float, is_retained: bool
) -> None:
    chance = random.Random(seed)
    fastest = min(pace for both in paces for pace in both if pace)
    end = START + BEATS * fastest
    outages = stretches(chance, end, number, share * fastest)
    listening = Listening(topics_of(paces, chance), chance, outages, is_retained=is_retained, look_seconds=fastest)
    assert alarms(listening.changes(START, end)) == []


@settings(max_examples=25)
@given(paces=paces, seed=seeds, number=st.integers(1, 30), longest=st.floats(0.1, 60))
def test_nor_when_the_network_holds_everything_back_and_brings_it_at_once(
    paces: list[tuple[float, float | None]], seed: int, number: int, longest: float
) -> None:
    chance = random.Random(seed)
    fastest = min(pace for both in paces for pace in both if pace)
    end = START + BEATS * fastest
    listening = Listening(
        topics_of(paces, chance),
        chance,
        pauses=stretches(chance, end, number, longest),
        is_settled=True,
        look_seconds=max(0.25, fastest / 3),
    )
    assert alarms(listening.changes(START, end)) == []


@settings(max_examples=25)
@given(paces=paces, seed=seeds, extra=st.floats(0, 3))
def test_real_silence_is_told_at_two_and_four_intervals(
    paces: list[tuple[float, float | None]], seed: int, extra: float
) -> None:
    chance = random.Random(seed)
    slowest = max(1.0, *(pace for both in paces for pace in both if pace))
    # known from the fourth message on
    stopped = Topic(b"devices/stopped/telemetry", chance.uniform(max(1.0, slowest / 50), slowest), chance)
    stopped.ends_at = START + (5 + extra) * stopped.interval
    others = topics_of([(max(pace, slowest / 100), None) for pace, _ in paces], chance)
    listening = Listening([*others, stopped], chance, look_seconds=slowest / 50)
    changes = listening.changes(START, stopped.ends_at + 8 * stopped.interval)
    [late, offline] = alarms(changes)
    assert (late.device_id, late.state, offline.state) == ("stopped", DeviceState.LATE, DeviceState.OFFLINE)
    assert late.silent_seconds == pytest.approx(2 * stopped.interval, rel=0.41)
    assert offline.silent_seconds == pytest.approx(2 * late.silent_seconds)
