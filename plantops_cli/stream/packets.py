"""Take PUBLISH and PUBREL packets out of a stream of MQTT bytes: pure, no I/O, MQTT 3.1.1 and MQTT 5.

MalformedPacketError (ValueError)   .packets, .others: what came before it; .reason_code: for DISCONNECT
├── PacketTooLargeError             .size: bytes of the packet
└── UnwantedQoSError                a QoS that nobody was granted

This is the innermost loop of the program. A fleet sends the same headers again and again: one that is new is
examined once, with all its checks, and made into a compiled layout of its packet; every further packet with that
header then takes one look-up and one call of ``struct``.
"""

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, ClassVar, NamedTuple

from plantops_cli.messages import QoS, check_qos

Packet = tuple[int, bytes, int, bytes, bytes]
"""A PUBLISH: first byte (type and flags), topic name as sent, packet identifier (0 at QoS 0), properties without
their length (empty for none, and with MQTT 3.1.1), payload. A PUBREL has nothing but first byte and identifier."""

PUBLISH = 0x30
"""First byte of a PUBLISH of QoS 0 without any flag (MQTT 5, 3.3.1); the bits of the flags follow."""

RETAIN = 0x01
"""The bit that says that the broker had kept the message for new subscribers (MQTT 5, 3.3.1.3)."""

QOS_1, QOS_2 = 0x02, 0x04
"""The bits of QoS 1 and 2; no packet may have both (MQTT 5, 3.3.1-4)."""

QOS_1_OR_2 = QOS_1 | QOS_2
"""To tell whether a message is to be acknowledged."""

DUP = 0x08
"""The bit that says that the message is sent again (MQTT 5, 3.3.1.1)."""

RETAINED_OR_DUP = RETAIN | DUP
"""To tell whether a message is one of the past: it says nothing of now."""

QOS_OR_RETAIN = QOS_1_OR_2 | RETAIN
"""To tell whether a message is one that was published at QoS 0, and comes as it is published."""

PUBREL = 0x62
"""First byte of a PUBREL (MQTT 5, 3.6.1)."""


class Flags(NamedTuple):
    """What the first byte of a PUBLISH says (MQTT 5, 3.3.1)."""

    qos: QoS
    is_retained: bool
    is_dup: bool


def _flags(first: int) -> Flags:
    return Flags(check_qos((first & QOS_1_OR_2) >> 1), bool(first & RETAIN), bool(first & DUP))


FLAGS: Mapping[int, Flags] = {
    PUBLISH | bits: _flags(bits) for bits in range(0x10) if bits & QOS_1_OR_2 != QOS_1 | QOS_2
}
"""The flags of each PUBLISH that there may be, by its first byte: a look-up costs less than a call."""

LONGEST_PACKET_BYTES = 5 + 268_435_455
"""The longest packet that MQTT can express (MQTT 5, 1.5.5)."""

MAX_LAYOUTS = 8_192
"""Headers remembered before all are forgotten; about 550 bytes each."""

LONGEST_TOPIC_KEPT = 128
"""Bytes of the longest topic name that is kept in a cache, so that few strange ones cannot fill the memory."""

_Layout = tuple[Callable[[bytes, int], tuple[Any, ...]], int, int]
_HEADER_BYTES = 5
# the bits of the first byte that say what kind of packet it is (MQTT 5, 2.1.2)
_KIND = 0xF0
_QOS_3 = QOS_1 | QOS_2
# Behind the last packet no header is left: a layout that never fits ends the splitting there. No data has its size
_NO_LAYOUT: _Layout = (struct.Struct("x").unpack_from, -1, 0)
_NO_LAYOUTS: Mapping[bytes, _Layout] = {b"": _NO_LAYOUT}

# success, and that the identifier was not found (MQTT 5, 3.6.2.1)
_PUBREL_REASONS = (b"", b"\x00", b"\x92")

_PAYLOAD_FORMAT = 1
_MESSAGE_EXPIRY = 2
_CONTENT_TYPE = 3
_RESPONSE_TOPIC = 8
_CORRELATION_DATA = 9
_SUBSCRIPTION_IDENTIFIER = 11
_REASON_STRING = 31
_TOPIC_ALIAS = 35
_USER_PROPERTY = 38
_NAMES = {
    _PAYLOAD_FORMAT: "payload-format-indicator",
    _MESSAGE_EXPIRY: "message-expiry-interval",
    _CONTENT_TYPE: "content-type",
    _RESPONSE_TOPIC: "response-topic",
    _CORRELATION_DATA: "correlation-data",
    _USER_PROPERTY: "user-properties",
}


