"""One end of an MQTT connection that pours prebuilt PUBLISH packets: a fake broker's, or a publisher's."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.support.scripted_broker import PUBACK, Packet, publish

TOPIC_FILTER = "devices/+/telemetry"
_DEVICES = 100
_IDENTIFIERS = 65_535  # packet identifiers run from 1 to this (MQTT 5, 2.2.1)
_PACKETS_AT_ONCE = 2_000
_BYTES_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Packets:
    """As many PUBLISH packets of one size as there are packet identifiers; they are sent round and round.

    Attributes:
        data: the packets, one behind the other.
        size: bytes of one.
        qos: their QoS.
    """

    data: memoryview
    size: int
    qos: int

    def some(self, first: int, count: int) -> memoryview:
        """The bytes of up to ``count`` packets, from the one with the number ``first``."""
        start = first % _IDENTIFIERS
        return self.data[start * self.size : min(start + count, _IDENTIFIERS) * self.size]


@cache
def packets(version: int, qos: int) -> Packets:
    """Prebuild the telemetry of a hundred devices; no two payloads in a round are the same.

    Args:
        version: 4 for MQTT 3.1.1, or 5.
        qos: 0 or 1.
    """
    built = [
        publish(topic_of(number), payload(1_000_000 + number), qos=qos, mid=number + 1, version=version)
        for number in range(_IDENTIFIERS)
    ]
    return Packets(memoryview(b"".join(built)), len(built[0]), qos)


def topic_of(number: int) -> bytes:
    """The topic of a message, by its number."""
    return b"devices/d%03d/telemetry" % (number % _DEVICES)


def payload(sequence: int) -> bytes:
    """About 110 bytes of JSON.

    Args:
        sequence: a whole number to tell the message by; as many bytes as it has digits.
    """
    tail = sequence % 10
    return (
        b'{"soil_moisture":41.%d,"temperature":21.2%d,"humidity":55.%d,"light":1200%d,"battery":87.5,"seq":%d}'
    ) % (tail, tail, tail, tail, sequence)


class Link:
    """A connection on which packets may be poured while the PUBACKs are read in another thread.

    Args:
        connection: a connected socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._news = threading.Condition()
        self._acknowledged = 0
        self._is_closed = False

    def send(self, data: bytes | memoryview) -> None:
        """Send bytes, not in the midst of others."""
        with self._sending:
            self._socket.sendall(data)

    def close(self) -> None:
        """Break the connection; both threads notice."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was first
        self._socket.close()

    def received(self) -> Iterator[Packet]:
        """Yield each packet but the PUBACKs, which are counted, until the connection ends."""
        unread = b""
        try:
            while chunk := self._socket.recv(_BYTES_AT_ONCE):
                self._answer_at_once()
                acknowledged, others, unread = split(unread + chunk)
                with self._news:
                    self._acknowledged += acknowledged
                    self._news.notify_all()
                yield from others
        except OSError:
            pass  # as good as an end
        finally:
            with self._news:
                self._is_closed = True
                self._news.notify_all()

    def pour(self, source: Packets, count: int, *, window: int) -> None:
        """Send packets as fast as the other side takes them.

        Args:
            source: the packets.
            count: how many.
            window: at QoS 1, how many may be without a PUBACK (MQTT 5, 4.9).

        Raises:
            OSError: the connection ended first.
        """
        sent = 0
        while sent < count:
            free = self._wait_until_free(sent, window) if source.qos else count
            data = source.some(sent, min(free, count - sent, _PACKETS_AT_ONCE))
            self.send(data)
            sent += len(data) // source.size

    def wait_until_acknowledged(self, count: int) -> None:
        """Wait for so many PUBACKs.

        Raises:
            OSError: the connection ended first.
        """
        with self._news:
            self._news.wait_for(lambda: self._is_closed or self._acknowledged >= count)
            if self._acknowledged < count:
                raise ConnectionError("the connection ended before the last PUBACK")

    def _answer_at_once(self) -> None:
        # A client with Nagle's algorithm holds its PUBACKs back until TCP has confirmed the one before, which
        # Linux delays by 40 ms unless told, each time anew; the client would be idle in the meantime
        if hasattr(socket, "TCP_QUICKACK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _wait_until_free(self, sent: int, window: int) -> int:
        # Half a window at a time: to wake up for each PUBACK would cost more than the client that is measured
        self.wait_until_acknowledged(sent - window // 2)
        return window - (sent - self._acknowledged)


def split(data: bytes) -> tuple[int, list[Packet], bytes]:
    """Take packets out of a stream of bytes: how many PUBACKs, the others, and the bytes left over."""
    whole = len(data) // 4
    if data[: whole * 4 : 4] == b"\x40" * whole and data[1 : whole * 4 : 4] == b"\x02" * whole:
        return whole, [], data[whole * 4 :]  # nothing but PUBACKs of the short form, which is the rule
    acknowledged, others, position = 0, list[Packet](), 0
    while (found := _packet_at(data, position)) is not None:
        packet, position = found
        if packet.kind == PUBACK:
            acknowledged += 1
        else:
            others.append(packet)
    return acknowledged, others, data[position:]


def _packet_at(data: bytes, start: int) -> tuple[Packet, int] | None:
    size, position = 0, start + 1
    while position < len(data):
        digit = data[position]
        size |= (digit & 0x7F) << 7 * (position - start - 1)
        position += 1
        if digit < 0x80:
            end = position + size
            return (Packet(data[start] & 0xF0, data[position:end]), end) if end <= len(data) else None
    return None
