"""What a payload says of its own place in the stream: sequence numbers, and the clock of the device.

Pure: arrival times come in as seconds.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

REORDERING = 64
"""A number that comes so much later than its successors is out of order; one from further back begins anew."""

_JITTER_GAIN = 1 / 16
# seconds since 1970 stay below it for three thousand years; a number above is in a smaller unit
_LARGEST_SECONDS = 1e11
_UNIT_STEP = 1e3


@dataclass(slots=True)
class SequenceNumbers:
    """Accounts for the sequence numbers of one topic.

    Attributes:
        missing: numbers that were skipped and have not come since.
        missed: numbers that were skipped while we were not listening ourselves.
        out_of_order: numbers that came after a higher one.
        duplicates: numbers that had come before.
        restarts: how often the device began to count anew.
    """

    missing: int = 0
    missed: int = 0
    out_of_order: int = 0
    duplicates: int = 0
    restarts: int = 0
    _highest: int | None = None
    # bit n: the number n below the highest has come; as long as nothing is missed, all of them have
    _come: int = 0
    _is_after_outage: bool = False

    def take(self, number: int) -> None:
        """Account for a number.

        Args:
            number: what the payload says.
        """
        highest = self._highest
        if highest is None:
            self._begin(number)
            return
        step = number - highest
        if step > 0:
            self._advance(step)
        elif -step >= REORDERING:
            self.restarts += 1
            self._begin(number)
        elif self._come >> -step & 1:
            self.duplicates += 1
        else:
            self._come |= 1 << -step
            self.out_of_order += 1
            self.missing = max(0, self.missing - 1)
        self._is_after_outage = False

    def outage(self) -> None:
        """Take note that we have not listened for a while."""
        self._is_after_outage = True

    def _begin(self, number: int) -> None:
        self._highest = number
        # what was before is not known; to call it come avoids claims about it
        self._come = (1 << REORDERING) - 1

    def _advance(self, step: int) -> None:
        if self._is_after_outage:
            self.missed += step - 1
        else:
            self.missing += step - 1
        assert self._highest is not None
        self._highest += step
        self._come = (self._come << min(step, REORDERING) | 1) & ((1 << REORDERING) - 1)


@dataclass(slots=True)
class DeviceClock:
    """Accounts for the timestamps of one topic.

    Attributes:
        lag_seconds: arrival of the latest message less its timestamp: delay, and what the clocks differ by.
        jitter_seconds: smoothed change of the lag from message to message (as RFC 3550, 6.4.1).
        skew_seconds: the smallest lag seen; below zero the device's clock is ahead of ours.
        out_of_order: timestamps earlier than one before.
        duplicates: timestamps equal to the one before.
    """

    lag_seconds: float = 0.0
    jitter_seconds: float = 0.0
    skew_seconds: float = 0.0
    out_of_order: int = 0
    duplicates: int = 0
    _latest: float | None = None

    def take(self, stamp: float, *, arrived: float) -> None:
        """Account for a timestamp.

        Args:
            stamp: what the payload says, in seconds since 1970.
            arrived: when it was read, by our clock, in seconds since 1970.
        """
        lag = arrived - stamp
        if self._latest is None:
            self.skew_seconds = lag
            self._latest = stamp
        else:
            self.jitter_seconds += (abs(lag - self.lag_seconds) - self.jitter_seconds) * _JITTER_GAIN
            self.skew_seconds = min(self.skew_seconds, lag)
            self.duplicates += stamp == self._latest
            self.out_of_order += stamp < self._latest
            self._latest = max(stamp, self._latest)
        self.lag_seconds = lag


def find(document: object, path: tuple[str, ...]) -> object:
    """Return the value at a path in a JSON document, or None when there is none.

    Args:
        document: parsed JSON.
        path: the names on the way, for example ``("soil", "moisture")``.
    """
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def number_of(value: object) -> float | None:
    """Return a JSON number as it is; a boolean, a string or anything else is None."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def moment_of(value: object) -> float | None:
    """Read a timestamp, in seconds since 1970; None when it is none.

    Args:
        value: seconds, milli-, micro- or nanoseconds since 1970, told apart by their size, or text after ISO 8601,
            in UTC unless it says otherwise.
    """
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
            return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    seconds = number_of(value)
    while seconds is not None and abs(seconds) >= _LARGEST_SECONDS:
        seconds = seconds / _UNIT_STEP
    return seconds
