"""Where handlers run that block."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from plantops_cli.stream.handling.threads import Threads
from tests.support.subscribing import eventually


class Blocking:
    """Functions that run until they are let go.

    Attributes:
        running: how many do.
        most: how many did at once.
        begun: how many were begun.
    """

    def __init__(self) -> None:
        self.running = self.most = self.begun = 0
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def has_running(self, count: int) -> bool:
        """Tell whether so many run."""
        return self.running == count

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
            self.running += 1
            self.most = max(self.most, self.running)
        self.may_end.wait(30)
        with self._lock:
            self.running -= 1


@asynccontextmanager
async def threads(limit: int) -> AsyncIterator[Threads]:
    made = Threads(limit)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def blocking() -> AsyncIterator[Blocking]:
    made = Blocking()
    try:
        yield made
    finally:
        made.may_end.set()
        await eventually(lambda: made.running == 0)


def begin(pool: Threads, count: int, function: Callable[[], object]) -> list[asyncio.Task[object]]:
    return [asyncio.create_task(pool.run(function)) for _ in range(count)]


async def give_up(tasks: list[asyncio.Task[object]]) -> None:
    """Wait no more for what runs."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_function_runs_in_a_daemon_thread_and_what_it_returns_comes_back() -> None:
    async with threads(1) as pool:
        ran_in = await pool.run(threading.current_thread)
    assert ran_in.daemon
    assert ran_in is not threading.main_thread()


async def test_no_more_functions_run_at_once_than_the_limit_and_all_of_them_do() -> None:
    async with threads(3) as pool, blocking() as slow:
        tasks = begin(pool, 10, slow)
        await eventually(lambda: slow.running == 3)
        slow.may_end.set()
        await asyncio.gather(*tasks)
    assert (slow.begun, slow.most) == (10, 3)


async def test_a_thread_is_used_again() -> None:
    async with threads(3) as pool:
        used = [await pool.run(threading.get_ident) for _ in range(20)]
    assert len({*used}) == 1


async def test_what_waits_for_one_that_is_abandoned_gets_another_thread() -> None:
    async with threads(1) as pool, blocking() as endless:
        stuck = begin(pool, 1, endless)
        await eventually(lambda: endless.running == 1)
        waiting = asyncio.create_task(pool.run(lambda: "done"))
        await asyncio.sleep(0)
        await give_up(stuck)
        assert await waiting == "done"


async def test_those_that_are_abandoned_are_made_up_for_as_often_as_the_limit_and_no_more() -> None:
    async with threads(2) as pool, blocking() as endless:
        for running in (2, 4, 4):
            stuck = begin(pool, 2, endless)
            await eventually(partial(endless.has_running, running))
            await give_up(stuck)
        waiting = asyncio.create_task(pool.run(lambda: "done"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        endless.may_end.set()
        assert await waiting == "done"
    assert endless.begun == endless.most == 4


async def test_no_more_run_than_the_limit_once_those_that_were_abandoned_have_ended() -> None:
    async with threads(1) as pool:
        async with blocking() as endless:
            stuck = begin(pool, 1, endless)
            await eventually(lambda: endless.running == 1)
            await give_up(stuck)
            await pool.run(lambda: None)  # in a second thread
        await eventually(lambda: pool._abandoned_count == 0)
        async with blocking() as slow:
            tasks = begin(pool, 5, slow)
            await eventually(lambda: slow.running == 1)
            slow.may_end.set()
            await asyncio.gather(*tasks)
        assert slow.most == 1


async def test_what_is_given_up_before_it_has_begun_never_begins() -> None:
    async with threads(1) as pool, blocking() as slow:
        running = begin(pool, 1, slow)
        await eventually(lambda: slow.running == 1)
        never = Blocking()
        await give_up_soon(begin(pool, 3, never))
        slow.may_end.set()
        await asyncio.gather(*running)
        assert await pool.run(lambda: "next") == "next"
    assert (never.begun, pool._free, pool._abandoned_count) == (0, 1, 0)


async def give_up_soon(tasks: list[asyncio.Task[object]]) -> None:
    await asyncio.sleep(0)
    await give_up(tasks)


async def test_who_is_cancelled_when_the_result_is_there_already_has_abandoned_nobody() -> None:
    async with threads(1) as pool:
        (task,) = begin(pool, 1, lambda: None)
        await asyncio.sleep(0)
        await eventually(lambda: pool._free == 1)
        task.cancel()
        await asyncio.wait([task])
        assert (pool._abandoned_count, pool._free) == (0, 1)


async def test_a_function_sees_the_context_of_whoever_runs_it_and_changes_it_for_nobody_else() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def look() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    async with threads(1) as pool:
        variable.set("mine")
        assert [await pool.run(look), await pool.run(look), variable.get()] == ["mine", "mine", "mine"]


async def test_a_thread_ends_when_its_function_has_and_the_pool_is_closed() -> None:
    async with threads(2) as pool:
        used = [await pool.run(threading.current_thread) for _ in range(2)]
    for thread in used:
        await asyncio.to_thread(thread.join, 30)
    assert not any(thread.is_alive() for thread in used)


def test_a_function_that_outlives_its_event_loop_ends_its_thread_and_raises_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    slow = Blocking()

    async def leave_it() -> None:
        begun = begin(Threads(1), 1, slow)
        await eventually(lambda: slow.running == 1)
        await give_up(begun)

    asyncio.run(leave_it())
    (thread,) = [each for each in threading.enumerate() if each.name.startswith("plantops-handler")]
    slow.may_end.set()
    thread.join(30)
    assert not thread.is_alive()


async def test_a_system_without_room_for_a_thread_is_an_error_and_the_function_never_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with threads(1) as pool:
        never = Blocking()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                await pool.run(never)
        assert await pool.run(lambda: "next") == "next"
    assert never.begun == 0


async def test_many_that_give_up_at_any_moment_leave_the_pool_as_it_was() -> None:
    async with threads(4) as pool:
        for round_ in range(30):
            tasks = begin(pool, 12, lambda: time.sleep(0.0005))
            await asyncio.sleep(0.0003 * (round_ % 5))
            await give_up_some(tasks)
        await eventually(lambda: pool._abandoned_count == 0 and pool._free == pool._count)
        assert pool._count <= 4


async def give_up_some(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks)
