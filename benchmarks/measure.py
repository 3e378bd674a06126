"""Two commands in turn, A B A B, and the median of their ratios: what drifts on a noisy machine hits both."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Comparison:
    """CPU seconds of plantops and of a peer, run by run.

    Attributes:
        measure: what was measured.
        peer: against what.
        pairs: CPU seconds of each run, ours and the peer's.
    """

    measure: str
    peer: str
    pairs: tuple[tuple[float, float], ...]

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


def compare(
    measure: str, peer: str, *, ours: Callable[[], float], peers: Callable[[], float], runs: int
) -> Comparison:
    """Measure two things in turn, after one run of each that does not count.

    Args:
        measure: what is measured.
        peer: against what.
        ours: runs plantops once, and returns its CPU seconds.
        peers: does the same for the peer.
        runs: how often each is counted.
    """
    ours(), peers()
    return Comparison(measure, peer, tuple((ours(), peers()) for _ in range(runs)))
