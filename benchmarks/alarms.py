"""How often a fleet in which nothing is wrong is called ill, and whether devices that stop are told.

Simulated days, and minutes on a real Mosquitto.
"""

import heapq
import itertools
import json
import math
import random
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.measure import Section, Sizes
from benchmarks.real_broker import RealBroker, connect
from tests.support.healthy_fleet import LONGEST_SECONDS, SHORTEST_SECONDS, Listening, Topic, alarms
from tests.support.scripted_broker import publish

_DEVICES = 200
_FLEETS = 5
_FAST = 2  # in each simulated fleet; most of its messages are theirs
_FAST_SECONDS = 10.0
_DAY_SECONDS = 86_400.0
_STOPPED_SHARE = 0.1
_STOPPED_SECONDS = 3_600.0  # longest interval of a device that stops
_LISTENED_SECONDS = 60.0  # longest interval on the real broker
_HEADER = ("what", "figure")
_SIMULATED = (
    "{fleets} fleets of {devices} devices, each watched for {days} days by a Presence that joins at any "
    "moment. Telemetry and heartbeat come every 0.2 s to 6 h, every order of magnitude as often as any other "
    "(but for two devices, every 10 s or more), each beat up to 20 % off, of half the topics by all of it. "
    "Our own connection is lost every other hour for up to ten minutes, with retained messages after each "
    "return; six times an hour the network holds everything back for up to 20 s. An alarm is a change to "
    "late, mute, no heartbeat or offline."
)
_REAL = (
    "{devices} devices publish through Mosquitto for {minutes} min, telemetry and heartbeat every 0.2 s to 60 s, "
    "each beat up to 20 % off, while `plantops fleet --events` watches; {stopped} of them stop after half of that."
)


def simulate(sizes: Sizes) -> Section:
    """Watch fleets on a simulated clock."""
    messages = told = false = stopped_count = 0
    for seed in range(_FLEETS):
        chance = random.Random(seed)
        end = sizes.days * _DAY_SECONDS
        topics, stopped = _fleet(chance, end)
        listening = Listening(
            topics,
            chance,
            outages=_stretches(chance, end, every=7_200, longest=600),
            pauses=_stretches(chance, end, every=600, longest=20),
            is_settled=True,
            is_retained=True,
            look_seconds=5.0,
        )
        changes = alarms(listening.changes(0.0, end))
        messages += listening.messages
        stopped_count += len(stopped)
        false += sum(change.at < stopped.get(change.device_id, math.inf) for change in changes)
        told += len({change.device_id for change in changes if change.state == "offline"} & set(stopped))
    figures = (
        ("devices", f"{_FLEETS * _DEVICES:,}"),
        ("simulated days, all fleets", f"{_FLEETS * sizes.days:,}"),
        ("messages heard", f"{messages:,}"),
        ("alarms of devices that were well", f"{false:,}"),
        ("devices that stopped", f"{stopped_count:,}"),
        ("of these, told as offline", f"{told:,}"),
    )
    method = _SIMULATED.format(fleets=_FLEETS, devices=_DEVICES, days=sizes.days)
    return Section(
        "Alarms, simulated", method, (), _HEADER, figures, failures=_failures(false, stopped_count - told)
    )


