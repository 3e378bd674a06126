"""What is written past paho, to brokers that take it and to those that do not."""

import asyncio

import pytest

from plantops_cli.errors import (
    ConnectionLostError,
)
from tests.support.scripted_broker import (
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import (
    collect,
    session_on,
    take,
)


async def test_a_puback_due_when_the_connection_ends_leaves_no_writer_behind() -> None:
    script = publish(b"bad/+", qos=1) + b"\xe0\x02\x8b\x00"
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        with pytest.raises(ConnectionLostError, match="0x8b"):
            await take(session, 1)
        await asyncio.sleep(0.02)  # asyncio's complaint would come now


async def test_acknowledgements_that_cannot_be_sent_any_more_leave_no_writer_behind() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        assert session.client is not None
        broker.stop_reading()
        client = session.client
        while client._tap is not None and not client._tap.unsent_bytes:
            session.acknowledge([(0x32, b"a", 1, b"", b"")] * 10_000)
        descriptor = client._tap.fileno() if client._tap else -1
        assert asyncio.get_running_loop().remove_writer(descriptor)  # there was one
        session.acknowledge([(0x32, b"a", 1, b"", b"")])
        client.abort()
        assert not asyncio.get_running_loop().remove_writer(descriptor)


async def test_a_broker_that_sends_and_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plantops_cli.stream.writing.UNSENT_BYTES", 10_000)
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"a": 1})
        broker.stop_reading()
        reading = asyncio.create_task(collect(session, []))
        while not reading.done():
            session.acknowledge([(0x32, b"a", 1, b"", b"")] * 1_000)
            await asyncio.sleep(0)
        with pytest.raises(ConnectionLostError, match="takes no acknowledgements"):
            await reading
