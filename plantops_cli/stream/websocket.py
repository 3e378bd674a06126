"""A WebSocket in place of a socket: the handshake, and what is read and sent behind it (RFC 6455).

paho has one of its own, which masks neither a pong nor the answer to a close frame, so that brokers that ping drop
the connection; and of a handshake that is refused it tells nothing.
"""

import base64
import hashlib
import re
import secrets
import socket
from contextlib import suppress
from urllib.parse import quote

from plantops_cli.stream.framing import BINARY, NORMAL, Unframer, close_frame, frame

_READ_BYTES = 128 * 1024
_LEAST_FRAME_BYTES = 1024 * 1024
_MOST_HEADER_BYTES = 16 * 1024
_BEGIN = b"HTTP/"
_STATUS = re.compile("[1-9][0-9]{2}")
# RFC 6455, 1.3
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# what may stand in a path, and what is escaped already
_PATH_SIGNS = "/?&=+%:@!$'()*,;~-._"
_USUAL_PORTS = {False: 80, True: 443}


class HandshakeRefusedError(Exception):
    """A server answered, but not with a WebSocket.

    Args:
        path: what it was asked for.
        said: what is wrong, where it is no matter of the status.

    Attributes:
        path: as given.
        said: as given; empty: the status tells.
        status: of its answer, or 0 when that is no HTTP.
        location: where it points to, or None.
    """

    def __init__(self, path: str, said: str = "", *, status: int = 0, location: str | None = None) -> None:
        super().__init__(said or str(status))
        self.path = path
        self.said = said
        self.status = status
        self.location = location


class WebSocketEndedError(ConnectionError):
    """The WebSocket has ended, for the reason that this says in words."""


class WebSocket:
    """What a non-blocking socket is to whoever reads and sends MQTT, made of frames.

    Args:
        sock: connected, and behind the handshake.
        max_packet_bytes: the longest MQTT packet that may come; a frame may be as long, and at least 1 MiB.
    """

    def __init__(self, sock: socket.socket, max_packet_bytes: int) -> None:
        self._socket = sock
        self._unframer = Unframer(max(max_packet_bytes, _LEAST_FRAME_BYTES))
        self._unsent = b""
        self._promised_bytes = 0
        self._has_said_goodbye = False
        self._is_end_told = False

    def recv(self, size: int) -> bytes:
        """Return payload of the frames that have come, up to ``size`` bytes; nothing: the connection has ended.

        Raises:
            BlockingIOError, ssl.SSLWantReadError: there is none now.
            WebSocketEndedError: the other side said goodbye, or what may not be.
            OSError: the connection broke.
        """
        self._raise_if_ended()
        data = self._socket.recv(min(size, _READ_BYTES))
        if not data:
            return b""
        payload = self._unframer.feed(data)
        self._answer()
        if not payload:
            self._raise_if_ended()
            raise BlockingIOError
        return payload

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send ``data`` as a frame, and return how much of it that was; behind a goodbye it is dropped.

        Raises:
            BlockingIOError, ssl.SSLWantWriteError: a part of it waits, and the same is to be given again.
            OSError: the connection broke.
        """
        self._flush()
        # nothing may follow it (RFC 6455, 5.5.1); the reader tells of the end
        if self._has_said_goodbye:
            return len(data)
        if not self._promised_bytes:
            self._unsent, self._promised_bytes = frame(BINARY, bytes(data)), len(data)
            self._flush()
        sent, self._promised_bytes = self._promised_bytes, 0
        self._answer()  # a pong that had to wait for the end of the frame
        return sent

    def shutdown(self, how: int) -> None:  # noqa: ARG002 - a socket has it
        """Say goodbye: nothing more will be sent (RFC 6455, 7.1.2).

        Args:
            how: as for a socket.

        Raises:
            OSError: the connection broke.
        """
        if self._unframer.end is None and not self._unsent:
            self._unframer.goodbye = close_frame(NORMAL)
            self._answer()

    def pending(self) -> int:
        """Return how many bytes wait of which the selector knows nothing, an end that is not told yet, too."""
        pending: int = getattr(self._socket, "pending", _nothing)()  # of TLS
        return pending or int(self._unframer.end is not None and not self._is_end_told)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:  # as a socket has it
        """Switch the socket between blocking and non-blocking."""
        self._socket.setblocking(flag)

    def _raise_if_ended(self) -> None:
        if self._unframer.end is not None:
            self._is_end_told = True
            raise WebSocketEndedError(self._unframer.end)

    def _answer(self) -> None:
        """Send what is owed to the other side's control frames, never in the middle of a frame."""
        unframer = self._unframer
        if self._promised_bytes or self._has_said_goodbye:
            return
        # none but the last ping has to be answered, so that whoever pings and does not read costs no memory
        if unframer.pong and not self._unsent:
            self._unsent, unframer.pong = unframer.pong, None
        if unframer.goodbye:
            self._unsent += unframer.goodbye
            unframer.goodbye, self._has_said_goodbye = None, True
        with suppress(OSError):  # the reader finds the end of the connection
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            sent = self._socket.send(self._unsent)
            self._unsent = self._unsent[sent:]


