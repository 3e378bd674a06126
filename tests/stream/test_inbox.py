"""What waits, the memory that it takes, and what of it may pass."""

import gc
import tracemalloc

import pytest

from plantops_cli.stream.batch import Read
from plantops_cli.stream.inbox import BATCH_MESSAGES, MESSAGE_BYTES, Grants, Inbox
from plantops_cli.stream.packets import Packet, Splitter
from tests.support.scripted_broker import ScriptedBroker, publish, serving
from tests.support.subscribing import session_on, take

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
    batch = inbox.take()
    assert inbox.is_full()
    inbox.let_go(batch.size)
    assert not inbox.is_full()
    assert inbox.room == 101


def test_for_an_answer_there_is_room_for_twice_as_much_until_it_has_come() -> None:
    inbox = inbox_of(100, max_bytes=100 * MESSAGE_BYTES)
    assert inbox.room == 0
    inbox.extend(is_extended=True)
    assert inbox.room == 100 - 1  # for the read itself counts, too
    assert not inbox.is_full()
    inbox.put(Read(0, packets_of(100)), 0)
    assert inbox.is_full()
    inbox.extend(is_extended=False)
    assert (inbox.room, inbox.is_full()) == (0, True)


def test_no_more_is_wanted_at_once_than_fits_or_makes_a_batch() -> None:
    assert inbox_of().room == BATCH_MESSAGES
    assert inbox_of(10, max_bytes=20 * MESSAGE_BYTES).room == 9  # a read counts as one, too


def test_a_message_larger_than_all_that_may_wait_is_taken_all_the_same() -> None:
    inbox = Inbox(1)
    assert inbox.room == 1
    assert not inbox.is_full(partial_bytes=1_000_000)
    inbox.put(Read(0, packets_of(1)), 1_000_000)
    assert inbox.is_full()
    inbox.let_go(inbox.take().size)
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
    batch = inbox.take()
    assert batch.packets == [(0x30, b"a", 0, b"", b"1"), (0x30, b"b", 0, b"", b"2")]
    inbox.let_go(batch.size)
    assert inbox._free_bytes == MANY_BYTES


def test_one_that_is_closed_wants_everything_for_it_keeps_nothing() -> None:
    inbox = inbox_of(100, max_bytes=100 * MESSAGE_BYTES)
    assert inbox.is_full()
    inbox.close()
    assert not inbox.is_full(partial_bytes=MANY_BYTES)
    assert inbox.room == BATCH_MESSAGES
    batch = inbox.take()
    assert len(batch) == 100
    inbox.let_go(batch.size)
    assert inbox.room == BATCH_MESSAGES


# What may pass


def message(topic: bytes, properties: bytes = b"", payload: bytes = b"1") -> Packet:
    return 0x30, topic, 0, properties, payload


GOOD, WRONG = message(b"a"), message(b"a/+")
CONTENT_TYPE, UNKNOWN, CUT = b"\x03\x00\x01t", b"\x99\x00", b"\x03\x00"


def test_a_message_is_known_once_its_topic_was_examined_unless_it_has_properties() -> None:
    inbox = inbox_of()
    assert not inbox.knows([GOOD])
    inbox.examine([GOOD], 9)
    assert inbox.knows([GOOD, message(b"a", payload=b"2")])
    assert not inbox.knows([GOOD, message(b"b")])
    assert not inbox.knows([GOOD, message(b"a", CONTENT_TYPE)])


def test_what_is_valid_passes_together_with_all_the_bytes_in_which_it_came() -> None:
    packets = [GOOD, message(b"b", CONTENT_TYPE)]
    assert inbox_of().examine(packets, 77) == ([(packets, 77, True)], None)


@pytest.mark.parametrize("topic", [b"bad/\xff", b"a/+", b"#", b"a\0b", b""])
def test_a_topic_that_mqtt_forbids_is_told_apart_each_time(topic: bytes) -> None:
    inbox, wrong = inbox_of(), message(topic)
    for _ in range(2):
        assert not inbox.knows([wrong])
        (portion,), error = inbox.examine([wrong], 9)
        assert (portion.packets, portion.has_valid_topics, error) == ([wrong], False, None)


def test_valid_and_wrong_topics_keep_their_order() -> None:
    portions, _ = inbox_of().examine([GOOD, GOOD, WRONG, WRONG, GOOD], 99)
    assert [(len(portion.packets), portion.has_valid_topics) for portion in portions] == [
        (2, True),
        (2, False),
        (1, True),
    ]
    assert [portion.size for portion in portions] == [4, 8, 2]  # topics, properties and payloads


def test_nothing_passes_from_the_first_malformed_properties_on_and_these_are_named() -> None:
    packets = [WRONG, GOOD, message(b"a", CUT), GOOD, message(b"a", UNKNOWN)]
    portions, error = inbox_of().examine(packets, 99)
    assert [portion.packets for portion in portions] == [[WRONG], [GOOD]]
    assert "leads beyond the end" in str(error)


def test_malformed_properties_may_come_first() -> None:
    portions, error = inbox_of().examine([message(b"a", UNKNOWN), GOOD], 99)
    assert portions == []
    assert "property 153 in a PUBLISH" in str(error)


def test_no_more_topics_are_remembered_than_fit() -> None:
    inbox = inbox_of()
    inbox.examine([message(b"%d" % number) for number in range(100_001)], 0)
    inbox.examine([GOOD], 0)
    assert len(inbox._topics) == 1


async def test_of_long_topics_each_is_examined_and_none_remembered() -> None:
    valid, wrong = b"a" * 129, b"a" * 128 + b"+"
    script = (publish(valid) + publish(wrong)) * 2 + publish(b"b")
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 0})
        assert [message.topic for message in await take(session, 3)] == [valid.decode(), valid.decode(), "b"]
        assert session.invalid == 2
        assert session.inbox._topics == {b"b"}


# Which QoS may come


def test_nobody_has_asked_so_any_qos_may_come() -> None:
    assert Grants().max_qos == 2


@pytest.mark.parametrize(
    ("asked", "codes", "max_qos"),
    [
        (1, [1], 1),
        (2, [0, 1], 1),
        (1, [0], 0),
        (1, [1, 0x80], 1),
        (1, [0x87], 2),  # nothing granted: nothing known
    ],
)
def test_what_was_granted_may_come_and_no_more(asked: int, codes: list[int], max_qos: int) -> None:
    grants = Grants()
    grants.ask(asked)
    assert grants.max_qos == asked
    grants.answer(asked, codes)
    assert grants.max_qos == max_qos


def test_what_is_asked_for_may_come_before_the_answer() -> None:
    grants = Grants()
    grants.ask(0)
    grants.answer(0, [0])
    grants.ask(2)
    assert grants.max_qos == 2
    grants.answer(2, [1])
    assert grants.max_qos == 1
