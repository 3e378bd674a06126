"""What ends the waiting for an answer of the broker."""

import asyncio
from itertools import count

import pytest

from plantops_cli.stream.answers import HELD_UP_SECONDS, Answers, unless_silent
from tests.support.subscribing import WAIT_SECONDS, eventually


class EndedError(Exception):
    pass


class HeldUpError(Exception):
    pass


async def wait_until_ended(answers: Answers) -> None:
    async with answers.unless_ended(EndedError):
        await asyncio.sleep(WAIT_SECONDS)


async def wait_until_held_up(answers: Answers) -> None:
    async with answers.unless_held_up(HeldUpError):
        await asyncio.sleep(WAIT_SECONDS)


async def test_all_who_wait_are_told_of_the_end_of_the_connection() -> None:
    answers = Answers()
    waiting = [asyncio.create_task(wait_until_ended(answers)) for _ in range(3)]
    await asyncio.sleep(0)
    answers.end()
    answers.end()
    assert [type(outcome) for outcome in await asyncio.gather(*waiting, return_exceptions=True)] == 3 * [
        EndedError
    ]
    assert answers.ended.is_set()


async def test_who_waits_behind_messages_that_nobody_takes_is_told_after_a_moment() -> None:
    answers = Answers()
    waiting = asyncio.create_task(wait_until_held_up(answers))
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    answers.stop_coming()
    assert not answers.is_held_up
    with pytest.raises(HeldUpError):
        await waiting
    assert asyncio.get_running_loop().time() - began >= 0.9 * HELD_UP_SECONDS
    assert answers.is_held_up
    answers.come_again()
    assert not answers.is_held_up


async def test_a_short_pause_in_reading_costs_nobody_an_answer() -> None:
    answers = Answers()
    answers.stop_coming()
    async with answers.unless_held_up(HeldUpError):
        answers.come_again()
        await asyncio.sleep(1.5 * HELD_UP_SECONDS)
    assert not answers.is_held_up


async def test_an_answer_that_has_come_is_not_waited_for_any_more() -> None:
    answers = Answers()
    async with answers.unless_ended(EndedError), answers.unless_held_up(HeldUpError):
        await asyncio.sleep(0)
    answers.end()
    await asyncio.sleep(0)


async def test_a_timeout_of_the_block_itself_passes() -> None:
    answers = Answers()
    with pytest.raises(TimeoutError):
        async with answers.unless_ended(EndedError):
            raise TimeoutError


async def test_silence_ends_the_waiting() -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with unless_silent(0.1, lambda: 7):
            await asyncio.sleep(WAIT_SECONDS)
    assert asyncio.get_running_loop().time() - began >= 0.1


async def test_while_something_comes_the_answer_is_waited_for() -> None:
    heard, came = count(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, came.set)
    async with unless_silent(0.2, lambda: next(heard)):
        await came.wait()


async def test_what_is_left_unread_is_no_silence() -> None:
    left_unread, looks = True, 0

    def heard_bytes() -> int | None:
        nonlocal looks
        looks += 1
        return None if left_unread else 7

    async def wait() -> None:
        async with unless_silent(0.1, heard_bytes):
            await asyncio.sleep(WAIT_SECONDS)

    waiting = asyncio.create_task(wait())
    await eventually(lambda: looks > 5)
    assert not waiting.done()
    left_unread = False
    with pytest.raises(TimeoutError):
        await waiting
