"""Two commands in turn, A B A B, and the median of their ratios: what drifts on a noisy machine hits both."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


class MeasurementError(Exception):
    """A program that was measured did not do what it was asked; its text says which and what."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; more is steadier and slower.

    Attributes:
        rounds: how often each program has its turn.
        flood: messages of a flood; a slow program gets fewer, a very fast one more.
        backlog: messages that wait for a durable session.
        latency: messages of one latency run, at 1,000 a second.
        memory: messages over which the peak of memory is taken.
        stall: seconds for which nobody reads.
        days: simulated days for which a fleet is watched.
        minutes: minutes for which a fleet is watched on a real broker.
        libraries: words of the names of the libraries to be compared, with commas between; all of them by itself.
    """

    rounds: int = 5
    flood: int = 200_000
    backlog: int = 200_000
    latency: int = 4_000
    memory: int = 10_000_000
    stall: int = 60
    days: int = 2
    minutes: int = 3
    libraries: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What plantops took and what a peer took, run by run; less is better.

    Attributes:
        measure: what was measured.
        peer: against what.
        pairs: the figure of each run, ours and the peer's.
        unit: of the figures.
        target: the ratio that is aimed at, at most.
    """

    measure: str
    peer: str
    pairs: tuple[tuple[float, float], ...]
    unit: str = "s"
    target: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours by the peer's, run by run."""
        return [ours / peers for ours, peers in self.pairs]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    @property
    def ours(self) -> float:
        """Our median."""
        return median(ours for ours, _ in self.pairs)

    @property
    def peers(self) -> float:
        """The peer's median."""
        return median(peers for _, peers in self.pairs)


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark has to say.

    Attributes:
        title: its heading.
        method: how it was measured, in a sentence or two.
        comparisons: plantops against its peers.
        header: the columns of the figures.
        figures: all that is no ratio, row by row.
        missing: what was not measured, and why.
        failures: what went wrong.
    """

    title: str
    method: str
    comparisons: tuple[Comparison, ...] = ()
    header: tuple[str, ...] = ()
    figures: tuple[tuple[str, ...], ...] = ()
    missing: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def compare(
    measure: str,
    peer: str,
    *,
    ours: Callable[[], float],
    peers: Callable[[], float],
    runs: int,
    target: float | None = None,
) -> Comparison:
    """Measure two things in turn, after one run of each that does not count.

    Args:
        measure: what is measured.
        peer: against what.
        ours: runs plantops once, and returns its CPU seconds.
        peers: does the same for the peer.
        runs: how often each is counted.
        target: the ratio that is aimed at, at most.
    """
    ours(), peers()
    return Comparison(measure, peer, tuple((ours(), peers()) for _ in range(runs)), target=target)


def amount(value: float, unit: str = "") -> str:
    """Write a figure with three digits that count, and its unit."""
    digits = 3
    while digits and abs(value) >= 10 ** (3 - digits):
        digits -= 1
    return f"{value:,.{digits}f} {unit}".rstrip()
