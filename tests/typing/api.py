"""A user's program, for type checkers only: it is never run, and `make check` holds it to the public types."""

import asyncio
from collections.abc import Mapping
from typing import assert_type

import aiomqtt
from fastapi import FastAPI

from plantops_cli import (
    Batch,
    BrokerError,
    Connected,
    ConnectOptions,
    Handler,
    Health,
    Lost,
    Message,
    MQTTSubscriber,
    PayloadError,
    PlantopsError,
    Settings,
    State,
    Status,
    SubscriptionRefusedError,
    TLSOptions,
    load_settings,
    matches,
    mqtt_lifespan,
    parse_device_id,
)


async def handle_telemetry(message: Message) -> None:
    assert_type(message.device_id, str | None)
    assert_type(message.payload, bytes)
    assert_type(message.captures, Mapping[str, str])
    reading: object = message.json()
    print(message.topic, reading, message.decode().error)


def handle_heartbeat(message: Message) -> None:
    print(parse_device_id(message.topic), matches("devices/#", message.topic))


class Database:
    """A handler with a state."""

    async def __call__(self, message: Message) -> int:
        return len(message.text)


def note(status: Status) -> None:
    match status:
        case Connected(endpoint, mqtt_version, granted):
            assert_type(granted, Mapping[str, int])
            print(endpoint, mqtt_version)
        case Lost(error):
            assert_type(error, BrokerError)
        case _:
            pass


def build() -> MQTTSubscriber:
    settings = load_settings(env_file=".env", mqtt_port=8883)
    assert_type(settings, Settings)
    return MQTTSubscriber.from_settings(settings, durable="backend", qos=1, on_error="keep", on_status=note)


async def listen(host: str, port: int, username: str, password: str) -> None:
    mqtt = MQTTSubscriber(host, port, username, password, tls=TLSOptions(), keepalive_seconds=30)
    mqtt.add_status_listener(note)
    mqtt.register_handler("devices/+/telemetry", handle_telemetry)
    mqtt.register_handler("devices/+/telemetry", Database())
    mqtt.register_handler("devices/+/heartbeat", handle_heartbeat)
    await mqtt.connect()
    try:
        assert_type(await mqtt.subscribe("devices/+/log", handle_telemetry, qos=2), int | None)
    except SubscriptionRefusedError as exc:
        assert_type(exc.filters, dict[str, int])
    await asyncio.create_task(mqtt.start())
    if mqtt.client:
        assert_type(mqtt.client, aiomqtt.Client)
        await mqtt.client.publish("hello", b"1", qos=1)
    await mqtt.wait()
    await mqtt.disconnect()
    assert_type(mqtt.handlers, dict[str, list[Handler]])
    assert_type((mqtt.host, mqtt.port), tuple[str, int])
    assert_type((mqtt.username, mqtt.password), tuple[str | None, str | bytes | None])


async def read(mqtt: MQTTSubscriber) -> Health:
    async with mqtt as connected:
        assert_type(connected, MQTTSubscriber)
        await connected.subscribe("devices/#")
        async for message in connected.messages():
            assert_type(message, Message)
        async for batch in connected.batches():
            assert_type(batch, Batch)
            assert_type(batch[0], Message)
    assert_type(mqtt.options, ConnectOptions)
    assert_type(mqtt.health.state, State)
    return mqtt.health


def main() -> None:
    try:
        asyncio.run(listen("localhost", 1883, "plantops_backend", "secret"))
        asyncio.run(read(build()))
    except PayloadError as exc:
        assert_type(exc.errors, list[dict[str, object]])
        assert_type(exc.handler, str | None)
        print(exc, exc.topic)
    except PlantopsError as exc:
        print(exc, exc.hint)


async def test_telemetry_is_handled() -> None:
    await handle_telemetry(Message.of("devices/x/telemetry", b"{}", qos=1, retain=True))


app = FastAPI(lifespan=mqtt_lifespan(build(), wait_for_broker=False))
