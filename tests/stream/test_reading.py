"""When the socket is read and when it is left alone, in front of brokers that send more than is taken."""

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plantops_cli.errors import ConnectionLostError
from plantops_cli.messages import Message
from plantops_cli.stream.answers import Answers
from plantops_cli.stream.batch import Read
from plantops_cli.stream.inbox import MAX_PENDING_BYTES, MESSAGE_BYTES, Inbox
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.packets import Packet, Splitter
from plantops_cli.stream.reading import Reading
from plantops_cli.stream.session import open_session
from plantops_cli.stream.tap import READ_BYTES, Tap
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.scripted_broker import ScriptedBroker, publish, serving
from tests.support.subscribing import (
    WAIT_SECONDS,
    collect,
    eventually,
    is_left_unread,
    publish_all,
    session_on,
    take,
)

MIB = 1024 * 1024
FEW_BYTES = 128 * 1024


class Paho:
    """Takes what is no message, byte by byte."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.heard = b""

    def socket(self) -> Tap | None:
        return self.tap if self.tap.fileno() >= 0 else None

    def loop_read(self) -> None:
        self.heard += self.tap.recv(1)


class Keeper:
    """Keeps all messages, and trips over the topic ``bad``."""

    def __init__(self, max_bytes: int) -> None:
        self.inbox = Inbox(max_bytes)
        self.reader: asyncio.Task[object] | None = None
        self.released: list[int] = []

    def take(self, packets: list[Packet], size: int) -> None:
        if packets[-1][1] == b"bad":
            raise LookupError("bad")
        self.inbox.put(Read(0, packets), size)

    def take_exactly_once(self, packets: list[Packet], size: int) -> None:
        self.released += [packet[2] for packet in packets]


@dataclass
class Side:
    """The reading of one end of a connection, and the other end."""

    theirs: socket.socket
    tap: Tap
    paho: Paho
    keeper: Keeper
    answers: Answers
    reading: Reading
    broken: list[Exception]


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        tap = Tap(ours, Splitter(is_v5=True, max_packet_size=MIB))
        paho, keeper, answers, broken = Paho(tap), Keeper(FEW_BYTES), Answers(), list[Exception]()
        reading = Reading(paho, keeper, answers, broken.append)
        reading.begin(tap)
        yield Side(theirs, tap, paho, keeper, answers, reading, broken)
        asyncio.get_running_loop().remove_reader(tap.fileno())
        answers.come_again()
        tap.abort()


async def test_messages_go_to_the_receiver_and_all_else_to_paho(side: Side) -> None:
    side.theirs.sendall(b"\xd0\x00" + publish(b"a") + publish(b"b", qos=1) + b"\x90\x04\0\1\0\1")
    await eventually(lambda: len(side.paho.heard) == 8)
    assert [packet[1] for packet in side.keeper.inbox.take().packets] == [b"a", b"b"]
    assert side.paho.heard == b"\xd0\x00\x90\x04\0\1\0\1"
    assert side.reading.read_at > 0
    assert side.broken == []


async def test_messages_of_qos_2_and_pubrels_are_told_apart(side: Side) -> None:
    side.theirs.sendall(publish(b"a", qos=2, mid=7) + b"\x62\x02\0\x08")
    await eventually(lambda: side.keeper.released == [7, 8])
    assert not side.keeper.inbox


async def test_a_piece_of_a_packet_is_heard_too(side: Side) -> None:
    before = side.reading.hearing.heard_at
    side.theirs.send(publish(b"a", b"x" * 100)[:50])
    await eventually(lambda: side.reading.hearing.heard_at > before)
    assert not side.keeper.inbox


async def test_what_the_receiver_trips_over_is_told_and_paho_gets_its_part_all_the_same(side: Side) -> None:
    side.theirs.sendall(b"\xd0\x00" + publish(b"bad"))
    await eventually(lambda: side.broken)
    assert isinstance(side.broken[0], LookupError)
    assert side.paho.heard == b"\xd0\x00"


async def test_a_full_inbox_stops_the_reading_until_there_is_room(side: Side) -> None:
    message = publish(b"a", bytes(1_000))
    side.theirs.sendall(message * 150)
    await eventually(lambda: side.reading.is_paused)
    kept = side.keeper.inbox.count
    assert kept < 150
    side.keeper.inbox.let_go(side.keeper.inbox.take().size)
    side.reading.resume()
    assert not side.reading.is_paused
    await eventually(lambda: side.keeper.inbox.count == 150 - kept)


async def test_for_an_answer_more_is_read_up_to_a_second_bound(side: Side) -> None:
    message = publish(b"a", bytes(1_000))
    side.theirs.sendall(message * 150)
    await eventually(lambda: side.reading.is_paused)
    usual = side.keeper.inbox.count
    with side.reading.read_on():
        with side.reading.read_on():
            await eventually(lambda: side.keeper.inbox.count == 150)
        side.theirs.sendall(message * 150)
        await eventually(lambda: side.reading.is_paused)
        assert 1.5 * usual < side.keeper.inbox.count < 300
    assert side.keeper.inbox.is_full()


async def test_what_was_read_for_an_answer_stops_the_reading_afterwards(side: Side) -> None:
    side.theirs.sendall(publish(b"a", bytes(1_000)) * 150)
    await eventually(lambda: side.reading.is_paused)
    with side.reading.read_on():
        await eventually(lambda: side.keeper.inbox.count == 150)
    assert not side.reading.is_paused
    side.theirs.sendall(publish(b"a"))
    await eventually(lambda: side.reading.is_paused)
    assert side.keeper.inbox.count == 150


async def test_answers_are_held_up_by_a_socket_that_is_left_unread(side: Side) -> None:
    side.theirs.sendall(publish(b"a", bytes(1_000)) * 150)
    await eventually(lambda: side.answers.is_held_up)
    side.reading.resume()
    assert not side.answers.is_held_up


async def test_the_end_may_lie_unread_behind_messages(side: Side) -> None:
    side.theirs.sendall(publish(b"a", bytes(1_000)) * 150)
    await eventually(lambda: side.reading.is_paused)
    assert not side.reading.is_end_unread
    side.theirs.close()
    assert side.reading.is_end_unread


async def test_messages_and_good_pieces_of_them_are_headway_and_answers_to_pings_are_none(side: Side) -> None:
    assert not side.reading.has_headway()
    side.theirs.sendall(publish(b"a"))
    await eventually(lambda: side.keeper.inbox)
    assert side.reading.has_headway()
    assert not side.reading.has_headway()
    half = publish(b"a", bytes(2_000))
    side.theirs.sendall(half[:500])
    await eventually(lambda: side.tap.partial_bytes == 500)
    assert not side.reading.has_headway()
    side.theirs.sendall(half[500:1_500])
    await eventually(lambda: side.tap.partial_bytes == 1_500)
    assert side.reading.has_headway()
    assert not side.reading.has_headway()
    side.theirs.sendall(b"x")
    assert side.reading.has_headway()  # unread


# In front of brokers


async def test_of_what_is_passed_over_the_topics_count_too() -> None:
    async with (
        serving(ScriptedBroker(after_suback=publish(b"good"))) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert len(await anext(batches)) == 1
        flooding = asyncio.create_task(broker.send(publish(b"+" * 60_000) * 200))
        await eventually(lambda: is_left_unread(session))
        assert session.invalid * 60_000 < FEW_BYTES + 2 * READ_BYTES
        flooding.cancel()
        await batches.aclose()


async def test_a_flood_that_is_passed_over_does_not_fill_the_memory() -> None:
    flood = publish(b"a/+") * 5_000
    async with (
        serving(ScriptedBroker(after_suback=publish(b"good"))) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert len(await anext(batches)) == 1
        await broker.send(flood)
        await eventually(lambda: is_left_unread(session))
        assert session.held <= FEW_BYTES // MESSAGE_BYTES
        reading = asyncio.create_task(anext(batches))
        await eventually(lambda: session.invalid == 5_000)
        await broker.send(publish(b"good", b"last"))
        assert [message.payload for message in await reading] == [b"last"]
        await batches.aclose()


async def test_a_flood_in_small_pieces_is_read_in_larger_ones_and_whole(tmp_path: Path) -> None:
    count = 20_000
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    options = ConnectOptions(host="127.0.0.1", port=broker.port, username=USERNAME, password=PASSWORD)
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"a": 0})
        publishing = asyncio.create_task(publish_all(broker, "a", map(str, range(count)), qos=0))
        seen: list[int] = []
        async for batch in session.batches():
            seen += [int(message.payload) for message in batch]
            if len(seen) == count:
                session.finish()
        await publishing
    finally:
        await session.close()
        broker.stop()
    assert seen == list(range(count))


async def test_a_packet_cut_off_by_the_end_of_the_connection_is_dropped() -> None:
    script = publish(b"good") + publish(b"half")[:-2]
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        broker.hang_up()
        received: list[Message] = []
        with pytest.raises(ConnectionLostError, match="the network connection ended"):
            await collect(session, received)
        assert [message.topic for message in received] == ["good"]


async def test_a_flood_that_nobody_takes_stops_the_reading_and_arrives_complete_in_the_end() -> None:
    count = 50_000
    flood = b"".join(publish(b"devices/a/telemetry", b"%d" % number) for number in range(count))
    async with (
        serving(ScriptedBroker(after_suback=flood)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 0})
        await eventually(lambda: is_left_unread(session))
        held = session.held
        await asyncio.sleep(0.05)
        assert session.held == held <= FEW_BYTES // MESSAGE_BYTES
        received = await take(session, count)
    assert [int(message.payload) for message in received] == list(range(count))


async def test_what_came_before_the_end_of_a_connection_is_read_however_long_it_had_to_wait() -> None:
    count = 160  # a few more than are read, so few that they have come
    flood = b"".join(publish(b"a", b"%0900d" % number) for number in range(count))
    async with (
        serving(ScriptedBroker(after_suback=flood)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES, keepalive_seconds=1) as session,
    ):
        await session.subscribe({"#": 1})
        await eventually(lambda: is_left_unread(session))
        broker.hang_up()
        await asyncio.sleep(3.5)  # in which pings would go out, and be answered by a reset
        received: list[Message] = []
        with pytest.raises(ConnectionLostError):
            await collect(session, received)
        assert len(received) == count


async def test_large_payloads_stop_the_reading_by_their_bytes() -> None:
    count, payload = 8, bytes(5 * MIB)
    script = publish(b"a", payload) * count
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 0})
        await eventually(lambda: session.held == 3)
        await asyncio.sleep(0.05)
        assert session.held == 3  # and of the fourth one no more than there was room for
        assert session.client is not None
        assert session.client._tap is not None
        assert 15 * MIB + session.client._tap.partial_bytes <= MAX_PENDING_BYTES + READ_BYTES
        assert [len(message.payload) for message in await take(session, count)] == [len(payload)] * count


async def test_qos_1_of_a_slow_reader_waits_in_the_broker_and_arrives_once_in_order(tmp_path: Path) -> None:
    count = 3_000
    broker = Mosquitto(tmp_path, extra="max_inflight_messages 0\nmax_queued_messages 0")
    broker.start()
    options = ConnectOptions(
        host="127.0.0.1",
        port=broker.port,
        username=USERNAME,
        password=PASSWORD,
        max_pending_bytes=FEW_BYTES,
    )
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"a": 1})
        await publish_all(broker, "a", map(str, range(count)))
        await eventually(lambda: is_left_unread(session))
        assert session.held <= FEW_BYTES // MESSAGE_BYTES
        assert [int(message.payload) for message in await take(session, count)] == list(range(count))
    finally:
        await session.close()
        broker.stop()


async def test_a_websocket_frame_without_end_ends_the_connection() -> None:
    frame = b"\x82\x7f" + (1 << 40).to_bytes(8, "big")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = re.findall(rb"(?i)sec-websocket-key: (\S+)", request)[0]
        accepted = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
        )
        await reader.readexactly(20)
        writer.write(b"\x82\x05" + b"\x20\x03\0\0\0" + frame)
        with contextlib.suppress(OSError):
            while True:
                writer.write(publish(b"a", bytes(1_000)) * 64)
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = ConnectOptions(host="127.0.0.1", port=port, websocket_path="/mqtt", mqtt_version=MQTTVersion.V5)
        session = await open_session(options, lambda status: None)
        try:
            with pytest.raises(ConnectionLostError, match="a WebSocket frame of more than"):
                await asyncio.wait_for(collect(session, []), WAIT_SECONDS)
        finally:
            await session.close()
