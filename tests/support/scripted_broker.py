"""A broker of raw bytes that does what a script says, right or wrong."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x30, 0x40, 0x50, 0x60, 0x70
SUBSCRIBE, PINGREQ, DISCONNECT = 0x80, 0xC0, 0xE0
CLOSE = b""
WAIT_SECONDS = 30.0
_T = TypeVar("_T")


class Packet(NamedTuple):
    """What a client sent: the packet type (high nibble of the first byte) and all after the length."""

    kind: int
    body: bytes


@dataclass
class ScriptedBroker:
    """Answers on a loopback port; each list of answers is used up one by one, its last one for ever.

    Args:
        answers: to CONNECT: a reason code, raw bytes, ``CLOSE`` to hang up, or None for silence.
        subacks: to SUBSCRIBE: the codes of a SUBACK, raw bytes, None for silence, or "grant".
        after_suback: raw bytes sent right behind each SUBACK.
        pubacks: to PUBLISH of QoS 1 or 2: the reason code of a PUBACK or PUBREC, ``CLOSE`` to hang up, or None for
            silence.
    """

    answers: Iterable[int | bytes | None] = (0,)
    subacks: Iterable[Sequence[int] | str | bytes | None] = ("grant",)
    after_suback: bytes = b""
    pubacks: Iterable[int | bytes | None] = (None,)
    port: int = 0
    received: list[Packet] = field(default_factory=list)
    connection_count: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self._answers, self._subacks = deque(self.answers), deque(self.subacks)
        self._pubacks = deque(self.pubacks)

    def of_kind(self, kind: int) -> list[Packet]:
        """The packets of one type received so far."""
        return [packet for packet in self.received if packet.kind == kind]

    @property
    def acknowledged(self) -> list[int]:
        """The packet identifiers of the PUBACKs received so far."""
        return [int.from_bytes(packet.body[:2], "big") for packet in self.of_kind(PUBACK)]

    async def wait_for(self, kind: int, count: int = 1, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until so many packets of one type have come."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: len(self.of_kind(kind)) >= count)

    async def send(self, data: bytes) -> None:
        """Send raw bytes on the newest connection."""
        self._writers[-1].write(data)
        await self._writers[-1].drain()

    def stop_reading(self) -> None:
        """Read no more on the newest connection, so that what the client sends piles up."""
        transport = self._writers[-1].transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    def hang_up(self) -> None:
        """Close the newest connection."""
        self._writers[-1].close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.connection_count += 1
        self._writers.append(writer)
        version = 5
        try:
            while not writer.is_closing():
                first_byte, body = await read_packet(reader)
                packet = Packet(first_byte & 0xF0, body)
                if packet.kind == CONNECT:
                    version = packet.body[6]
                self._answer(packet, writer, version=version)
                self._acknowledge(first_byte, body, writer, version=version)
                async with self._news:
                    self.received.append(packet)
                    self._news.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, packet: Packet, writer: asyncio.StreamWriter, *, version: int) -> None:
        if packet.kind == CONNECT:
            answer = _next(self._answers)
            if answer == CLOSE:
                writer.close()
            elif answer is not None:
                writer.write(connack(answer, version=version) if isinstance(answer, int) else answer)
        elif packet.kind == SUBSCRIBE:
            codes = _next(self._subacks)
            if codes is not None:
                writer.write(codes if isinstance(codes, bytes) else suback(packet.body, codes, version=version))
                writer.write(self.after_suback)
        elif packet.kind == PINGREQ:
            writer.write(b"\xd0\x00")

    def _acknowledge(self, first_byte: int, body: bytes, writer: asyncio.StreamWriter, *, version: int) -> None:
        if first_byte & 0xF0 == PUBREL:
            writer.write(packet_of(PUBCOMP, body[:2]))
        elif first_byte & 0xF0 == PUBLISH and first_byte & 0x06:
            code = _next(self._pubacks)
            if code == CLOSE:
                writer.close()
            elif isinstance(code, int):
                writer.write(receipt(first_byte, body, code, version=version))


ROUNDS_OF_ACCEPTING = 5
"""Turns of the event loop until asyncio has handed on what it accepted just before the server ended."""


@asynccontextmanager
async def serving(broker: ScriptedBroker, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedBroker]:
    """Run a scripted broker on a free loopback port; nothing of it is left afterwards.

    Args:
        broker: gets the port.
        tls: certificate and key, for TLS.
    """
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.add(asyncio.create_task(broker.serve(reader, writer), name="scripted-broker"))

    server = await asyncio.start_server(accept, "127.0.0.1", broker.port, ssl=tls)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for _ in range(ROUNDS_OF_ACCEPTING):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()  # of a task, too, that was cancelled before it began
        await server.wait_closed()


def connack(code: int, *, version: int, properties: bytes = b"") -> bytes:
    """A CONNACK for MQTT 5 or 3.1.1 (4); properties of MQTT 5 as ``properties_of`` writes them."""
    return (
        packet_of(0x20, bytes([0, code]) + with_length(properties)) if version == 5 else bytes([0x20, 2, 0, code])
    )


PROPERTIES = {
    "ServerKeepAlive": (0x13, 2),
    "ReasonString": (0x1F, None),
    "ServerReference": (0x1C, None),
    "ReceiveMaximum": (0x21, 2),
    "MaximumQoS": (0x24, 1),
    "RetainAvailable": (0x25, 1),
    "MaximumPacketSize": (0x27, 4),
    "WildcardSubscriptionAvailable": (0x28, 1),
    "SharedSubscriptionAvailable": (0x2A, 1),
}
"""What a broker may say in its properties (MQTT 5, 2.2.2): identifier, and bytes of a number; None for a text."""


def properties_of(**values: int | str) -> bytes:
    """Properties of a packet of the broker, without their length."""
    made = b""
    for name, value in values.items():
        identifier, size = PROPERTIES[name]
        data = str(value).encode()
        made += bytes([identifier]) + (
            len(data).to_bytes(2, "big") + data if size is None else int(value).to_bytes(size, "big")
        )
    return made


def with_length(properties: bytes) -> bytes:
    """Properties behind their length."""
    return packet_of(0, properties)[1:]


def disconnect(code: int, **properties: int | str) -> bytes:
    """A DISCONNECT of MQTT 5."""
    return packet_of(DISCONNECT, bytes([code]) + with_length(properties_of(**properties)))


def filters_of(subscribe: bytes) -> list[tuple[str, int]]:
    """The topic filters in the body of a SUBSCRIBE of MQTT 5 without properties, and the QoS of each."""
    found, position = [], 3
    while position < len(subscribe):
        start = position + 2
        position = start + int.from_bytes(subscribe[position:start], "big") + 1
        found.append((subscribe[start : position - 1].decode(), subscribe[position - 1] & 3))
    return found


def receipt(first_byte: int, body: bytes, code: int, *, version: int) -> bytes:
    """The PUBACK to a PUBLISH of QoS 1, or the PUBREC to one of QoS 2."""
    end = 2 + int.from_bytes(body[:2], "big")
    kind = PUBACK if first_byte & 0x02 else PUBREC
    return packet_of(kind, body[end : end + 2] + (bytes([code]) if version == 5 else b""))


def suback(subscribe: bytes, codes: Sequence[int] | str, *, version: int) -> bytes:
    """The SUBACK to the body of a SUBSCRIBE; "grant" gives QoS 1 to each filter."""
    properties = b"\0" if version == 5 else b""
    position, count = 2 + len(properties), 0
    while position < len(subscribe):
        position += 2 + int.from_bytes(subscribe[position : position + 2], "big") + 1
        count += 1
    return packet_of(
        0x90, subscribe[:2] + properties + (bytes([1] * count) if isinstance(codes, str) else bytes(codes))
    )


def publish(topic: bytes, payload: bytes = b"{}", *, qos: int = 0, mid: int = 1, version: int = 5) -> bytes:
    """A PUBLISH, whatever its topic holds."""
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if qos else b"")
    return packet_of(0x30 | qos << 1, body + (b"\0" if version == 5 else b"") + payload)


def packet_of(first_byte: int, body: bytes) -> bytes:
    """A packet with the length of its body (MQTT 5, 1.5.5)."""
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([first_byte]) + length + body


def _next(items: deque[_T]) -> _T:
    return items.popleft() if len(items) > 1 else items[0]


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a packet: its first byte, and all after the length (MQTT 5, 1.5.5)."""
    first_byte = (await reader.readexactly(1))[0]
    size, shift = 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        size |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return first_byte, await reader.readexactly(size)
