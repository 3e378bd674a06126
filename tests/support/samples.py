"""Messages, each different from the usual one in what a test is about."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from plantops_cli.formats.jsonl import encode
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch, Read

RECEIVED_AT = datetime(2026, 11, 23, 20, 15, 2, 123456, tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """The nanoseconds since 1970, as ``time.time_ns`` counts them."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def message(
    payload: bytes = b"{}",
    *,
    topic: str = "devices/abc/telemetry",
    retain: bool = False,
    dup: bool = False,
    mid: int = 7,
    properties: Mapping[str, object] | None = None,
    received_at: datetime = RECEIVED_AT,
) -> Message:
    return Message(
        topic=topic,
        payload=payload,
        qos=1,
        retain=retain,
        dup=dup,
        mid=mid,
        properties=properties or {},
        received_at=received_at,
    )


def batch_of(*messages: Message) -> Batch:
    """One read that brought these messages; properties are left out."""
    assert not any(message.properties for message in messages)
    packets = [
        (0x30 | m.dup << 3 | m.qos << 1 | m.retain, m.topic.encode(), m.mid, b"", m.payload) for m in messages
    ]
    return Batch([Read(nanoseconds(messages[0].received_at), packets)] if messages else [])


def lines(*numbers: int) -> bytes:
    """The JSON lines of messages that are numbered in ``n``."""
    return b"".join(encode(message(b'{"n":%d}' % number, topic="t")) for number in numbers)
