"""Whose turn it is: handlers begin for a moment, and then others of the event loop get round several times."""

import asyncio
from collections import deque
from time import monotonic

SLICE_SECONDS = 0.001
"""For how long messages are begun in one go; one that computes for longer is the last of it."""

TURNS_BETWEEN = 5
"""How many turns of the event loop others have in between.

An answer to an HTTP request takes about six, which cost nearly nothing when there is nothing to do in them; were
there a handler in each, the request would wait for six of them.
"""


class Turns:
    """Shares the event loop among those who would use it up, and all others.

    Attributes:
        until: up to which moment of ``time.monotonic`` something may be begun; 0 when ``is_over`` has to be asked.
    """

    def __init__(self) -> None:
        self.until = 0.0
        self._loop = asyncio.get_running_loop()
        self._turns_left = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def is_over(self) -> bool:
        """Tell whether nothing more is to be begun now, so that ``next`` has to be waited for."""
        if self.until:
            return monotonic() >= self.until
        self._begin()
        return False

    async def next(self) -> None:
        """Let all others have their turns, and then wait for one's own."""
        mine = self._loop.create_future()
        self._waiting.append(mine)
        if not self.until:
            self._begin()
        await mine

    def _begin(self) -> None:
        self.until = monotonic() + SLICE_SECONDS
        self._turns_left = TURNS_BETWEEN
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        """Go on with the next who waits once enough turns have passed."""
        while self._waiting and self._waiting[0].done():  # nobody waits who was cancelled
            self._waiting.popleft()
        if not self._waiting:
            self.until = 0.0
        elif self._turns_left:
            self._turns_left -= 1
            self._loop.call_soon(self._end)
        else:
            self._waiting.popleft().set_result(None)
            self._begin()
