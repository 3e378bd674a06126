"""How long the answers of a broker are waited for, and what ends the waiting before its time.

An answer comes behind all that the broker has sent before it, which may be any number of messages. So the clock
alone says little: a connection that has ended brings no answer any more, messages that nobody takes hold answers
up, and as long as something comes one may still be on its way.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

HELD_UP_SECONDS = 0.2
"""When the socket has been left unread for so long, nobody waits for an answer of the broker any more."""


class Answers:
    """Those who wait for answers on one connection.

    Attributes:
        ended: set when the connection has ended.
        is_held_up: True when answers stand behind messages that nobody has taken for a while.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.is_held_up = False
        self._loop = asyncio.get_running_loop()
        self._until_held_up: set[asyncio.Timeout] = set()
        self._until_ended: set[asyncio.Timeout] = set()
        self._timer: asyncio.TimerHandle | None = None

    def stop_coming(self) -> None:
        """Let those who wait wait no longer than ``HELD_UP_SECONDS``: the socket is left unread."""
        self._timer = self._loop.call_later(HELD_UP_SECONDS, self._hold_up)

    def come_again(self) -> None:
        """Let all wait again: the socket is read."""
        self.is_held_up = False
        if self._timer:
            self._timer.cancel()

    def end(self) -> None:
        """Let nobody wait any longer: the connection has ended."""
        self.ended.set()
        self._expire(self._until_ended)

    @asynccontextmanager
    async def unless_held_up(
        self, why: Callable[[], Exception], *, is_blocked: bool = False
    ) -> AsyncGenerator[None]:
        """Raise an error when answers are held up, or in the block as soon as they are.

        Args:
            why: makes the error.
            is_blocked: whether they are held up by who asks.
        """
        if self.is_held_up or is_blocked:
            raise why()
        async with _unless_expired(self._until_held_up, why):
            yield

    @asynccontextmanager
    async def unless_ended(self, why: Callable[[], Exception]) -> AsyncGenerator[None]:
        """Raise an error in the block when the connection ends.

        Args:
            why: makes the error.
        """
        async with _unless_expired(self._until_ended, why):
            yield

    def _hold_up(self) -> None:
        self.is_held_up = True
        self._expire(self._until_held_up)

    def _expire(self, limits: Iterable[asyncio.Timeout]) -> None:
        for limit in limits:
            if not limit.expired():  # which may not be moved any more
                limit.reschedule(self._loop.time())


@asynccontextmanager
async def _unless_expired(limits: set[asyncio.Timeout], why: Callable[[], Exception]) -> AsyncGenerator[None]:
    """Raise an error in the block once its limit, which has no moment of its own, is made to expire.

    Args:
        limits: where the limit is found meanwhile.
        why: makes the error.
    """
    limit = asyncio.timeout(None)
    limits.add(limit)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():  # of the block itself
            raise
        raise why() from None
    finally:
        limits.discard(limit)


@asynccontextmanager
async def unless_silent(seconds: float, heard_bytes: Callable[[], int | None]) -> AsyncGenerator[None]:
    """Raise TimeoutError in the block once the broker has said nothing for so long.

    Args:
        seconds: how long it may say nothing; up to half as long again may pass.
        heard_bytes: what has come from it so far; None while it is left unread, which is no silence.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(seconds)
    timer: asyncio.TimerHandle

    def look(before: int | None) -> None:
        nonlocal timer
        heard = heard_bytes()
        if (heard is None or heard != before) and not limit.expired():
            limit.reschedule(loop.time() + seconds)
        timer = loop.call_later(seconds / 2, look, heard)

    timer = loop.call_later(seconds / 2, look, heard_bytes())
    try:
        async with limit:
            yield
    finally:
        timer.cancel()