class MalformedPacketError(ValueError):
    """The bytes are no MQTT, or more of it than may be; nothing behind them can be read.

    Args:
        message: what is wrong, in one line.

    Attributes:
        reason_code: what a DISCONNECT says of it (MQTT 5, 3.14.2.1).
        packets: whole packets that came before it in the same ``Splitter.feed``.
        others: bytes for somebody else that came before it in the same ``Splitter.feed``.
    """

    reason_code: ClassVar[int] = 0x81

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.packets: list[Packet] = []
        self.others = b""


class PacketTooLargeError(MalformedPacketError):
    """A packet has more bytes than may be; it is refused as soon as its length is known.

    Args:
        message: what is wrong, in one line.
        size: length of the whole packet in bytes.
    """

    reason_code = 0x95

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class UnwantedQoSError(MalformedPacketError):
    """A PUBLISH has a higher QoS than the broker granted to any filter (MQTT 5, 3.8.4-8)."""

    reason_code = 0x82


class Splitter:
    """Splits what arrives on one connection; used once.

    Topics and properties are measured, not judged, but for a Topic Alias: no Topic Alias Maximum is announced, so
    that none is allowed (MQTT 5, 3.3.2.3.4).

    Args:
        is_v5: True for MQTT 5, False for MQTT 3.1.1.
        max_packet_size: bytes of the longest packet to take, its fixed header included (MQTT 5, 2.1.4).

    Attributes:
        max_packet_size: as given.
        has_more: True when ``feed`` has stopped early, and would return more, or raise, without further data.
        is_exactly_once: True when PUBLISH packets of QoS 2 or PUBREL packets are among those returned last.
    """

    def __init__(self, *, is_v5: bool, max_packet_size: int) -> None:
        self.has_more = False
        self.is_exactly_once = False
        self._is_v5 = is_v5
        self.max_packet_size = max_packet_size
        self._max_qos = 2
        self._layouts = dict(_NO_LAYOUTS)
        # By QoS: identifier and properties length ("0s" where there is none), and their bytes
        without, within = (("0sB", 1), ("HB", 3)) if is_v5 else (("0s0s", 0), ("H0s", 2))
        self._between = {0: without, QOS_1: within, QOS_2: within}
        self._held = bytearray()
        self._needed = 0  # bytes to hold before another look is worth it; below 1 while that is unknown
        self._others_due = 0  # bytes still to come of a packet that is for somebody else
        self._failure: MalformedPacketError | None = None

    @property
    def held(self) -> int:
        """Bytes held of a packet that is not whole yet."""
        return len(self._held)

    def limit_qos(self, max_qos: int) -> None:
        """Refuse PUBLISH packets of a higher QoS from now on.

        Args:
            max_qos: the highest that the broker may send: 0, 1 or 2.
        """
        if max_qos != self._max_qos:
            self._max_qos = max_qos
            self._layouts = dict(_NO_LAYOUTS)  # each header is to be looked at again

    def feed(self, data: bytes, limit: int = sys.maxsize) -> tuple[list[Packet], bytes]:
        """Return the PUBLISH and PUBREL packets that are whole now, and all bytes that are for somebody else.

        Those others keep their order. The packets among them may come in pieces, but no fixed header is cut.

        Args:
            data: what was read, cut anywhere.
            limit: packets of any kind to look at, at most; those behind them wait for the next call.

        Raises:
            MalformedPacketError: what came before is in its attributes. Every later call raises one too.
        """
        self.is_exactly_once = False
        if self._failure:
            self._failure.packets, self._failure.others = [], b""
            raise self._failure
        if self._held:
            # Copied once when it is whole, not with every piece
            if len(self._held) + len(data) < self._needed:
                self._held += data
                return [], b""
            held, self._held = self._held, bytearray()
            data = b"".join((held, data))
            del held  # a long packet is not to be in memory once more while it is taken apart
        elif limit and not self._others_due:
            # One packet alone, as a slow stream brings them, needs no exception to end the splitting; with
            # properties, or without the identifier that QoS 1 has to have, it is treated as one of many
            unpack, size, first = self._layouts.get(data[:_HEADER_BYTES], _NO_LAYOUT)
            if size == len(data):
                topic, identifier, properties_size, payload = unpack(data, 0)
                if not properties_size and (identifier or not first & QOS_1_OR_2):
                    return [(first, topic, identifier or 0, b"", payload)], b""
        packets: list[Packet] = []
        others: list[bytes] = []
        try:
            self._split(data, packets, others, limit)
        except MalformedPacketError as exc:
            self._held.clear()
            self._failure, self.has_more = exc, True
            exc.packets, exc.others = packets, b"".join(others)
            raise
        return packets, b"".join(others)

    def _split(self, data: bytes, packets: list[Packet], others: list[bytes], limit: int) -> None:
        layouts, append = self._layouts, packets.append
        needed, position, is_limited = 0, self._others_due, False
        if position:
            others.append(data[:position])
        # Exceptions stand for what is rare: a try costs nothing, a test would cost its time at every message
        for _ in repeat(None, limit):
            try:
                # Type, flags and both lengths are in these bytes; so may be some of the topic, which does no harm
                unpack, size, first = layouts[data[position : position + _HEADER_BYTES]]
            except KeyError:
                header = self._fixed_header(data, position)
                if header is None:
                    break
                body, size = header
                if data[position] & _KIND == PUBREL & _KIND:
                    if len(data) < position + size:
                        needed = size
                        break
                    append(_pubrel(data[position : position + size], body - position, is_v5=self._is_v5))
                    self.is_exactly_once = True
                    position += size
                    continue
                if data[position] & _KIND != PUBLISH:
                    others.append(data[position : position + size])
                    position += size
                    continue
                layout = self._layout(data, position, body, size)
                if layout is None:
                    break
                unpack, size, first = layout
            try:
                topic, identifier, properties_size, payload = unpack(data, position)
            except struct.error:  # the packet is not whole
                needed = size
                break
            if not identifier:  # b"" at QoS 0
                if first & QOS_1_OR_2:
                    raise MalformedPacketError(
                        f"PUBLISH of QoS {FLAGS[first].qos} with packet identifier 0 (MQTT 5, 2.2.1-4)"
                    )
                identifier = 0
            properties = b""
            if properties_size:  # b"" in MQTT 3.1.1
                properties, payload = _split_properties(properties_size, payload)
            append((first, topic, identifier, properties, payload))
            position += size
        else:
            is_limited = position < len(data)
        self.has_more = is_limited
        self._others_due = max(position - len(data), 0)
        self._held = bytearray(data[position:])
        self._needed = needed

    def _fixed_header(self, data: bytes, position: int) -> tuple[int, int] | None:
        """Return the position of a packet's body and the packet's size, or None while they are unknown."""
        try:
            first = data[position]
            if first & (_KIND | _QOS_3) == PUBLISH | _QOS_3:
                raise MalformedPacketError("PUBLISH of QoS 3 (MQTT 5, 3.3.1-4)")
            remaining, body = _variable_byte_integer(data, position + 1, "remaining length")
        except IndexError:
            return None
        size = body - position + remaining
        if size > self.max_packet_size:
            raise PacketTooLargeError(
                f"a packet of {size:,} bytes, where at most {self.max_packet_size:,} are taken", size=size
            )
        if first & _KIND == PUBLISH and FLAGS[first].qos > self._max_qos:
            raise UnwantedQoSError(
                f"PUBLISH of QoS {FLAGS[first].qos}, where {self._max_qos} was granted (MQTT 5, 3.8.4-8)"
            )
        return body, size

    def _layout(self, data: bytes, position: int, body: int, size: int) -> _Layout | None:
        """Return how to take such a PUBLISH apart, or None while the length of its topic is unknown."""
        first, topic = data[position], body + 2 - position
        if topic > size:
            raise MalformedPacketError("PUBLISH that ends before its topic")
        if len(data) < body + 2:
            return None
        topic_size = data[body] << 8 | data[body + 1]
        between, between_size = self._between[first & QOS_1_OR_2]
        payload_size = size - topic - topic_size - between_size
        if payload_size < 0:
            raise MalformedPacketError(f"PUBLISH of {size:,} bytes, too short for a topic of {topic_size:,}")
        layout = struct.Struct(f">{topic}x{topic_size}s{between}{payload_size}s").unpack_from, size, first
        if first & QOS_2:  # kept nowhere, so that each one is seen here
            self.is_exactly_once = True
            return layout
        # With a remaining length of three or four bytes these do not hold the whole length of the topic
        if topic <= _HEADER_BYTES:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts = dict(_NO_LAYOUTS)
            self._layouts[data[position : position + _HEADER_BYTES]] = layout
        return layout


