"""Work that an event may cut short, or that nobody may have to wait for."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger("plantops.stream")

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


async def in_daemon_thread(function: Callable[[], _T]) -> _T:
    """Run a blocking function in a thread that an exit of the program does not wait for.

    Args:
        function: what to run; when nobody waits for it any more, its outcome is forgotten.

    Raises:
        Exception: whatever the function raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, exc: Exception | None) -> None:
        if done.done():
            return
        if exc is None:
            done.set_result(result)  # type: ignore[arg-type]  # a function that returns None has None as its result
        else:
            done.set_exception(exc)

    def work() -> None:
        result, failure = None, None
        try:
            result = function()
        except Exception as exc:  # handed to whoever awaits
            failure = exc
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            logger.debug("the event loop ended before %s did", getattr(function, "__qualname__", function))

    threading.Thread(target=work, name="plantops-blocking", daemon=True).start()
    return await done
