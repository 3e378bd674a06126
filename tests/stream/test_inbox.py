"""What waits, and the memory that it takes."""

import gc
import tracemalloc

import pytest

from plantops_cli.stream.batch import Read
from plantops_cli.stream.inbox import BATCH_MESSAGES, MESSAGE_BYTES, Inbox
from plantops_cli.stream.packets import Packet, Splitter
from tests.support.scripted_broker import publish

MANY_BYTES = 100 * 1024 * 1024


def packets_of(count: int) -> list[Packet]:
    return [(0x32, b"a", mid, b"", b"x") for mid in range(1, count + 1)]


def inbox_of(*counts: int, max_bytes: int = MANY_BYTES) -> Inbox:
    inbox = Inbox(max_bytes)
    for count in counts:
        inbox.put(Read(0, packets_of(count)), 0)
    return inbox


def test_messages_are_taken_in_order_and_in_whole_reads() -> None:
    inbox = inbox_of(300, 200, 1)
    assert [len(read.packets) for read in inbox.take().reads] == [300, 200]
    assert inbox.count == 1
    assert [len(read.packets) for read in inbox.take().reads] == [1]
    assert not inbox


def test_a_read_longer_than_a_batch_is_taken_alone() -> None:
    inbox = inbox_of(BATCH_MESSAGES + 1, 1)
    assert len(inbox.take()) == BATCH_MESSAGES + 1


def test_what_is_passed_over_counts_as_messages_do() -> None:
    inbox = Inbox(MANY_BYTES)
    inbox.put(Read(0, [], passed_over=packets_of(BATCH_MESSAGES)), 0)
    inbox.put(Read(0, packets_of(1)), 0)
    assert inbox.count == BATCH_MESSAGES + 1
    assert len(inbox.take()) == 0
    assert len(inbox.take()) == 1


def test_what_is_in_hand_takes_room_until_it_is_let_go() -> None:
    inbox = inbox_of(100, max_bytes=101 * MESSAGE_BYTES)
    assert inbox.is_full()
    inbox.take()
    assert inbox.is_full()
    inbox.let_go()
    assert not inbox.is_full()
    assert inbox.room == 101


def test_no_more_is_wanted_at_once_than_fits_or_makes_a_batch() -> None:
    assert inbox_of().room == BATCH_MESSAGES
    assert inbox_of(10, max_bytes=20 * MESSAGE_BYTES).room == 9  # a read counts as one, too


def test_a_message_larger_than_all_that_may_wait_is_taken_all_the_same() -> None:
    inbox = Inbox(1)
    assert inbox.room == 1
    assert not inbox.is_full(partial_bytes=1_000_000)
    inbox.put(Read(0, packets_of(1)), 1_000_000)
    assert inbox.is_full()
    inbox.take()
    inbox.let_go()
    assert not inbox.is_full()


def test_a_packet_that_is_not_whole_yet_takes_room() -> None:
    inbox = inbox_of(1, max_bytes=10_000)
    assert not inbox.is_full(partial_bytes=9_000)
    assert inbox.is_full(partial_bytes=9_600)


@pytest.mark.parametrize(
    ("topic", "payload", "at_once"),
    [(b"a", b"", 500), (b"devices/x/telemetry", b"y" * 100, 1)],
    ids=["many in a read", "one in a read"],
)
def test_messages_take_no_more_memory_than_is_counted(topic: bytes, payload: bytes, at_once: int) -> None:
    splitter, inbox = Splitter(is_v5=True, max_packet_size=1_000_000), Inbox(MANY_BYTES)
    stream = b"".join(publish(topic, payload, qos=1, mid=mid) for mid in range(301, 301 + at_once))
    splitter.feed(stream)  # its layouts are not of the messages
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for moment in range(20_000 // at_once):
            # a moment is an object of its own in each read
            inbox.put(Read(1_700_000_000_000_000_000 + moment, splitter.feed(stream)[0]), len(stream))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = MANY_BYTES - inbox._free_bytes
    assert 0.4 * counted < taken < counted


def test_what_comes_again_is_dropped_and_the_rest_stays_in_order() -> None:
    inbox = inbox_of(3)
    inbox.put(Read(7, [(0x30, b"a", 0, b"", b"1"), (0x34, b"a", 9, b"", b""), (0x30, b"b", 0, b"", b"2")]), 9)
    inbox.put(Read(8, [], passed_over=packets_of(2)), 9)
    inbox.drop_what_comes_again()
    assert inbox.count == 2
    assert inbox.take().packets == [(0x30, b"a", 0, b"", b"1"), (0x30, b"b", 0, b"", b"2")]
    inbox.let_go()
    assert inbox._free_bytes == MANY_BYTES
