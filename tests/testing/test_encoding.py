"""A message as the packet in which a broker sends it."""

from datetime import UTC, datetime

import pytest

from plantops_cli.messages import Message
from plantops_cli.stream.batch import message_of
from plantops_cli.stream.packets import parse_properties
from plantops_cli.testing.encoding import encode_properties, packet_of

ALL = {
    "payload-format-indicator": 1,
    "message-expiry-interval": 3600,
    "content-type": "text/plain",
    "response-topic": "answers/ä",
    "correlation-data": b"\x00\xff",
    "user-properties": [["a", "1"], ["a", "ü"]],
}
AT = datetime(2026, 11, 23, tzinfo=UTC)


def test_the_packet_of_a_message_is_read_as_the_same_message() -> None:
    message = Message.of(
        "devices/ä/telemetry", b"\x00", qos=2, retain=True, dup=True, mid=65_535, properties=ALL, received_at=AT
    )
    assert message_of(packet_of(message), AT) == message


@pytest.mark.parametrize("name", ALL)
def test_each_property_is_read_as_it_was(name: str) -> None:
    assert parse_properties(encode_properties({name: ALL[name]})) == {name: ALL[name]}


def test_no_properties_take_no_bytes() -> None:
    assert encode_properties({}) == b""
