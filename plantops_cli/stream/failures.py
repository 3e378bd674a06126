"""Foreign failures in our words: system errors, CONNACK and DISCONNECT codes to the errors of plantops.

Pure. Reason codes are those of MQTT 5 (2.4); MQTT 3.1.1's CONNACK codes 1 to 5 come as their MQTT 5 counterparts
0x84, 0x85, 0x88, 0x86 and 0x87.
"""

import socket
import ssl
from collections.abc import Iterable, Mapping
from errno import EMFILE, ENFILE
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    ConnectionLostError,
    CredentialsRefusedError,
    HeldUpError,
    ProtocolRefusedError,
    PublishRefusedError,
    SessionTakenOverError,
    SubscriptionRefusedError,
    shown_username,
)
from plantops_cli.stream.greeting import NotMQTTError
from plantops_cli.stream.packets import MalformedPacketError
from plantops_cli.stream.words import NO_WORDS, Words, words_with

UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E

# why paho gives a connection up by itself
_BREACH = "protocol error"
_SOCKET_REASONS = {
    "keep alive timeout": "no answer to keep-alive pings",
    _BREACH: "the broker sent a malformed packet",
}

# Mosquitto says 0x87 to wrong credentials, other brokers 0x86: one meaning
_CREDENTIALS = frozenset({0x86, 0x87})
# what cannot be read, and what is too long to be
_MALFORMED = frozenset({0x81, 0x95})
_RECEIVE_MAXIMUM_EXCEEDED = 0x93
_NOT_AUTHORIZED, _PACKET_TOO_LARGE = 0x87, 0x95
# what a PUBACK or a PUBREC may say (MQTT 5, 3.4.2.1, 3.5.2.1), and what stands for it before anything is sent
_WHY_NOT_PUBLISHED = {
    0x80: "for no reason that it gives",
    0x83: "for a reason of its own",
    _NOT_AUTHORIZED: "not authorized",
    0x90: "topic name not accepted",
    0x91: "packet identifier in use",
    _PACKET_TOO_LARGE: "packet too large",
    0x97: "quota exceeded",
    0x99: "the payload is not of its format",
}
# how others begin, and what then may be wrong
_PORT = "is this the port of an MQTT broker?"
_OTHER_PROTOCOLS = {
    b"\x15\x03": ("TLS", "a TLS port needs tls=TLSOptions()"),
    b"HTTP/": ("HTTP", "is it a web server? MQTT over WebSocket needs websocket_path=PATH, often /mqtt"),
    b"SSH-": ("SSH", _PORT),
    b"220": ("SMTP or FTP", _PORT),
    b"AMQP": ("AMQP", f"{_PORT} RabbitMQ has its own for MQTT, usually 1883"),
    b"-ERR": ("Redis", _PORT),
}
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
_TEMPORARY = frozenset({0x80, 0x83, 0x88, 0x89, 0x8B, 0x97, 0x9F})

# what a SUBACK may say (MQTT 5, 3.9.3)
_WHY_NOT_SUBSCRIBED = {
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    _NOT_AUTHORIZED: "Not authorized",
    0x8F: "Topic filter invalid",
    0x91: "Packet identifier in use",
    _PACKET_TOO_LARGE: "Packet too large",
    0x97: "Quota exceeded",
    0x9E: "Shared subscription not supported",
    0xA1: "Subscription identifiers not supported",
    0xA2: "Wildcard subscription not supported",
}
_NO_RIGHT = "the user needs the right to subscribe to it: check the broker's access control"
_CURES = {
    0x83: "the broker has a rule of its own against it, which its log or its manual may tell",
    _NOT_AUTHORIZED: _NO_RIGHT,
    0x8F: "the broker does not take a filter of this form: ask for another one",
    0x91: "try again; if it comes back, it is a fault of the broker",
    _PACKET_TOO_LARGE: "ask for a shorter filter, or let the broker take longer packets (max_packet_size)",
    0x97: "the broker allows no more subscriptions: ask for fewer filters, or raise its limit",
    0x9E: "the broker has no shared subscriptions: leave group= away, or use a broker that has them",
    0xA1: "the broker has no subscription identifiers: subscribe without one",
    0xA2: "the broker has no + and # in filters: name each topic in full",
}
_UNEXPLAINED = "the broker says no more than that; its log may"
# ends of a connection that follow a SUBSCRIBE, and would follow the next one
_NOT_SUBSCRIBED = frozenset({0x8F, 0x9E, 0xA1, 0xA2})
_MOVED = {
    0x9C: "use the server that it names, for now",
    0x9D: "use the server that it names, for good",
}
_MOVED_SOMEWHERE = "whoever runs the broker knows which server to use instead"
_E = TypeVar("_E", bound=BrokerError)
_H = TypeVar("_H", bound=HeldUpError)


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


