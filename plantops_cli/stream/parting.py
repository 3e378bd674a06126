"""How a connection is closed without losing the last word: the broker hears it, and hangs up first.

To close a socket that holds unread messages would reset the connection, and a broker that is slow would lose our
last acknowledgements by it.
"""

import asyncio
import logging

from plantops_cli.stream.tap import Tap

logger = logging.getLogger("plantops.stream")


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
