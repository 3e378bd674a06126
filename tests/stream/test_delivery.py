"""From the socket to the acknowledgement: what is offered, yielded, passed over, and in which order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from plantops_cli.errors import ConnectionLostError
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch
from tests.support.scripted_broker import (
    DISCONNECT,
    PINGREQ,
    PUBCOMP,
    PUBREC,
    Packet,
    ScriptedBroker,
    packet_of,
    publish,
    serving,
)
from tests.support.subscribing import collect, eventually, session_on, take

FEW_BYTES = 128 * 1024
PUBREL_6 = b"\x62\x02\x00\x06"


@pytest.mark.parametrize("topic", [b"bad/\xff", b"a/+", b"#", b"a\0b", b""])
async def test_a_topic_that_mqtt_forbids_is_counted_acknowledged_and_passed_over(
    topic: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    script = publish(topic, qos=1, mid=7) + publish(topic) + publish(b"good", b"1", qos=1, mid=8)
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        assert [m.topic for m in await take(session, 1)] == ["good"]
        await eventually(lambda: broker.acknowledged == [7])
        await asyncio.sleep(0.1)  # a reader that spins would go on counting
        assert session.invalid == 2
        assert session.client is not None
    assert caplog.text.count("message passed over") == 2


async def test_what_is_passed_over_is_acknowledged_in_the_order_in_which_it_came() -> None:
    topics = [b"good", b"a/+", b"good", b"#", b"a\0b", b"good"]
    script = b"".join(publish(topic, qos=1, mid=mid) for mid, topic in enumerate(topics, start=1))
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        async for batch in session.batches():
            assert [message.mid for message in batch] == [1, 3, 6]
            await asyncio.sleep(0.05)
            assert broker.acknowledged == []
            session.finish()
        await eventually(lambda: broker.acknowledged == [1, 2, 3, 4, 5, 6])


async def test_what_is_passed_over_behind_a_batch_waits_until_that_is_acknowledged() -> None:
    script = publish(b"good", qos=1, mid=1)
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert [message.mid for message in await anext(batches)] == [1]
        await broker.send(publish(b"a/+", qos=1, mid=2))
        await eventually(lambda: session.invalid == 1)
        assert broker.acknowledged == []
        reading = asyncio.create_task(anext(batches))  # nothing to be yielded comes of it
        await eventually(lambda: broker.acknowledged == [1, 2])
        await broker.send(publish(b"good", qos=1, mid=3))
        assert [message.mid for message in await reading] == [3]
        await batches.aclose()


async def test_a_batch_is_acknowledged_in_order_when_the_next_one_is_asked_for() -> None:
    first = b"".join(publish(b"a", qos=1, mid=mid) for mid in (3, 1, 2))
    async with serving(ScriptedBroker(after_suback=first)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert [m.mid for m in await anext(batches)] == [3, 1, 2]
        await asyncio.sleep(0.05)
        assert broker.acknowledged == []
        following = asyncio.create_task(anext(batches))
        await eventually(lambda: broker.acknowledged == [3, 1, 2])
        await broker.send(publish(b"a"))
        await following
        await batches.aclose()


async def test_a_reader_that_breaks_off_leaves_its_batch_unacknowledged() -> None:
    async with serving(ScriptedBroker(after_suback=publish(b"a", qos=1, mid=5))) as broker:
        async with session_on(broker) as session:
            await session.subscribe({"#": 1})
            await take(session, 1)
        await broker.wait_for(DISCONNECT)
        assert broker.acknowledged == []


async def test_qos_2_is_delivered_once_and_answered_after_handling() -> None:
    script = publish(b"a", qos=2, mid=6)
    async with (
        serving(ScriptedBroker(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker) as session,
    ):
        await session.subscribe({"#": 2})
        batches = session.batches()
        assert [(m.qos, m.mid) for m in await anext(batches)] == [(2, 6)]
        await broker.send(publish(b"a", qos=2, mid=6))  # once more, before its PUBREC
        await asyncio.sleep(0.05)
        assert broker.of_kind(PUBREC) == []
        following = asyncio.create_task(anext(batches))
        await broker.wait_for(PUBREC)
        await broker.send(publish(b"a", qos=2, mid=6))  # and once more, as if that had been lost
        await broker.wait_for(PUBREC, 2)
        await broker.send(PUBREL_6)
        await broker.wait_for(PUBCOMP)
        await broker.send(publish(b"a", b"new", qos=2, mid=6))
        assert [m.text for m in await following] == ["new"]
        await batches.aclose()
        assert [packet.body for packet in broker.of_kind(PUBREC)] == 2 * [b"\0\x06"]
        assert [packet.body for packet in broker.of_kind(PUBCOMP)] == [b"\0\x06"]


async def test_a_pubrel_for_nothing_that_is_known_is_completed() -> None:
    async with serving(ScriptedBroker(after_suback=PUBREL_6)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 2})
        await broker.wait_for(PUBCOMP)
        assert session.held == 0


@pytest.mark.parametrize("count", [150, 600])
async def test_a_broker_that_sends_no_pubrel_is_told_so_before_the_memory_fills(count: int) -> None:
    script = b"".join(publish(b"a", bytes(10_000), qos=2, mid=mid) for mid in range(1, count + 1))
    async with (
        serving(ScriptedBroker(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 2})
        received: list[Message] = []
        with pytest.raises(ConnectionLostError, match="messages of QoS 2 without their PUBREL"):
            await collect(session, received)
        await session.close()
        await broker.wait_for(DISCONNECT)
        assert broker.of_kind(DISCONNECT)[0].body == b"\x93"
        assert len(received) >= 104  # a mebibyte


async def test_a_broker_whose_pubrels_come_late_is_not_taken_for_one_that_sends_none() -> None:
    count = 150
    script = b"".join(publish(b"a", bytes(10_000), qos=2, mid=mid) for mid in range(1, count + 1))

    late: list[bytes] = []

    class Late(ScriptedBroker):
        """Answers all PUBRECs together, and a ping behind them."""

        def _answer(self, packet: Packet, writer: asyncio.StreamWriter, *, version: int) -> None:
            if packet.kind == PUBREC:
                late.append(b"\x62\x02" + packet.body)
            elif packet.kind == PINGREQ:
                writer.write(b"".join(late))
            super()._answer(packet, writer, version=version)

    async with (
        serving(Late(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 2})
        received: list[Message] = []
        reading = asyncio.create_task(collect(session, received))
        await eventually(lambda: len(received) == count)
        await broker.wait_for(PINGREQ)
        await asyncio.sleep(0.1)
        assert session.client is not None
        session.finish()
        await reading


async def test_retain_dup_and_properties_arrive_by_mosquittos_names() -> None:
    properties = b"\x03\x00\x04text" + b"\x26\x00\x01k\x00\x01v" + b"\x02\x00\x00\x00\x09"
    packet = packet_of(0x3B, b"\x00\x01a\x00\x05" + bytes([len(properties)]) + properties + b"{}")
    async with serving(ScriptedBroker(after_suback=packet)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        (message,) = await take(session, 1)
    assert (message.retain, message.dup, message.mid) == (True, True, 5)
    assert message.properties == {
        "content-type": "text",
        "user-properties": [["k", "v"]],
        "message-expiry-interval": 9,
    }


async def test_a_batch_may_hold_many_messages() -> None:
    script = b"".join(publish(b"a", b"%d" % number) for number in range(500))
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 0})
        await eventually(lambda: session.held == 500)
        async for batch in session.batches():
            assert len(batch) == 500
            session.finish()


async def read_all(batches: AsyncIterator[Batch], yielded: list[Batch]) -> None:
    yielded.extend([batch async for batch in batches])


async def test_a_few_messages_are_offered_in_the_turn_in_which_they_are_read() -> None:
    offered: list[int] = []

    def at_once(batch: Batch) -> bool:
        offered.extend(message.mid for message in batch)
        return True

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        yielded: list[Batch] = []
        reading = asyncio.create_task(read_all(session.batches(at_once), yielded))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=7))
        await eventually(lambda: broker.acknowledged == [7])
        await broker.send(publish(b"a", qos=1, mid=8))
        await eventually(lambda: broker.acknowledged == [7, 8])
        assert offered == [7, 8]
        assert session.held == 0
        session.finish()
        await reading
        assert yielded == []


async def test_what_is_claimed_is_left_to_whoever_claimed_it() -> None:
    claimed: list[Batch] = []

    def claim(batch: Batch) -> bool:
        claimed.append(batch)
        return True

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        reading = asyncio.create_task(read_all(session.batches(claim=claim), []))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=7))
        await eventually(lambda: claimed)
        await asyncio.sleep(0.05)
        assert broker.acknowledged == []
        assert session.inbox.has_in_hand
        session.acknowledge(claimed[0].packets)
        session.let_go(claimed[0].size)
        assert not session.inbox.has_in_hand
        await eventually(lambda: broker.acknowledged == [7])
        session.finish()
        await reading


async def test_qos_2_is_not_offered_at_once_but_yielded_together() -> None:
    offered: list[Batch] = []

    def at_once(batch: Batch) -> bool:
        offered.append(batch)
        return True

    mids = range(1, 4)
    async with serving(ScriptedBroker(subacks=[[2]])) as broker, session_on(broker) as session:
        await session.subscribe({"#": 2})
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        await broker.send(b"".join(publish(b"a", qos=2, mid=mid) for mid in mids))
        assert [(message.qos, message.mid) for message in await reading] == [(2, mid) for mid in mids]
        assert offered == []
        await batches.aclose()


async def test_messages_of_all_qos_come_in_the_order_in_which_they_were_sent() -> None:
    script = b"".join(publish(b"a", b"%d" % number, qos=number % 3, mid=number + 1) for number in range(30))
    async with (
        serving(ScriptedBroker(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker) as session,
    ):
        await session.subscribe({"#": 2})
        assert [int(message.payload) for message in await take(session, 30)] == list(range(30))


async def test_nothing_is_offered_at_once_while_something_waits() -> None:
    offered: list[int] = []

    def at_once(batch: Batch) -> bool:
        offered.extend(message.mid for message in batch)
        return len(offered) > 1  # so that the second one would overtake the first one

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        for mid in (1, 2):
            session._delivery.take([(0x32, b"a", mid, b"", b"")], 8)
        assert [message.mid for message in await reading] == [1, 2]
        assert offered == [1]
        await batches.aclose()


async def test_what_comes_before_a_malformed_packet_is_handled_at_once_and_acknowledged() -> None:
    offered: list[int] = []

    def at_once(batch: Batch) -> bool:
        offered.extend(message.mid for message in batch)
        return True

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        reading = asyncio.create_task(read_all(session.batches(at_once), []))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=3) + packet_of(0x30, b"\x00\x01a\x02\x99\x00"))
        with pytest.raises(ConnectionLostError, match="malformed packet"):
            await reading
        assert offered == [3]
        await eventually(lambda: broker.acknowledged == [3])


async def test_what_is_refused_at_once_is_yielded_and_nothing_overtakes_it() -> None:
    offered: list[list[int]] = []

    def at_once(batch: Batch) -> bool:
        offered.append([message.mid for message in batch])
        return False

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=1))
        assert [message.mid for message in await reading] == [1]
        await broker.send(publish(b"a", qos=1, mid=2))
        await eventually(lambda: session.held == 1)
        assert offered == [[1]]  # a batch is being handled: the second one waits
        assert broker.acknowledged == []
        assert [message.mid for message in await anext(batches)] == [2]
        await eventually(lambda: broker.acknowledged == [1])
        await batches.aclose()


@pytest.mark.parametrize(("count", "size"), [(9, 1), (1, 3_000)])
async def test_many_messages_or_long_ones_are_not_offered_at_once(count: int, size: int) -> None:
    offered: list[Batch] = []

    def at_once(batch: Batch) -> bool:
        offered.append(batch)
        return True

    packets = b"".join(publish(b"a", b"x" * size, qos=1, mid=mid + 1) for mid in range(count))
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        await broker.send(packets)
        assert len(await reading) == count
        assert offered == []
        await batches.aclose()


async def test_what_is_raised_at_once_reaches_the_reader_and_acknowledges_nothing() -> None:
    def at_once(batch: Batch) -> bool:
        raise LookupError(f"{len(batch)} too many")

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        reading = asyncio.create_task(anext(session.batches(at_once)))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=4))
        with pytest.raises(LookupError, match="1 too many"):
            await reading
        assert broker.acknowledged == []
