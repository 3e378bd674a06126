"""One connection in memory: it ends, holds up and answers as one by the network does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from plantops_cli import BrokerError, ConnectOptions, HeldUpError, MQTTVersion
from plantops_cli.stream.packets import Packet
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.session import Session, open_session
from plantops_cli.testing.memory_line import MemoryLine, WayBack, name_of
from plantops_cli.testing.memory_session import MemorySession
from tests.support.subscribing import collect, eventually

BYTES = 2_000


@asynccontextmanager
async def session_on(broker: MemorySession, *, version: str = "5") -> AsyncIterator[tuple[Session, MemoryLine]]:
    """A session on a line in memory, and that line."""
    options = ConnectOptions(host="broker.invalid", mqtt_version=MQTTVersion(version), max_pending_bytes=BYTES)
    session = await open_session(options, make_client=broker.make_line)
    assert broker.line is not None
    line = broker.line
    try:
        yield session, line
    finally:
        await session.close()
    assert broker.line is None


def publish(mid: int, payload: bytes = b"7", *, topic: bytes = b"a") -> Packet:
    return 0x32, topic, mid, b"", payload


@pytest.mark.parametrize(("version", "is_v5"), [("5", True), ("3.1.1", False), ("auto", True)])
async def test_it_speaks_the_version_that_it_is_asked_for(version: str, is_v5: bool) -> None:
    async with session_on(MemorySession(), version=version) as (session, line):
        assert line.is_v5 is is_v5
        assert session.client is not None


async def test_what_had_come_before_the_end_is_read_first() -> None:
    received: list[object] = []
    async with session_on(MemorySession()) as (session, line):
        line.feed(publish(1))
        line.end(None)
        with pytest.raises(BrokerError, match="connection lost: the network connection ended"):
            await collect(session, received)  # type: ignore[arg-type]  # of messages
        assert len(received) == 1
        assert not session.is_given_up


async def test_what_the_broker_says_at_the_end_is_handed_on() -> None:
    async with session_on(MemorySession()) as (session, line):
        line.end(0x97)
        with pytest.raises(BrokerError, match="the broker said 0x97, Quota exceeded"):
            await collect(session, [])


async def test_an_answer_behind_messages_that_nobody_takes_is_not_waited_for() -> None:
    async with session_on(MemorySession()) as (session, line):
        for mid in range(1, 10):
            line.feed(publish(mid, bytes(1_000)))
        await eventually(lambda: line.reading.is_paused)
        with pytest.raises(HeldUpError):
            await session.publish("a", b"", qos=1, retain=False)


async def test_a_message_of_qos_2_is_released_when_it_was_handled() -> None:
    broker = MemorySession()
    async with session_on(broker) as (session, line):
        request = PublishRequest.of("a", b"7", qos=2, retain=False, properties=None)
        sent = broker.send(line, request, 2)
        reading = asyncio.create_task(collect(session, []))
        assert await sent.settled
        await eventually(lambda: not broker._unreleased)
        session.finish()
        await reading


async def test_what_the_receiver_cannot_read_ends_the_connection() -> None:
    async with session_on(MemorySession()) as (session, line):
        line.feed((0x32, b"a", 1, b"\xff", b""))
        with pytest.raises(BrokerError, match="malformed"):
            await collect(session, [])


async def test_it_may_be_given_up_at_any_moment_and_again() -> None:
    async with session_on(MemorySession()) as (session, line):
        line.abort()
        line.abort()
        assert session.client is None


def test_acknowledgements_are_read_one_by_one() -> None:
    heard: list[tuple[int, int]] = []
    WayBack(lambda first, mid: heard.append((first, mid))).push(b"\x40\x02\x01\x02\x50\x02\x00\x07")
    assert heard == [(0x40, 0x102), (0x50, 7)]


def test_a_code_without_a_name_is_named_by_its_number() -> None:
    assert (name_of(0x87), name_of(0x99)) == ("Not authorized", "code 0x99")
