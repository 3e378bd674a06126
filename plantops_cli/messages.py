"""One received message, and what its payload turns out to be."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, Literal, NamedTuple, Self

import orjson

from plantops_cli.errors import ConfigError, StateError, TopicError
from plantops_cli.topics import DeviceTopic, check_topic, device_topic

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_CAPTURES: Mapping[str, str] = {}
_QOS: tuple["QoS", ...] = (0, 1, 2)

MAX_JSON_DEPTH = 250
"""How deep JSON may be nested to be handed on as such, where an object counts as two levels.

So jq 1.6 counts, which stops reading at the 257th level, those of the line around a payload included.
"""

DEEP_FROM_BYTES = 2 * MAX_JSON_DEPTH
"""No shorter document is nested more deeply: each level takes two bytes."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_TURNS = 8
_STEPS = [{"[": 1, "{": 2, "]": -1, "}": -2}.get(chr(byte), 0) for byte in range(256)]

PayloadForm = Literal["json", "text", "binary"]

QoS = Literal[0, 1, 2]
"""A quality of service (MQTT 5, 4.3); ``check_qos`` makes one of a number that was read from somewhere."""


class Decoded(NamedTuple):
    """A payload as JSON, as text, or as neither.

    Attributes:
        form: ``json``, ``text`` or ``binary``.
        value: the parsed JSON, the text, or the bytes.
        error: why it is not JSON, or not taken for such, or None when it is.
    """

    form: PayloadForm
    value: object
    error: str | None


Publish = Callable[..., Awaitable[None]]
"""Publishes a message, as ``MQTTSubscriber.publish`` does."""


class _Answerable:
    """Holds the way back; no field of a message, for it is no part of it, and most have none."""

    __slots__ = ("_publish",)
    _publish: Publish


