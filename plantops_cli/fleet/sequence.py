"""What a payload says of its own place in the stream: sequence numbers, and the clock of the device.

Pure: arrival times come in as seconds.
"""

import re
from copy import copy
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import NamedTuple, Self

REORDERING = 64
"""A number that comes so much later than its successors is out of order; one from further back begins anew."""

_WINDOW = (1 << REORDERING) - 1
_LONGEST_GAP_IN_RUN = 4
_STARTS = (0, 1)

_JITTER_GAIN = 1 / 16
# seconds since 1970 stay below it for three thousand years; a number above is in a smaller unit
_LARGEST_SECONDS = 1e11
_UNIT_STEP = 1e3
_MAX_DIGITS = 40
_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}")
_DECIMAL = re.compile(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}(\.[0-9]{{0,{_MAX_DIGITS}}})?")
_DATE_DIGITS = 8


class Counter(NamedTuple):
    """Numbers that come round: the highest is followed by the lowest.

    Attributes:
        lowest: the first one.
        highest: the last one.
    """

    lowest: int
    highest: int

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.highest - self.lowest + 1

    @property
    def window(self) -> int:
        """How far back a number is out of order, and how many may be lost at a wrap."""
        return min(REORDERING, self.size // 4)

    def is_wrap(self, before: int, number: int) -> bool:
        """Tell whether a step back is a wrap: the last numbers before it are near the end.

        A restart comes so near the end only by chance, the rarer the more numbers there are.

        Args:
            before: the highest number so far.
            number: the lower one that came after it.
        """
        lost_before, lost_after = self.highest - before, number - self.lowest
        near = min(REORDERING, max(4, self.size // 16))
        return 0 <= lost_before <= near and 0 <= lost_after <= self.window - lost_before


# half a byte, which short headers have, and whole integers, signed, unsigned, and with the sign cut off; not the
# other powers of two, at which a device that began at 0 may as well have begun anew
COUNTERS = (
    *(Counter(0, (1 << bits) - 1) for bits in (4, 8, 15, 16, 24, 31, 32, 63, 64)),
    *(Counter(-1 << bits - 1, (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)),
)


@dataclass(slots=True)
class SequenceNumbers:
    """Accounts for the sequence numbers of one topic.

    What a step back means is not always known at once: the account is put right by what comes after it.

    Attributes:
        missing: numbers that were skipped and have not come since.
        missed: numbers that were skipped while we were not listening ourselves.
        out_of_order: numbers that came after a higher one.
        duplicates: numbers that had come before.
        restarts: how often the device began to count anew; to come round, as at 255, is none.
    """

    missing: int = 0
    missed: int = 0
    out_of_order: int = 0
    duplicates: int = 0
    restarts: int = 0
    _highest: int | None = None
    _latest: int = 0
    _lowest_ever: int = 0
    _highest_ever: int = 0
    # bit n: the number n below the highest has come
    _come: int = 0
    # bit n: that one is from before we began to listen, or before a restart
    _unknown: int = 0
    _is_after_outage: bool = False
    _wraps: "_Wraps | None" = None
    _run: "_Run | None" = None
    # the highest number and the account before a jump far off, until the next one tells whether it was astray
    _before_jump: "tuple[int, SequenceNumbers] | None" = None

    def take(self, number: int) -> None:
        """Account for a number.

        Args:
            number: what the payload says.
        """
        if self._highest is None:
            self._latest = self._lowest_ever = self._highest_ever = number
            self._begin(number)
            return
        self._return_from_jump(number)
        highest, step = self._highest, self._step_to(number)
        if abs(step) >= REORDERING:
            self._before_jump = highest, copy(self)
        self._note_extremes(number)
        if step > 0:
            self._advance(number, step)
        elif -step >= REORDERING:
            self.restarts += 1
            self._begin(number)
        else:
            self._take_late(number, -step)
        self._latest = number
        self._is_after_outage = False

    def outage(self) -> None:
        """Take note that we have not listened for a while."""
        self._is_after_outage = True
        self._before_jump = None

    def _begin(self, number: int, *, come: int = 1) -> None:
        self._highest = number
        self._come = come
        self._unknown = _WINDOW & ~((1 << come.bit_length()) - 1)
        self._run = None

    def _return_from_jump(self, number: int) -> None:
        """Forget a jump if this number goes on where it was before it, and not after it."""
        jump, self._before_jump = self._before_jump, None
        if jump is None:
            return
        assert self._highest is not None
        highest, before = jump
        if 0 < number - highest < REORDERING <= abs(number - self._highest):
            for field in fields(self):
                setattr(self, field.name, getattr(before, field.name))
            self.out_of_order += 1

    def _step_to(self, number: int) -> int:
        """How far a number is from the highest, round the end if that is nearer; below 0: it is late."""
        assert self._highest is not None
        step = number - self._highest
        counter = self._wraps.counter if self._wraps else None
        if counter and counter.lowest <= number <= counter.highest:
            forward = step % counter.size
            if counter.size - forward < counter.window:
                return forward - counter.size
            if self._is_after_outage or (step < 0 and counter.is_wrap(self._highest, number)):
                return forward
        elif step < 0 and (wraps := self._wrap_of(number)):
            self._wraps = wraps
            return step + wraps.counter.size
        return step

    def _wrap_of(self, number: int) -> "_Wraps | None":
        """The first wrap, if this step back is one of a counter that no number so far was too large for."""
        assert self._highest is not None
        back = self._highest - number
        if back < REORDERING and (number == self._latest or not (self._come | self._unknown) >> back & 1):
            # one that comes twice at once, or that was missing
            return None
        for counter in COUNTERS:
            if self._highest_ever <= counter.highest and counter.is_wrap(self._highest, number):
                return _Wraps(counter)
        return None

    def _note_extremes(self, number: int) -> None:
        self._lowest_ever = min(self._lowest_ever, number)
        self._highest_ever = max(self._highest_ever, number)
        if self._wraps and number > self._wraps.counter.highest:
            # it goes on beyond that end, so that what looked like wraps was none
            self.restarts += self._wraps.times
            self.missing = max(0, self.missing - self._wraps.lost)
            self._wraps = None

    def _advance(self, number: int, step: int) -> None:
        assert self._highest is not None
        lost = step - 1
        if number < self._highest and self._wraps:
            lost -= self._pass_end(number, lost)
        if self._is_after_outage:
            self.missed += lost
        else:
            self.missing += lost
        self._highest = number
        # beyond the window all the same is left of either: nothing
        shift = min(step, REORDERING)
        self._come = (self._come << shift | 1) & _WINDOW
        self._unknown = self._unknown << shift & _WINDOW
        self._run = None

    def _pass_end(self, number: int, lost: int) -> int:
        """Account for a wrap; return how many of the numbers that it skips the device never sends."""
        assert self._wraps is not None
        counter, wraps = self._wraps.counter, self._wraps
        # many a device counts from 1 after a wrap: a 0 that was skipped at every one was not lost
        has_zero = counter.lowest < 0 or self._lowest_ever <= 0
        skips_zero = not has_zero and wraps.times == wraps.without_zero > 0 and lost > 0
        if skips_zero and wraps.times == 1:
            self.missing = max(0, self.missing - 1)
            wraps = wraps._replace(lost=wraps.lost - 1)
        self._wraps = _Wraps(
            counter,
            times=wraps.times + 1,
            lost=wraps.lost + lost - skips_zero,
            without_zero=wraps.without_zero + (number > 0 and lost > 0),
        )
        return int(skips_zero)

    def _take_late(self, number: int, back: int) -> None:
        bit = 1 << back
        is_unknown, is_duplicate = bool(self._unknown & bit), bool(self._come & bit)
        self._come |= bit
        self._unknown &= ~bit
        if is_duplicate:
            self.duplicates += 1
        else:
            self.out_of_order += 1
        if not is_duplicate and not is_unknown:
            # it was missing, so that this is the stream that it was missing from
            self.missing = max(0, self.missing - 1)
            self._run = None
            return
        self._run = _Run.after(self._run, number, is_duplicate=is_duplicate)
        if self._run.is_restart and not self._wraps:
            self._restart_by(self._run)

    def _restart_by(self, run: "_Run") -> None:
        """Begin anew with a run of numbers that were taken for late ones."""
        self.restarts += 1
        self.duplicates -= run.duplicates
        self.out_of_order -= len(run.numbers) - run.duplicates
        self.missing += run.numbers[-1] - run.numbers[0] + 1 - len(run.numbers)
        come = sum(1 << run.numbers[-1] - number for number in run.numbers)
        self._begin(run.numbers[-1], come=come)


class _Wraps(NamedTuple):
    """The wraps of a counter.

    Attributes:
        counter: what wraps.
        times: how often it did.
        lost: how many numbers were lost at that.
        without_zero: how often 0 was among them.
    """

    counter: Counter
    times: int = 0
    lost: int = 0
    without_zero: int = 0


class _Run(NamedTuple):
    """Numbers behind the highest that came one after another, each a little higher than the one before.

    Attributes:
        numbers: the numbers.
        duplicates: how many of them had come before.
        is_restart: whether they look like a device that began anew rather than like messages that were late.
    """

    numbers: tuple[int, ...]
    duplicates: int
    is_restart: bool = False

    @classmethod
    def after(cls, run: Self | None, number: int, *, is_duplicate: bool) -> Self:
        """Return a run with one more number, or a new one if it does not go on with it."""
        if run and number == run.numbers[-1]:
            return run
        if run is None or not 0 < number - run.numbers[-1] <= _LONGEST_GAP_IN_RUN:
            return cls((number,), int(is_duplicate))
        numbers = (*run.numbers, number)
        # a run from where we had heard nothing into what has come counts there once more; late ones would not
        is_recount = is_duplicate and not run.duplicates
        return cls(numbers, run.duplicates + is_duplicate, numbers[0] in _STARTS or is_recount)


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


def sequence_number_of(value: object) -> int | None:
    """Read a sequence number; None when it is none.

    Args:
        value: a whole number, which some devices write as ``7.0``, or text of digits, ``0007`` for example.
    """
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value := value.strip()) else None
    number = number_of(value)
    return int(number) if number is not None and number % 1 == 0 else None


def moment_of(value: object) -> float | None:
    """Read a timestamp, in seconds since 1970; None when it is none.

    Args:
        value: seconds, milli-, micro- or nanoseconds since 1970, told apart by their size, as a number or as
            digits in text; or text after ISO 8601, in UTC unless it says otherwise. Eight digits are a date.
    """
    if isinstance(value, str):
        value = value.strip()
        if not _DECIMAL.fullmatch(value) or len(value) == _DATE_DIGITS:
            return _iso_moment(value)
        value = float(value)
    seconds = number_of(value)
    while seconds is not None and abs(seconds) >= _LARGEST_SECONDS:
        seconds = seconds / _UNIT_STEP
    return seconds


def _iso_moment(text: str) -> float | None:
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
