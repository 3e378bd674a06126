"""How the socket of a connection is made, in a thread, so that it can be given up from outside at any moment.

paho makes it in blocking steps, name, TCP, TLS and WebSocket, and tells of it only when all are done. A broker can
put off each of them for ever; to close the socket is what wakes the thread.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from plantops_cli.stream import failures
from plantops_cli.stream.options import ConnectOptions

TCP_CONNECT_SECONDS = 4.0
"""How long TCP, or a Unix socket, may take to connect."""


class Opening:
    """The socket of one connection while it is being made; its methods stand in for those of paho.

    Args:
        create_tcp: paho's way to connect by TCP.
        wrap_tls: paho's way to put TLS around a socket, handshake included.
        unix_path: path of the Unix socket, if it is one.
    """

    def __init__(self, create_tcp: Callable[[], Any], wrap_tls: Callable[[Any], Any], unix_path: str) -> None:
        self._create_tcp = create_tcp
        self._wrap_tls = wrap_tls
        self._unix_path = unix_path
        self._socket: socket.socket | None = None

    def connect_tcp(self) -> Any:
        """Connect by TCP."""
        self._socket = made = self._create_tcp()
        # else what is published right behind an acknowledgement waits 40 ms for the broker's TCP (RFC 896, 1122)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def connect_tls(self, sock: Any) -> Any:
        """Put TLS around a socket."""
        self._socket = self._wrap_tls(sock)
        return self._socket

    def connect_unix(self) -> socket.socket:
        """Connect to a Unix socket.

        paho would leave it open when that fails, and wait without end for a place in a full queue.

        Raises:
            OSError: nobody answers there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(TCP_CONNECT_SECONDS)
            sock.connect(self._unix_path)
        except BaseException:
            sock.close()
            raise
        return sock

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
        raise failures.connect_failed(exc, endpoint=options.endpoint, is_tls=True) from exc
