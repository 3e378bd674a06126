"""Delays between attempts to connect: exponential with full jitter, capped.

Full jitter, because a farm of clients that lost the same broker must not come back in the same instant.
"""

import random
from collections.abc import Callable

BASE_SECONDS = 0.5
"""Upper bound of the first delay."""

CAP_SECONDS = 30.0
"""Upper bound of every delay."""

STABLE_SECONDS = 10.0
"""A connection that lasted this long makes the next delay a first one again."""


class Backoff:
    """The next delay, and when to begin again with short ones.

    Args:
        base_seconds: upper bound of the first delay.
        uniform: draws a delay between two bounds; for tests.
    """

    def __init__(
        self,
        *,
        base_seconds: float = BASE_SECONDS,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base = base_seconds
        self._uniform = uniform
        self._bound = base_seconds

    def next_delay(self) -> float:
        """Draw the next delay in seconds; the bound doubles with each call, up to the cap."""
        bound, self._bound = self._bound, min(self._bound * 2, CAP_SECONDS)
        return self._uniform(0, bound)

    def connection_ended(self, lasted_seconds: float) -> None:
        """Begin again with short delays if the connection that ended was a stable one."""
        if lasted_seconds >= STABLE_SECONDS:
            self._bound = self._base
