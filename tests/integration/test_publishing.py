"""Publishing and replying, on a real Mosquitto."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from plantops_cli.errors import ConnectionLostError, PublishRefusedError, StateError, TopicError
from plantops_cli.messages import Message, QoS
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import USERNAME, Mosquitto
from tests.support.subscribing import WAIT_SECONDS, eventually, is_left_unread, publish_all, subscribing

FEW_BYTES = 128 * 1024
LONG = WAIT_SECONDS
ACL = f"user {USERNAME}\ntopic read #\ntopic write allowed\n"


class Telemetry(BaseModel):
    soil_moisture: float


@dataclass(slots=True)
class Command:
    valve: str


@asynccontextmanager
async def listening(
    broker: Mosquitto, *topics: str, **options: Any
) -> AsyncIterator[tuple[MQTTSubscriber, list[Message]]]:
    """A subscriber that runs, and what it hears."""
    heard: list[Message] = []
    async with subscribing(broker, **options) as mqtt:
        for topic in topics:
            mqtt.register_handler(topic, heard.append)
        await mqtt.connect()
        await mqtt.start()
        yield mqtt, heard


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[[str], Mosquitto]]:
    """Start a broker with these lines in its configuration."""
    started: list[Mosquitto] = []

    def start(extra: str) -> Mosquitto:
        broker = Mosquitto(tmp_path, extra=extra)
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.stop()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_is_published_arrives_as_it_was_meant(mosquitto: Mosquitto, version: str, qos: QoS) -> None:
    topic = f"as-meant/{version}/{qos}"
    given = [b"\0\xff", "grün", None, Telemetry(soil_moisture=41.5), Command("v1"), {"a": [1]}, True]
    async with listening(mosquitto, topic, qos=2, mqtt_version=version) as (mqtt, heard):
        for payload in given:
            await mqtt.publish(topic, payload, qos=qos)
        await eventually(lambda: len(heard) == len(given))
    assert [message.payload for message in heard] == [
        b"\0\xff",
        "grün".encode(),
        b"",
        b'{"soil_moisture":41.5}',
        b'{"valve":"v1"}',
        b'{"a":[1]}',
        b"true",
    ]
    assert {message.qos for message in heard} == {qos}


async def test_properties_arrive_as_they_were_given(mosquitto: Mosquitto) -> None:
    properties = {
        "payload-format-indicator": 1,
        "content-type": "application/json",
        "response-topic": "answers",
        "correlation-data": b"\0\1",
        "user-properties": [["a", "1"], ["a", "2"]],
    }
    async with listening(mosquitto, "with-properties") as (mqtt, heard):
        await mqtt.publish("with-properties", b"x", properties={**properties, "message-expiry-interval": 60})
        await eventually(lambda: heard)
    assert heard[0].properties == {
        **properties,
        "message-expiry-interval": heard[0].properties["message-expiry-interval"],
    }


async def test_what_is_retained_is_there_for_who_comes_later(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto) as (mqtt, _):
        await mqtt.publish("kept", b"x", retain=True)
    async with listening(mosquitto, "kept") as (mqtt, heard):
        await eventually(lambda: [message.retain for message in heard] == [True])
        await mqtt.publish("kept", retain=True)


# What the broker does not take


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(
    ("extra", "payload", "code"),
    [("message_size_limit 1000", bytes(2_000), 0x95), ("acl_file {acl}", b"x", 0x87)],
    ids=["size", "acl"],
)
async def test_what_only_the_broker_can_judge_is_refused_by_its_code_and_the_stream_goes_on(
    configured: Callable[[str], Mosquitto], tmp_path: Path, extra: str, payload: bytes, code: int, qos: QoS
) -> None:
    (tmp_path / "acl").write_text(ACL)
    broker = configured(extra.format(acl=tmp_path / "acl"))
    async with listening(broker, "#") as (mqtt, heard):
        with pytest.raises(PublishRefusedError, match=f"0x{code:02x}") as caught:
            await mqtt.publish("denied", payload, qos=qos)
        assert caught.value.reason_code == code
        await mqtt.publish("allowed", b"x", qos=qos)
        await eventually(lambda: [message.topic for message in heard] == ["allowed"])
        assert mqtt.health.outage_count == 0


async def test_mqtt_3_1_1_cannot_say_that_a_message_was_denied(
    configured: Callable[[str], Mosquitto], tmp_path: Path
) -> None:
    (tmp_path / "acl").write_text(ACL)
    broker = configured(f"acl_file {tmp_path / 'acl'}")
    async with listening(broker, "#", mqtt_version="3.1.1") as (mqtt, heard):
        await mqtt.publish("denied", b"x")
        await mqtt.publish("allowed", b"x")
        await eventually(lambda: heard)
        assert [message.topic for message in heard] == ["allowed"]


@pytest.mark.parametrize(
    ("extra", "options", "code"),
    [
        ("max_packet_size 1000", {"payload": bytes(1_000)}, 0x95),
        ("retain_available false", {"retain": True}, 0x9A),
        ("max_qos 1", {"qos": 2}, 0x9B),
    ],
    ids=["size", "retain", "qos"],
)
async def test_what_mosquitto_rules_out_from_the_start_costs_a_connection_of_mqtt_3_1_1_only(
    configured: Callable[[str], Mosquitto], extra: str, options: dict[str, Any], code: int
) -> None:
    broker = configured(extra)
    async with listening(broker, "a") as (mqtt, heard):
        with pytest.raises(PublishRefusedError) as caught:
            await mqtt.publish("a", **options)
        assert caught.value.reason_code == code
        await mqtt.publish("a", b"x")
        await eventually(lambda: heard)
        assert mqtt.health.outage_count == 0
    async with listening(broker, "a", mqtt_version="3.1.1") as (mqtt, heard):
        with pytest.raises(ConnectionLostError) as lost:
            await mqtt.publish("a", **options, wait=LONG)
        assert lost.value.hint
        await mqtt.publish("a", b"x", wait=LONG)
        await eventually(lambda: heard)
        assert [message.payload for message in heard] == [b"x"]


async def test_a_packet_of_just_the_size_that_mosquitto_takes_is_taken(
    configured: Callable[[str], Mosquitto],
) -> None:
    broker = configured("max_packet_size 1000")
    properties = {"user-properties": {"a": "1"}}
    spare = 1_000 - PublishRequest.of("a", bytes(900), qos=1, retain=False, properties=properties).size(is_v5=True)
    async with listening(broker) as (mqtt, _):
        await mqtt.publish("a", bytes(900 + spare), properties=properties)
        with pytest.raises(PublishRefusedError, match=r"1,001 bytes, where the broker takes 1,000"):
            await mqtt.publish("a", bytes(901 + spare), properties=properties)
        assert mqtt.health.outage_count == 0


# Brokers that go and come


async def test_a_broker_that_is_away_at_first_is_waited_for(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    async with subscribing(broker) as mqtt:
        await mqtt.start()
        publishing = asyncio.create_task(mqtt.publish("a", b"x", wait=LONG))
        await eventually(lambda: mqtt.obstacle)
        try:
            await asyncio.to_thread(broker.start)
            await publishing
        finally:
            broker.stop()


async def test_a_restart_of_the_broker_fails_nothing_that_is_published_meanwhile(own_mosquitto: Mosquitto) -> None:
    done = 0

    async def publish(number: int) -> None:
        nonlocal done
        await mqtt.publish("a", number, wait=LONG)
        done += 1

    async with listening(own_mosquitto, "a") as (mqtt, heard), asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(publish(number))
            if number == 150:
                own_mosquitto.stop()
                await asyncio.to_thread(own_mosquitto.start)
            await asyncio.sleep(0)
        await eventually(lambda: done == 300)
        assert mqtt.health.outage_count == 1
        assert int(heard[-1].text) <= 299
        await mqtt.publish("a", 300, wait=LONG)
        await eventually(lambda: heard[-1].text == "300")
    assert {int(message.text) for message in heard} >= {299, 300}


# Within handlers


async def test_a_thousand_handlers_publish_at_once(own_mosquitto: Mosquitto) -> None:
    count, tasks = 1_000, set[asyncio.Task[None]]()

    async def hand_on(message: Message) -> None:
        # as many at once as there are messages, whatever runs the handlers
        task = asyncio.create_task(mqtt.publish("replies", message.payload, wait=LONG))
        tasks.add(task)

    async with listening(own_mosquitto, "replies") as (mqtt, heard):
        await mqtt.subscribe("requests", hand_on)
        await publish_all(own_mosquitto, "requests", map(str, range(count)))
        await eventually(lambda: len(tasks) == count)
        await asyncio.gather(*tasks)
        await eventually(lambda: len(heard) == count)
        assert sorted(int(message.text) for message in heard) == list(range(count))
        assert (mqtt.health.handler_errors, mqtt.health.outage_count) == (0, 0)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_handler_that_publishes_is_answered_behind_more_messages_than_usually_wait(
    own_mosquitto: Mosquitto, qos: QoS
) -> None:
    count, go_on, done = int(1.5 * FEW_BYTES / (256 + 110)), asyncio.Event(), 0

    async def hand_on(message: Message) -> None:
        nonlocal done
        await go_on.wait()
        await mqtt.publish("replies", message.payload, wait=LONG)
        done += 1

    async with listening(own_mosquitto, max_pending_bytes=FEW_BYTES) as (mqtt, _):
        await mqtt.subscribe("requests", hand_on, qos=qos)
        await publish_all(own_mosquitto, "requests", ["x" * 90] * count)
        await eventually(lambda: mqtt._lifeline.session and is_left_unread(mqtt._lifeline.session))
        go_on.set()
        await eventually(lambda: done == count)
        assert (mqtt.health.handler_errors, mqtt.health.outage_count) == (0, 0)


async def test_others_publish_while_a_handler_takes_nothing(own_mosquitto: Mosquitto) -> None:
    go_on = asyncio.Event()

    async def stall(message: Message) -> None:
        await go_on.wait()

    async with listening(own_mosquitto, max_pending_bytes=FEW_BYTES) as (mqtt, _):
        await mqtt.subscribe("a", stall, qos=0)
        await publish_all(own_mosquitto, "a", ["x" * 90] * int(1.5 * FEW_BYTES / (256 + 100)))
        await eventually(lambda: mqtt._lifeline.session and is_left_unread(mqtt._lifeline.session))
        await mqtt.publish("b", b"x", wait=LONG)
        go_on.set()


async def test_a_handler_may_publish_while_the_subscriber_is_being_disconnected(own_mosquitto: Mosquitto) -> None:
    began, replied = asyncio.Event(), list[str]()

    async def hand_on(message: Message) -> None:
        began.set()
        await asyncio.sleep(0.2)
        await mqtt.publish("replies", message.payload, wait=LONG)
        replied.append(message.text)

    async with listening(own_mosquitto) as (mqtt, _):
        await mqtt.subscribe("requests", hand_on)
        await publish_all(own_mosquitto, "requests", ["1"])
        await began.wait()
        await mqtt.disconnect()
        assert replied == ["1"]


# Answers


async def asked(mqtt: MQTTSubscriber, payload: object, heard: list[Message], mark: bytes) -> Message:
    """Ask, and return the answer."""
    await mqtt.publish("requests", payload, properties={"response-topic": "answers", "correlation-data": mark})
    await eventually(lambda: any(answer.properties.get("correlation-data") == mark for answer in heard))
    return next(answer for answer in heard if answer.properties.get("correlation-data") == mark)


async def answer_by_handler(mqtt: MQTTSubscriber) -> None:
    async def answer(message: Message) -> None:
        await message.reply({"heard": message.text}, properties={"content-type": "application/json"})

    await mqtt.subscribe("requests", answer)
    await mqtt.start()


async def answer_by_messages(mqtt: MQTTSubscriber) -> None:
    await mqtt.subscribe("requests")
    async for message in mqtt.messages():
        await message.reply({"heard": message.text})


async def answer_by_batches(mqtt: MQTTSubscriber) -> None:
    await mqtt.subscribe("requests")
    async with aclosing(mqtt.batches()) as batches:
        async for batch in batches:
            for message in batch:
                await message.reply({"heard": message.text})
            assert all(hasattr(message, "_publish") for message in batch[:])


@pytest.mark.parametrize("answering", [answer_by_handler, answer_by_messages, answer_by_batches])
async def test_two_clients_ask_and_answer(own_mosquitto: Mosquitto, answering: Any) -> None:
    async with (
        listening(own_mosquitto, "answers") as (asking, heard),
        subscribing(own_mosquitto) as server,
    ):
        await server.connect()
        serving = asyncio.create_task(answering(server))
        await eventually(lambda: own_mosquitto and server._subscriptions.wanted and server.client)
        await eventually(lambda: server._lifeline.session and server._lifeline.session.filters)
        for number in range(3):
            answer = await asked(asking, str(number), heard, b"mark %d" % number)
            assert answer.json() == {"heard": str(number)}
        await server.disconnect()
        await serving
        assert server.health.handler_errors == 0


async def test_a_message_that_asks_for_nothing_cannot_be_answered(mosquitto: Mosquitto) -> None:
    errors: list[Exception] = []

    async def answer(message: Message) -> None:
        try:
            await message.reply(b"x")
        except (StateError, TopicError) as exc:
            errors.append(exc)

    topic = "asks-for-nothing"
    async with listening(mosquitto) as (mqtt, _):
        await mqtt.subscribe(topic, answer)
        await mqtt.publish(topic, b"x")
        await mqtt.publish(topic, b"x", properties={"content-type": "a"})
        await mqtt.publish(topic, b"x", properties={"response-topic": "$CONTROL/dynamic-security/v1"})
        await eventually(lambda: len(errors) == 3)
    assert [type(error) for error in errors] == [StateError, StateError, TopicError]
    assert "begins with $" in str(errors[2])
