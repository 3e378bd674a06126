"""A session in front of a broker of raw bytes: what it holds, what it writes, and whom the messages pass."""

import asyncio
import socket
from contextlib import aclosing
from typing import Any

import pytest
from paho.mqtt import client as paho

from plantops_cli.stream.inbox import BATCH_MESSAGES, MESSAGE_BYTES
from plantops_cli.stream.options import MQTTVersion
from tests.stream.test_bulk import session_to
from tests.support.scripted_broker import (
    CONNECT,
    PINGREQ,
    PUBCOMP,
    PUBREC,
    Packet,
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import WAIT_SECONDS, eventually, is_left_unread, subscribing, take

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
RESUMED = {"5": b"\x20\x03\x01\x00\x00", "3.1.1": b"\x20\x02\x01\x00"}


def numbered(count: int, version: str) -> bytes:
    byte = 5 if version == "5" else 4
    return b"".join(publish(b"a", b"%0200d" % mid, qos=1, mid=mid, version=byte) for mid in range(1, count + 1))


@VERSIONS
async def test_a_broker_that_ignores_the_receive_maximum_is_left_unread(version: str) -> None:
    count, max_bytes = 3_000, 512 * 1024
    script = numbered(count, version)
    async with (
        serving(ScriptedBroker(after_suback=script)) as broker,
        session_to(broker.port, mqtt_version=MQTTVersion(version), max_pending_bytes=max_bytes) as session,
        aclosing(session.batches()) as batches,
    ):
        await session.subscribe({"a": 1})
        came = list(await anext(batches))
        assert len(came) <= BATCH_MESSAGES
        await eventually(lambda: is_left_unread(session))
        held = session.held
        await asyncio.sleep(0.1)  # a socket that were still read would bring more
        assert session.held == held < max_bytes // MESSAGE_BYTES
        assert broker.acknowledged == []
        async with asyncio.timeout(WAIT_SECONDS):
            while len(came) < count:
                batch = await anext(batches)
                assert len(batch) <= BATCH_MESSAGES
                came += batch
        session.finish()
        assert await anext(batches, None) is None
        assert [int(message.payload) for message in came] == list(range(1, count + 1))
        await eventually(lambda: len(broker.acknowledged) == count)
        assert broker.acknowledged == list(range(1, count + 1))


@VERSIONS
async def test_not_one_message_that_comes_along_with_connack_slips_past(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slipped: list[object] = []
    monkeypatch.setattr(paho.Client, "_handle_publish", slipped.append)
    count = 2_000
    answer = RESUMED[version] + numbered(count, version)
    async with (
        serving(ScriptedBroker(answers=[answer])) as broker,
        session_to(broker.port, mqtt_version=MQTTVersion(version), session_expiry_seconds=60) as session,
    ):
        assert session.is_resumed
        came = await take(session, count)
    assert [message.mid for message in came] == list(range(1, count + 1))
    assert slipped == []


@VERSIONS
@pytest.mark.parametrize("topic", [b"a/+", b"bad/\xff"])
async def test_a_message_of_qos_2_without_a_valid_topic_is_counted_once_and_completed(
    topic: bytes, version: str
) -> None:
    script = publish(topic, qos=2, mid=7, version=5 if version == "5" else 4)
    async with (
        serving(ScriptedBroker(after_suback=script, subacks=[[2]])) as broker,
        session_to(broker.port, mqtt_version=MQTTVersion(version)) as session,
    ):
        await session.subscribe({"#": 2})
        await broker.wait_for(PUBREC)
        await broker.send(b"\x62\x02\x00\x07")  # PUBREL
        await broker.wait_for(PUBCOMP)
        assert session.invalid == 1
        assert [packet.body[:2] for packet in broker.of_kind(PUBCOMP)] == [b"\0\7"]


class Silent(ScriptedBroker):
    """Says nothing behind its SUBACK, not even that it is there."""

    def _answer(self, packet: Packet, writer: asyncio.StreamWriter, *, version: int) -> None:
        if packet.kind != PINGREQ:
            super()._answer(packet, writer, version=version)


# to the client the answers to its pings are the rest of the packet
@pytest.mark.parametrize("kind", [Silent, ScriptedBroker])
async def test_a_packet_that_never_becomes_whole_ends_in_a_new_connection(kind: type[ScriptedBroker]) -> None:
    half = publish(b"a", bytes(1_000), qos=1)[:500]
    async with (
        serving(kind(after_suback=publish(b"a", b"1", qos=1) + half)) as broker,
        subscribing(broker, keepalive_seconds=1) as subscriber,
    ):
        await subscriber.subscribe("a")
        await subscriber.start()
        await broker.wait_for(CONNECT, 2)
        await eventually(lambda: subscriber.health.received == 2)  # one on each connection
        assert "pings" in subscriber.health.outages[0].reason


class Counting(socket.socket):
    """A socket that notes how much it is given at once."""

    sizes: list[int]

    def send(self, data: Any, *flags: int) -> int:
        self.sizes.append(len(data))
        return super().send(data, *flags)


async def test_a_batch_is_acknowledged_in_one_write() -> None:
    sizes: list[int] = []
    async with (
        serving(ScriptedBroker(after_suback=publish(b"a", qos=1, mid=501))) as broker,
        session_to(broker.port) as session,
        aclosing(session.batches()) as batches,
    ):
        await session.subscribe({"a": 1})
        assert session.client is not None
        tap = session.client._tap
        assert tap is not None
        assert isinstance(tap._wire, socket.socket)
        tap._wire = counting = Counting(fileno=tap._wire.detach())  # the same to whoever watches it
        counting.setblocking(False)
        counting.sizes = sizes
        assert len(await anext(batches)) == 1
        await broker.send(numbered(500, "5"))
        await eventually(lambda: session.held == 500)
        assert len(await anext(batches)) == 500
        sizes.clear()
        waiting = asyncio.create_task(anext(batches, None))
        await eventually(lambda: len(broker.acknowledged) == 501)
        assert sizes == [4 * 500]
        session.finish()
        assert await waiting is None
        assert broker.acknowledged == [501, *range(1, 501)]
