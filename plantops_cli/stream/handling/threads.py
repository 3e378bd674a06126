"""Where handlers run that block: a bounded number of threads, for which neither event loop nor exit wait."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

logger = logging.getLogger("plantops.stream")

_T = TypeVar("_T")


class _Job:
    """A function that is to be run in a thread, unless nobody waits for it any more before it begins."""

    __slots__ = ("_claims", "begun", "context", "done", "function")

    def __init__(
        self, function: Callable[[], Any], done: "asyncio.Future[Any]", begun: Callable[[], None] | None
    ) -> None:
        self.function = function
        self.done = done
        self.begun = begun
        self.context = contextvars.copy_context()
        self._claims = [True]

    def claim(self) -> bool:
        """Tell whether the caller is the first: the thread that begins it, or the event loop that drops it."""
        with suppress(IndexError):  # pop() is atomic
            return self._claims.pop()
        return False


class Threads:
    """Runs functions in threads that are started when they are needed, and kept.

    They are daemon threads: one that never ends keeps no program from its end.

    Args:
        limit: how many functions may run at once; what is beyond waits. Those that nobody waits for any more are
            made up for, up to as many again.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._count = self._abandoned_count = 0
        # less than nothing when functions wait for a thread
        self._free = 0

    async def run(self, function: Callable[[], _T], begun: Callable[[], None] | None = None) -> _T:
        """Run a function in a thread, and return what it returns.

        Who is cancelled here leaves it running; if it has not begun it never does.

        Args:
            function: what to run; it must not raise.
            begun: called on the event loop when it begins, which may be long after, when no thread is free.
        """
        done: asyncio.Future[_T] = self._loop.create_future()
        job = _Job(function, done, begun)
        self._jobs.put(job)
        self._free -= 1
        try:
            self._start_if_needed()
            return await done
        except BaseException:
            self._abandon(job)
            raise

    def close(self) -> None:
        """Let each thread end as soon as its function has."""
        for _ in range(self._count):
            self._jobs.put(None)

    @property
    def _most(self) -> int:
        # those that never end are made up for, but not without end
        return self._limit + min(self._abandoned_count, self._limit)

    def _start_if_needed(self) -> None:
        if self._free < 0 and self._count < self._most:
            name = f"plantops-handler-{self._count + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._count += 1
            self._free += 1

    def _abandon(self, job: _Job) -> None:
        if job.claim():
            self._free += 1
        elif job.done.cancelled():
            self._abandoned_count += 1
            self._start_if_needed()

    def _work(self) -> None:
        is_wanted = True
        while is_wanted and (job := self._jobs.get()) is not None:
            if not job.claim():
                continue
            if job.begun is not None and not self._tell_loop(_note_begun, job):
                return
            result = job.context.run(job.function)
            is_wanted = not job.done.cancelled()  # else another one has its place
            if not self._tell_loop(self._settle, job.done, result, is_wanted):
                return

    def _tell_loop(self, function: Callable[..., None], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            logger.debug("the event loop ended before a handler in a thread did")
            return False
        return True

    def _settle(self, done: "asyncio.Future[object]", result: object, is_free: bool) -> None:
        self._abandoned_count -= done.cancelled()
        if is_free and self._count > self._most:  # abandoned in the very moment in which it ended
            self._jobs.put(None)
            is_free = False
        self._free += is_free
        self._count -= not is_free
        self._start_if_needed()
        if not done.done():
            done.set_result(result)


def _note_begun(job: _Job) -> None:
    if job.begun is not None and not job.done.done():
        job.begun()
