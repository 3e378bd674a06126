"""Whose turn it is: who would use the event loop up, and all others."""

import asyncio
from itertools import pairwise
from time import monotonic

import pytest

from plantops_cli.stream.handling import turns as module
from plantops_cli.stream.handling.turns import TURNS_BETWEEN, Turns


class Others:
    """Counts the turns of the event loop that others get."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._handle = self._loop.call_soon(self._turn)

    def end(self) -> None:
        self._handle.cancel()


def compute_for_a_slice(turns: Turns) -> None:
    """Use the event loop until the slice is over."""
    while not turns.is_over():
        pass


async def test_a_slice_begins_when_something_is_begun_and_is_over_when_its_time_is() -> None:
    turns = Turns()
    assert turns.until == 0
    assert not turns.is_over()
    assert 0 < turns.until - monotonic() <= module.SLICE_SECONDS
    compute_for_a_slice(turns)
    assert turns.is_over()


async def test_others_get_round_several_times_between_two_slices() -> None:
    turns, others = Turns(), Others()
    for _ in range(5):
        compute_for_a_slice(turns)
        before = others.count
        await turns.next()
        assert TURNS_BETWEEN <= others.count - before <= TURNS_BETWEEN + 2
    others.end()


async def test_those_who_wait_get_a_slice_each_in_the_order_in_which_they_came() -> None:
    turns, others, got = Turns(), Others(), list[tuple[str, int]]()

    async def wait(name: str) -> None:
        await turns.next()
        got.append((name, others.count))

    compute_for_a_slice(turns)
    await asyncio.gather(*map(wait, "abc"))
    others.end()
    assert [name for name, _ in got] == ["a", "b", "c"]
    assert all(late - early >= TURNS_BETWEEN for (_, early), (_, late) in pairwise(got))


@pytest.mark.parametrize("cancelled", [(0,), (1,), (0, 1), (2,), (0, 2), (0, 1, 2)])
async def test_nobody_waits_for_one_who_was_cancelled(cancelled: tuple[int, ...]) -> None:
    turns = Turns()
    compute_for_a_slice(turns)
    waiting = [asyncio.create_task(turns.next()) for _ in range(4)]
    await asyncio.sleep(0)
    for position in cancelled:
        waiting[position].cancel()
    await asyncio.wait(waiting, timeout=30)
    assert [position for position, task in enumerate(waiting) if task.cancelled()] == list(cancelled)
    assert all(task.done() for task in waiting)


async def test_one_who_is_cancelled_when_its_turn_has_come_keeps_nobody_waiting() -> None:
    turns = Turns()
    first, second = asyncio.create_task(turns.next()), asyncio.create_task(turns.next())
    while not (turns._waiting and len(turns._waiting) == 1):  # the first has its turn, and does not know yet
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 30)


async def test_the_event_loop_rests_when_nobody_waits() -> None:
    turns = Turns()
    await turns.next()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns.until == 0
    loop = asyncio.get_running_loop()
    assert not loop._ready  # type: ignore[attr-defined]  # of asyncio's own loop: what is to be done at once


async def test_a_slice_that_nobody_waits_behind_is_forgotten_at_once() -> None:
    turns = Turns()
    compute_for_a_slice(turns)
    await asyncio.sleep(0)
    assert turns.until == 0
    assert not turns.is_over()
