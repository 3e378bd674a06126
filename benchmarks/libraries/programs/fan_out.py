"""Workers behind a queue: what a user writes where the library hands messages out one by one."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

logger = logging.getLogger("benchmark")
_T = TypeVar("_T")


async def fan_out(messages: AsyncIterator[_T], handle: Callable[[_T], Awaitable[None]], workers: int) -> None:
    """Handle messages, several at once; when cancelled, finish what has been taken.

    What a handler raises, a lost connection for example when it acknowledges, is logged, and its worker goes on.

    Args:
        messages: where they come from.
        handle: handles one.
        workers: how many at once; with one, there is no queue.
    """
    if workers == 1:
        async for message in messages:
            await handle(message)
        return
    queue: asyncio.Queue[_T | None] = asyncio.Queue(workers)

    async def work() -> None:
        while (message := await queue.get()) is not None:
            try:
                await handle(message)
            except Exception:
                logger.exception("not handled")

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        async for message in messages:
            await queue.put(message)
    finally:
        for _ in tasks:
            await queue.put(None)
        await asyncio.gather(*tasks)