@dataclass(frozen=True, slots=True, init=False)
class Message(_Answerable):
    """One PUBLISH as it arrived.

    Attributes:
        topic: the topic name.
        payload: the payload, byte for byte.
        qos: the quality of service of this delivery: 0, 1 or 2.
        retain: True when the broker sent it because of the subscription, not because it was just published.
        dup: True when the broker has tried to deliver it before (MQTT 5, 3.3.1.1).
        mid: the packet identifier; 0 at QoS 0.
        properties: the MQTT 5 properties, by Mosquitto's names; empty for MQTT 3.1.1.
        received_at: when this client read it, in UTC.
        captures: what the topic has where the pattern of a handler has names; empty when that names nothing.
    """

    topic: str
    payload: bytes
    qos: QoS
    retain: bool
    dup: bool
    mid: int
    properties: Mapping[str, object]
    received_at: datetime
    captures: Mapping[str, str] = field(compare=False)
    _decoded: Decoded | None = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: QoS,
        retain: bool,
        dup: bool,
        mid: int,
        properties: Mapping[str, object],
        received_at: datetime,
        captures: Mapping[str, str] = _NO_CAPTURES,
    ) -> None:
        # by the slots: that which a frozen dataclass gets by itself takes half as long again, for each message
        _set_topic(self, topic)
        _set_payload(self, payload)
        _set_qos(self, qos)
        _set_retain(self, retain)
        _set_dup(self, dup)
        _set_mid(self, mid)
        _set_properties(self, properties)
        _set_received_at(self, received_at)
        _set_captures(self, captures)
        _set_decoded(self, None)

    @classmethod
    def of(
        cls,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: QoS = 0,
        retain: bool = False,
        dup: bool = False,
        mid: int | None = None,
        properties: Mapping[str, object] | None = None,
        received_at: datetime | None = None,
        captures: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a message as it could arrive, for the test of a handler.

        Args:
            topic: the topic name.
            payload: the payload; text is encoded as UTF-8.
            qos: 0, 1 or 2.
            retain: as the attribute.
            dup: as the attribute.
            mid: as the attribute; default: 0 at QoS 0, else 1.
            properties: as the attribute; default: none.
            received_at: as the attribute; default: now.
            captures: as the attribute; default: none.

        Raises:
            TopicError: no message can have this topic name (MQTT 5, 3.3.2.1).
        """
        return cls(
            topic=check_topic(topic),
            payload=payload.encode() if isinstance(payload, str) else payload,
            qos=qos,
            retain=retain,
            dup=dup,
            mid=min(qos, 1) if mid is None else mid,
            properties=dict(properties or {}),
            received_at=received_at or now(),
            captures=dict(captures or {}),
        )

    @property
    def device(self) -> DeviceTopic | None:
        """Device id and kind, or None for a topic outside ``devices/{device_id}/{kind}``."""
        return device_topic(self.topic)

    @property
    def device_id(self) -> str | None:
        """The device id, or None for a topic outside the device convention."""
        device = self.device
        return device.device_id if device else None

    @property
    def kind(self) -> str | None:
        """``telemetry``, ``heartbeat``, or None for a topic outside the device convention."""
        device = self.device
        return device.kind if device else None

    @property
    def text(self) -> str:
        """The payload as text.

        Raises:
            UnicodeDecodeError: it is not UTF-8.
        """
        return self.payload.decode()

    def json(self) -> object:
        """Parse the payload as JSON (RFC 8259: no NaN, no duplicate-key check, last one wins).

        Raises:
            ValueError: it is not JSON, or nested deeper than 1,024 levels.
        """
        return orjson.loads(self.payload)

    async def reply(
        self, payload: object, *, qos: QoS = 1, properties: Mapping[str, object] | None = None, wait: float = 10.0
    ) -> None:
        """Publish an answer to the response topic of the message, with its correlation data (MQTT 5, 4.10).

        The topic was chosen by whoever sent the message, and the answer goes there with the rights of this client:
        what it is not to reach, the broker has to deny it. Topics that begin with ``$`` are refused.

        Args:
            payload: as in ``MQTTSubscriber.publish``.
            qos: 0, 1 or 2.
            properties: as in ``MQTTSubscriber.publish``; correlation data in it take the place of the message's.
            wait: as in ``MQTTSubscriber.publish``.

        Raises:
            StateError: the message names no response topic, or was not received by a subscriber.
            TopicError: the response topic is none that may be published on.
            PlantopsError: as ``MQTTSubscriber.publish``.
        """
        topic, data = self.properties.get("response-topic"), self.properties.get("correlation-data")
        if not isinstance(topic, str):
            raise StateError(
                f"a message on {self.topic[:80]!a} names no response topic",
                hint="whoever wants an answer sets the property response-topic (MQTT 5, 3.3.2.3.5)",
            )
        publish: Publish | None = getattr(self, "_publish", None)
        if publish is None:
            raise StateError("a message that no subscriber has received cannot be answered")
        correlation = {} if data is None else {"correlation-data": data}
        own = {**correlation, **(properties or {})}
        await publish(_check_response_topic(topic), payload, qos=qos, properties=own, wait=wait)

    def decode(self) -> Decoded:
        """Find out what the payload is, once; never raises."""
        if self._decoded is None:
            _set_decoded(self, decode_payload(self.payload))
        assert self._decoded is not None
        return self._decoded


(
    _set_topic,
    _set_payload,
    _set_qos,
    _set_retain,
    _set_dup,
    _set_mid,
    _set_properties,
    _set_received_at,
    _set_captures,
    _set_decoded,
) = (vars(Message)[each.name].__set__ for each in fields(Message))


def answerable(message: Message, publish: Publish) -> Message:
    """Give a message its way back, and return it.

    Args:
        message: one that was just made.
        publish: what ``Message.reply`` publishes by.
    """
    object.__setattr__(message, "_publish", publish)
    return message


def _check_response_topic(topic: str) -> str:
    """Check where a stranger wants an answer; with ``$`` begins what is the broker's own (MQTT 4.7.2)."""
    if topic.startswith("$"):
        raise TopicError(f"response topic {topic[:80]!a} begins with $, which is no topic of a client")
    return check_topic(topic)


def check_qos(qos: object) -> QoS:
    """Return a QoS as it is, for a type checker too; of a setting, for example.

    Raises:
        ConfigError: there is no such QoS.
    """
    if isinstance(qos, int) and not isinstance(qos, bool):
        for known in _QOS:
            if qos == known:
                return known
    raise ConfigError(f"QoS {qos!r} does not exist", hint="0, 1 or 2")


def decode_payload(payload: bytes) -> Decoded:
    """Find out what a payload is: JSON, text, or bytes.

    JSON that is nested deeper than ``MAX_JSON_DEPTH`` is taken for text.

    Args:
        payload: the bytes of a message.
    """
    value, error = parse_json(payload)
    if error is None:
        return Decoded("json", value, None)
    try:
        return Decoded("text", payload.decode(), error)
    except UnicodeDecodeError as exc:
        return Decoded("binary", payload, f"not UTF-8: byte 0x{payload[exc.start]:02x} at offset {exc.start}")


def parse_json(payload: bytes) -> tuple[Any, str | None]:
    """Parse a payload that ought to be JSON; return its value, or None and what is wrong with it.

    Args:
        payload: the bytes of a message.
    """
    if not payload:
        return None, "empty payload"
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError as exc:
        return None, f"not JSON: {exc.msg}"
    if is_nested_too_deeply(payload):
        return None, f"nested deeper than {MAX_JSON_DEPTH} levels, of which an object is two"
    return value, None


def is_nested_too_deeply(document: bytes) -> bool:
    """Tell whether JSON is nested deeper than ``MAX_JSON_DEPTH``, at next to no cost where it is not.

    Args:
        document: valid JSON.
    """
    if len(document) < DEEP_FROM_BYTES or _levels_at_most(document) <= MAX_JSON_DEPTH:
        return False
    brackets = _brackets(document)
    # what is wide and not deep, as most are, is soon used up from within, an array and an object at most a turn
    rest = brackets
    for turn in range(1, _TURNS + 1):
        rest = rest.replace(b"[]", b"").replace(b"{}", b"")
        if 3 * turn + _levels_at_most(rest) <= MAX_JSON_DEPTH:
            return False
    return max(accumulate(map(_STEPS.__getitem__, brackets))) > MAX_JSON_DEPTH


def _levels_at_most(document: bytes) -> int:
    return document.count(b"[") + 2 * document.count(b"{")


def _brackets(document: bytes) -> bytes:
    """The brackets of valid JSON, but for those in strings; by what Python does in C, for it may be long."""
    unescaped = document.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in document else document
    return b"".join(unescaped.split(b'"')[::2]).translate(None, _NO_BRACKETS)


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def in_utc(nanoseconds: int) -> datetime:
    """Return a moment, to the microsecond that it is in, as ``Message.received_at`` has it.

    Args:
        nanoseconds: since 1970, as ``time.time_ns`` counts them.
    """
    return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)