def not_mqtt(said: bytes, *, endpoint: str) -> BrokerError:
    """Explain another side that speaks, but not MQTT.

    Args:
        said: what it has said first; it is not shown, for a stranger may repeat our password.
        endpoint: the broker as ``host:port``.
    """
    found = next((words for begin, words in _OTHER_PROTOCOLS.items() if said.startswith(begin)), None)
    name, hint = found or (None, _PORT)
    what = f"but {name}" if name else f"for it begins with the byte 0x{said[0]:02x}"
    return BrokerUnreachableError(
        f"{endpoint}: the other side does not speak MQTT, {what}", endpoint=endpoint, hint=hint
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
        hint = _where_to(code, words) if code in _MOVED else None
        error = kind(f"{endpoint}: the broker refused the connection {said}", endpoint=endpoint, hint=hint)
    return _handing_on(words, error)


def disconnected(
    code: int,
    name: str,
    *,
    endpoint: str,
    by_broker: bool,
    is_durable: bool = False,
    words: Words = NO_WORDS,
    filters: Iterable[str] = (),
    said: str | None = None,
) -> BrokerError:
    """Explain the end of a connection.

    Args:
        code: the reason code of DISCONNECT (MQTT 5, 3.14.2.1), or paho's for a socket that ended.
        name: the name of the code.
        endpoint: the broker as ``host:port``.
        by_broker: True when the broker sent a DISCONNECT packet.
        is_durable: True when the broker keeps the session.
        words: what the broker has said along with it.
        filters: what it was asked for on this connection.
        said: what was said of it below MQTT, if anything was.
    """
    if not by_broker:
        return ConnectionLostError(
            f"{endpoint}: connection lost: {said or _socket_reason(name)}", endpoint=endpoint
        )
    if code == TAKEN_OVER:
        return _handing_on(words, taken_over(endpoint, is_durable=is_durable, words=words))
    asked = dict.fromkeys(filters, code)
    if code in _NOT_SUBSCRIBED and asked:
        error: BrokerError = SubscriptionRefusedError(
            f"{endpoint}: the broker ended the connection over {_some(asked)} (0x{code:02x}, {name}){words}",
            endpoint=endpoint,
            filters=asked,
            hint=_CURES[code],
        )
    else:
        hint = _where_to(code, words) if code in _MOVED else None
        what = f"{endpoint}: connection lost: the broker said 0x{code:02x}, {name}{words}"
        error = ConnectionLostError(what, endpoint=endpoint, hint=hint)
    return _handing_on(words, error)


def tripped_over(exc: Exception, *, endpoint: str) -> tuple[int, BrokerError]:
    """Explain what was tripped over, and say the reason code for it (MQTT 5, 3.14.2.1).

    Args:
        exc: what reading has raised.
        endpoint: the broker as ``host:port``.
    """
    if isinstance(exc, NotMQTTError):
        return exc.reason_code, not_mqtt(exc.said, endpoint=endpoint)
    if isinstance(exc, MalformedPacketError):
        return exc.reason_code, protocol_broken(exc.reason_code, str(exc), endpoint=endpoint)
    # whatever paho's parser has tripped over, whose words are for its authors
    code = MalformedPacketError.reason_code
    return code, protocol_broken(code, type(exc).__name__, endpoint=endpoint)


def protocol_broken(code: int, reason: str, *, endpoint: str) -> BrokerError:
    """Explain why the connection was given up over what the broker has sent.

    Args:
        code: the reason code that the broker was told (MQTT 5, 3.14.2.1).
        reason: what was wrong.
        endpoint: the broker as ``host:port``.
    """
    what = "sent a malformed packet" if code in _MALFORMED else "broke the protocol"
    hint = "max_pending_bytes is how much may wait" if code == _RECEIVE_MAXIMUM_EXCEEDED else None
    return ConnectionLostError(f"{endpoint}: the broker {what} ({reason})", endpoint=endpoint, hint=hint)


def way_back_clogged(endpoint: str) -> BrokerError:
    """Explain why the connection was given up to a broker that sends and sends, and takes nothing."""
    return ConnectionLostError(
        f"{endpoint}: connection given up: the broker takes no acknowledgements", endpoint=endpoint
    )


def filters_refused(refused: Mapping[str, int], *, endpoint: str, is_v5: bool = True) -> SubscriptionRefusedError:
    """Explain a SUBACK that refuses topic filters (MQTT 5, 3.9.3).

    Args:
        refused: the filters, and the reason code of each; an ``Answer`` where the broker has said more.
        endpoint: the broker as ``host:port``.
        is_v5: whether the connection speaks MQTT 5; in MQTT 3.1.1 one code stands for all reasons, mostly for a
            right that is missing.
    """
    # what was said of all of them stands behind them once
    said = dict.fromkeys(map(words_with, refused.values()))
    is_said_of_all = len(said) == 1
    each = (
        f"{name!r} ({name_of_suback(code, is_v5=is_v5)}){'' if is_said_of_all else words_with(code)}"
        for name, code in refused.items()
    )
    first = next((words for words in said if words.reason), NO_WORDS)
    error = SubscriptionRefusedError(
        f"{endpoint}: the broker refused to subscribe {', '.join(each)}{first if is_said_of_all else ''}",
        endpoint=endpoint,
        filters={name: int(code) for name, code in refused.items()},
        hint="; ".join(dict.fromkeys(_cure(code, is_v5=is_v5) for code in refused.values())),
    )
    return _handing_on(first, error)


def name_of_suback(code: int, *, is_v5: bool) -> str:
    """Name what a SUBACK says of a filter that is refused.

    Args:
        code: the reason code, or the return code of MQTT 3.1.1.
        is_v5: whether the connection speaks MQTT 5.
    """
    name = "Failure" if code == 0x80 and not is_v5 else _WHY_NOT_SUBSCRIBED.get(code, "unknown")
    return f"SUBACK 0x{code:02x}, {name}"


def filters_unavailable(refused: Mapping[str, int], *, endpoint: str) -> SubscriptionRefusedError:
    """Explain topic filters that a broker is not even asked for, because it has said that it does not take them.

    Args:
        refused: the filters, and the code with which the broker would refuse each.
        endpoint: the broker as ``host:port``.
    """
    each = (f"{name!r} (0x{code:02x}, {_WHY_NOT_SUBSCRIBED[code]})" for name, code in refused.items())
    return SubscriptionRefusedError(
        f"{endpoint}: the broker has said that it does not take {', '.join(each)}",
        endpoint=endpoint,
        filters=refused,
        hint="; ".join(dict.fromkeys(_CURES[code] for code in refused.values())),
    )


def sharing_unknown(
    filters: Iterable[str], *, endpoint: str, silent_seconds: float | None = None
) -> SubscriptionRefusedError:
    """Explain why nobody is asked for shared subscriptions who speaks no MQTT 5.

    Most such brokers would grant them as filters like any other, and never send a message.

    Args:
        filters: those of members of a group.
        endpoint: the broker as ``host:port``.
        silent_seconds: how long the broker did not answer MQTT 5, which it may know; None: it refused it.
    """
    asked = dict.fromkeys(filters, 0x9E)
    is_refused = silent_seconds is None
    why = "did not take MQTT 5" if is_refused else f"did not answer MQTT 5 within {silent_seconds:g} s"
    cures = (
        "leave group= away",
        *([] if is_refused else ["if the broker is merely slow, set mqtt_version='5'"]),
        "if the broker is known to share with MQTT 3.1.1 too, set group_anyway=True",
    )
    return SubscriptionRefusedError(
        f"{endpoint}: the broker {why}, and MQTT 3.1.1 has no shared subscriptions: "
        f"{_some(asked)} might be granted, and hear nothing",
        endpoint=endpoint,
        filters=asked,
        hint="; or, ".join(cures),
    )


def publish_refused(code: int | None, topic: str, *, endpoint: str, why: str | None = None) -> PublishRefusedError:
    """Explain a message that the broker did not take (MQTT 5, 3.4.2.1), or would not.

    Args:
        code: the reason code; None where there is none for it.
        topic: the topic name of the message.
        endpoint: the broker as ``host:port``.
        why: what is wrong, where it was found before the message was sent; None: the broker has said the code.
    """
    words = NO_WORDS if code is None else words_with(code)
    if why is None and code is not None:
        why = f"the broker refused it (0x{code:02x}, {_WHY_NOT_PUBLISHED.get(code, 'unknown')}){words}"
    hints = {
        _NOT_AUTHORIZED: "the user needs the right to publish on it: check the broker's access control",
        _PACKET_TOO_LARGE: "send less, or let the broker take more (message_size_limit, max_packet_size)",
    }
    error = PublishRefusedError(
        f"{endpoint}: nothing published on {topic[:80]!a}: {why}",
        endpoint=endpoint,
        reason_code=None if code is None else int(code),
        hint=hints.get(code) if code is not None else None,
    )
    return _handing_on(words, error)


def no_receipt(topic: str, *, endpoint: str, seconds: float, qos: int) -> BrokerError:
    """Explain a message that was not acknowledged in time, or at QoS 0 not sent; the broker may yet have it.

    Args:
        topic: the topic name of the message.
        endpoint: the broker as ``host:port``.
        seconds: how long it was waited for.
        qos: of the message.
    """
    what = "not acknowledged" if qos else "the broker has not read on"
    return BrokerUnreachableError(
        f"{endpoint}: published on {topic[:80]!a}, but {what} within {seconds:g} s", endpoint=endpoint
    )


def lost_unacknowledged(topic: str, *, endpoint: str, qos: int) -> BrokerError:
    """Explain a message that went out, and is not sent again.

    Args:
        topic: the topic name of the message.
        endpoint: the broker as ``host:port``.
        qos: of the message.
    """
    message = f"{endpoint}: connection lost before the acknowledgement of what was published on {topic[:80]!a}"
    if qos == 2:
        return ConnectionLostError(
            message, endpoint=endpoint, hint="it may have been delivered; sent again it might come twice"
        )
    return ConnectionLostError(
        f"{message}, twice",
        endpoint=endpoint,
        hint="there are brokers that hang up on what they do not take: for its size, its topic, its QoS",
    )


def held_up(kind: type[_H], endpoint: str, *, max_pending_bytes: int) -> _H:
    """Explain an answer that cannot be waited for, because of the messages before it.

    Args:
        kind: the class of the error.
        endpoint: the broker as ``host:port``.
        max_pending_bytes: how much may wait.
    """
    return kind(
        f"{endpoint}: the broker's answer lies behind messages that wait to be handled, "
        f"{max_pending_bytes:,} bytes of them",
        endpoint=endpoint,
        hint="let the handlers be faster, or try again later; max_pending_bytes is how much may wait",
    )


def breach(name: str) -> str | None:
    """Say what the broker has done to a connection that paho gave up before the CONNACK, or None.

    Args:
        name: paho's name for the end of a socket.
    """
    return _SOCKET_REASONS[_BREACH] if name.lower() == _BREACH else None


def is_given_up(name: str) -> bool:
    """Tell whether it was paho that ended a connection, and not the other side.

    Args:
        name: paho's name for the end of a socket.
    """
    return name.lower() in _SOCKET_REASONS


def taken_over(endpoint: str, *, is_durable: bool, words: Words = NO_WORDS) -> BrokerError:
    """Explain a session that another client with the same client id took over (MQTT 5, 3.1.4).

    Args:
        endpoint: the broker as ``host:port``.
        is_durable: True when the client id was made of the name of a durable session.
        words: what the broker has said along with it.
    """
    cure = "another durable=NAME" if is_durable else "client_id=ID, or none for a random one"
    return SessionTakenOverError(
        f"{endpoint}: another client connected with the same client id{words}",
        endpoint=endpoint,
        hint=f"give each client an id of its own: {cure}",
    )


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


def _socket_reason(name: str) -> str:
    return _SOCKET_REASONS.get(name.lower(), "the network connection ended")


def _handing_on(words: Words, error: _E) -> _E:
    error.reason_string, error.server_reference = words.reason, words.server
    return error


def _where_to(code: int, words: Words) -> str:
    return _MOVED[code] if words.server else _MOVED_SOMEWHERE


def _cure(code: int, *, is_v5: bool) -> str:
    return _NO_RIGHT if code == 0x80 and not is_v5 else _CURES.get(code, _UNEXPLAINED)


def _some(filters: Iterable[str]) -> str:
    return ", ".join(map(repr, filters))
