"""The closing account of a stream: what came, and when nothing could come."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from plantops_cli.messages import Message
from plantops_cli.stream.status import Health, Outage


class Summary:
    """Counts messages, and says so at the end."""

    def __init__(self) -> None:
        self.received = 0
        self.shown = 0
        self._kinds: Counter[str] = Counter()
        self._marks: Counter[str] = Counter()

    def count(self, messages: Iterable[Message]) -> None:
        """Take note of messages that arrived."""
        for message in messages:
            self.received += 1
            self._kinds[message.kind or "other"] += 1
            self._marks["invalid"] += message.decode().error is not None
            self._marks["retained"] += message.retain
            self._marks["duplicates"] += message.dup

    def lines(self, health: Health, *, elapsed_seconds: float) -> list[str]:
        """Say what was counted, and the outages in which messages may have been missed.

        Args:
            health: the subscriber's own account.
            elapsed_seconds: how long it listened.
        """
        kinds = ", ".join(f"{self._kinds[kind]:,} {kind}" for kind in ("telemetry", "heartbeat", "other"))
        marks = ", ".join(f"{self._marks[mark]:,} {mark}" for mark in ("invalid", "retained", "duplicates"))
        shown = f", {self.shown:,} shown" if self.shown != self.received else ""
        lines = [f"{_counted(self.received, 'message')} in {elapsed_seconds:.1f} s ({kinds}; {marks}){shown}"]
        if health.invalid:
            lines.append(f"{_counted(health.invalid, 'packet')} without a valid topic passed over")
        if health.outage_count:
            windows = ", ".join(map(_window, health.outages))
            lines.append(f"{_counted(health.outage_count, 'outage')}, messages may be missing: {windows}")
        return lines


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _window(outage: Outage) -> str:
    began = _clock(outage.began_at)
    if outage.ended_at is None:
        return f"{began} until the end"
    return f"{began} to {_clock(outage.ended_at)} ({(outage.ended_at - outage.began_at).total_seconds():.1f} s)"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"
