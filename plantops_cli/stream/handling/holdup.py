"""A message that takes so long that it holds up the acknowledgement of all that came after it."""

import asyncio
from collections.abc import Callable

from plantops_cli.messages import now
from plantops_cli.stream.delivery import SLOW_SECONDS
from plantops_cli.stream.handling.ledger import Work
from plantops_cli.stream.handling.tally import Tally


class Holdup:
    """Looks now and then whether the oldest message in hand is still the same, and says so, ever more seldom.

    Args:
        oldest: finds the oldest message that is being handled, or None.
        tell: called with the message, and for how many seconds it has been the oldest.
        tally: counts the time.
    """

    def __init__(
        self, oldest: Callable[[], Work | None], tell: Callable[[Work, float], None], tally: Tally
    ) -> None:
        self._oldest = oldest
        self._tell = tell
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._work: Work | None = None
        self._since = self._counted_until = self._loop.time()
        self._next_notice = SLOW_SECONDS
        self._look()

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        work, moment = self._oldest(), self._loop.time()
        seconds = moment - self._since
        if seconds >= SLOW_SECONDS and self._work is not None:
            self._tally.paused_seconds += moment - max(self._counted_until, self._since)
            self._counted_until = moment
        if work is not self._work:
            self._begin(work, moment)
        elif work is not None and seconds >= self._next_notice:
            self._next_notice = 2 * seconds
            self._tell(work, seconds)
        self._timer = self._loop.call_later(SLOW_SECONDS / 4, self._look)

    def _begin(self, work: Work | None, moment: float) -> None:
        self._work, self._since, self._next_notice = work, moment, SLOW_SECONDS
        if work is not None:  # which may have come since the last look
            self._since -= min(max((now() - work.received_at).total_seconds(), 0.0), SLOW_SECONDS / 4)
