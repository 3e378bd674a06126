"""What a connection ends of, and what a broker refuses on it, in our words.

Pure. Reason codes are those of MQTT 5 (2.4).
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    ConnectionLostError,
    HeldUpError,
    PublishRefusedError,
    SessionTakenOverError,
    SubscriptionRefusedError,
)
from plantops_cli.stream.greeting import NotMQTTError
from plantops_cli.stream.packets import MalformedPacketError
from plantops_cli.stream.words import NO_WORDS, Words, words_with

TAKEN_OVER = 0x8E

# why paho gives a connection up by itself
_BREACH = "protocol error"
_SOCKET_REASONS = {
    "keep alive timeout": "no answer to keep-alive pings",
    _BREACH: "the broker sent a malformed packet",
}

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
MOVED = {
    0x9C: "use the server that it names, for now",
    0x9D: "use the server that it names, for good",
}
_SOMEWHERE_ELSE = "whoever runs the broker knows which server to use instead"
_E = TypeVar("_E", bound=BrokerError)
_H = TypeVar("_H", bound=HeldUpError)


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
        return handing_on(words, taken_over(endpoint, is_durable=is_durable, words=words))
    asked = dict.fromkeys(filters, code)
    if code in _NOT_SUBSCRIBED and asked:
        error: BrokerError = SubscriptionRefusedError(
            f"{endpoint}: the broker ended the connection over {_some(asked)} (0x{code:02x}, {name}){words}",
            endpoint=endpoint,
            filters=asked,
            hint=_CURES[code],
        )
    else:
        hint = where_to(code, words) if code in MOVED else None
        what = f"{endpoint}: connection lost: the broker said 0x{code:02x}, {name}{words}"
        error = ConnectionLostError(what, endpoint=endpoint, hint=hint)
    return handing_on(words, error)


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
    return handing_on(first, error)


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
    return handing_on(words, error)


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


def _socket_reason(name: str) -> str:
    return _SOCKET_REASONS.get(name.lower(), "the network connection ended")


def handing_on(words: Words, error: _E) -> _E:
    error.reason_string, error.server_reference = words.reason, words.server
    return error


def where_to(code: int, words: Words) -> str:
    return MOVED[code] if words.server else _SOMEWHERE_ELSE


def _cure(code: int, *, is_v5: bool) -> str:
    return _NO_RIGHT if code == 0x80 and not is_v5 else _CURES.get(code, _UNEXPLAINED)


def _some(filters: Iterable[str]) -> str:
    return ", ".join(map(repr, filters))
