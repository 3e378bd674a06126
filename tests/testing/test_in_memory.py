"""The test kit as a test of a program uses it, without any network."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from plantops_cli import (
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    Handler,
    Message,
    MQTTSubscriber,
    PublishRefusedError,
    QoS,
    SessionTakenOverError,
    State,
    StateError,
    SubscriptionRefusedError,
    TopicError,
    mqtt_lifespan,
)
from plantops_cli.config import load_settings
from plantops_cli.stream.handling.policy import Retry, dead_letter
from plantops_cli.testing import testing
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.subscribing import Recorder, eventually, publish_all

TELEMETRY = "devices/abc/telemetry"


class Failing:
    """A handler that raises so often, and keeps what it was called with."""

    def __init__(self, times: int = 1) -> None:
        self.left = times
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if self.left:
            self.left -= 1
            raise ValueError(f"{self.left} left")


def subscriber(handler: Handler | None = None, **options: Any) -> MQTTSubscriber:
    """A subscriber for a broker that does not exist."""
    mqtt = MQTTSubscriber("broker.invalid", **options)
    if handler is not None:
        mqtt.register_handler("devices/+/telemetry", handler)
    return mqtt


@dataclass
class Reading:
    """A payload."""

    soil_moisture: float


# Delivering


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_was_handled_and_acknowledged_when_it_is_delivered(qos: QoS) -> None:
    heard: list[tuple[object, int]] = []
    mqtt = subscriber(lambda message: heard.append((message.json(), message.qos)), qos=2)
    async with testing(mqtt) as broker:
        delivered = await broker.deliver(TELEMETRY, {"soil_moisture": 41}, qos=qos)
        assert heard == [({"soil_moisture": 41}, qos)]
        assert delivered.is_acknowledged
        assert delivered.errors == ()
        assert broker.acknowledged == ([delivered.message] if qos else [])
        assert broker.unacknowledged == []


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_message_of_a_slow_handler_is_delivered_when_the_handler_is_done(qos: QoS) -> None:
    is_done = False

    async def slow(message: Message) -> None:
        nonlocal is_done
        await asyncio.sleep(0.02)
        is_done = True

    async with testing(subscriber(slow)) as broker:
        await broker.deliver(TELEMETRY, qos=qos)
        assert is_done


@pytest.mark.parametrize(
    ("payload", "raw"),
    [(b"\xff", b"\xff"), ("ä", "ä".encode()), (None, b""), (Reading(4.5), b'{"soil_moisture":4.5}')],
)
async def test_a_payload_is_given_as_to_publish(payload: object, raw: bytes) -> None:
    heard = Failing(0)
    async with testing(subscriber(heard)) as broker:
        await broker.deliver(TELEMETRY, payload)
    assert [message.payload for message in heard.messages] == [raw]


async def test_a_message_comes_with_its_properties_and_as_retained() -> None:
    heard = Failing(0)
    properties = {"content-type": "text/plain", "user-properties": {"a": "1"}}
    async with testing(subscriber(heard)) as broker:
        await broker.deliver(TELEMETRY, b"7", retain=True, properties=properties)
    (message,) = heard.messages
    assert message.retain
    assert message.properties == {"content-type": "text/plain", "user-properties": [["a", "1"]]}


async def test_a_message_comes_at_the_qos_that_its_subscription_was_granted() -> None:
    heard = Failing(0)
    async with testing(subscriber(heard, qos=0)) as broker:
        delivered = await broker.deliver(TELEMETRY, qos=2)
        assert broker.subscriptions == {"devices/+/telemetry": 0}
    assert (delivered.message.qos, heard.messages[0].qos) == (0, 0)


async def test_a_topic_that_no_filter_matches_is_an_error_that_names_the_filters() -> None:
    async with testing(subscriber(Recorder())) as broker:
        with pytest.raises(TopicError, match=r"'devces/abc/telemetry': 'devices/\+/telemetry'"):
            await broker.deliver("devces/abc/telemetry")
    async with testing(subscriber()) as broker:
        with pytest.raises(TopicError, match="it has none"):
            await broker.deliver(TELEMETRY)


async def test_what_no_message_can_be_is_refused() -> None:
    async with testing(subscriber(Recorder())) as broker:
        with pytest.raises(TopicError, match="wildcard"):
            await broker.deliver("devices/+/telemetry")
        with pytest.raises(ConfigError, match="QoS 3"):
            await broker.deliver(TELEMETRY, qos=3)  # type: ignore[arg-type]  # which is the test
        with pytest.raises(ConfigError, match="JSON"):
            await broker.deliver(TELEMETRY, object())


async def test_a_filter_that_is_being_subscribed_is_waited_for() -> None:
    heard = Recorder()
    async with testing(subscriber(Recorder())) as broker:
        broker.slow(0.01)
        broker._subscriber.register_handler("late/#", heard)
        await broker.deliver("late/1")
    assert heard.topics == ["late/1"]


async def test_what_a_handler_raises_is_told_and_counted() -> None:
    async with testing(mqtt := subscriber(Failing(1))) as broker:
        delivered = await broker.deliver(TELEMETRY)
        assert delivered.is_acknowledged
        assert [str(error) for error in delivered.errors] == ["0 left"]
        assert not delivered.is_invalid
        assert not (await broker.deliver(TELEMETRY)).errors
        assert mqtt.health.handler_errors == 1


async def test_a_handler_that_does_not_end_fails_the_test_in_time() -> None:
    go_on = asyncio.Event()

    async def stuck(message: Message) -> None:
        await go_on.wait()

    mqtt = subscriber(stuck)
    with testing(mqtt, patience_seconds=0.05) as broker:
        await mqtt.connect()
        await mqtt.start()
        with pytest.raises(TimeoutError, match=r"'devices/abc/telemetry' was not dealt with within 0\.05 s"):
            await broker.deliver(TELEMETRY)
        with pytest.raises(TimeoutError, match=r"not dealt with within 0\.05 s: 'devices/abc/telemetry'"):
            await broker.settled()
        go_on.set()
        await mqtt.disconnect()


async def test_many_messages_at_once_keep_their_order() -> None:
    heard: list[bytes] = []
    async with testing(subscriber(lambda message: heard.append(message.payload))) as broker:
        await asyncio.gather(*(broker.deliver(TELEMETRY, str(number)) for number in range(300)))
        assert len(broker.acknowledged) == 300
    assert heard == [str(number).encode() for number in range(300)]


async def test_a_reader_of_messages_gets_them_too() -> None:
    mqtt = subscriber()
    await mqtt.subscribe("a/#")
    heard = Recorder()

    async def read() -> None:
        async for message in mqtt.messages():
            heard(message)

    with testing(mqtt) as broker:
        reading = asyncio.create_task(read())
        assert (await broker.deliver("a/1")).is_acknowledged
        mqtt.stop()
        await reading
        await mqtt.disconnect()
    assert heard.topics == ["a/1"]


async def test_a_full_inbox_leaves_messages_unread_until_there_is_room() -> None:
    handled, go_on = 0, asyncio.Event()

    async def wait(message: Message) -> None:
        nonlocal handled
        await go_on.wait()
        handled += 1

    async with testing(subscriber(wait, max_pending_bytes=5_000)) as broker:
        deliveries = [asyncio.create_task(broker.deliver(TELEMETRY, b"x" * 1_000)) for _ in range(50)]
        await eventually(lambda: len(broker.unacknowledged) == 50)
        assert not handled
        go_on.set()
        assert all(delivered.is_acknowledged for delivered in await asyncio.gather(*deliveries))


# Types and error policies


async def test_a_typed_handler_gets_what_it_asks_for() -> None:
    heard: list[tuple[Reading, str]] = []
    mqtt = subscriber()

    @mqtt.on("devices/{device_id}/telemetry")
    async def telemetry(reading: Reading, device_id: str) -> None:
        heard.append((reading, device_id))

    async with testing(mqtt) as broker:
        assert not (await broker.deliver(TELEMETRY, Reading(4.5))).errors
    assert heard == [(Reading(4.5), "abc")]


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_payload_that_does_not_fit_is_told_to_be_invalid(qos: QoS) -> None:
    told: list[str] = []
    mqtt = subscriber()

    @mqtt.on("devices/{device_id}/telemetry", on_invalid=lambda message, error: told.append(message.topic))
    async def telemetry(reading: Reading) -> None:
        pytest.fail("called")

    async with testing(mqtt) as broker:
        delivered = await broker.deliver(TELEMETRY, {"soil_moisture": "wet"}, qos=qos)
        assert delivered.is_invalid
        assert delivered.is_acknowledged
    assert told == [TELEMETRY]


async def test_a_message_that_is_handled_at_last_is_delivered_with_what_failed_before() -> None:
    handler = Failing(2)
    async with testing(subscriber(handler, on_error=Retry(attempts=3, backoff=0))) as broker:
        delivered = await broker.deliver(TELEMETRY)
        assert [str(error) for error in delivered.errors] == ["1 left", "0 left"]
        assert delivered.is_acknowledged


async def test_a_dead_letter_is_published() -> None:
    policy = Retry(attempts=1, then=dead_letter("plantops/dead"))
    async with testing(subscriber(Failing(1), on_error=policy)) as broker:
        assert (await broker.deliver(TELEMETRY, b"7")).is_acknowledged
        (letter,) = broker.published
    assert (letter.topic, letter.payload, letter.qos) == ("plantops/dead", b"7", 1)
    assert ["topic", TELEMETRY] in letter.properties["user-properties"]  # type: ignore[operator]  # a list of pairs


async def test_messages_of_one_device_keep_their_order_among_many_at_once() -> None:
    heard: list[bytes] = []
    mqtt = subscriber()

    @mqtt.on("devices/{device_id}/telemetry", concurrency=10)
    async def telemetry(message: Message) -> None:
        await asyncio.sleep(0.01 if message.payload == b"0" else 0)
        heard.append(message.payload)

    async with testing(mqtt) as broker:
        await asyncio.gather(*(broker.deliver(TELEMETRY, str(number)) for number in range(5)))
    assert heard == [b"0", b"1", b"2", b"3", b"4"]


# What handlers publish


async def test_what_a_handler_publishes_is_kept_for_the_test() -> None:
    mqtt = subscriber()

    async def water(message: Message) -> None:
        await mqtt.publish(f"devices/{message.device_id}/command", b"water")

    mqtt.register_handler("devices/+/telemetry", water)
    async with testing(mqtt) as broker:
        assert not (await broker.deliver(TELEMETRY)).errors
        assert broker.published == [Message.of("devices/abc/command", b"water", qos=1)]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_is_published_may_be_compared(qos: QoS) -> None:
    async with testing(mqtt := subscriber()) as broker:
        await mqtt.publish("a", {"n": 1}, qos=qos, retain=True, properties={"content-type": "text/plain"})
        expected = Message.of("a", '{"n":1}', qos=qos, retain=True, properties={"content-type": "text/plain"})
        assert broker.published == [expected]


async def test_a_request_is_replied_to() -> None:
    async def answer(message: Message) -> None:
        await message.reply(b"42")

    request = {"response-topic": "answers", "correlation-data": b"7"}
    async with testing(subscriber(answer)) as broker:
        assert not (await broker.deliver(TELEMETRY, properties=request)).errors
        assert broker.published == [Message.of("answers", b"42", qos=1, properties={"correlation-data": b"7"})]


async def test_what_the_broker_refuses_was_not_published() -> None:
    async with testing(mqtt := subscriber()) as broker:
        broker.refuse_publish("secret/#")
        with pytest.raises(PublishRefusedError) as caught:
            await mqtt.publish("secret/a")
        assert caught.value.reason_code == 0x87
        await mqtt.publish("a")
        assert [message.topic for message in broker.published] == ["a"]


async def test_a_message_waits_for_a_broker_that_comes_back() -> None:
    async with testing(mqtt := subscriber()) as broker:
        broker.stop()
        publishing = asyncio.create_task(mqtt.publish("a"))
        await until_refused(mqtt)
        broker.start()
        await publishing
        assert [message.topic for message in broker.published] == ["a"]


async def test_a_message_whose_acknowledgement_is_lost_is_published_again() -> None:
    async with testing(mqtt := subscriber()) as broker:
        broker.slow(60)
        publishing = asyncio.create_task(mqtt.publish("a"))
        await eventually(lambda: broker.published)
        broker.slow(0)
        broker.lose_connection()
        await publishing
        assert [message.topic for message in broker.published] == ["a", "a"]


async def test_the_client_publishes_with_the_properties_of_paho() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho is silent about it
    properties.ResponseTopic = "answers"
    properties.UserProperty = [("a", "1")]
    async with testing(mqtt := subscriber()) as broker:
        assert mqtt.client is not None
        await mqtt.client.publish("a", properties=properties)
        assert dict(broker.published[0].properties) == {
            "response-topic": "answers",
            "user-properties": [["a", "1"]],
        }


async def test_what_is_published_comes_back_to_who_subscribes_to_it() -> None:
    heard = Recorder()
    async with testing(mqtt := subscriber(heard)) as broker:
        await mqtt.publish(TELEMETRY, retain=True)
        await broker.settled()
    assert heard.topics == [TELEMETRY]


# Outages


async def test_a_lost_connection_is_made_anew_at_once() -> None:
    mqtt = subscriber(heard := Recorder())
    async with testing(mqtt) as broker:
        broker.lose_connection()
        await broker.connected()
        assert (await broker.deliver(TELEMETRY)).is_acknowledged
        assert broker.connection_count == 2
        assert mqtt.health.outage_count == 1
    assert heard.topics == [TELEMETRY]


async def test_any_number_of_lost_connections_is_no_other_client() -> None:
    async with testing(mqtt := subscriber(Recorder(), client_id="mine")) as broker:
        for _ in range(10):
            broker.lose_connection()
            await broker.connected()
        assert mqtt.health.outage_count == 10


async def test_a_message_in_hand_when_the_connection_is_lost_is_not_acknowledged() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(message: Message) -> None:
        begun.set()
        await go_on.wait()

    async with testing(subscriber(wait)) as broker:
        delivery = asyncio.create_task(broker.deliver(TELEMETRY))
        await begun.wait()
        broker.lose_connection()
        assert not (await delivery).is_acknowledged
        assert broker.unacknowledged == []
        go_on.set()


async def test_what_is_kept_comes_again_if_the_session_is_durable() -> None:
    handler = Failing(2)
    async with testing(subscriber(handler, durable="test", on_error="keep")) as broker:
        delivered = await broker.deliver(TELEMETRY, b"7")
        assert not delivered.is_acknowledged
        assert [str(error) for error in delivered.errors] == ["1 left"]
        await broker.settled()
        assert broker.acknowledged == [delivered.message]
    assert [(m.payload, m.dup) for m in handler.messages] == [(b"7", False), (b"7", True), (b"7", True)]


async def test_what_is_kept_is_lost_without_a_durable_session() -> None:
    handler = Failing(1)
    async with testing(subscriber(handler, on_error="keep")) as broker:
        assert not (await broker.deliver(TELEMETRY)).is_acknowledged
        await broker.connected()
        await broker.settled()
    assert len(handler.messages) == 1


async def test_a_forgotten_session_holds_nothing() -> None:
    handler = Failing(1)
    async with testing(mqtt := subscriber(handler, durable="test", on_error="keep")) as broker:
        broker.forget_session()
        await broker.deliver(TELEMETRY)
        broker.forget_session()
        await broker.connected()
        await broker.settled()
        assert mqtt.health.lost_sessions == 1
    assert len(handler.messages) == 1


async def test_nobody_connects_while_the_broker_is_stopped() -> None:
    async with testing(mqtt := subscriber(Recorder())) as broker:
        broker.stop()
        await eventually(lambda: mqtt.health.state is State.WAITING)
        assert "nothing listens there" in await until_refused(mqtt)
        broker.start()
        await broker.connected()
        assert mqtt.health.outage_count == 1


async def until_refused(mqtt: MQTTSubscriber) -> str:
    """What it waits for, once an attempt has failed."""
    await eventually(lambda: "nothing listens" in str(mqtt.obstacle))
    return str(mqtt.obstacle)


async def test_a_stopped_broker_refuses_the_first_connection() -> None:
    mqtt = subscriber()
    with testing(mqtt) as broker:
        broker.stop()
        with pytest.raises(BrokerUnreachableError, match="nothing listens there"):
            await mqtt.connect()


async def test_another_client_takes_the_session_over() -> None:
    async with testing(mqtt := subscriber(Recorder())) as broker:
        broker.lose_connection(0x8E)
        with pytest.raises(SessionTakenOverError):
            await mqtt.wait()
        with pytest.raises(StateError, match="given up"):
            await broker.deliver(TELEMETRY)


async def test_a_refused_login_ends_the_subscriber() -> None:
    async with testing(mqtt := subscriber(Recorder(), username="alice")) as broker:
        broker.refuse_login()
        broker.lose_connection()
        with pytest.raises(CredentialsRefusedError, match="refused user 'alice'"):
            await mqtt.wait()


async def test_an_unavailable_broker_is_waited_for() -> None:
    async with testing(subscriber(Recorder())) as broker:
        broker.refuse_login(0x88)
        broker.lose_connection()
        broker.accept()
        await broker.connected()


async def test_a_refused_filter_is_told() -> None:
    mqtt = subscriber(Recorder())
    with testing(mqtt) as broker:
        broker.refuse_subscription("devices/+/telemetry")
        with pytest.raises(SubscriptionRefusedError) as caught:
            await mqtt.connect()
        assert caught.value.filters == {"devices/+/telemetry": 0x87}
        broker.accept()
        await mqtt.connect()
        await mqtt.disconnect()


async def test_a_slow_broker_answers_late_and_one_that_is_too_slow_is_given_up() -> None:
    mqtt = subscriber(Recorder(), connect_timeout_seconds=2)
    with testing(mqtt) as broker:
        broker.slow(0.05)
        began = asyncio.get_running_loop().time()
        await mqtt.connect()
        assert asyncio.get_running_loop().time() - began >= 0.04
        await mqtt.disconnect()
        broker.slow(60)
        with pytest.raises(ConnectionLostError, match="no answer to SUBSCRIBE"):
            await mqtt.connect()


# Beginning and end


async def test_a_subscriber_that_nobody_connects_is_told_of() -> None:
    impatient = testing(subscriber(Recorder()), patience_seconds=0.01)
    with impatient as broker, pytest.raises(StateError, match=r"not connected within 0\.01 s") as caught:
        await broker.deliver(TELEMETRY)
    assert "async with testing" in str(caught.value.hint)


async def test_a_subscriber_in_use_is_not_taken_away_from_its_broker() -> None:
    async with testing(mqtt := subscriber(Recorder())):
        with pytest.raises(StateError, match="connected already"):
            testing(mqtt).__enter__()


async def test_a_program_that_connects_by_itself_is_told_how_to_be_tested() -> None:
    mqtt = subscriber(Recorder())
    with pytest.raises(StateError, match="connected already") as caught:
        async with testing(mqtt):
            await mqtt.connect()
    assert "`with testing(...)`" in caught.value.__notes__[0]


async def test_a_block_that_cannot_begin_leaves_the_subscriber_as_it_was() -> None:
    mqtt = MQTTSubscriber("127.0.0.1")
    usual = mqtt._lifeline.make_client
    test = testing(mqtt)
    test._session.login_code = 0x87
    with pytest.raises(CredentialsRefusedError):
        await test.__aenter__()
    assert mqtt._lifeline.make_client is usual


async def test_after_the_test_the_subscriber_connects_to_a_real_broker(mosquitto: Mosquitto) -> None:
    mqtt = MQTTSubscriber(mosquitto.host, mosquitto.port, USERNAME, PASSWORD)
    mqtt.register_handler("kit/after", heard := Recorder())
    async with testing(mqtt) as broker:
        await broker.deliver("kit/after")
    assert mqtt.health.state is State.DISCONNECTED
    await mqtt.connect()
    await mqtt.start()
    await publish_all(mosquitto, "kit/after", ["7"])
    await eventually(lambda: len(heard.topics) == 2)
    await mqtt.disconnect()


async def test_an_application_connects_by_its_lifespan() -> None:
    mqtt = subscriber(heard := Recorder())
    app = FastAPI(lifespan=mqtt_lifespan(mqtt, settings=load_settings()))
    with testing(mqtt) as broker:
        async with app.router.lifespan_context(app):
            await broker.deliver(TELEMETRY)
        assert mqtt.client is None
    assert heard.topics == [TELEMETRY]


@contextmanager
def running_elsewhere(application: Callable[[], Any]) -> Iterator[asyncio.AbstractEventLoop]:
    """Run an application on an event loop of another thread, as FastAPI's ``TestClient`` does."""
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def live() -> None:
        async with application():
            ready.set()
            await stop.wait()

    def run() -> None:
        loop.run_until_complete(live())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


