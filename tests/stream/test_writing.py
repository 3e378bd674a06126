"""What is written past paho, to brokers that take it and to those that do not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from plantops_cli.errors import ConnectionLostError
from plantops_cli.stream.packets import Splitter
from plantops_cli.stream.tap import Tap
from plantops_cli.stream.writing import UNSENT_BYTES, Writing
from tests.support.scripted_broker import ScriptedBroker, publish, serving
from tests.support.subscribing import WAIT_SECONDS, collect, eventually, session_on, take


class Paho:
    """Has a packet of its own to write, while there is one."""

    packet = b""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap

    def socket(self) -> Tap | None:
        return self.tap if self.tap.fileno() >= 0 else None

    def want_write(self) -> bool:
        return bool(self.packet)

    def loop_write(self) -> None:
        with suppress(BlockingIOError):
            self.packet = self.packet[self.tap.send(self.packet) :]


@dataclass
class Side:
    """The writing of one end of a connection, and the other end."""

    theirs: socket.socket
    tap: Tap
    paho: Paho
    writing: Writing
    clogged: list[bool]

    async def hear(self, size: int) -> bytes:
        """Take so many bytes out at the other end."""
        heard = b""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(heard) < size:
                heard += await asyncio.get_running_loop().sock_recv(self.theirs, size - len(heard))
        return heard


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with theirs:
        tap, clogged = Tap(ours, Splitter(is_v5=True, max_packet_size=1_000_000)), list[bool]()
        paho = Paho(tap)
        yield Side(theirs, tap, paho, Writing(paho, lambda: clogged.append(True)), clogged)
        if tap.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(tap.fileno())
        tap.abort()


def is_watched(tap: Tap) -> bool:
    """Tell whether the event loop waits for the socket to take something; it does no longer from now on."""
    return asyncio.get_running_loop().remove_writer(tap.fileno())


async def test_before_the_beginning_and_after_the_end_nothing_is_written(side: Side) -> None:
    side.writing.push(b"early")
    side.writing.attach(side.tap)
    assert not is_watched(side.tap)
    side.writing.begin(side.tap)
    side.tap.abort()
    side.writing.push(b"late")
    side.writing.attach(side.tap)
    assert side.writing.is_done
    assert side.theirs.recv(100) == b""


async def test_what_can_go_out_at_once_does_and_leaves_nothing_to_wait_for(side: Side) -> None:
    side.writing.begin(side.tap)
    side.writing.push(b"PUBACK")
    assert side.theirs.recv(100) == b"PUBACK"
    assert side.writing.is_done
    assert not is_watched(side.tap)


async def test_what_has_to_wait_goes_out_in_order_before_what_paho_has_and_nobody_is_called_clogged(
    side: Side,
) -> None:
    side.writing.begin(side.tap)
    acknowledgements = [b"%03d." % (number % 1_000) * 1_000 for number in range(100)]
    for some in acknowledgements:
        side.writing.push(some)
    assert not side.writing.is_done
    side.paho.packet = b"PINGREQ"
    assert await side.hear(400_007) == b"".join(acknowledgements) + b"PINGREQ"
    await eventually(lambda: not is_watched(side.tap))
    assert side.clogged == []


async def test_too_much_that_waits_is_told(side: Side) -> None:
    side.writing.begin(side.tap)
    while not side.clogged:
        side.writing.push(bytes(100_000))
    assert side.tap.unsent_bytes > UNSENT_BYTES


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
