"""What it costs to keep account of a fleet, against the few lines that everybody writes first."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator

from benchmarks.measure import Comparison, Section, Sizes, amount, compare
from plantops_cli.fleet.presence import Presence

_FLEETS = (1_000, 100_000)
_MESSAGES = 400_000
_INTERVAL_SECONDS = 10.0
_ROUNDS_TO_FILL = 10  # after which every ring of intervals is full
_PAYLOAD = b'{"soil_moisture":41.5,"temperature":21.25,"light":1830,"battery":87.1,"seq":17,"ok":true}'
_METHOD = (
    "CPU seconds of {messages:,} messages of 90 bytes, telemetry and heartbeat of each device in turn, fed to "
    "a Presence; the peer parses telemetry with json.loads and puts the time into a dict by device id and kind. "
    "Memory by tracemalloc, for a fleet of 100,000 that has beaten {rounds} times."
)


def measure(sizes: Sizes) -> Section:
    """Measure a Presence against a dict."""
    comparisons = tuple(_comparison(devices, sizes.rounds) for devices in _FLEETS)
    per_message = [
        (comparison.measure, amount(comparison.ours / _MESSAGES * 1e6, "µs")) for comparison in comparisons
    ]
    size = ("memory, 100,000 devices", amount(_memory() / 2**20, "MiB"))
    return Section(
        "Presence",
        _METHOD.format(messages=_MESSAGES, rounds=_ROUNDS_TO_FILL),
        comparisons,
        ("what", "figure"),
        (*per_message, size),
    )


def _comparison(devices: int, runs: int) -> Comparison:
    topics = _topics(devices)
    presence, seen = Presence(), dict[tuple[str, str], float]()
    ours, peers = _moments(), _moments()

    def note(topic: bytes, payload: bytes, at: float) -> None:
        _, device_id, kind = topic.decode().split("/")
        if kind == "telemetry":
            json.loads(payload)
        seen[device_id, kind] = at

    for _ in range(_ROUNDS_TO_FILL):
        _feed(presence.heard, topics, next(ours))
    return compare(
        f"keeping account of {devices:,} devices",
        "json.loads and a dict",
        ours=lambda: _timed(presence.heard, topics, ours),
        peers=lambda: _timed(note, topics, peers),
        runs=runs,
    )


def _timed(take: Callable[[bytes, bytes, float], None], topics: list[bytes], moments: Iterator[float]) -> float:
    spent = 0.0
    for _ in range(_MESSAGES // len(topics)):
        began = time.process_time()
        _feed(take, topics, next(moments))
        spent += time.process_time() - began
    return spent * _MESSAGES / (_MESSAGES // len(topics) * len(topics))


def _feed(take: Callable[[bytes, bytes, float], None], topics: list[bytes], at: float) -> None:
    step = _INTERVAL_SECONDS / len(topics)
    for topic in topics:
        at += step
        take(topic, _PAYLOAD, at)


def _moments() -> Iterator[float]:
    at = 0.0
    while True:
        yield at
        at += _INTERVAL_SECONDS


def _topics(devices: int) -> list[bytes]:
    return [f"devices/plant-{n:06}/{kind}".encode() for n in range(devices) for kind in ("telemetry", "heartbeat")]


def _memory() -> int:
    topics, moments = _topics(_FLEETS[-1]), _moments()
    tracemalloc.start()
    try:
        presence = Presence()
        for _ in range(_ROUNDS_TO_FILL):
            _feed(presence.heard, topics, at := next(moments))
            presence.changes(at + _INTERVAL_SECONDS)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