async def test_the_subscriber_may_live_on_an_event_loop_of_another_thread() -> None:
    mqtt = subscriber(heard := Recorder())
    app = FastAPI(lifespan=mqtt_lifespan(mqtt, settings=load_settings()))
    with testing(mqtt) as broker, running_elsewhere(lambda: app.router.lifespan_context(app)):
        await broker.deliver(TELEMETRY)
        broker.lose_connection()
        await broker.connected()
        await broker.deliver("devices/xyz/telemetry")
    assert heard.topics == [TELEMETRY, "devices/xyz/telemetry"]


def test_a_test_that_is_no_coroutine_delivers_on_the_event_loop_of_the_application() -> None:
    mqtt = subscriber(heard := Recorder())
    app = FastAPI(lifespan=mqtt_lifespan(mqtt, settings=load_settings()))
    with testing(mqtt) as broker, running_elsewhere(lambda: app.router.lifespan_context(app)) as loop:
        asyncio.run_coroutine_threadsafe(broker.deliver(TELEMETRY), loop).result(30)
    assert heard.topics == [TELEMETRY]


async def test_one_subscriber_is_tested_again_and_again() -> None:
    mqtt = subscriber(heard := Recorder())
    for _ in range(3):
        async with testing(mqtt) as broker:
            await broker.deliver(TELEMETRY)
            assert len(broker.acknowledged) == 1
    assert heard.topics == [TELEMETRY] * 3
