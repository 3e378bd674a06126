"""What is to be published: its payload as bytes, its properties checked, the size of its packet. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from math import isfinite
from typing import NamedTuple, Self, cast

import orjson

from plantops_cli.errors import ConfigError, PublishRefusedError
from plantops_cli.messages import QoS, check_qos
from plantops_cli.stream.asking import PACKET_TOO_LARGE, max_packet_bytes, max_qos
from plantops_cli.stream.failures import publish_refused
from plantops_cli.stream.packets import LONGEST_PACKET_BYTES, length_bytes, packet_bytes
from plantops_cli.topics import check_topic

RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED = 0x9A, 0x9B
"""What the broker would say to what is refused before it is sent (MQTT 5, 2.4)."""

_LONGEST_BYTES = 65_535
_LONGEST_EXPIRY_SECONDS = 0xFFFF_FFFF
_NO_PROPERTIES: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """One PUBLISH as it is to go out; ``of`` makes one of what a user gave.

    Attributes:
        topic: a valid topic name.
        payload: any bytes.
        qos: 0, 1 or 2.
        retain: whether the broker keeps it for later subscribers.
        properties: valid properties, by Mosquitto's names.
    """

    topic: str
    payload: bytes
    qos: QoS
    retain: bool
    properties: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls, topic: str, payload: object, *, qos: int, retain: bool, properties: Mapping[str, object] | None
    ) -> Self:
        """Make one of what a user gave.

        Args:
            topic: a topic name.
            payload: as ``encode_payload`` takes it.
            qos: 0, 1 or 2.
            retain: whether the broker keeps it for later subscribers.
            properties: as ``check_properties`` takes them.

        Raises:
            TopicError: no message can have this topic name (MQTT 5, 3.3.2.1).
            ConfigError: an argument is not usable.
        """
        level, data = check_qos(qos), encode_payload(payload)
        made = cls(check_topic(topic), data, level, bool(retain), check_properties(properties))
        if (size := made.size(is_v5=True)) > LONGEST_PACKET_BYTES:
            raise ConfigError(f"a packet of {size:,} bytes, where MQTT can express {LONGEST_PACKET_BYTES:,}")
        return made

    def size(self, *, is_v5: bool) -> int:
        """Return the bytes of the whole PUBLISH packet (MQTT 5, 3.3; MQTT 3.1.1, 3.3)."""
        rest = 2 + len(self.topic.encode()) + (2 if self.qos else 0) + len(self.payload)
        if is_v5:
            properties = sum(_KINDS[name].size(value) for name, value in self.properties.items())
            rest += length_bytes(properties) + properties
        return packet_bytes(rest)

    def refusal(self, granted: Mapping[str, object], *, is_v5: bool, endpoint: str) -> PublishRefusedError | None:
        """Tell why a broker would not take it, as far as its CONNACK says (MQTT 5, 3.2.2.3).

        Args:
            granted: the properties of the CONNACK, by paho's names.
            is_v5: whether the connection speaks MQTT 5.
            endpoint: the broker as ``host:port``.
        """
        code, why = self._breach(granted, is_v5=is_v5)
        return publish_refused(code, self.topic, endpoint=endpoint, why=why) if why else None

    def _breach(self, granted: Mapping[str, object], *, is_v5: bool) -> tuple[int | None, str | None]:
        if self.properties and not is_v5:
            return None, "the connection speaks MQTT 3.1.1, which knows no properties"
        most_qos = max_qos(granted)
        if self.qos > most_qos:
            return QOS_NOT_SUPPORTED, f"QoS {self.qos}, where the broker takes {most_qos} at most"
        if self.retain and not granted.get("RetainAvailable", 1):
            return RETAIN_NOT_SUPPORTED, "the broker keeps no retained messages"
        most_bytes = max_packet_bytes(granted)
        if (size := self.size(is_v5=is_v5)) > most_bytes:
            return PACKET_TOO_LARGE, f"a packet of {size:,} bytes, where the broker takes {most_bytes:,} at most"
        return None, None


# Payloads


def encode_payload(payload: object) -> bytes:
    """Make the bytes of a payload: bytes as they are, text as UTF-8, None as nothing, all else as JSON.

    Args:
        payload: besides these, a pydantic model, or what orjson writes: dataclasses, dicts, lists, numbers, times
            and so on, with models in them too.

    Raises:
        ConfigError: it cannot be written as JSON (RFC 8259), or the text not as UTF-8.
    """
    match payload:
        case bytes():
            return bytes(payload)
        case str():
            return _utf8(payload, "payload")
        case None:
            return b""
        case bytearray() | memoryview():
            return bytes(payload)
    try:
        return _json(payload)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigError(
            f"a payload of type {type(payload).__name__} cannot be written as JSON: {exc}",
            hint="bytes, text, None, a pydantic model, or what JSON can express",
        ) from exc


def _json(payload: object) -> bytes:
    dump = getattr(payload, "model_dump_json", None)
    if dump is not None and not isinstance(payload, type):
        return str(dump()).encode()
    data = orjson.dumps(payload, default=_plain)
    # orjson writes null for what is no number, and so would change what was measured
    if b"null" in data and _has_no_number(payload):
        raise ValueError("it holds NaN or an infinity")
    return data


def _plain(value: object) -> object:
    """Return what orjson can write of a pydantic model within a payload."""
    dump = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        raise TypeError  # of which orjson makes its own, with the type
    return dump(mode="json")


def _has_no_number(value: object) -> bool:
    match value:
        case float():
            return not isfinite(value)
        case dict():
            return any(map(_has_no_number, value.values()))
        case list() | tuple():
            return any(map(_has_no_number, value))
    if is_dataclass(value) and not isinstance(value, type):
        return any(_has_no_number(getattr(value, each.name, None)) for each in fields(value))
    return False


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} {text[:80]!a} is not UTF-8") from None


# Properties


def check_properties(properties: Mapping[str, object] | None) -> dict[str, object]:
    """Return the properties of a PUBLISH (MQTT 5, 3.3.2.3), checked, as ``Message.properties`` has them.

    Args:
        properties: by Mosquitto's names: ``payload-format-indicator`` (0 or 1), ``message-expiry-interval``
            (seconds), ``content-type``, ``response-topic``, ``correlation-data`` (bytes), and ``user-properties``
            (pairs of texts, or a mapping); None: none.

    Raises:
        TopicError: the response topic is no topic name (MQTT 5, 3.3.2.3.5).
        ConfigError: there is no such property, or its value is out of its range.
    """
    return {name: _kind(name).check(name, value) for name, value in (properties or _NO_PROPERTIES).items()}


def by_pahos_names(properties: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield checked properties as paho calls them, such as ``ResponseTopic``.

    Args:
        properties: as ``check_properties`` returns them.
    """
    for name, value in properties.items():
        if name == "user-properties":
            yield "UserProperty", [tuple(pair) for pair in cast("list[list[str]]", value)]
        else:
            yield name.title().replace("-", ""), value


