"""How the socket of a connection is made, so that it can be given up from outside at any moment.

Name and TCP come first, and whoever waits for them can be cancelled. TLS and WebSocket follow in a thread, where
they block, and paho gets what comes of them. A broker can put off each of them for ever; to close the socket is
what wakes the thread.
"""

import socket
import ssl
from contextlib import suppress
from typing import Literal

from plantops_cli.errors import BrokerError, BrokerUnreachableError
from plantops_cli.stream import unconnected
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.staggering import connect_to_first, look_up
from plantops_cli.stream.tap import Wire
from plantops_cli.stream.websocket import HandshakeRefusedError, open_websocket

REACH_SECONDS = 10.0
"""How long it may take until CONNECT can be sent: name, TCP, TLS and WebSocket, or a Unix socket."""


class Opening:
    """The socket of one connection while it is being made.

    Args:
        options: where and how to connect.
        context: of TLS, or None for a connection without.

    Attributes:
        layer: what is being made, by the names of ``ConnectOptions.layers``.
    """

    def __init__(self, options: ConnectOptions, context: ssl.SSLContext | None) -> None:
        self.layer = options.layers[0]
        self._options = options
        self._context = context
        self._seconds = REACH_SECONDS
        self._socket: socket.socket | None = None

    async def connect(self, seconds: float) -> None:
        """Look the name up, and connect by TCP; for a Unix socket there is nothing to do yet.

        Args:
            seconds: how long TCP may take, and each wait of TLS and WebSocket.

        Raises:
            OSError, UnicodeError: no connection came about.
        """
        options = self._options
        self._seconds = seconds
        if options.unix_socket is not None:
            return
        addresses = await look_up(options.host, options.port)
        self.layer = "TCP"
        self._socket = made = await connect_to_first(addresses, seconds=seconds)
        # else what is published right behind an acknowledgement waits 40 ms for the broker's TCP (RFC 896, 1122)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def create(self) -> Wire:
        """Make what paho and the tap take for a socket: blocking, in a thread of its own, after ``connect``.

        Raises:
            HandshakeRefusedError: instead of a WebSocket there is something else.
            OSError: no connection came about.
        """
        options = self._options
        if options.unix_socket is not None:
            return self._connect_unix(options.unix_socket)
        made = self._socket
        if made is None:
            raise ConnectionAbortedError("given up before the connection was made")
        made.settimeout(self._seconds)
        if self._context is not None:
            self.layer = "TLS"
            self._socket = made = self._context.wrap_socket(
                made, server_hostname=options.host, do_handshake_on_connect=False
            )
            made.do_handshake()
        if options.websocket_path is None:
            return made
        self.layer = "WebSocket"
        return open_websocket(
            made,
            host=options.host,
            port=options.port,
            path=options.websocket_path,
            is_tls=self._context is not None,
            max_packet_bytes=options.max_packet_bytes,
        )

    def _connect_unix(self, path: str) -> socket.socket:
        self._socket = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # else it would wait without end for a place in a full queue
        sock.settimeout(self._seconds)
        sock.connect(path)
        return sock

    def explain(self, exc: Exception, *, seconds: float) -> BrokerError:
        """Say in our words what ``connect`` or ``create`` has raised.

        Args:
            exc: what was raised.
            seconds: how long they had.
        """
        endpoint = self._options.endpoint
        if isinstance(exc, TimeoutError):
            return unconnected.not_reached(self.layer, endpoint=endpoint, seconds=seconds)
        if isinstance(exc, FileNotFoundError):
            cure = "is the broker running, and is this the path of its listener?"
            what = f"{endpoint}: cannot connect: no socket is there"
            return BrokerUnreachableError(what, endpoint=endpoint, hint=cure)
        if not isinstance(exc, HandshakeRefusedError):
            return unconnected.connect_failed(exc, endpoint=endpoint, is_tls=self._context is not None)
        return unconnected.websocket_refused(
            exc.path, exc.said, endpoint=endpoint, status=exc.status, location=exc.location
        )

    def close(self) -> None:
        """Close what was made, in the thread that made it."""
        if self._socket:
            self._socket.close()

    def abort(self) -> None:
        """Close what was made so far, though another thread may be waiting on it."""
        if self._socket:
            # to close it alone would not wake the thread
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


def transport(options: ConnectOptions) -> Literal["tcp", "websockets", "unix"]:
    """Return the transport by paho's name."""
    if options.unix_socket is not None:
        return "unix"
    return "tcp" if options.websocket_path is None else "websockets"


def tls_context(options: ConnectOptions) -> ssl.SSLContext | None:
    """Return the context of a connection with TLS, None for one without.

    Raises:
        ConfigError: a TLS file is missing or unusable.
        BrokerUnreachableError: there is no room to open the TLS files; another time there may be.
    """
    try:
        return options.tls.context() if options.tls else None
    except OSError as exc:
        raise unconnected.connect_failed(exc, endpoint=options.endpoint, is_tls=True) from exc
