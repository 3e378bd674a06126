"""JSON lines for programs: mosquitto_sub's names and ours, one message a line, the payload as it was sent."""

from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import cast

import orjson

from plantops_cli.formats.renderer import OneByOne, Rendered, Renderer, Wants
from plantops_cli.formats.terminal import json_escape
from plantops_cli.messages import DEEP_FROM_BYTES, Message, is_nested_too_deeply
from plantops_cli.stream.batch import Batch, Read, message_of
from plantops_cli.stream.packets import DUP, LONGEST_TOPIC_KEPT, PUBLISH, Packet

# Between the tokens of valid JSON these are white space; inside its strings they cannot stand unescaped
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")

_exhaust = deque[object](maxlen=0).extend
_TOPICS_KEPT = 100_000
_FIRST_WITH_DUP = PUBLISH | DUP  # of the first bytes of PUBLISH packets; it and all above have DUP
_FEW, _TOGETHER = 8, 64  # to line up fewer costs more than it saves; of more, each odd one holds up many


def renderer(wants: Wants, *, is_terminal: bool) -> Renderer:
    """Make what writes JSON lines.

    Args:
        wants: whether a message is to be written; asked once for each topic, QoS and retain.
        is_terminal: whether a terminal shows them, which a stranger's bytes must not command.
    """
    return OneByOne(lambda messages: json_escape(_lines(messages)), wants) if is_terminal else JSONLines(wants)


class JSONLines:
    """Writes JSON lines untouched, for programs.

    Args:
        wants: whether a message is to be written.
    """

    def __init__(self, wants: Wants) -> None:
        self._encoder = LineEncoder(wants)
        self._exactly = OneByOne(_lines, wants)

    def render(self, batch: Batch, limit: int | None) -> Rendered:
        """As ``Renderer.render``; the last messages of a count are taken one by one."""
        if limit is not None and limit < len(batch):
            return self._exactly.render(batch, limit)
        return self._encoder.encode(batch)

    def ends(self, batch: Batch, limit: int | None) -> Sequence[int]:
        """As ``Renderer.ends``; the encoder writes byte for byte what ``encode`` does."""
        return self._exactly.ends(batch, limit)


