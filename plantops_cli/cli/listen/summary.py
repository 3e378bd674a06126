"""The closing account of a stream: what came, and when nothing could come."""

from collections import Counter
from datetime import datetime
from operator import itemgetter

from plantops_cli.cli.shared.wording import counted
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.packets import FLAGS
from plantops_cli.stream.status import Health, Outage
from plantops_cli.topics import device_topic

_FLAGS, _TOPIC = itemgetter(0), itemgetter(1)
_TOPICS_KEPT = 10_000
_WORTH_COUNTING = 100
_WORTH_SAYING_SECONDS = 1.0


class Summary:
    """Counts messages, and says so at the end.

    Attributes:
        received: how many arrived.
        shown: how many were written.
        invalid: how many of those that were to be written had a payload that is no JSON.
    """

    def __init__(self) -> None:
        self.received = 0
        self.shown = 0
        self.invalid = 0
        # by topic and by first byte until they are summed up, for Counter counts those without a loop in Python;
        # and as they came until there are enough of them for Counter to be worth its call
        self._topics: Counter[bytes] = Counter()
        self._flags: Counter[int] = Counter()
        self._topics_seen: list[bytes] = []
        self._flags_seen: list[int] = []
        self._kinds: Counter[str] = Counter()
        self._marks: Counter[str] = Counter()

    def count(self, batch: Batch) -> None:
        """Take note of messages that arrived."""
        for read in batch.reads:
            self.received += len(read.packets)
            self._flags_seen.extend(map(_FLAGS, read.packets))
            self._topics_seen.extend(map(_TOPIC, read.packets))
        if len(self._flags_seen) > _WORTH_COUNTING:
            self._count_seen()
            if len(self._topics) > _TOPICS_KEPT:
                self._sum_up()

    def _count_seen(self) -> None:
        self._topics.update(self._topics_seen)
        self._flags.update(self._flags_seen)
        self._topics_seen.clear()
        self._flags_seen.clear()

    def _sum_up(self) -> None:
        for topic, number in self._topics.items():
            device = device_topic(topic.decode())
            self._kinds[device.kind if device else "other"] += number
        self._topics.clear()
        for first, number in self._flags.items():
            flags = FLAGS[first]
            self._marks["retained"] += number * flags.is_retained
            self._marks["duplicates"] += number * flags.is_dup
        self._flags.clear()

    def lines(self, health: Health, *, elapsed_seconds: float) -> list[str]:
        """Say what was counted, and the outages in which messages may have been missed.

        Args:
            health: the subscriber's own account.
            elapsed_seconds: how long it listened.
        """
        self._count_seen()
        self._sum_up()
        marked = self._marks | {"invalid": self.invalid}
        kinds = ", ".join(f"{self._kinds[kind]:,} {kind}" for kind in ("telemetry", "heartbeat", "other"))
        marks = ", ".join(f"{marked.get(mark, 0):,} {mark}" for mark in ("invalid", "retained", "duplicates"))
        shown = f", {self.shown:,} shown" if self.shown != self.received else ""
        lines = [f"{counted(self.received, 'message')} in {elapsed_seconds:.1f} s ({kinds}; {marks}){shown}"]
        if health.invalid:
            lines.append(f"{counted(health.invalid, 'packet')} without a valid topic passed over")
        if health.lost_sessions:
            lines.append(
                f"{counted(health.lost_sessions, 'session')} forgotten by the broker, messages are missing"
            )
        if health.outage_count:
            is_bridged = all(outage.is_bridged for outage in health.outages)
            fate = "for which the broker kept the session" if is_bridged else "messages may be missing"
            windows = ", ".join(map(_window, health.outages))
            lines.append(f"{counted(health.outage_count, 'outage')}, {fate}: {windows}")
        if health.paused_seconds >= _WORTH_SAYING_SECONDS:
            lines.append(f"reader slow: paused {health.paused_seconds:.0f} s in all")
        return lines


def _window(outage: Outage) -> str:
    began = _clock(outage.began_at)
    if outage.ended_at is None:
        return f"{began} until the end"
    return f"{began} to {_clock(outage.ended_at)} ({(outage.ended_at - outage.began_at).total_seconds():.1f} s)"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"
