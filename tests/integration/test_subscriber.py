"""MQTTSubscriber on a real Mosquitto."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from plantops_cli.errors import CredentialsRefusedError, PublishRefusedError
from plantops_cli.messages import Message
from plantops_cli.stream.options import MQTTVersion
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.subscribing import eventually, publish_all, subscribing


async def test_the_lifespan_of_an_application_hears_telemetry_and_heartbeats(own_mosquitto: Mosquitto) -> None:
    telemetry: list[Message] = []
    heartbeats: list[Message] = []

    async def handle_telemetry(message: Message) -> None:
        telemetry.append(message)

    async def handle_heartbeat(message: Message) -> None:
        heartbeats.append(message)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        mqtt = MQTTSubscriber("127.0.0.1", own_mosquitto.port, USERNAME, PASSWORD)
        await mqtt.connect()
        mqtt.register_handler("devices/+/telemetry", handle_telemetry)
        mqtt.register_handler("devices/+/heartbeat", handle_heartbeat)
        task = asyncio.create_task(mqtt.start())
        await eventually(lambda: mqtt.client and task.done())
        await mqtt.subscribe("ready")  # the broker answers in order: the two filters stand
        yield
        await mqtt.disconnect()

    async with lifespan(object()):
        await publish_all(own_mosquitto, "devices/fern-1/telemetry", ['{"soil_moisture":41.5}'])
        await publish_all(own_mosquitto, "devices/fern-1/heartbeat", ["{}"])
        await eventually(lambda: telemetry and heartbeats)
    assert [(m.device_id, m.kind, m.json()) for m in telemetry] == [
        ("fern-1", "telemetry", {"soil_moisture": 41.5})
    ]
    assert [(m.device_id, m.kind) for m in heartbeats] == [("fern-1", "heartbeat")]


async def test_a_start_that_begins_during_disconnect_starts_nothing(mosquitto: Mosquitto) -> None:
    subscriber = MQTTSubscriber("127.0.0.1", mosquitto.port, USERNAME, PASSWORD)
    await subscriber.connect()
    starting = asyncio.create_task(subscriber.start())
    await subscriber.disconnect()
    await starting
    assert subscriber.health.state == "disconnected"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("plantops-subscriber")]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_2000_messages_at_qos_1_arrive_once_each_in_order(mosquitto: Mosquitto, version: str) -> None:
    received: list[int] = []
    topic = f"many/{version}"
    async with subscribing(mosquitto, mqtt_version=version) as subscriber:
        subscriber.register_handler(topic, lambda message: received.append(int(message.payload)))
        await subscriber.connect()
        await subscriber.start()
        # no faster than Mosquitto keeps for one client: it drops what goes beyond its queue of 1,000
        for first in range(0, 2_000, 500):
            await publish_all(mosquitto, topic, map(str, range(first, first + 500)))
            await eventually(lambda first=first: len(received) >= first + 500)  # type: ignore[misc]  # bound early
    assert received == list(range(2_000))


async def test_the_stream_goes_on_after_a_restart_of_the_broker(own_mosquitto: Mosquitto) -> None:
    received: list[str] = []
    async with subscribing(own_mosquitto) as subscriber:
        for topic in ("devices/+/telemetry", "devices/+/heartbeat"):
            subscriber.register_handler(topic, lambda message: received.append(message.topic))
        await subscriber.connect()
        await subscriber.start()
        await publish_all(own_mosquitto, "devices/a/telemetry", ["1"])
        await eventually(lambda: len(received) == 1)
        await asyncio.to_thread(own_mosquitto.stop)
        await eventually(lambda: subscriber.health.outage_count == 1)
        await asyncio.to_thread(own_mosquitto.start)
        await eventually(lambda: subscriber.health.connection_count == 2)
        for kind in ("telemetry", "heartbeat"):
            await publish_all(own_mosquitto, f"devices/b/{kind}", ["1"])
        await eventually(lambda: len(received) == 3)
    assert received == ["devices/a/telemetry", "devices/b/telemetry", "devices/b/heartbeat"]
    assert [outage.ended_at is None for outage in subscriber.health.outages] == [False]


@pytest.mark.parametrize("version", [MQTTVersion.AUTO, MQTTVersion.V311])
async def test_a_wrong_password_is_refused_without_showing_it(mosquitto: Mosquitto, version: MQTTVersion) -> None:
    wrong = "not the right one"
    subscriber = MQTTSubscriber("127.0.0.1", mosquitto.port, USERNAME, wrong, mqtt_version=version)
    with pytest.raises(CredentialsRefusedError, match=USERNAME) as caught:
        await subscriber.connect()
    assert wrong not in f"{caught.value!r} {caught.value.hint}"


async def test_a_second_client_with_the_same_id_ends_the_first(mosquitto: Mosquitto) -> None:
    async with (
        subscribing(mosquitto, client_id="twin") as first,
        subscribing(mosquitto, client_id="twin") as second,
    ):
        await first.start()
        await second.start()
        done, _ = await asyncio.wait(
            {asyncio.create_task(each.wait()) for each in (first, second)}, return_when=asyncio.FIRST_COMPLETED
        )
        assert {type(task.exception()).__name__ for task in done} == {"SessionTakenOverError"}
        await asyncio.gather(first.disconnect(), second.disconnect())


# What a CONNACK of Mosquitto allows


async def test_a_mosquitto_that_takes_short_packets_alone_hears_no_longer_one(tmp_path: Path) -> None:
    heard: list[str] = []
    filters = [f"devices/{number:030}/telemetry" for number in range(20)]  # of which two fit into 150 bytes
    with Mosquitto(tmp_path, extra="max_packet_size 150") as broker:
        async with subscribing(broker) as subscriber:
            for name in filters:
                subscriber.register_handler(name, lambda message: heard.append(message.topic))
            await subscriber.connect()
            await subscriber.start()
            with pytest.raises(PublishRefusedError, match="150 at most"):
                await subscriber.publish(filters[0], "x" * 150)
            for name in filters:
                await subscriber.publish(name, "1")
            await eventually(lambda: len(heard) == len(filters))
            assert subscriber.health.outage_count == 0
    assert heard == filters


async def test_a_mosquitto_that_takes_qos_0_alone_is_asked_for_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, extra="max_qos 0") as broker:
        async with subscribing(broker) as subscriber:
            await subscriber.connect()
            assert await subscriber.subscribe("a", qos=2) == 0
            with pytest.raises(PublishRefusedError, match="QoS 1, where the broker takes 0 at most"):
                await subscriber.publish("a", "1")
    assert "the broker takes QoS 0 at most: subscribed so, not at QoS 2" in caplog.text


async def test_many_filters_are_all_subscribed(mosquitto: Mosquitto) -> None:
    heard = set[str]()
    names = {f"many/{number}" for number in range(100)}
    async with subscribing(mosquitto) as subscriber:
        for name in names:
            subscriber.register_handler(name, lambda message: heard.add(message.topic))
        await subscriber.connect()
        await subscriber.start()
        for name in names:
            await subscriber.publish(name, "1")
        await eventually(lambda: heard == names)
