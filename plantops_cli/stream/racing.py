"""Work that an event may cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Await ``work``, or cancel it and return None as soon as ``event`` is set.

    Args:
        event: what cuts the work short; when it is set already, the work is not begun.
        work: the coroutine to run.

    Raises:
        Exception: whatever the work raises before the event.
    """
    if event.is_set():
        work.close()
        return None
    working = asyncio.create_task(work, name="plantops-work")
    waiting = asyncio.create_task(event.wait(), name="plantops-event")
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        waiting.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
            if not working.cancelled():
                working.exception()  # looked at, or asyncio would report it
