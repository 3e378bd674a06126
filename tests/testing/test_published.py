"""What a test compares: messages as they were published, and what became of one."""

import pytest

from plantops_cli.errors import PayloadError
from plantops_cli.messages import Message
from plantops_cli.testing.published import Delivered, Published

WATER = Published.of("devices/x/command", b"water", qos=1, mid=7, properties={"content-type": "text/plain"})


def test_a_published_message_is_one_with_the_same_words_whenever_it_was_sent() -> None:
    same = Message.of("devices/x/command", "water", qos=1, dup=True, properties={"content-type": "text/plain"})
    assert same == WATER
    assert same == WATER
    assert [same] == [WATER]
    assert hash(WATER) == hash(Published.of("devices/x/command", b"water"))


@pytest.mark.parametrize(
    "other",
    [
        Message.of("devices/y/command", b"water", qos=1, properties={"content-type": "text/plain"}),
        Message.of("devices/x/command", b"wine", qos=1, properties={"content-type": "text/plain"}),
        Message.of("devices/x/command", b"water", qos=0, properties={"content-type": "text/plain"}),
        Message.of("devices/x/command", b"water", qos=1, retain=True, properties={"content-type": "text/plain"}),
        Message.of("devices/x/command", b"water", qos=1),
        "devices/x/command",
    ],
)
def test_a_published_message_differs_from_any_other(other: object) -> None:
    assert other != WATER


def test_what_is_delivered_is_invalid_when_a_handler_found_its_payload_so() -> None:
    failed = Delivered(WATER, is_acknowledged=True, errors=(ValueError("late"),))
    assert not failed.is_invalid
    assert Delivered(
        WATER, is_acknowledged=True, errors=(ValueError(), PayloadError("bad", topic="t", errors=[]))
    ).is_invalid