class LineEncoder:
    """Writes whole batches as JSON lines, byte for byte what ``encode`` writes, but many times as fast.

    What depends on topic, QoS and retain alone is written once and kept; the moment is written once for each read
    of the socket; a payload is checked and copied, in a flood with many others at once. All else, such as what is
    no JSON, is left to ``encode``.

    Args:
        wants: whether a message is to be written; asked once for each topic, QoS and retain.
    """

    def __init__(self, wants: Wants) -> None:
        self._wants = wants
        # by the first byte of the packet, then by topic; None for a message that is not wanted
        self._kept: list[dict[bytes, bytes | None]] = [{} for _ in range(256)]
        self._kept_count = 0
        self._second: int | None = None
        self._to_the_second = b""

    def encode(self, batch: Batch) -> Rendered:
        """Return the lines, how many they are, and how many of their payloads are no JSON.

        Args:
            batch: messages as they arrived.
        """
        pieces: list[bytes] = []
        count = invalid = 0
        for read in batch.reads:
            head, packets = self._head(read), read.packets
            for some in _in_groups(packets) if len(packets) > _TOGETHER else (packets,):
                plain = self._together(head, some) if len(some) > _FEW else None
                if plain:
                    pieces += plain
                    count += len(some)
                else:
                    shown, wrong = self._one_by_one(pieces, head, some, read)
                    count += shown
                    invalid += wrong
        return b"".join(pieces), count, invalid

    def _together(self, head: bytes, packets: list[Packet]) -> list[bytes] | None:
        """Return the lines in pieces, or None when one of them, or its payload, is out of the ordinary.

        Column by column, so that Python's own loops, in C, do most of it.
        """
        firsts, topics, _, properties, payloads = zip(*packets, strict=True)
        if any(properties) or max(firsts) >= _FIRST_WITH_DUP:
            return None
        try:
            middles = self._middles(firsts, topics)
            _exhaust(map(orjson.loads, payloads))
        except (KeyError, orjson.JSONDecodeError):
            return None
        if None in middles:
            return None
        if max(map(len, payloads)) >= DEEP_FROM_BYTES and any(map(is_nested_too_deeply, payloads)):
            return None
        if _has_line_ends(b"".join(payloads)):
            payloads = tuple(payload.translate(_ON_ONE_LINE) for payload in payloads)
        pieces = [head, b"", b"", b"}\n"] * len(packets)
        pieces[1::4] = cast("list[bytes]", middles)
        pieces[2::4] = payloads
        return pieces

    def _middles(self, firsts: tuple[int, ...], topics: tuple[bytes, ...]) -> list[bytes | None]:
        """What is kept of each; KeyError when one is not."""
        kept, first = self._kept, firsts[0]
        if firsts.count(first) == len(firsts):
            return [*map(kept[first].__getitem__, topics)]
        return [kept[first][topic] for first, topic in zip(firsts, topics, strict=True)]

    def _one_by_one(self, pieces: list[bytes], head: bytes, packets: list[Packet], read: Read) -> tuple[int, int]:
        """Add the lines, each as it has to be; return how many, and how many of their payloads are no JSON."""
        append, kept, loads = pieces.append, self._kept, orjson.loads
        count = invalid = 0
        received_at: datetime | None = None
        for packet in packets:
            first, topic, _, properties, payload = packet
            try:
                middle = kept[first][topic]
            except KeyError:
                middle = self._keep(packet, message_of(packet, read.received_at))
            if middle is None:
                continue
            count += 1
            try:
                loads(payload)
                is_deep = len(payload) >= DEEP_FROM_BYTES and is_nested_too_deeply(payload)
                is_plain = not properties and first < _FIRST_WITH_DUP and not is_deep
                invalid += is_deep
            except orjson.JSONDecodeError:
                invalid += 1
                is_plain = False
            if not is_plain:
                received_at = received_at or read.received_at
                append(encode(message_of(packet, received_at)))
                continue
            if _has_line_ends(payload):
                payload = payload.translate(_ON_ONE_LINE)
            append(head)
            append(middle)
            append(payload)
            append(b"}\n")
        return count, invalid

    def _head(self, read: Read) -> bytes:
        """What stands in a line before the topic; within a second only the moment's fraction is written anew."""
        second, nanosecond = divmod(read.received_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._to_the_second = b'{"tst":"%b' % read.received_at.isoformat()[:19].encode()
        return b'%b.%06d+00:00","topic":' % (self._to_the_second, nanosecond // 1_000)

    def _keep(self, packet: Packet, message: Message) -> bytes | None:
        middle = _middle(message) if self._wants(message) else None
        if len(packet[1]) > LONGEST_TOPIC_KEPT:
            return middle
        if self._kept_count >= _TOPICS_KEPT:
            for topics in self._kept:
                topics.clear()
            self._kept_count = 0
        self._kept_count += 1
        self._kept[packet[0]][packet[1]] = middle
        return middle


def _in_groups(packets: list[Packet]) -> Iterator[list[Packet]]:
    return (packets[start : start + _TOGETHER] for start in range(0, len(packets), _TOGETHER))


def _has_line_ends(payload: bytes) -> bool:
    return b"\n" in payload or b"\r" in payload


def _middle(message: Message) -> bytes:
    """What stands in a line between the moment and the payload."""
    device_id, kind = message.device or (None, None)
    fields = {
        "topic": message.topic,
        "device_id": device_id,
        "kind": kind,
        "qos": message.qos,
        "retain": message.retain,
    }
    return orjson.dumps(fields).removeprefix(b'{"topic":').removesuffix(b"}") + b',"payload":'


def _lines(messages: Sequence[Message]) -> bytes:
    return b"".join(map(encode, messages))


def encode(message: Message) -> bytes:
    """Return the message as one line of JSON in UTF-8, newline included; any payload has its line.

    Args:
        message: a message as it arrived.
    """
    device_id, kind = message.device or (None, None)
    line: dict[str, object] = {
        "tst": message.received_at.isoformat(timespec="microseconds"),
        "topic": message.topic,
        "device_id": device_id,
        "kind": kind,
        "qos": message.qos,
        "retain": message.retain,
    }
    if message.dup:
        line |= {"dup": True, "mid": message.mid}
    line |= _payload_fields(message)
    if message.properties:
        line["properties"] = dict(message.properties)
    return orjson.dumps(line, default=_base64, option=orjson.OPT_APPEND_NEWLINE)


def _payload_fields(message: Message) -> dict[str, object]:
    form, value, error = message.decode()
    if form == "json":
        return {"payload": orjson.Fragment(message.payload.translate(_ON_ONE_LINE))}
    if form == "text":
        return {"payload": value, "valid": False, "error": error}
    return {"payload_b64": _base64(message.payload), "valid": False, "error": error}


def _base64(value: object) -> str:
    """Show bytes, such as a payload or correlation-data, which MQTT does not promise to be text (3.3.2.3.6)."""
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    raise TypeError(f"a property of type {type(value).__name__} has no JSON form")
