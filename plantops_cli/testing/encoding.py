"""A message as the packet in which a broker would send it: pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from plantops_cli.messages import Message
from plantops_cli.stream.packets import PUBLISH, Packet


def packet_of(message: Message) -> Packet:
    """Return the packet of a message.

    Args:
        message: a message with valid properties.
    """
    first = PUBLISH | message.dup << 3 | message.qos << 1 | message.retain
    properties = encode_properties(message.properties)
    return first, message.topic.encode(), message.mid, properties, message.payload


def encode_properties(properties: Mapping[str, object]) -> bytes:
    """Return the properties of a PUBLISH without their length: what ``parse_properties`` takes apart.

    Args:
        properties: valid ones, by Mosquitto's names (MQTT 5, 3.3.2.3).
    """
    return b"".join(_ENCODERS[name](value) for name, value in properties.items())


def _data(identifier: int, value: object) -> bytes:
    data = cast("bytes", value)
    return bytes((identifier,)) + len(data).to_bytes(2, "big") + data


def _text(identifier: int, value: object) -> bytes:
    return _data(identifier, cast("str", value).encode())


def _pair(pair: Iterable[str]) -> bytes:
    name, value = (len(text.encode()).to_bytes(2, "big") + text.encode() for text in pair)
    return b"\x26" + name + value


_ENCODERS: Mapping[str, Callable[[object], bytes]] = {
    "payload-format-indicator": lambda value: bytes((1, cast("int", value))),
    "message-expiry-interval": lambda value: b"\x02" + cast("int", value).to_bytes(4, "big"),
    "content-type": lambda value: _text(3, value),
    "response-topic": lambda value: _text(8, value),
    "correlation-data": lambda value: _data(9, value),
    "user-properties": lambda value: b"".join(map(_pair, cast("Iterable[Iterable[str]]", value))),
}
