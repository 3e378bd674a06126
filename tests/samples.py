"""Messages, each different from the usual one in what a test is about."""

from collections.abc import Mapping
from datetime import UTC, datetime

from plantops_cli.messages import Message

RECEIVED_AT = datetime(2026, 11, 23, 20, 15, 2, 123456, tzinfo=UTC)


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
