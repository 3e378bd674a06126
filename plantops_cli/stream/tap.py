"""The socket that paho sees: it reads ahead, takes the PUBLISH packets out, and hands everything else on.

paho reads each packet with several system calls, and one packet per turn of the event loop. Here one system call
brings up to 128 KiB, and the splitter takes the messages out of it all at once.
"""

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from errno import EHOSTUNREACH, ENETDOWN, ENETUNREACH, ETIMEDOUT
from typing import Protocol

from plantops_cli.stream.greeting import Greeting
from plantops_cli.stream.packets import MalformedPacketError, Packet, Splitter
from plantops_cli.stream.websocket import WebSocketEndedError

READ_BYTES = 128 * 1024
"""How much is read at once, at most."""

# POLLRDHUP is Linux's own
_HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
# what our own side says of a peer that it cannot reach
_NOT_HEARD = frozenset({EHOSTUNREACH, ENETDOWN, ENETUNREACH, ETIMEDOUT})


class Wire(Protocol):
    """What is below: a TCP, TLS or Unix socket, or a WebSocket over one of them."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes | bytearray | memoryview, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...


class Tap:
    """A non-blocking socket with a splitter in it.

    Args:
        wire: the socket below.
        splitter: takes the PUBLISH packets out.
        greeting: looks at the first bytes; None: they may be anything.

    Attributes:
        heard_bytes: how many bytes have been read.
    """

    def __init__(self, wire: Wire, splitter: Splitter, greeting: Greeting | None = None) -> None:
        self.heard_bytes = 0
        self._wire = wire
        self._splitter = splitter
        self._greeting = greeting
        # of TLS records a read returns one, however many have arrived, and of a WebSocket the end only by itself
        self._comes_in_pieces = isinstance(wire, ssl.SSLSocket) or not isinstance(wire, socket.socket)
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._pending: Callable[[], int] | None = getattr(wire, "pending", None)
        self._foreign = bytearray()
        self._unsent = bytearray()
        self._is_amid_packet = False
        self._end: OSError | None = None
        self._has_ended = False
        self._is_lingering = False

    @property
    def has_news(self) -> bool:
        """Whether bytes, or the end of the connection, wait to be fetched by ``recv``."""
        return bool(self._foreign) or (self._has_ended and not self.has_more)

    @property
    def has_more(self) -> bool:
        """Whether more messages wait than ``fill`` was to return."""
        return self._splitter.has_more

    @property
    def is_exactly_once(self) -> bool:
        """Whether messages of QoS 2 or PUBRELs are among those that ``fill`` returned last."""
        return self._splitter.is_exactly_once

    @property
    def partial_bytes(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return self._splitter.held

    @property
    def has_foreign(self) -> bool:
        """Whether bytes that are no messages wait to be fetched by ``recv``."""
        return bool(self._foreign)

    @property
    def has_unread(self) -> bool:
        """Whether the socket holds bytes that nobody has read, or its end."""
        return self._wire.fileno() >= 0 and bool(self.pending() or self._poll(select.POLLIN))

    @property
    def is_hung_up(self) -> bool:
        """Whether the other side has ended the connection, be it behind bytes that nobody has read."""
        return bool(self._poll(_HUNG_UP) & _HUNG_UP)

    @property
    def is_end_told(self) -> bool:
        """Whether the end of the connection was read, and came from the other side."""
        return self._has_ended and (self._end is None or self._end.errno not in _NOT_HEARD)

    @property
    def last_word(self) -> str | None:
        """Why the WebSocket below has ended, in words, or None."""
        return str(self._end) if isinstance(self._end, WebSocketEndedError) else None

    @property
    def unsent_bytes(self) -> int:
        """How many bytes that were given to ``push`` could not be sent yet."""
        return len(self._unsent)

    def limit_qos(self, max_qos: int) -> None:
        """Refuse messages of a higher QoS from now on."""
        self._splitter.limit_qos(max_qos)

    def fill(self, limit: int) -> tuple[list[Packet], int]:
        """Read what is there, up to ``READ_BYTES``; return the messages in it, and how many bytes they took.

        Everything else waits for ``recv``, the end of the connection too.

        Args:
            limit: how many messages to return at most; nothing is read while earlier ones wait.

        Raises:
            MalformedPacketError: what was read is no MQTT.
        """
        splitter = self._splitter
        data = b""
        if not splitter.has_more:
            data = self._read_all() if self._comes_in_pieces else self._read(READ_BYTES)
            if not data:
                return [], 0
            self._greet(data)
        size = splitter.held + len(data)
        try:
            packets, foreign = splitter.feed(data, limit)
        except MalformedPacketError as exc:
            if not exc.packets and not exc.others:
                raise
            packets, foreign = exc.packets, exc.others  # it will be raised by the next call
        self._foreign += foreign
        return packets, size - splitter.held

    def _greet(self, data: bytes) -> None:
        if self._greeting is not None:
            self._greeting.look_at(data)
            if self._greeting.is_over:
                self._greeting = None

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes that are no messages, as a non-blocking socket would.

        Raises:
            BlockingIOError: there are none now.
            OSError: the connection broke.
        """
        if self._foreign:
            taken = bytes(self._foreign[:size])
            del self._foreign[:size]
            return taken
        if self._end is not None:
            raise self._end
        if self._has_ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send a part of paho's next packet, after what waits already.

        Raises:
            BlockingIOError: nothing can be sent now.
            OSError: the connection broke.
        """
        if not self._is_amid_packet and not self.flush():
            raise BlockingIOError
        # TLS and a WebSocket may keep a part of what they refuse, and have to be given the same again
        self._is_amid_packet = True
        sent = self._wire.send(data)
        if not sent:  # paho would forget the packet
            raise BlockingIOError
        self._is_amid_packet = sent < len(data)
        return sent

    def push(self, data: bytes) -> None:
        """Send whole packets as soon as it can be, never in the middle of another one.

        Raises:
            OSError: the connection broke.
        """
        if self._unsent or self._is_amid_packet:
            self._unsent += data
            self.flush()
        else:
            sent = self._send_some(data)
            if sent < len(data):
                self._unsent += data[sent:]

    def flush(self) -> bool:
        """Send what waits, and tell whether nothing waits any more.

        Raises:
            OSError: the connection broke.
        """
        if self._unsent and not self._is_amid_packet:
            del self._unsent[: self._send_some(bytes(self._unsent))]
        return not self._unsent

    def pending(self) -> int:
        """Return how many bytes the layers below hold, of which the selector knows nothing."""
        return self._pending() if self._pending else 0

    def linger(self) -> None:
        """Let ``close`` say only that nothing more will be sent; ``discard`` and ``abort`` do the rest."""
        self._is_lingering = True

    def close(self) -> None:
        """Close the socket, or our half of the connection."""
        if not self._is_lingering:
            self._wire.close()
            return
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """Read and forget what has come; True when nothing more can come."""
        self._read_all()
        return self._has_ended or self._wire.fileno() < 0

    def abort(self) -> None:
        """Close the socket at once."""
        self._wire.close()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._wire.fileno()

    def setblocking(self, flag: bool) -> None:  # as a socket has it
        """Switch the socket below between blocking and non-blocking."""
        self._wire.setblocking(flag)

    def _poll(self, events: int) -> int:
        if self._wire.fileno() < 0:
            return 0
        poll = select.poll()
        poll.register(self._wire.fileno(), events)
        return sum(found for _, found in poll.poll(0))

    def _send_some(self, data: bytes) -> int:
        try:
            return self._wire.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def _read_all(self) -> bytes:
        """Read until there is nothing more, or enough."""
        parts, size = list[bytes](), 0
        while size < READ_BYTES and (data := self._read(READ_BYTES - size)):
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        """Return what is there, up to ``size`` bytes; nothing also at the end of the connection, noted here."""
        if self._has_ended:
            return b""
        try:
            if isinstance(self._wire, socket.socket):
                # a new object of the full size for each read would cost more than the copy
                data = self._buffer[: self._wire.recv_into(self._buffer, size)].tobytes()
            else:
                data = self._wire.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError as exc:
            self._end, self._has_ended = exc, True
            return b""
        self._has_ended = not data
        self.heard_bytes += len(data)
        return data