def parse_properties(block: bytes) -> dict[str, object]:
    """Return the properties of a PUBLISH by Mosquitto's names (mosquitto_sub ``%j``), in a fixed order.

    Correlation data are bytes, user properties are a list of [name, value] lists. Subscription identifiers and a
    Topic Alias are left out.

    Args:
        block: the properties without their length.

    Raises:
        MalformedPacketError: they break a rule of MQTT 5, 3.3.2.3.
    """
    found = _read_properties(block)
    return {name: found[identifier] for identifier, name in _NAMES.items() if identifier in found}


def puback(packet_ids: Iterable[int]) -> bytes:
    """Return one PUBACK of success for each packet identifier: the same four bytes in both versions (3.4.2.1).

    Args:
        packet_ids: as they were received, 1 to 65,535.
    """
    return _acknowledgements(0x40, packet_ids)


def pubrec(packet_ids: Iterable[int]) -> bytes:
    """Return one PUBREC of success for each packet identifier, as ``puback`` does (3.5.2.1)."""
    return _acknowledgements(0x50, packet_ids)


def pubcomp(packet_ids: Iterable[int]) -> bytes:
    """Return one PUBCOMP of success for each packet identifier, as ``puback`` does (3.7.2.1)."""
    return _acknowledgements(0x70, packet_ids)


