"""What became of each message: handled, lost, handled again, out of order. Pure."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field

from benchmarks.libraries.journal import Kind, Record

DEVICES = 100


@dataclass(frozen=True, slots=True)
class Tally:
    """How many messages fared how.

    Attributes:
        lost: never handled to the end.
        repeated: handled to the end once more, each time counted.
        cut_short: handlings that began and did not end.
        begun_late: whose handling began after that of a later one of the same device (RFC 4737, 3.3); of repeats,
            the first counts.
        ended_late: the same for the end.
    """

    lost: int
    repeated: int
    cut_short: int
    begun_late: int
    ended_late: int


@dataclass(slots=True)
class Order:
    """The first time of each number, and how many came behind a later one of their device."""

    seen: set[int] = field(default_factory=set)
    latest: dict[int, int] = field(default_factory=dict)
    times: int = 0
    late: int = 0

    def add(self, number: int) -> None:
        """Note a message.

        Args:
            number: which counts up; the device is its remainder.
        """
        self.times += 1
        if number in self.seen:
            return
        self.seen.add(number)
        device = number % DEVICES
        if number < self.latest.get(device, -1):
            self.late += 1
        else:
            self.latest[device] = number


@dataclass(slots=True)
class Account:
    """Made of the journals of all lives of a program, one after the other."""

    begun: Order = field(default_factory=Order)
    ended: Order = field(default_factory=Order)
    ended_at: int = 0

    def add(self, records: Iterable[Record]) -> None:
        """Take in records, in the order in which they were written."""
        for kind, number, nanoseconds in records:
            if kind is Kind.BEGUN:
                self.begun.add(number)
            elif kind is Kind.ENDED:
                self.ended.add(number)
                self.ended_at = max(self.ended_at, nanoseconds)

    @property
    def handled(self) -> int:
        """Messages handled to the end, each counted once."""
        return len(self.ended.seen)

    def tally(self, count: int) -> Tally:
        """Sum up.

        Args:
            count: messages that were published, numbered from 0.
        """
        return Tally(
            lost=count - self.handled,
            repeated=self.ended.times - self.handled,
            cut_short=self.begun.times - self.ended.times,
            begun_late=self.begun.late,
            ended_late=self.ended.late,
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """What quick handlers cost, by what a program noted from time to time.

    Attributes:
        microseconds: CPU time per message.
        per_second: messages.
    """

    microseconds: float
    per_second: float


def pace(records: Iterable[Record]) -> Pace | None:
    """Compute from the first note and the last; None when there are not two."""
    by_kind: dict[Kind, list[Record]] = {Kind.COUNT: [], Kind.CPU: []}
    for record in records:
        by_kind.setdefault(record.kind, []).append(record)
    counts, cpus = by_kind[Kind.COUNT], by_kind[Kind.CPU]
    cpus = cpus[: len(counts)]
    if len(cpus) < 2:
        return None
    first, last = counts[0], counts[len(cpus) - 1]
    messages = last.number - first.number
    return Pace(
        (cpus[-1].nanoseconds - cpus[0].nanoseconds) / messages / 1e3,
        messages / (last.nanoseconds - first.nanoseconds) * 1e9,
    )


def worst(tallies: Iterable[Tally]) -> Tally:
    """The worst of several rounds, figure by figure: a loss in one of three is a loss."""
    rounds = [astuple(one) for one in tallies]
    return Tally(*(max(figures) for figures in zip(*rounds, strict=True)))
