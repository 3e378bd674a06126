"""Publishing across connections, in front of brokers that do as they are told."""

import asyncio
import gc
import math
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    HeldUpError,
    PublishRefusedError,
    StateError,
    TopicError,
)
from plantops_cli.messages import Message, QoS
from plantops_cli.stream.inbox import MESSAGE_BYTES
from plantops_cli.stream.packets import Splitter, parse_properties
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.tap import READ_BYTES
from tests.support.brokers import free_port
from tests.support.scripted_broker import (
    CLOSE,
    CONNECT,
    PUBLISH,
    PUBREL,
    SUBSCRIBE,
    ScriptedBroker,
    packet_of,
    publish,
    serving,
)
from tests.support.subscribing import WAIT_SECONDS, eventually, is_left_unread, subscribing

FEW_BYTES = 64 * 1024
LONG = WAIT_SECONDS
SHORT_SECONDS = 0.3


@asynccontextmanager
async def connected(broker: ScriptedBroker, **options: Any) -> AsyncIterator[MQTTSubscriber]:
    """A subscriber that reads in the background, with a connection."""
    async with serving(broker), subscribing(broker, **options) as mqtt:
        await mqtt.connect()
        await mqtt.start()
        yield mqtt


def payloads(broker: ScriptedBroker) -> list[bytes]:
    """What was published on topic ``a`` at QoS 1 or 2, without properties."""
    return [packet.body[6:] for packet in broker.of_kind(PUBLISH)]


def published_soon(mqtt: MQTTSubscriber, payload: object = b"x", **options: Any) -> asyncio.Task[None]:
    return asyncio.create_task(mqtt.publish("a", payload, **{"wait": LONG, **options}))


async def failure(publishing: asyncio.Task[None]) -> BaseException:
    """Why something was not published, said soon."""
    await asyncio.wait((publishing,), timeout=5)
    assert publishing.done()
    error = publishing.exception()
    assert error is not None
    return error


# Acknowledged, and not


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_publishing_returns_when_the_broker_has_taken_it(version: str, qos: QoS) -> None:
    broker = ScriptedBroker(pubacks=[0])
    async with connected(broker, mqtt_version=version) as mqtt:
        await mqtt.publish("a", {"b": 1}, qos=qos)
        await broker.wait_for(PUBLISH)
        assert broker.of_kind(PUBLISH)[0].body.endswith(b'{"b":1}')
        assert len(broker.of_kind(PUBREL)) == (qos == 2)


async def test_publishing_waits_for_the_pubcomp() -> None:
    class WithoutPubcomp(ScriptedBroker):
        def _acknowledge(self, first_byte: int, *args: Any, **options: Any) -> None:
            if first_byte & 0xF0 != PUBREL:
                super()._acknowledge(first_byte, *args, **options)

    broker = WithoutPubcomp(pubacks=[0])
    async with connected(broker) as mqtt:
        publishing = published_soon(mqtt, qos=2)
        await broker.wait_for(PUBREL)
        assert not publishing.done()
        await broker.send(packet_of(0x70, broker.of_kind(PUBREL)[0].body[:2]))
        await publishing


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x91, 0x95, 0x97, 0x99])
async def test_a_refusal_is_an_error_with_its_code_and_the_stream_goes_on(qos: QoS, code: int) -> None:
    broker = ScriptedBroker(pubacks=[code, 0])
    async with connected(broker) as mqtt:
        with pytest.raises(PublishRefusedError, match=f"nothing published on 'a': .*0x{code:02x}") as caught:
            await mqtt.publish("a", b"x", qos=qos)
        assert caught.value.reason_code == code
        assert not broker.of_kind(PUBREL)  # of what was refused nothing is to be released (MQTT 5, 4.3.3)
        await mqtt.publish("a", b"x", qos=qos)
        assert mqtt.health.outage_count == 0


async def test_no_matching_subscribers_is_no_refusal() -> None:
    async with connected(ScriptedBroker(pubacks=[0x10])) as mqtt:
        await mqtt.publish("a")


async def test_a_broker_that_acknowledges_nothing_is_waited_for_so_long_and_no_longer() -> None:
    async with connected(ScriptedBroker()) as mqtt:
        with pytest.raises(BrokerUnreachableError, match=r"published on 'a', but not acknowledged within 0.3 s"):
            await mqtt.publish("a", wait=SHORT_SECONDS)
        assert mqtt.health.outage_count == 0


async def test_a_broker_that_reads_nothing_is_waited_for_so_long_at_qos_0_too() -> None:
    broker = ScriptedBroker()
    async with connected(broker) as mqtt:
        broker.stop_reading()
        with pytest.raises(BrokerUnreachableError, match=r"the broker has not read on within 0.3 s"):
            await mqtt.publish("a", bytes(32 * 1024 * 1024), qos=0, wait=SHORT_SECONDS)


