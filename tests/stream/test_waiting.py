import asyncio
import threading

import pytest

from plantops_cli.stream.waiting import in_daemon_thread, unless


async def seven() -> int:
    await asyncio.sleep(0)
    return 7


async def test_work_that_is_faster_gives_its_result() -> None:
    assert await unless(asyncio.Event(), seven()) == 7


async def test_work_is_not_begun_after_the_event() -> None:
    event, begun = asyncio.Event(), []

    async def work() -> int:
        begun.append(1)
        return 7

    event.set()
    assert await unless(event, work()) is None
    assert begun == []


async def test_the_event_cancels_the_work_and_waits_for_its_end() -> None:
    event, cleaned = asyncio.Event(), []

    async def work() -> int:
        try:
            return await asyncio.sleep(60, 7)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(1)

    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await unless(event, work()) is None
    assert cleaned == [1]


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("spoilt")

    with pytest.raises(ValueError, match="spoilt"):
        await unless(asyncio.Event(), work())


async def test_a_cancelled_caller_leaves_no_work_behind() -> None:
    before = asyncio.all_tasks()
    caller = asyncio.create_task(unless(asyncio.Event(), asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert asyncio.all_tasks() == before


async def test_a_blocking_function_hands_back_its_result_or_its_error() -> None:
    assert await in_daemon_thread(lambda: threading.current_thread().daemon) is True
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


async def test_nobody_has_to_wait_for_a_blocking_function() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_daemon_thread(ended.wait)
    ended.set()
    await asyncio.sleep(0.05)
