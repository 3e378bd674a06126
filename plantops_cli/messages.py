"""One received message, and what its payload turns out to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Self

import orjson

from plantops_cli.topics import DeviceTopic, check_topic, device_topic

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_CAPTURES: Mapping[str, str] = {}

PayloadForm = Literal["json", "text", "binary"]


class Decoded(NamedTuple):
    """A payload as JSON, as text, or as neither.

    Attributes:
        form: ``json``, ``text`` or ``binary``.
        value: the parsed JSON, the text, or the bytes.
        error: why it is not JSON, or None when it is.
    """

    form: PayloadForm
    value: object
    error: str | None


@dataclass(frozen=True, slots=True, init=False)
class Message:
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
    qos: int
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
        qos: int,
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
        qos: int = 0,
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


def decode_payload(payload: bytes) -> Decoded:
    """Find out what a payload is: JSON, text, or bytes.

    Args:
        payload: the bytes of a message.
    """
    if not payload:
        return Decoded("text", "", "empty payload")
    try:
        return Decoded("json", orjson.loads(payload), None)
    except orjson.JSONDecodeError as exc:
        error = f"not JSON: {exc.msg}"
    try:
        return Decoded("text", payload.decode(), error)
    except UnicodeDecodeError as exc:
        return Decoded("binary", payload, f"not UTF-8: byte 0x{payload[exc.start]:02x} at offset {exc.start}")


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def in_utc(nanoseconds: int) -> datetime:
    """Return a moment, to the microsecond that it is in, as ``Message.received_at`` has it.

    Args:
        nanoseconds: since 1970, as ``time.time_ns`` counts them.
    """
    return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)
