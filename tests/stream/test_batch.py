import tracemalloc
from typing import cast

import pytest

from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.packets import Packet


def packets(*mids: int) -> list[Packet]:
    return [(0x32, b"a", mid, b"", b"") for mid in mids]


@pytest.mark.parametrize(
    ("handled", "mids"),
    [(0, [1]), (1, [1, 2]), (2, [1, 2, 3, 4, 5]), (3, [1, 2, 3, 4, 5, 6]), (4, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_what_was_passed_over_is_acknowledgeable_as_soon_as_all_before_it_is(
    handled: int, mids: list[int]
) -> None:
    batch = Batch(
        [
            Read(0, [], passed_over=packets(1)),
            Read(1, packets(2, 3), passed_over=packets(4)),
            Read(2, [], passed_over=packets(5)),
            Read(3, packets(6, 7)),
            Read(4, [], passed_over=packets(8)),
        ]
    )
    assert len(batch) == 4
    assert [message.mid for message in batch] == [2, 3, 6, 7]
    assert [packet[2] for packet in batch.acknowledgeable(handled)] == mids


def test_a_message_is_acknowledged_in_turn_with_what_was_passed_over_before_it() -> None:
    batch = Batch(
        [
            Read(0, packets(2), passed_over=packets(3)),
            Read(1, [], passed_over=packets(4)),
            Read(2, packets(5, 6), passed_over=packets(7)),
        ]
    )
    pieces = [(message.mid, [packet[2] for packet in piece]) for message, piece in batch.in_turn()]
    assert pieces == [(2, [2]), (5, [3, 4, 5]), (6, [6])]


def test_what_was_acknowledged_already_is_not_acknowledgeable_again() -> None:
    batch = Batch([Read(0, packets(2, 3, 4), passed_over=packets(5))])
    batch.acknowledged = 2
    assert [packet[2] for packet in batch.acknowledgeable(1)] == []
    assert [packet[2] for packet in batch.acknowledgeable(3)] == [4, 5]


RESPONSE_TOPIC = b"\x08\0\x01r"


async def test_messages_with_properties_reply_by_what_the_batch_was_given() -> None:
    published: list[str] = []

    async def publish(topic: str, payload: object, **options: object) -> None:
        published.append(topic)

    def made() -> Batch:
        batch = Batch([Read(0, [(0x32, b"a", 1, RESPONSE_TOPIC, b""), (0x32, b"a", 2, b"", b"")])])
        batch.publish = publish
        return batch

    for answering, silent in (list(made()), made()[:], [message for message, _ in made().in_turn()]):
        await answering.reply(b"")
        assert not hasattr(silent, "_publish")
    assert published == ["r", "r", "r"]


def test_who_iterates_over_a_batch_pays_for_the_properties_of_one_message_at_a_time() -> None:
    properties = b"\x26\0\0\0\0" * 10_000  # user properties without name and value
    batch = Batch([Read(0, [(0x30, b"a", 0, properties, b"")] * 20)])
    tracemalloc.start()
    try:
        assert all(len(cast("list[object]", message.properties["user-properties"])) == 10_000 for message in batch)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5 * 16 * len(properties)
