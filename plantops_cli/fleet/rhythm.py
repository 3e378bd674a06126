"""The rhythm of one topic of one device: how often it speaks, and what its silence means. Pure.

Each topic is measured by what it has said itself, and by nothing else: of one whose rhythm is not known yet,
silence means nothing, unless somebody said how long it may be.
"""

import math
from array import array
from enum import StrEnum
from typing import NamedTuple

from plantops_cli.fleet.sequence import DeviceClock, SequenceNumbers

LATE_INTERVALS = 2
OFFLINE_INTERVALS = 4

SHORTEST_INTERVAL_SECONDS = 1.0
"""A topic that speaks more often is judged as if it spoke once in so long."""

HEARD_ONCE_QUIET_SECONDS = 24 * 3600.0
"""After so long a topic that was heard once, and never again, is called quiet; that is a remark, and no state."""

# Three intervals make an estimate: the one that two thirds of the last seven do not exceed. Beats that miss
# their time by up to a fifth make gaps of 0.6 to 1.4 intervals, but n gaps in a row make up n - 0.4 of them or
# more: what is left for the shorter ones is at least 0.73 each, so that twice the estimate is more than 1.4, and a
# regular device is never late. That holds for gaps in a row only. When we did not listen in between, a known
# interval stands until there are three in a row again, and while there is none each gap is taken for a fifth
# longer: 0.72 at least.
_INTERVALS_NEEDED = 3
_INTERVALS_KEPT = 7
_TORN_SHARE = 1.2
# Messages closer than that are one beat, so that a burst, of several readings or of what a gateway had held back,
# is no rhythm; a device that does speed up is followed, by a factor of ten for each few beats.
_BEAT_SECONDS = 0.5
_BEAT_SHARE = 0.1

FINE, OVERDUE, SILENT = 0, 1, 2


class Rhythm(StrEnum):
    """What is known of how often a topic speaks."""

    NOT_HEARD = "not_heard"
    UNKNOWN = "unknown"
    QUIET = "quiet"
    KNOWN = "known"

    def remark(self, topic: str) -> str:
        """What a person has to know of it; empty when all is known.

        Args:
            topic: ``telemetry`` or ``heartbeat``.
        """
        return _REMARKS[self].format(topic)


_REMARKS = {
    Rhythm.NOT_HEARD: "{} not heard yet",
    Rhythm.UNKNOWN: "{} rhythm not known yet",
    Rhythm.QUIET: "{} quiet before its rhythm was known",
    Rhythm.KNOWN: "",
}


class Grade(NamedTuple):
    """What the silence of a topic means at one moment.

    Attributes:
        now: ``FINE``, ``OVERDUE`` or ``SILENT``.
        worst: the same, or what it was before, until the topic is regular again.
        heard_at: when it was heard last.
        overdue_at: when it is overdue, if nothing is heard; never while its interval is not known.
        silent_at: when it is silent, if nothing is heard; the same.
        lapsed_at: when it was silent for the first time since it was heard; for ``silent_at`` it may have got more
            time meanwhile.
    """

    now: int
    worst: int
    heard_at: float
    overdue_at: float
    silent_at: float
    lapsed_at: float

    @property
    def is_judged(self) -> bool:
        """Whether its silence means anything."""
        return self.silent_at < math.inf

    def turned_at(self, at: float) -> float:
        """When its silence came to mean what it means; minus infinity: it is fine.

        Args:
            at: the moment that it was graded for.
        """
        if at >= self.silent_at:
            return self.silent_at
        return self.overdue_at if at >= self.overdue_at else -math.inf


class Signal:
    """One topic of one device, as it is heard live.

    Attributes:
        interval: how often it speaks, in seconds, no finer than half a second; 0.0: not known yet.
        last_at: when it was heard last.
        heard_at: the same, moved by our outages since.
        held: the worst that its silence has been, until it is regular again.
        sequence: the account of its sequence numbers, once there was one.
        clock: the account of its timestamps, once there was one.
    """

    # thousands of them are kept: every slot counts
    __slots__ = (
        "_beat_at",
        "_intervals",
        "_is_torn",
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
        # whether the gaps so far are followed by one that was not measured
        self._is_torn = False

    def hear(self, now: float, at: float, certain_at: float = math.inf) -> bool:
        """Take note of a message, and tell whether that changes what is known of its interval.

        Args:
            now: the time, as far as we listen.
            at: the time.
            certain_at: up to when it is certain that nothing is still on its way; silence counts no further.
        """
        since, beat_at, interval = self.since, self._beat_at, self.interval
        self.since = self.heard_at = now
        self.last_at = at
        if beat_at < 0.0:
            self._beat_at = now
            self._is_torn = self._intervals is not None
            return False
        gap = now - beat_at
        if gap < _BEAT_SECONDS or gap < interval * _BEAT_SHARE:
            return False
        self._beat_at = now
        if interval:
            silence = min(now, certain_at) - since
            patience = max(SHORTEST_INTERVAL_SECONDS, interval)
            if silence < LATE_INTERVALS * patience:
                self.held = FINE
            elif self.held < SILENT:
                self.held = SILENT if silence >= OFFLINE_INTERVALS * patience else OVERDUE
        if self._is_torn:
            self._tear()
        intervals = self._intervals
        if intervals is None:
            self._intervals = array("f", (gap,))
            return True
        intervals.append(gap)
        kept = len(intervals)
        if kept > _INTERVALS_KEPT:
            kept -= 1
            gone = intervals.pop(0)
            if (gone > interval and gap > interval) or (gone < interval and gap < interval):
                # one above or below has taken the place of another: what is between stays
                return False
        if kept < _INTERVALS_NEEDED:
            return not interval
        self.interval = sorted(intervals)[2 * kept // 3]
        return self.interval != interval

    def _tear(self) -> None:
        """Before the first gap behind one that was not measured: no longer are all of them in a row."""
        self._is_torn = False
        if self.interval or self._intervals is None:
            self._intervals = None
        else:
            self._intervals = array("f", (gap * _TORN_SHARE for gap in self._intervals))

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

    def rhythm(self, now: float) -> Rhythm:
        """Tell what is known of how often it speaks.

        Args:
            now: the time, as far as we listen.
        """
        if self.interval:
            return Rhythm.KNOWN
        return Rhythm.QUIET if now >= self.quiet_at else Rhythm.UNKNOWN

    @property
    def quiet_at(self) -> float:
        """When it is called quiet, if nothing is heard; never once its interval is known."""
        if self.interval:
            return math.inf
        longest = max(self._intervals) if self._intervals else 0.0
        return self.since + (silent_after(longest, None) if longest else HEARD_ONCE_QUIET_SECONDS)

    def turns_at(self, offline_after_seconds: float | None) -> float:
        """When there is something to say of it, if nothing is heard."""
        overdue_at = self.overdue_at(offline_after_seconds)
        return overdue_at if self.interval else min(overdue_at, self.quiet_at)

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
        lapsed_at = self.heard_at + silent_after(self.interval, offline_after_seconds)
        return Grade(grade, max(grade, self.held), self.heard_at, overdue_at, silent_at, lapsed_at)


def silent_after(interval: float, offline_after_seconds: float | None) -> float:
    """How long a topic may say nothing before it is silent, in seconds; for ever when nobody knows.

    Args:
        interval: how often it speaks, in seconds; 0.0: not known.
        offline_after_seconds: what somebody said; None: four intervals.
    """
    if offline_after_seconds is not None:
        return offline_after_seconds
    return OFFLINE_INTERVALS * max(interval, SHORTEST_INTERVAL_SECONDS) if interval else math.inf