class _Kind(NamedTuple):
    """What a property holds: how it is checked, and how many bytes it takes with its identifier."""

    check: Callable[[str, object], object]
    size: Callable[[object], int]


def _kind(name: str) -> _Kind:
    if name in _KINDS:
        return _KINDS[name]
    near = get_close_matches(str(name), _KINDS, 1)
    raise ConfigError(
        f"a PUBLISH has no property {str(name)[:80]!a}",
        hint=f"{near[0]!r} is one" if near else f"there are {', '.join(_KINDS)}",
    )


def _check_flag(name: str, value: object) -> int:
    if not isinstance(value, int) or value not in (0, 1):
        raise _out_of_range(name, value, "0 or 1")
    return int(value)


def _check_seconds(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LONGEST_EXPIRY_SECONDS:
        raise _out_of_range(name, value, f"whole seconds, 0 to {_LONGEST_EXPIRY_SECONDS:,}")
    return value


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str) or "\0" in value or len(_utf8(value, name)) > _LONGEST_BYTES:
        raise _out_of_range(name, value, f"text without NUL, of {_LONGEST_BYTES:,} bytes at most")
    return value


def _check_topic(name: str, value: object) -> str:
    return check_topic(_check_text(name, value))


def _check_data(name: str, value: object) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)) or len(bytes(value)) > _LONGEST_BYTES:
        raise _out_of_range(name, value, f"bytes, {_LONGEST_BYTES:,} of them at most")
    return bytes(value)


def _check_pairs(name: str, value: object) -> list[list[str]]:
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, (list, tuple)) or not all(map(_is_pair, pairs)):
        raise _out_of_range(name, value, "pairs of texts, [[NAME, VALUE], ...] or {NAME: VALUE}")
    return [[_check_text(name, text) for text in pair] for pair in pairs]


def _is_pair(pair: object) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2


def _out_of_range(name: str, value: object, range_: str) -> ConfigError:
    """Say what a property may hold; of its value no more than the type, for it may be a secret."""
    shown = repr(value) if isinstance(value, (int, float)) else f"of type {type(value).__name__}"
    return ConfigError(f"property {name}: {shown} is not usable", hint=range_)


def _text_size(value: object) -> int:
    return 3 + len(cast("str", value).encode())


def _data_size(value: object) -> int:
    return 3 + len(cast("bytes", value))


def _pairs_size(value: object) -> int:
    pairs = cast("Iterable[Iterable[str]]", value)
    return sum(1 + sum(2 + len(text.encode()) for text in pair) for pair in pairs)


_KINDS: Mapping[str, _Kind] = {
    "payload-format-indicator": _Kind(_check_flag, lambda _: 2),
    "message-expiry-interval": _Kind(_check_seconds, lambda _: 5),
    "content-type": _Kind(_check_text, _text_size),
    "response-topic": _Kind(_check_topic, _text_size),
    "correlation-data": _Kind(_check_data, _data_size),
    "user-properties": _Kind(_check_pairs, _pairs_size),
}