def listen(sizes: Sizes) -> Section:
    """Watch a fleet on a real Mosquitto."""
    chance = random.Random(0)
    seconds = 60.0 * sizes.minutes
    topics = _topics(chance, [_pace(chance, SHORTEST_SECONDS, _LISTENED_SECONDS) for _ in range(_DEVICES)])
    stopped = _stop(topics, seconds / 2, longest=seconds / 2 / 8)
    command = (sys.executable, "-m", "plantops_cli", "fleet", "--events", "-o", "jsonl", "-h", "127.0.0.1")
    with RealBroker() as broker:
        watching = (*command, "-p", str(broker.port), "-W", str(seconds))
        with broker.subscribed("plantops fleet", watching) as child:
            with _publishing(broker.port, topics) as count:
                lines = b"".join(iter(lambda: child.read(patience=seconds + 30), b""))
            child.end()
    changes = [json.loads(line) for line in lines.splitlines()]
    ill = [change for change in changes if change["state"] in ("late", "mute", "no_heartbeat", "offline")]
    false = [change for change in ill if change["device_id"] not in stopped]
    told = {change["device_id"] for change in ill if change["state"] == "offline"} & stopped
    figures = (
        ("devices", f"{_DEVICES:,}"),
        ("messages published", f"{next(count):,}"),
        ("devices that were seen", f"{len({change['device_id'] for change in changes}):,}"),
        ("changes to late, mute, no heartbeat or offline", f"{len(ill):,}"),
        ("... of devices that were well", f"{len(false):,}"),
        ("devices that stopped", f"{len(stopped):,}"),
        ("of these, told as offline", f"{len(told):,}"),
    )
    method = _REAL.format(devices=_DEVICES, minutes=sizes.minutes, stopped=len(stopped))
    failures = _failures(len(false), len(stopped) - len(told))
    return Section("Alarms, on a real broker", method, (), _HEADER, figures, failures=failures)


def _failures(false: int, untold: int) -> tuple[str, ...]:
    said = ((false, "alarms of devices that were well"), (untold, "devices that stopped and were not told"))
    return tuple(f"{number:,} {what}" for number, what in said if number)


def _fleet(chance: random.Random, end: float) -> tuple[list[Topic], dict[str, float]]:
    """Devices of all intervals, and when those of them stop that do."""
    paces = [
        _pace(chance, SHORTEST_SECONDS if n < _FAST else _FAST_SECONDS, LONGEST_SECONDS) for n in range(_DEVICES)
    ]
    topics = _topics(chance, paces)
    stop_at = end / 2
    return topics, dict.fromkeys(_stop(topics, stop_at, longest=_STOPPED_SECONDS), stop_at)


def _pace(chance: random.Random, shortest: float, longest: float) -> tuple[float, float]:
    low, high = math.log(shortest), math.log(longest)
    return math.exp(chance.uniform(low, high)), math.exp(chance.uniform(low, high))


def _topics(chance: random.Random, paces: Iterable[tuple[float, float]]) -> list[Topic]:
    return [
        Topic(f"devices/plant-{n:03}/{kind}".encode(), pace, chance, chance.random() < 0.5, chance.random() < 0.5)
        for n, both in enumerate(paces)
        for kind, pace in zip(("telemetry", "heartbeat"), both, strict=True)
    ]


def _stop(topics: Sequence[Topic], at: float, *, longest: float) -> set[str]:
    """Let some devices stop that are known by then, and say which."""
    devices = [topics[n : n + 2] for n in range(0, len(topics), 2)]
    known = [device for device in devices if all(topic.interval <= longest for topic in device)]
    stopped = known[: int(_STOPPED_SHARE * len(devices))]
    for topic in itertools.chain.from_iterable(stopped):
        topic.ends_at = at
    return {device[0].name.split(b"/")[1].decode() for device in stopped}


def _stretches(
    chance: random.Random, end: float, *, every: float, longest: float
) -> Iterator[tuple[float, float]]:
    at = chance.uniform(0, every)
    while at < end:
        yield at, at + chance.uniform(0.1, longest)
        at += longest + chance.uniform(0, 2 * every)


@contextmanager
def _publishing(port: int, topics: list[Topic]) -> Iterator[Iterator[int]]:
    """Publish until the context ends; gives, after that, how many messages."""
    link, ended, number = connect(port), threading.Event(), itertools.count()

    def beat() -> None:
        began = time.monotonic()
        beats = [(topic.beats(0.0), topic) for topic in topics]
        waiting = [(next(moments), n) for n, (moments, _) in enumerate(beats)]
        heapq.heapify(waiting)
        while not ended.wait(max(0.0, began + waiting[0][0] - time.monotonic())):
            moments, topic = beats[waiting[0][1]]
            link.send(publish(topic.name, b'{"soil":41.5}', qos=0, mid=0, version=4))
            next(number)
            heapq.heapreplace(waiting, (next(moments, math.inf), waiting[0][1]))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield number
    finally:
        ended.set()
        thread.join()
        link.close()