@pytest.mark.parametrize(
    ("connack", "options", "code"),
    [
        (b"\x27\0\0\0\x20", {"payload": bytes(100)}, 0x95),
        (b"\x24\x01", {"qos": 2}, 0x9B),
        (b"\x25\x00", {"retain": True}, 0x9A),
    ],
)
async def test_what_the_connack_rules_out_is_not_sent(connack: bytes, options: dict[str, Any], code: int) -> None:
    broker = ScriptedBroker(answers=[packet_of(0x20, b"\0\0" + bytes([len(connack)]) + connack)], pubacks=[0])
    async with connected(broker) as mqtt:
        with pytest.raises(PublishRefusedError) as caught:
            await mqtt.publish("a", **options)
        assert caught.value.reason_code == code
        await mqtt.publish("a", b"x")
        assert payloads(broker) == [b"x"]


async def test_properties_go_out_with_mqtt_5_and_are_refused_with_3_1_1() -> None:
    properties = {
        "payload-format-indicator": 1,
        "message-expiry-interval": 60,
        "content-type": "t",
        "response-topic": "r",
        "correlation-data": b"\0",
        "user-properties": [("a", "1"), ("a", "2")],
    }
    async with connected(ScriptedBroker(pubacks=[0]), mqtt_version="3.1.1") as mqtt:
        with pytest.raises(PublishRefusedError, match="knows no properties"):
            await mqtt.publish("a", properties=properties)
    broker = ScriptedBroker(pubacks=[0])
    async with connected(broker) as mqtt:
        await mqtt.publish("a", b"x", properties=properties)
    sent = packet_of(0x32, broker.of_kind(PUBLISH)[0].body)
    ((*_, block, payload),), _ = Splitter(is_v5=True, max_packet_size=1_000).feed(sent)
    pairs = [["a", "1"], ["a", "2"]]
    assert (parse_properties(block), payload) == ({**properties, "user-properties": pairs}, b"x")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"topic": "a/+"}, TopicError),
        ({"topic": ""}, TopicError),
        ({"payload": object()}, ConfigError),
        ({"payload": math.nan}, ConfigError),
        ({"qos": 3}, ConfigError),
        ({"wait": -1}, ConfigError),
        ({"wait": 0}, ConfigError),
        ({"wait": math.nan}, ConfigError),
        ({"wait": "10"}, ConfigError),
        ({"wait": None}, ConfigError),
        ({"properties": {"response_topic": "a"}}, ConfigError),
    ],
)
async def test_a_wrong_argument_is_told_before_anything_else(
    options: dict[str, Any], error: type[Exception]
) -> None:
    mqtt = MQTTSubscriber("127.0.0.1", free_port())  # not even started
    with pytest.raises(error):
        await mqtt.publish(**{"topic": "a", **options})


async def test_as_long_as_it_takes_may_be_waited() -> None:
    async with connected(ScriptedBroker(pubacks=[0])) as mqtt:
        await mqtt.publish("a", wait=math.inf)


# Many at once


async def test_no_more_are_on_their_way_than_the_broker_takes() -> None:
    broker = ScriptedBroker(answers=[b"\x20\x06\0\0\x03\x21\0\x02"])
    async with connected(broker) as mqtt:
        publishing = [published_soon(mqtt, b"%d" % number) for number in range(5)]
        await broker.wait_for(PUBLISH, 2)
        await asyncio.sleep(0.05)
        assert payloads(broker) == [b"0", b"1"]
        await broker.send(packet_of(0x40, broker.of_kind(PUBLISH)[0].body[3:5]))
        await broker.wait_for(PUBLISH, 3)
        await publishing[0]
        for task in publishing:
            task.cancel()