def _acknowledgements(first: int, packet_ids: Iterable[int]) -> bytes:
    identifiers = array("H", packet_ids)
    if sys.byteorder == "little":
        identifiers.byteswap()
    # Half-words, every other one an identifier: twice as fast as packing each
    acknowledgements = array("H", bytes((first, 2, 0, 0)) * len(identifiers))
    acknowledgements[1::2] = identifiers
    return acknowledgements.tobytes()


def _variable_byte_integer(data: bytes, position: int, what: str) -> tuple[int, int]:
    """Return a Variable Byte Integer and the position behind it (MQTT 5, 1.5.5); IndexError when it is cut."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise MalformedPacketError(f"{what} of more than 4 bytes (MQTT 5, 1.5.5)")


def _pubrel(data: bytes, body: int, *, is_v5: bool) -> Packet:
    """Take a whole PUBREL apart; the reason code and properties behind its identifier are checked, no more."""
    if data[0] != PUBREL:
        raise MalformedPacketError("PUBREL with wrong flags (MQTT 5, 3.6.1-1)")
    identifier, rest = int.from_bytes(data[body : body + 2], "big"), data[body + 2 :]
    if len(data) < body + 2 or not identifier:
        raise MalformedPacketError("PUBREL without a packet identifier (MQTT 5, 2.2.1)")
    if rest and not is_v5:
        raise MalformedPacketError("PUBREL with more than a packet identifier (MQTT 3.1.1, 3.6)")
    if rest[:1] not in _PUBREL_REASONS:
        raise MalformedPacketError(f"PUBREL with reason code 0x{rest[0]:02x} (MQTT 5, 3.6.2.1)")
    if len(rest) > 1:
        block, behind = _cut_properties(rest[1], rest[2:])
        if behind:
            raise MalformedPacketError("PUBREL that is longer than its properties (MQTT 5, 3.6.2.2)")
        _read_properties(block, _PUBREL_READERS, kind="PUBREL")
    return PUBREL, b"", identifier, b"", b""


def _split_properties(size: int, rest: bytes) -> tuple[bytes, bytes]:
    """Part the properties of a PUBLISH from its payload.

    Args:
        size: the first byte of the properties' length, not 0.
        rest: all that follows it in the packet.
    """
    block, payload = _cut_properties(size, rest)
    # Few blocks hold such a byte at all: the others need no parsing here
    if _TOPIC_ALIAS in block and _TOPIC_ALIAS in _read_properties(block):
        raise MalformedPacketError("PUBLISH with a Topic Alias, where none is allowed (MQTT 5, 3.3.2.3.4)")
    return block, payload


def _cut_properties(size: int, rest: bytes) -> tuple[bytes, bytes]:
    start = 0
    if size >= 0x80:
        try:
            size, behind = _variable_byte_integer(bytes((size,)) + rest[:3], 0, "properties length")
        except IndexError:
            raise MalformedPacketError("a packet that ends within its properties length") from None
        start = behind - 1
    end = start + size
    if end > len(rest):
        raise MalformedPacketError(f"a packet too short for its {size:,} bytes of properties")
    return rest[start:end], rest[end:]


_Reader = Callable[[bytes, int], tuple[object, int]]


def _read_properties(
    block: bytes, readers: Mapping[int, _Reader] | None = None, *, kind: str = "PUBLISH"
) -> dict[int, object]:
    readers = _READERS if readers is None else readers
    found: dict[int, object] = {}
    pairs: list[object] = []
    position = 0
    try:
        while position < len(block):
            identifier = block[position]
            value, position = readers[identifier](block, position + 1)
            if identifier == _USER_PROPERTY:
                pairs.append(value)
                value = pairs
            elif identifier in found and identifier != _SUBSCRIPTION_IDENTIFIER:
                raise MalformedPacketError(f"property {identifier} twice in a {kind} (MQTT 5, 3.3.2.3)")
            found[identifier] = value
    except KeyError:
        raise MalformedPacketError(f"property {identifier} in a {kind} (MQTT 5, 2.2.2.2)") from None
    except (IndexError, struct.error):
        raise MalformedPacketError(f"property {identifier} leads beyond the end of the properties") from None
    except UnicodeDecodeError:
        raise MalformedPacketError(f"property {identifier} is not UTF-8 (MQTT 5, 1.5.4-1)") from None
    return found


# The readers of values: each takes the properties and a position, and returns a value and the position behind it.
# They raise IndexError or struct.error when the properties end before the value does.


def _flag(block: bytes, position: int) -> tuple[int, int]:
    if block[position] > 1:
        raise MalformedPacketError("payload format indicator that is neither 0 nor 1 (MQTT 5, 3.3.2.3.2)")
    return block[position], position + 1


def _integer(form: struct.Struct) -> Callable[[bytes, int], tuple[int, int]]:
    def read(block: bytes, position: int) -> tuple[int, int]:
        return form.unpack_from(block, position)[0], position + form.size

    return read


_two_bytes = _integer(struct.Struct(">H"))
_four_bytes = _integer(struct.Struct(">I"))


def _data(block: bytes, position: int) -> tuple[bytes, int]:
    size, start = _two_bytes(block, position)
    end = start + size
    if end > len(block):
        raise IndexError
    return block[start:end], end


def _text(block: bytes, position: int) -> tuple[str, int]:
    data, end = _data(block, position)
    if 0 in data:
        raise MalformedPacketError("a text in the properties holds NUL (MQTT 5, 1.5.4-2)")
    return data.decode(), end


def _pair(block: bytes, position: int) -> tuple[list[str], int]:
    name, position = _text(block, position)
    value, position = _text(block, position)
    return [name, value], position


def _subscription_identifier(block: bytes, position: int) -> tuple[int, int]:
    value, end = _variable_byte_integer(block, position, "subscription identifier")
    if not value:
        raise MalformedPacketError("subscription identifier 0 (MQTT 5, 3.3.2.3.8)")
    return value, end


_READERS: dict[int, _Reader] = {
    _PAYLOAD_FORMAT: _flag,
    _MESSAGE_EXPIRY: _four_bytes,
    _CONTENT_TYPE: _text,
    _RESPONSE_TOPIC: _text,
    _CORRELATION_DATA: _data,
    _SUBSCRIPTION_IDENTIFIER: _subscription_identifier,
    _TOPIC_ALIAS: _two_bytes,
    _USER_PROPERTY: _pair,
}

_PUBREL_READERS: dict[int, _Reader] = {_REASON_STRING: _text, _USER_PROPERTY: _pair}


# Sizes


def length_bytes(value: int) -> int:
    """Return how many bytes a Variable Byte Integer takes (MQTT 5, 1.5.5).

    Args:
        value: what it says.
    """
    return 1 + (value >= 0x80) + (value >= 0x4000) + (value >= 0x20_0000)


def packet_bytes(rest: int) -> int:
    """Return the bytes of a whole packet.

    Args:
        rest: its bytes behind the length (MQTT 5, 2.1.4).
    """
    return 1 + length_bytes(rest) + rest
