"""One message that takes so long that it holds up the acknowledgement of all others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise

import pytest

from plantops_cli.messages import now
from plantops_cli.stream.handling import holdup as module
from plantops_cli.stream.handling.holdup import Holdup
from plantops_cli.stream.handling.ledger import Work
from plantops_cli.stream.handling.tally import Tally
from tests.support.handling import ledger, packet
from tests.support.subscribing import eventually

SLOW_SECONDS = 0.04


class Watched:
    """A holdup, the oldest message, and what is told."""

    def __init__(self) -> None:
        self.oldest: Work | None = None
        self.told: list[tuple[Work, float]] = []
        self.tally = Tally()
        self.find: Callable[[], Work | None] = lambda: self.oldest
        self.holdup = Holdup(
            lambda: self.find(), lambda work, seconds: self.told.append((work, seconds)), self.tally
        )

    def comes(self, *, age_seconds: float = 0) -> Work:
        """Let another message be the oldest."""
        self.oldest = Work(packet(mid=1), now() - timedelta(seconds=age_seconds), ledger())
        return self.oldest


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    watched = Watched()
    try:
        yield watched
    finally:
        watched.holdup.end()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let little be slow, so that the tests are quick."""
    monkeypatch.setattr(module, "SLOW_SECONDS", SLOW_SECONDS)


async def test_nothing_is_told_while_nothing_is_handled() -> None:
    async with watching() as watched:
        await asyncio.sleep(3 * SLOW_SECONDS)
        assert (watched.told, watched.tally.paused_seconds) == ([], 0)


async def test_a_message_that_stays_the_oldest_is_told_of_ever_more_seldom() -> None:
    async with watching() as watched:
        slow = watched.comes()
        await eventually(lambda: len(watched.told) == 3)
        seconds = [seconds for _, seconds in watched.told]
        assert {work for work, _ in watched.told} == {slow}
        assert seconds[0] >= SLOW_SECONDS
        assert all(late >= 2 * early for early, late in pairwise(seconds))


async def test_one_message_after_the_other_holds_up_nobody() -> None:
    async with watching() as watched:
        watched.find = watched.comes
        await asyncio.sleep(4 * SLOW_SECONDS)
        assert watched.told == []


async def test_the_time_is_counted_that_a_message_took_which_was_slow() -> None:
    async with watching() as watched:
        loop = asyncio.get_running_loop()
        began = loop.time()
        watched.comes()
        await eventually(lambda: watched.tally.paused_seconds > 3 * SLOW_SECONDS)
        watched.oldest = None
        await asyncio.sleep(SLOW_SECONDS)
        counted = watched.tally.paused_seconds
        assert counted <= loop.time() - began
        await asyncio.sleep(2 * SLOW_SECONDS)
        assert watched.tally.paused_seconds == counted


async def test_of_a_message_that_was_read_long_ago_only_the_time_counts_in_which_it_was_the_oldest() -> None:
    async with watching() as watched:
        watched.comes(age_seconds=3600)
        await eventually(lambda: watched.told)
        assert watched.told[0][1] < 3600


async def test_nobody_is_told_anything_after_the_end() -> None:
    async with watching() as watched:
        watched.comes()
        watched.holdup.end()
        await asyncio.sleep(3 * SLOW_SECONDS)
        assert watched.told == []
