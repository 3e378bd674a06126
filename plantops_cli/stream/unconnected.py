"""Why no connection came about, in our words: system errors, handshakes, and answers to CONNECT.

Pure. Reason codes are those of MQTT 5 (2.4); MQTT 3.1.1's CONNACK codes 1 to 5 come as their MQTT 5 counterparts
0x84, 0x85, 0x88, 0x86 and 0x87.
"""

import socket
import ssl
from errno import EMFILE, ENFILE
from http import HTTPStatus
from urllib.parse import urlsplit

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    CredentialsRefusedError,
    ProtocolRefusedError,
    shown_username,
)
from plantops_cli.stream.failures import MOVED, handing_on, where_to
from plantops_cli.stream.words import NO_WORDS, Words

UNSUPPORTED_VERSION = 0x84
# Mosquitto says 0x87 to wrong credentials, other brokers 0x86: one meaning
_CREDENTIALS = frozenset({0x86, 0x87})
# where it was not TCP that had no answer
_WHY_NOT_REACHED = {
    "name": ("the question for the address of the host", "check the network, or give the address itself"),
    "TLS": ("the TLS handshake", "is this a TLS port? 8883 usually is, 1883 is not; without TLS leave tls= away"),
    "WebSocket": ("the request for a WebSocket", "is it the broker's port and path for WebSocket?"),
}
# by the status of HTTP (RFC 9110, 15), or its first digit
_WHY_NO_WEBSOCKET = {
    3: "name the host, the port and the path that it points to, and TLS if that is https",
    5: "the web server is there, but the broker behind it does not answer",
    200: "there is a web page: check websocket_path=PATH, often /mqtt",
    401: "the web server before the broker asks for a login of its own, or the path is wrong",
    403: "the web server before the broker does not let everybody in, or the path is wrong",
    404: "check websocket_path=PATH, often /mqtt",
}
# of a CONNACK that refuses for a reason about which somebody can do something
_CURES = {
    0x85: "the broker does not take this client id: client_id=ID sets another",
    0x8A: "whoever runs the broker has banned this client: ask there",
    0x8C: "the broker wants a login of another kind than a user name and a password",
    0x95: "the broker takes only shorter packets: its limit may be raised (max_packet_size)",
    0x97: "the broker allows no more connections: end others, or raise its limit",
    0x9F: "too many connections were made in a short time: try again later",
}
_TEMPORARY = frozenset({0x80, 0x83, 0x88, 0x89, 0x8B, 0x97, 0x9F})


