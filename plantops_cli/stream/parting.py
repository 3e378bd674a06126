"""How a connection is closed without losing the last word: the broker hears it, and hangs up first.

To close a socket that holds unread messages would reset the connection, and a broker that is slow would lose our
last acknowledgements by it.
"""

import asyncio
import logging
from collections.abc import Callable

from plantops_cli.stream.tap import Tap

logger = logging.getLogger("plantops.stream")


class Parting:
    """The last word on one connection, said past paho.

    Args:
        push: sends a whole packet.
    """

    def __init__(self, push: Callable[[bytes], None]) -> None:
        self._push = push
        self._tap: Tap | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the socket is to be left open for it."""
        return self._tap is not None

    def begin(self, tap: Tap, goodbye: bytes) -> None:
        """Say a last word, unless one was said.

        Args:
            tap: the socket.
            goodbye: a whole packet.
        """
        if self._tap is None:
            self._push(goodbye)
            tap.linger()
            self._tap = tap

    async def finish(self, timeout_seconds: float) -> None:
        """Close the socket when the broker has hung up on our last word, if there was one.

        Args:
            timeout_seconds: how long to wait at most.
        """
        tap, self._tap = self._tap, None  # so that the socket may be closed at once meanwhile
        if tap is not None:
            await close_after_last_word(tap, timeout_seconds)


async def hear_out(tap: Tap) -> None:
    """Read and forget what still comes, to the end of the connection; nobody else may read any more."""
    loop = asyncio.get_running_loop()
    while not tap.discard():
        readable = asyncio.Event()
        descriptor = tap.fileno()
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(descriptor)


async def close_after_last_word(tap: Tap, timeout_seconds: float) -> None:
    """Wait until the broker has hung up on our last word, and close the socket.

    Args:
        tap: one that lingers, with nothing more to be sent.
        timeout_seconds: how long to wait at most.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            await hear_out(tap)
    except (TimeoutError, OSError) as exc:
        logger.debug("the broker did not hang up: %s", exc)
    finally:
        tap.abort()