async def test_who_is_cancelled_in_line_is_never_sent_and_who_was_sent_makes_room_when_it_is_acknowledged() -> (
    None
):
    broker = ScriptedBroker(answers=[b"\x20\x06\0\0\x03\x21\0\x01"])
    async with connected(broker) as mqtt:
        sent, waiting, last = (published_soon(mqtt, name) for name in ("sent", "waiting", "last"))
        await broker.wait_for(PUBLISH)
        for task in (sent, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await broker.send(packet_of(0x40, broker.of_kind(PUBLISH)[0].body[3:5]))
        await broker.wait_for(PUBLISH, 2)
        await broker.send(packet_of(0x40, broker.of_kind(PUBLISH)[1].body[3:5]))
        await last
        assert payloads(broker) == [b"sent", b"last"]
        assert not mqtt._lifeline.session._client.receipts._expected  # type: ignore[union-attr]  # it is connected


async def publish_in_vain(mqtt: MQTTSubscriber, payload: bytes, *, count: int) -> None:
    publishing = [published_soon(mqtt, bytearray(payload), wait=0.1) for _ in range(count)]
    await asyncio.wait(publishing)
    assert {type(task.exception()) for task in publishing} == {BrokerUnreachableError}


async def test_a_broker_that_acknowledges_nothing_does_not_fill_the_memory() -> None:
    broker = ScriptedBroker(answers=[b"\x20\x06\0\0\x03\x21\0\x01"])
    async with connected(broker) as mqtt:
        assert isinstance(await failure(published_soon(mqtt, wait=0.1)), BrokerUnreachableError)
        tracemalloc.start()
        try:
            await asyncio.create_task(publish_in_vain(mqtt, bytes(100_000), count=100))
            gc.collect()  # errors and the frames that they come from are circles
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()
        assert len(payloads(broker)) == 1


# Connections that end


async def test_what_is_of_no_connection_waits_for_the_first() -> None:
    broker = ScriptedBroker(port=free_port(), pubacks=[0])
    async with subscribing(broker) as mqtt:
        await mqtt.start()
        publishing = published_soon(mqtt)
        await eventually(lambda: mqtt.obstacle and "nothing listens" in mqtt.obstacle)
        async with serving(broker):
            await publishing
            assert payloads(broker) == [b"x"]


async def test_no_connection_in_time_is_an_error_that_says_why() -> None:
    broker = ScriptedBroker(port=free_port())
    async with subscribing(broker) as mqtt:
        await mqtt.start()
        with pytest.raises(BrokerUnreachableError, match=r"nothing listens there \(nothing published within 1 s"):
            await mqtt.publish("a", wait=1)


async def test_a_broker_that_does_not_answer_is_named_as_the_reason() -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker, subscribing(broker) as mqtt:
        await mqtt.start()
        with pytest.raises(BrokerUnreachableError, match="no MQTT answer"):
            await mqtt.publish("a", wait=SHORT_SECONDS)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_who_is_neither_connected_nor_started_is_told_at_once(qos: QoS) -> None:
    mqtt = MQTTSubscriber("127.0.0.1", free_port())
    with pytest.raises(StateError, match="not connected"):
        await mqtt.publish("a", qos=qos, wait=LONG)


async def test_after_an_attempt_that_failed_it_is_told_why() -> None:
    mqtt = MQTTSubscriber("127.0.0.1", free_port())
    with pytest.raises(BrokerUnreachableError):
        await mqtt.connect()
    with pytest.raises(StateError, match=r"not connected: .*nothing listens there"):
        await mqtt.publish("a", wait=LONG)


async def test_right_after_start_a_connection_is_waited_for() -> None:
    async with serving(ScriptedBroker(pubacks=[0])) as broker, subscribing(broker) as mqtt:
        await mqtt.start()
        await mqtt.publish("a", wait=LONG)


async def test_a_message_whose_puback_was_lost_is_sent_again_on_the_next_connection() -> None:
    broker = ScriptedBroker(pubacks=[CLOSE, 0])
    async with connected(broker) as mqtt:
        await mqtt.publish("a", b"x", wait=LONG)
        assert payloads(broker) == [b"x", b"x"]
        assert mqtt.health.outage_count == 1


async def test_at_qos_2_it_is_not_sent_again_for_it_might_come_twice() -> None:
    broker = ScriptedBroker(pubacks=[CLOSE, 0])
    async with connected(broker) as mqtt:
        with pytest.raises(ConnectionLostError, match="before the acknowledgement") as caught:
            await mqtt.publish("a", b"x", qos=2, wait=LONG)
        assert "may have been delivered" in (caught.value.hint or "")
        await eventually(lambda: broker.connection_count == 2)
        assert payloads(broker) == [b"x"]


async def test_what_has_not_gone_out_at_qos_2_goes_out_on_the_next_connection() -> None:
    one_at_a_time = b"\x20\x06\0\0\x03\x21\0\x01"
    broker = ScriptedBroker(answers=[one_at_a_time], pubacks=[CLOSE, 0])
    async with connected(broker) as mqtt:
        first, second = published_soon(mqtt, "first", qos=2), published_soon(mqtt, "second", qos=2)
        assert isinstance(await failure(first), ConnectionLostError)
        await second
        assert payloads(broker) == [b"first", b"second"]


async def test_a_message_on_which_the_broker_hangs_up_is_sent_twice_and_costs_the_others_nothing() -> None:
    class Touchy(ScriptedBroker):
        """Hangs up on a payload, as brokers of MQTT 3.1.1 do that cannot say why they do not take it."""

        def _acknowledge(
            self, first_byte: int, body: bytes, writer: asyncio.StreamWriter, *, version: int
        ) -> None:
            if body.endswith(b"poison"):
                writer.close()
            elif len(broker.of_kind(PUBLISH)) > 5 or not body.endswith(b"good"):
                super()._acknowledge(first_byte, body, writer, version=version)

    broker = Touchy(pubacks=[0])
    async with connected(broker, mqtt_version="3.1.1", client_id="a") as mqtt:
        good = [published_soon(mqtt, "good") for _ in range(5)]
        await broker.wait_for(PUBLISH, 5)
        poison = published_soon(mqtt, "poison")
        error = await failure(poison)
        assert isinstance(error, ConnectionLostError)
        assert "twice" in str(error)
        assert "hang up on what they do not take" in (error.hint or "")
        await asyncio.gather(*good)
        await mqtt.publish("a", b"later", wait=LONG)
        assert sum(packet.body.endswith(b"poison") for packet in broker.of_kind(PUBLISH)) == 2
        assert mqtt.health.outage_count == 2


async def test_a_disconnect_ends_the_waiting_for_a_connection_at_once() -> None:
    async with subscribing(ScriptedBroker(port=free_port())) as mqtt:
        await mqtt.start()
        publishing = published_soon(mqtt)
        await eventually(lambda: mqtt.obstacle)
        await mqtt.disconnect()
        error = await failure(publishing)
        assert isinstance(error, StateError)
        assert "disconnected" in str(error)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_disconnect_ends_the_waiting_for_an_acknowledgement(qos: QoS) -> None:
    broker = ScriptedBroker()
    async with connected(broker) as mqtt:
        publishing = published_soon(mqtt, qos=qos)
        await broker.wait_for(PUBLISH)
        await mqtt.disconnect()
        assert isinstance(await failure(publishing), (StateError, ConnectionLostError))
        with pytest.raises(StateError, match="disconnected"):
            await mqtt.publish("a", wait=LONG)


async def test_refused_credentials_end_it_with_that_error_for_who_waits_and_for_who_comes_later() -> None:
    async with serving(ScriptedBroker(answers=[0x87])) as broker, subscribing(broker) as mqtt:
        await mqtt.start()
        publishing = [published_soon(mqtt) for _ in range(2)]
        errors = [await failure(task) for task in publishing]
        with pytest.raises(CredentialsRefusedError) as caught:
            await mqtt.publish("a", wait=LONG)
        assert [type(error) for error in errors] == [CredentialsRefusedError] * 2
        assert errors[0] is not errors[1]
        assert str(errors[0]) == str(caught.value)
        assert caught.value.hint


async def test_after_a_failure_another_start_makes_it_good() -> None:
    broker = ScriptedBroker(answers=[0x87, 0], pubacks=[0])
    async with serving(broker), subscribing(broker) as mqtt:
        await mqtt.start()
        with pytest.raises(CredentialsRefusedError):
            await mqtt.wait()
        await mqtt.start()
        await mqtt.publish("a", wait=LONG)


async def test_a_connection_that_nobody_would_make_anew_is_not_waited_for() -> None:
    async with serving(ScriptedBroker()) as broker, subscribing(broker) as mqtt:
        await mqtt.connect()
        broker.hang_up()
        await eventually(lambda: mqtt.client is None)
        with pytest.raises(ConnectionLostError, match="the network connection ended"):
            await mqtt.publish("a", wait=LONG)


async def test_who_reads_the_stream_itself_does_not_wait_for_a_connection_that_it_would_have_to_make() -> None:
    broker = ScriptedBroker(after_suback=publish(b"a"), pubacks=[0])
    async with serving(broker), subscribing(broker) as mqtt:
        await mqtt.connect()
        await mqtt.subscribe("#")
        async with aclosing(mqtt.messages()) as messages:
            await anext(messages)
            broker.hang_up()
            await eventually(lambda: mqtt.client is None)
            with pytest.raises(ConnectionLostError):
                await mqtt.publish("a", wait=LONG)
            await anext(messages)  # on the next connection
            await mqtt.publish("a")


async def test_a_cancelled_publish_leaves_nothing_behind() -> None:
    async with subscribing(ScriptedBroker(port=free_port())) as mqtt:
        await mqtt.start()
        publishing = published_soon(mqtt)
        await eventually(lambda: mqtt.obstacle)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing


def test_another_event_loop_may_publish_when_the_first_has_ended() -> None:
    mqtt = MQTTSubscriber("127.0.0.1", free_port())

    async def use() -> None:
        broker = ScriptedBroker(pubacks=[CLOSE, 0], port=mqtt.port)
        async with serving(broker), mqtt:
            await mqtt.start()
            await asyncio.gather(*(mqtt.publish("a", wait=LONG) for _ in range(3)))

    asyncio.run(use())
    asyncio.run(use())


# Answers behind messages that nobody takes


def flood(count: int) -> bytes:
    return b"".join(publish(b"a", bytes(100)) for _ in range(count))


def fitting(max_bytes: int) -> int:
    """How many messages may wait, roughly."""
    return max_bytes // (MESSAGE_BYTES + 110)


@asynccontextmanager
async def reading_paused(broker: ScriptedBroker, count: int) -> AsyncIterator[MQTTSubscriber]:
    """A subscriber whose handler takes no message, so that the socket is left unread behind so many."""
    go_on = asyncio.Event()

    async def handle(message: Message) -> None:
        await go_on.wait()

    async with subscribing(broker, max_pending_bytes=FEW_BYTES) as mqtt:
        mqtt.register_handler("#", handle)
        await mqtt.connect()
        await mqtt.start()
        await broker.wait_for(SUBSCRIBE)
        await broker.send(flood(count))
        await eventually(lambda: mqtt._lifeline.session and is_left_unread(mqtt._lifeline.session))
        try:
            yield mqtt
        finally:
            go_on.set()


async def test_an_acknowledgement_behind_unread_messages_is_read_up_to_twice_the_bound() -> None:
    async with (
        serving(ScriptedBroker(pubacks=[0])) as broker,
        reading_paused(broker, int(1.5 * fitting(FEW_BYTES))) as mqtt,
    ):
        await mqtt.publish("a", b"x", wait=LONG)
        assert mqtt._lifeline.session is not None
        assert mqtt._lifeline.session.inbox.is_full()


async def test_beyond_twice_the_bound_who_publishes_is_told_that_it_is_held_up() -> None:
    async with (
        serving(ScriptedBroker(answers=[b"\x20\x06\0\0\x03\x21\0\x02"], pubacks=[0])) as broker,
        reading_paused(broker, 10 * fitting(FEW_BYTES)) as mqtt,
    ):
        publishing = [published_soon(mqtt, b"x") for _ in range(3)]
        assert all([isinstance(await failure(task), HeldUpError) for task in publishing])
        for _ in range(3):  # although all who may be on their way are
            assert isinstance(await failure(published_soon(mqtt, b"x")), HeldUpError)
        session = mqtt._lifeline.session
        assert session is not None
        assert is_left_unread(session)
        assert 1.2 * FEW_BYTES < FEW_BYTES - session.inbox._free_bytes < 2 * FEW_BYTES + READ_BYTES
        assert mqtt.health.outage_count == 0


async def test_a_handler_may_publish_while_more_waits_than_is_read_usually() -> None:
    count, done = int(1.5 * fitting(FEW_BYTES)), 0

    async def handle(message: Message) -> None:
        nonlocal done
        await eventually(lambda: done or (mqtt._lifeline.session and is_left_unread(mqtt._lifeline.session)))
        await mqtt.publish("b", b"x", wait=LONG)
        done += 1

    broker = ScriptedBroker(after_suback=flood(count), pubacks=[0])
    async with serving(broker), subscribing(broker, max_pending_bytes=FEW_BYTES) as mqtt:
        mqtt.register_handler("a", handle)
        await mqtt.start()
        await eventually(lambda: done == count)
        assert (mqtt.health.handler_errors, mqtt.health.outage_count) == (0, 0)


async def test_every_error_of_publishing_names_the_broker() -> None:
    async with connected(ScriptedBroker(pubacks=[0x87, None])) as mqtt:
        for wait in (LONG, SHORT_SECONDS):
            with pytest.raises(BrokerError, match=f"^127.0.0.1:{mqtt.port}: ") as caught:
                await mqtt.publish("a", wait=wait)
            assert caught.value.endpoint == f"127.0.0.1:{mqtt.port}"


async def test_a_durable_session_does_not_begin_with_the_same_packet_identifiers_each_time() -> None:
    broker = ScriptedBroker(pubacks=[0])
    mids = set()
    for _ in range(3):
        async with connected(broker, durable="a") as mqtt:
            await mqtt.publish("a", b"x", qos=2)
        mids.add(broker.of_kind(PUBLISH)[-1].body[3:5])
    assert len(broker.of_kind(CONNECT)) == 3
    assert len(mids) > 1
