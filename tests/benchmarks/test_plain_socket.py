"""The plain socket: its packets, and what it has in hand."""

import pytest

from benchmarks.libraries.hands import Hands, Message
from benchmarks.libraries.raw import Publish, split
from tests.support.scripted_broker import packet_of, publish


def message(number: int, device: int, seconds: float = 1.0) -> Message:
    return Message(number.to_bytes(2, "big"), number, device, seconds)


def holding(limit: int, *messages: Message) -> Hands:
    hands = Hands(limit)
    for one in messages:
        hands.add(one)
    return hands


def numbers(messages: list[Message]) -> list[int]:
    return [one.number for one in messages]


@pytest.mark.parametrize("version", [4, 5])
def test_messages_are_found_wherever_the_stream_is_cut(version: int) -> None:
    first = publish(b"devices/a/telemetry", b"{}", qos=1, mid=1, version=version)
    second = publish(b"devices/b/telemetry", b"x" * 300, qos=1, mid=2, version=version)
    stream = first + packet_of(0xD0, b"") + second
    expected = [Publish(b"\0\1", b"{}"), Publish(b"\0\2", b"x" * 300)]
    for cut in range(len(stream)):
        found, rest = split(stream[:cut], version)
        more, left = split(rest + stream[cut:], version)
        assert (found + more, left) == (expected, b"")


def test_no_more_is_in_hand_than_the_limit() -> None:
    hands = holding(2, message(1, 1), message(2, 2), message(3, 3))
    assert numbers(hands.begin(0)) == [1, 2]
    assert not hands.is_hungry
    hands.finish(1)
    assert numbers(hands.begin(1)) == [3]


def test_a_device_has_one_message_in_hand_and_the_next_begins_in_its_place() -> None:
    hands = holding(5, message(1, 1), message(2, 1), message(3, 2, seconds=2.0))
    assert numbers(hands.begin(0)) == [1, 3]
    assert hands.finish(0.5) is None
    finished = hands.finish(1)
    assert finished is not None
    assert (finished[0].number, finished[1].number if finished[1] else None) == (1, 2)


def test_what_is_done_waits_to_be_acknowledged_behind_what_is_not() -> None:
    hands = holding(5, message(1, 1, seconds=3.0), message(2, 2))
    hands.begin(0)
    hands.finish(1)
    assert hands.acknowledged() == []
    hands.finish(3)
    assert hands.acknowledged() == [b"\0\1", b"\0\2"]
    assert hands.next_due is None
