"""The story of one device, told to a ``Presence`` on a simulated clock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.presence import Change, Presence

TELEMETRY, HEARTBEAT = b"devices/a/telemetry", b"devices/a/heartbeat"
START = 1_000.0


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
