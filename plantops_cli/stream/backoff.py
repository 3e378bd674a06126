"""Delays between attempts to connect: exponential with full jitter, capped.

Full jitter, because a farm of clients that lost the same broker must not come back in the same instant.
"""

import random
from collections.abc import Callable

BASE_SECONDS = 0.5
CAP_SECONDS = 30.0
STABLE_SECONDS = 10.0


class Backoff:
    """The next delay, and when to begin again with short ones.

    Args:
        base_seconds: upper bound of the first delay.
        cap_seconds: upper bound of every delay.
        stable_seconds: a connection that lasted this long makes the next delay a first one again.
        uniform: draws a delay between two bounds; for tests.
    """

    def __init__(
        self,
        *,
        base_seconds: float = BASE_SECONDS,
        cap_seconds: float = CAP_SECONDS,
        stable_seconds: float = STABLE_SECONDS,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base = base_seconds
        self._cap = cap_seconds
        self._stable = stable_seconds
        self._uniform = uniform
        self._bound = base_seconds

    def next_delay(self) -> float:
        """Draw the next delay in seconds; the bound doubles with each call, up to the cap."""
        bound, self._bound = self._bound, min(self._bound * 2, self._cap)
        return self._uniform(0, bound)

    def connection_ended(self, lasted_seconds: float) -> None:
        """Begin again with short delays if the connection that ended was a stable one."""
        if lasted_seconds >= self._stable:
            self._bound = self._base
