"""The workers of one lane: started when they are needed, and no more than may work at once."""

import asyncio

import pytest

from plantops_cli.messages import Message
from tests.support.handling import Engine, engine, packet
from tests.support.subscribing import Recorder, eventually


class Waiting:
    """A handler that waits until it may go on, and counts how many of it do.

    Attributes:
        most: the most that waited at once.
    """

    def __init__(self) -> None:
        self.most = self._now = 0
        self._may_go_on = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        await self._may_go_on.wait()
        self._now -= 1

    def go_on(self) -> None:
        """Let all of them end."""
        self._may_go_on.set()


def workers(made: Engine) -> int:
    return sum(len(team.workers) for team in made.dispatcher._teams.values())


async def test_there_are_as_many_workers_as_messages_wait_and_at_most_as_many_as_may() -> None:
    handler = Waiting()
    async with engine() as made:
        made.on("#", handler, concurrency=3)
        await made.take(*(packet(f"topic/{n}", mid=n) for n in range(1, 3)))
        await eventually(lambda: handler.most == 2)
        assert workers(made) <= 3
        await made.take(*(packet(f"topic/{n}", mid=n) for n in range(3, 11)))
        await eventually(lambda: handler.most == 3)
        assert workers(made) == 3
        handler.go_on()
        await eventually(lambda: made.connection.acknowledged == [*range(1, 11)])
        assert handler.most == 3


async def test_one_that_rests_is_roused_before_another_is_started() -> None:
    handler = Waiting()
    handler.go_on()
    async with engine() as made:
        made.on("#", handler, concurrency=3)
        for mid in range(1, 6):
            await made.take(packet("a", mid=mid))
            await eventually(lambda: made.connection.acknowledged[-1:] == [mid])  # noqa: B023  # awaited here
        assert workers(made) == 1


async def test_a_fault_of_ours_is_not_kept_secret() -> None:
    async def handle(message: Message) -> None: ...

    async with engine() as made:
        made.on("#", handle)
        await made.take(packet("a", mid=1))
        await eventually(lambda: made.connection.acknowledged == [1])
        (team,) = made.dispatcher._teams.values()
        team.lane.put(object())  # type: ignore[arg-type]  # no message at all
        await made.take(packet("a", mid=2))
        await eventually(lambda: not workers(made))
        with pytest.raises(AttributeError):
            await made.take(packet("a", mid=3))


async def handle(made: Engine, count: int) -> None:
    """Let so many messages of as many topics be handled."""
    first = len(made.connection.acknowledged) + 1
    await made.take(*(packet(str(mid), mid=mid) for mid in range(first, first + count)))
    await eventually(lambda: len(made.connection.acknowledged) == first - 1 + count)


async def test_there_are_as_many_workers_as_there_is_work_for_and_they_are_used_again() -> None:
    async with engine() as made:
        made.on("#", lambda _: asyncio.sleep(0.001), blocking=False, concurrency=50)
        await handle(made, 20)
        assert workers(made) <= 21
        for _ in range(20):
            await handle(made, 5)
        assert workers(made) <= 21


async def test_all_handlers_that_take_one_message_at_a_time_share_one_worker() -> None:
    async with engine() as made:
        for _ in range(5):
            made.on("#", Recorder())
        await handle(made, 20)
        assert workers(made) == 1


async def test_a_handler_that_starts_to_block_the_others_is_made_up_for_at_once() -> None:
    may_end = asyncio.Event()
    heard = Recorder()

    async def handler(message: Message) -> None:
        heard(message)
        if message.topic == "1":
            await may_end.wait()

    async with engine() as made:
        made.on("#", handler, concurrency=2)
        await made.take(*(packet(str(mid), mid=mid) for mid in range(1, 20)))
        await eventually(lambda: len(heard.topics) == 19)
        assert workers(made) == 2
        may_end.set()


async def test_those_who_rest_end_when_they_are_dismissed_and_nobody_begins_any_more() -> None:
    async with engine() as made:
        made.on("#", Recorder(), concurrency=3)
        await handle(made, 9)
        (team,) = made.dispatcher._teams.values()
        tasks = team.dismiss()
        await asyncio.wait(tasks)
        assert not team.workers
        assert all(task.cancelled() for task in tasks)
        team.lane.put(team.lane)  # type: ignore[arg-type]  # anything
        team.rouse()
        assert not team.workers
        team.lane.discard(lambda _: False)


async def test_a_worker_is_cancelled_once_however_often_it_is_dismissed() -> None:
    cancelled = 0
    may_end = asyncio.Event()

    async def stubborn(_: Message) -> None:
        nonlocal cancelled
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                cancelled += 1

    async with engine() as made:
        made.on("#", stubborn)
        await made.take(packet("a", mid=1))
        await asyncio.sleep(0.01)
        (team,) = made.dispatcher._teams.values()
        for _ in range(3):
            tasks = team.dismiss()
            await asyncio.sleep(0.01)
        assert (cancelled, len(tasks)) == (1, 1)
        may_end.set()
        await asyncio.wait(tasks)


async def test_a_worker_has_nothing_in_hand_that_rests() -> None:
    async with engine() as made:
        made.on("#", Recorder())
        await handle(made, 3)
        (team,) = made.dispatcher._teams.values()
        (worker,) = team.workers
        await eventually(lambda: worker.work is None)
        assert team.is_quiet(None)