def connect_failed(exc: Exception, *, endpoint: str, is_tls: bool) -> BrokerError:
    """Explain why no connection came about.

    Args:
        exc: what the socket or the TLS library raised.
        endpoint: the broker as ``host:port``.
        is_tls: True when the attempt was made with TLS.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ProtocolRefusedError(
            f"{endpoint}: the broker's certificate was not accepted: {exc.verify_message}",
            endpoint=endpoint,
            hint="name the right host, or the right TLSOptions(cafile=...)",
        )
    if isinstance(exc, ssl.SSLError) or (is_tls and isinstance(exc, ConnectionResetError)):
        # cut off, it may have been a restart of the broker or of a proxy; what they disagree on does not heal
        error = BrokerUnreachableError if _is_cut(exc) else ProtocolRefusedError
        return error(
            f"{endpoint}: the TLS handshake failed: {_tls_reason(exc)}",
            endpoint=endpoint,
            hint="is this a TLS port? 8883 usually is, 1883 is not; without TLS leave tls= away",
        )
    message, hint = _why_unreachable(exc, endpoint)
    return BrokerUnreachableError(message, endpoint=endpoint, hint=hint)


def not_reached(layer: str, *, endpoint: str, seconds: float) -> BrokerError:
    """Explain a broker to which no connection came about in time.

    Args:
        layer: what was waited for, by the names of ``ConnectOptions.layers``.
        endpoint: the broker as ``host:port``.
        seconds: how long.
    """
    what, hint = _WHY_NOT_REACHED.get(layer, ("the attempt to connect", "check host, port and firewall"))
    return BrokerUnreachableError(
        f"{endpoint}: no answer to {what} within {seconds:.2g} s", endpoint=endpoint, hint=hint
    )


def no_answer(endpoint: str, *, seconds: float, is_tls: bool) -> BrokerError:
    """Explain a broker that let a whole attempt to connect time out."""
    return BrokerUnreachableError(
        f"{endpoint}: no MQTT answer within {seconds:g} s",
        endpoint=endpoint,
        hint="is it an MQTT broker, and not behind a firewall?"
        + ("" if is_tls else " a TLS port needs tls=TLSOptions()"),
    )


def websocket_refused(path: str, said: str, *, endpoint: str, status: int, location: str | None) -> BrokerError:
    """Explain a server that answers, but not with a WebSocket; it may be a proxy whose broker is away for a while.

    Args:
        path: what it was asked for.
        said: what is wrong, where it is no matter of the status; else empty.
        endpoint: the broker as ``host:port``.
        status: of its HTTP answer, or 0.
        location: where it points to, or None.
    """
    # in words of ours, and without the query: a stranger may repeat what it was asked
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    what = said or f"{status} {phrase}".rstrip()
    target = _without_secrets(location) if location is not None and 300 <= status < 400 else None
    where = f", to {target[:200]!a}" if target else ""
    hint = _WHY_NO_WEBSOCKET.get(status // 100 if status >= 500 or 300 <= status < 400 else status)
    return BrokerUnreachableError(
        f"{endpoint}: no WebSocket at {path.partition('?')[0][:100]}: {what}{where}",
        endpoint=endpoint,
        hint=hint or "is it the broker's port and path for WebSocket?",
    )


def closed_before_connack(endpoint: str, *, is_tls: bool, said: str | None = None) -> BrokerError:
    """Explain a broker that closed the connection instead of answering CONNECT.

    Args:
        endpoint: the broker as ``host:port``.
        is_tls: True when the attempt was made with TLS.
        said: what was said of the end below MQTT, if anything was.
    """
    cure = (
        "it may want a client certificate: TLSOptions(certfile=..., keyfile=...)"
        if is_tls
        else "a TLS port needs tls=TLSOptions()"
    )
    return BrokerUnreachableError(
        f"{endpoint}: {said or 'the connection was closed'} before any MQTT answer",
        endpoint=endpoint,
        hint=f"is it an MQTT broker? {cure}",
    )


def connect_refused(
    code: int,
    name: str,
    *,
    packet: str = "CONNACK",
    endpoint: str,
    username: str | None,
    has_password: bool = True,
    words: Words = NO_WORDS,
) -> BrokerError:
    """Explain the answer to CONNECT that refuses the connection (MQTT 5, 3.2.2.2, 4.13).

    Args:
        code: the reason code.
        name: its name in the specification.
        packet: what has brought it; some brokers refuse by a DISCONNECT.
        endpoint: the broker as ``host:port``.
        username: the user name that was sent, or None.
        has_password: whether a password was sent with it.
        words: what the broker has said along with it.
    """
    said = f"({packet} 0x{code:02x}, {name}){words}"
    if code in _CREDENTIALS:
        error: BrokerError = CredentialsRefusedError(
            f"{endpoint}: the broker refused {_who(username, has_password=has_password)} {said}",
            endpoint=endpoint,
            hint="check the password, or add the user: plantops provision-user, then reload the broker"
            if has_password or username is None
            else "check the user name if it is a token; else give the password",
        )
    else:
        kind = BrokerUnreachableError if code in _TEMPORARY else ProtocolRefusedError
        hint = where_to(code, words) if code in MOVED else _CURES.get(code)
        error = kind(f"{endpoint}: the broker refused the connection {said}", endpoint=endpoint, hint=hint)
    return handing_on(words, error)


def _who(username: str | None, *, has_password: bool) -> str:
    if username is None:
        return "an anonymous client"
    shown = f"user {shown_username(username, is_alone=not has_password)!r}"
    return shown if has_password else f"{shown} without a password"


def _without_secrets(location: str) -> str | None:
    """Return a URL without its login and its query; None when it is none."""
    try:
        url = urlsplit(location)
        port = f":{url.port}" if url.port is not None else ""
    except ValueError:
        return None
    where = f"{url.scheme}://{url.hostname}{port}" if url.hostname else ""
    return where + url.path


def _why_unreachable(exc: Exception, endpoint: str) -> tuple[str, str]:
    if isinstance(exc, (socket.gaierror, UnicodeError)):
        return f"{endpoint}: unknown host name", "check the host or MQTT_HOST"
    if isinstance(exc, ConnectionRefusedError):
        return f"{endpoint}: nothing listens there", "is the broker running, and is this its port?"
    if isinstance(exc, TimeoutError):
        return f"{endpoint}: no answer to the attempt to connect", "check host, port and firewall"
    if isinstance(exc, OSError) and exc.errno in (EMFILE, ENFILE):
        return f"{endpoint}: cannot connect: too many open files", "raise the limit, for example: ulimit -n 64"
    reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
    return f"{endpoint}: cannot connect: {reason}", "check host, port and network"


def _tls_reason(exc: Exception) -> str:
    if _is_cut(exc):
        return "the other side closed the connection"
    reason = exc.reason if isinstance(exc, ssl.SSLError) else None
    return (reason or str(exc)).replace("_", " ").lower()


def _is_cut(exc: Exception) -> bool:
    return isinstance(exc, (ssl.SSLEOFError, ConnectionResetError))
