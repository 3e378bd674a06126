"""The rhythm of one topic of one device: how often it speaks, and what its silence means. Pure."""

from array import array
from typing import NamedTuple

from plantops_cli.fleet.sequence import DeviceClock, SequenceNumbers

LATE_INTERVALS = 2
OFFLINE_INTERVALS = 4

SHORTEST_INTERVAL_SECONDS = 1.0
"""A topic that speaks more often is judged as if it spoke once in so long."""

UNKNOWN_OFFLINE_SECONDS = 4 * 3600.0
"""How long a topic may be silent whose interval is not known yet, unless somebody said otherwise."""

# Three intervals make an estimate: the one that two thirds of the last seven do not exceed. With beats that miss
# their time by up to a fifth of the interval, at most every second gap is shorter than 0.8 of it, and none longer
# than 1.4: a regular device is never late.
_INTERVALS_NEEDED = 3
_INTERVALS_KEPT = 7
# Messages closer than that are one beat, so that a burst, of several readings or of what a gateway had held back,
# is no rhythm; a device that does speed up is followed, by a factor of ten for each few beats.
_BEAT_SECONDS = 0.5
_BEAT_SHARE = 0.1

FINE, OVERDUE, SILENT = 0, 1, 2


class Grade(NamedTuple):
    """What the silence of a topic means at one moment.

    Attributes:
        now: ``FINE``, ``OVERDUE`` or ``SILENT``.
        worst: the same, or what it was before, until the topic is regular again.
        heard_at: when it was heard last.
        overdue_at: when it is overdue, if nothing is heard.
        silent_at: when it is silent, if nothing is heard.
    """

    now: int
    worst: int
    heard_at: float
    overdue_at: float
    silent_at: float


class Signal:
    """One topic of one device, as it is heard live.

    Attributes:
        interval: how often it speaks, in seconds, no finer than half a second; 0.0: not known yet.
        last_at: when it was heard last.
        heard_at: the same, moved by our outages since.
        held: the worst that its silence has been, until it is regular again.
        sequence: the account of its sequence numbers, if they are looked for.
        clock: the account of its timestamps, once there was one.
    """

    # thousands of them are kept: every slot counts
    __slots__ = (
        "_beat_at",
        "_intervals",
        "clock",
        "heard_at",
        "held",
        "interval",
        "last_at",
        "sequence",
        "since",
    )

    def __init__(self) -> None:
        self.interval = 0.0
        self.heard_at = 0.0
        self.last_at = 0.0
        # silence counts from here: when it was heard, or began to be waited for anew
        self.since = 0.0
        self.held = FINE
        self.sequence: SequenceNumbers | None = None
        self.clock: DeviceClock | None = None
        self._beat_at = -1.0
        self._intervals: array[float] | None = None

    def hear(self, now: float, at: float) -> bool:
        """Take note of a message, and tell whether that changes what its interval is taken for.

        Args:
            now: the time, as far as we listen.
            at: the time.
        """
        since, beat_at, interval = self.since, self._beat_at, self.interval
        self.since = self.heard_at = now
        self.last_at = at
        if beat_at < 0.0:
            self._beat_at = now
            return False
        gap = now - beat_at
        if gap < _BEAT_SECONDS or gap < interval * _BEAT_SHARE:
            return False
        self._beat_at = now
        if interval:
            silence = now - since
            patience = max(SHORTEST_INTERVAL_SECONDS, interval)
            if silence < LATE_INTERVALS * patience:
                self.held = FINE
            elif self.held < SILENT:
                self.held = SILENT if silence >= OFFLINE_INTERVALS * patience else OVERDUE
        intervals = self._intervals
        if intervals is None:
            self._intervals = array("f", (gap,))
            return False
        intervals.append(gap)
        kept = len(intervals)
        if kept > _INTERVALS_KEPT:
            kept -= 1
            gone = intervals.pop(0)
            if (gone > interval and gap > interval) or (gone < interval and gap < interval):
                # one above or below has taken the place of another: what is between stays
                return False
        if kept < _INTERVALS_NEEDED:
            return False
        self.interval = sorted(intervals)[2 * kept // 3]
        return self.interval != interval

    def wait_anew(self, now: float) -> None:
        """Let its silence count from now on; what comes next says nothing about its interval.

        Args:
            now: the time, as far as we listen.
        """
        self.since = now
        self._beat_at = -1.0

    def miss(self, lost_at: float, now: float) -> None:
        """Take note that we have not listened for a while, and take that time out of its silence.

        Args:
            lost_at: when that began.
            now: when it ended.
        """
        self._beat_at = -1.0
        if self.sequence:
            self.sequence.outage()
        self.heard_at += now - lost_at
        # how far its interval has gone meanwhile cannot be known, so that it may begin once more
        self.since = self.since + now - lost_at if lost_at >= self.overdue_at(None) else now

    def overdue_at(self, offline_after_seconds: float | None) -> float:
        """When it is overdue, if nothing is heard; never while its interval is not known."""
        if not self.interval:
            return self.silent_at(offline_after_seconds)
        patience = LATE_INTERVALS * max(self.interval, SHORTEST_INTERVAL_SECONDS)
        return self.since + (patience if offline_after_seconds is None else min(patience, offline_after_seconds))

    def silent_at(self, offline_after_seconds: float | None) -> float:
        """When it is silent, if nothing is heard."""
        return self.since + silent_after(self.interval, offline_after_seconds)

    def grade(self, now: float, offline_after_seconds: float | None) -> Grade:
        """Tell what its silence means.

        Args:
            now: the time, as far as we listen.
            offline_after_seconds: silence that makes it silent; None: four intervals.
        """
        overdue_at, silent_at = self.overdue_at(offline_after_seconds), self.silent_at(offline_after_seconds)
        grade = SILENT if now >= silent_at else OVERDUE if now >= overdue_at else FINE
        return Grade(grade, max(grade, self.held), self.heard_at, overdue_at, silent_at)


def silent_after(interval: float, offline_after_seconds: float | None) -> float:
    """How long a topic with this interval may say nothing before it is silent, in seconds; 0.0: not known."""
    if offline_after_seconds is not None:
        return offline_after_seconds
    return OFFLINE_INTERVALS * max(interval, SHORTEST_INTERVAL_SECONDS) if interval else UNKNOWN_OFFLINE_SECONDS