def open_websocket(
    sock: socket.socket, *, host: str, port: int, path: str, is_tls: bool, max_packet_bytes: int
) -> WebSocket:
    """Ask for a WebSocket, wait for the answer, and return what stands in for the socket from now on.

    Args:
        sock: connected; blocking, so that a close of it from outside ends the waiting.
        host: as which the server is to be known.
        port: its port.
        path: what to ask for.
        is_tls: whether TLS is below.
        max_packet_bytes: as in ``WebSocket``.

    Raises:
        HandshakeRefusedError: the server answered otherwise.
        OSError: the connection broke.
    """
    path = _quoted(path)
    key = base64.b64encode(secrets.token_bytes(16))
    sock.sendall(_request(host, port, path, key=key, is_tls=is_tls))
    status, headers = _read_answer(sock, path)
    _check_answer(path, status, headers, key)
    return WebSocket(sock, max_packet_bytes)


def _request(host: str, port: int, path: str, *, key: bytes, is_tls: bool) -> bytes:
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    where = name if port == _USUAL_PORTS[is_tls] else f"{name}:{port}"
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {where}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Origin: {'https' if is_tls else 'http'}://{where}",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",  # MQTT 5, 6.0
        "\r\n",
    )
    return "\r\n".join(lines).encode()


def _read_answer(sock: socket.socket, path: str) -> tuple[int, dict[str, str]]:
    """Read the status and the headers, and no byte more, for behind them may be frames."""
    answer = bytearray()
    while not answer.endswith((b"\r\n\r\n", b"\n\n")):
        byte = sock.recv(1)
        if not byte:
            raise HandshakeRefusedError(path, "the connection was closed without an answer")
        answer += byte
        if answer[:5] != _BEGIN[: len(answer)]:
            raise HandshakeRefusedError(path, "the answer is no HTTP")
        if len(answer) > _MOST_HEADER_BYTES:
            raise HandshakeRefusedError(path, f"the answer has no end within {_MOST_HEADER_BYTES:,} bytes")
    first, *rest = answer.decode("latin-1").split("\n")
    _, _, told = first.strip().partition(" ")
    code = told.partition(" ")[0]
    if not _STATUS.fullmatch(code):
        raise HandshakeRefusedError(path, "the answer has no HTTP status")
    headers = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(code), headers


def _check_answer(path: str, status: int, headers: dict[str, str], key: bytes) -> None:
    """Hold an answer against RFC 6455, 4.1.

    Raises:
        HandshakeRefusedError: it does not begin a WebSocket.
    """
    if status != 101:
        raise HandshakeRefusedError(path, status=status, location=headers.get("location"))
    accepted = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()  # noqa: S324 - the protocol's own
    is_upgraded = "upgrade" in [token.strip() for token in headers.get("connection", "").lower().split(",")]
    if not is_upgraded or headers.get("upgrade", "").lower() != "websocket":
        raise HandshakeRefusedError(path, "101, but the answer begins no WebSocket")
    if headers.get("sec-websocket-accept") != accepted:
        raise HandshakeRefusedError(path, "101, but the answer is to another request (Sec-WebSocket-Accept)")
    if headers.get("sec-websocket-protocol", "mqtt").lower() != "mqtt":
        raise HandshakeRefusedError(path, "101, but for another protocol than mqtt")
    if headers.get("sec-websocket-extensions"):
        raise HandshakeRefusedError(path, "101, but with an extension that nobody asked for")


def _quoted(path: str) -> str:
    """Return a path as it may stand in a request: nothing in it can begin another line."""
    path = quote(path, safe=_PATH_SIGNS)
    return path if path.startswith("/") else f"/{path}"


def _nothing() -> int:
    return 0
