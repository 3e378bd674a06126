"""MQTT 3.1.1 by hand: just enough to ask a broker the questions of these tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.scripted_broker import packet_of, read_packet

LEVEL_3_1_1 = b"\x00\x04MQTT\x04"
LEVEL_5 = b"\x00\x04MQTT\x05"
LEVEL_3_1 = b"\x00\x06MQIsdp\x03"


def string(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def connect_packet(
    username: bytes | None,
    password: bytes | None,
    *,
    client_id: bytes = b"wire",
    level: bytes = LEVEL_3_1_1,
    properties: bytes = b"",
) -> bytes:
    flags = 0x02 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    login = b"".join(string(part) for part in (username, password) if part is not None)
    return packet_of(0x10, level + bytes([flags, 0, 60]) + properties + string(client_id) + login)


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer(port: int, request: bytes) -> bytes:
    """Everything that the broker answers to one packet: up to its closing, or up to a whole CONNACK."""
    async with connection(port) as (reader, writer):
        writer.write(request)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            first, body = await read_packet(reader)
            return packet_of(first, body)
    return b""


async def connack_code(port: int, username: bytes | None, password: bytes | None) -> int:
    return (await answer(port, connect_packet(username, password)))[3]


@dataclass(frozen=True)
class Client:
    """A logged-in client that publishes at QoS 0 and acknowledges nothing."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        self.writer.write(packet_of(0x31 if retain else 0x30, string(topic.encode()) + payload))
        await self.writer.drain()

    async def subscribe(self, topic_filter: str, *, qos: int = 0) -> None:
        self.writer.write(packet_of(0x82, b"\x00\x01" + string(topic_filter.encode()) + bytes([qos])))
        first, body = await read_packet(self.reader)
        assert (first, body[2:]) == (0x90, bytes([qos]))

    async def receive(self) -> tuple[str, bytes, bool]:
        first, body = await read_packet(self.reader)
        assert first & 0xF0 == 0x30
        end = 2 + int.from_bytes(body[:2], "big")
        return body[2:end].decode(), body[end:], bool(first & 1)


@contextlib.asynccontextmanager
async def client(port: int, *, client_id: bytes) -> AsyncIterator[Client]:
    async with connection(port) as (reader, writer):
        writer.write(connect_packet(b"plantops_backend", b"right", client_id=client_id))
        assert await read_packet(reader) == (0x20, b"\x00\x00")
        yield Client(reader, writer)
