"""A user's program, for type checkers only: it is never run, and `make check` holds it to the public types."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Literal, Unpack, assert_type

import aiomqtt
from fastapi import FastAPI

from plantops_cli import (
    Batch,
    BrokerError,
    Connected,
    ConnectOptions,
    DeadLetter,
    ErrorPolicy,
    Handler,
    HandlerOptions,
    Health,
    Lost,
    Message,
    MQTTSubscriber,
    MQTTVersion,
    PayloadError,
    PlainHandler,
    PlainOptions,
    PlantopsError,
    PublishRefusedError,
    QoS,
    Retry,
    Settings,
    State,
    Status,
    SubscriptionRefusedError,
    TLSOptions,
    check_qos,
    dead_letter,
    load_settings,
    matches,
    mqtt_lifespan,
    parse_device_id,
)
from plantops_cli.testing import Delivered, InMemoryBroker, Mosquitto, testing


async def handle_telemetry(message: Message) -> None:
    assert_type(message.device_id, str | None)
    assert_type(message.payload, bytes)
    assert_type(message.captures, Mapping[str, str])
    assert_type(message.qos, Literal[0, 1, 2])
    reading: object = message.json()
    print(message.topic, reading, message.decode().error)
    assert_type(
        await message.reply({"heard": message.text}, properties={"content-type": "application/json"}), None
    )


def hand_on(message: Message) -> Awaitable[None] | None:
    return None if message.retain else handle_telemetry(message)


def handle_heartbeat(message: Message) -> None:
    print(parse_device_id(message.topic), matches("devices/#", message.topic))


class Database:
    """A handler with a state."""

    async def __call__(self, message: Message) -> int:
        return len(message.text)

    def insert(self, message: Message) -> None: ...


@dataclass
class Telemetry:
    """What a handler takes of a payload."""

    soil_moisture: float


def note(status: Status) -> None:
    match status:
        case Connected(endpoint, mqtt_version, granted):
            assert_type(granted, Mapping[str, int])
            print(endpoint, mqtt_version)
        case Lost(error, silent_seconds):
            assert_type(silent_seconds, float)
            assert_type(error, BrokerError)
        case _:
            pass


def build() -> MQTTSubscriber:
    settings = load_settings(env_file=".env", mqtt_port=8883)
    assert_type(settings, Settings)
    return MQTTSubscriber.from_settings(settings, durable="backend", qos=1, on_error="keep", on_status=note)


def build_as_told(mqtt_version: str, qos: int) -> MQTTSubscriber:
    """Settings that are read from elsewhere are checked on their way."""
    assert_type(check_qos(qos), QoS)
    return MQTTSubscriber("localhost", mqtt_version=MQTTVersion(mqtt_version), qos=check_qos(qos))


def choose_policies() -> list[ErrorPolicy]:
    def give_up(message: Message, error: BaseException) -> None: ...
    async def tell(message: Message, error: BaseException) -> None: ...

    assert_type(dead_letter("plantops/dead"), DeadLetter)
    return [
        "ack",
        "keep",
        Retry(),
        Retry(5, backoff=0.5, then=dead_letter("plantops/dead")),
        Retry(attempts=3, backoff=(0.5, 1, 2), then=give_up),
        Retry(backoff=lambda attempts: attempts * 0.5, then=tell),
        Retry(then="ack"),
    ]


def register(mqtt: MQTTSubscriber, database: Database) -> None:
    heard: list[Message] = []
    mqtt.register_handler("a", heard.append)
    mqtt.register_handler("a", database.insert, blocking=True, concurrency=5)
    mqtt.register_handler("a", database.insert, blocking=False)
    mqtt.register_handler("a", database, blocking=False, concurrency=50, timeout_seconds=5)
    mqtt.register_handler("a", hand_on, blocking=False)
    mqtt.register_handler("a", database, key=lambda message: message.device_id)
    mqtt.register_handler("a", database, key=lambda message: (message.topic, message.retain))
    mqtt.register_handler("a", database, on_error=Retry(then=dead_letter("plantops/dead")))
    mqtt.register_handler("a", database, on_invalid=lambda message, error: print(message.topic, error.errors))
    mqtt.register_handler("a", database, key=None, timeout_seconds=None, on_error=None, on_invalid=None)


def register_any(mqtt: MQTTSubscriber, handler: Handler, **options: Unpack[HandlerOptions]) -> None:
    mqtt.register_handler("a", handler, **options)
    mqtt.on("b", **options)(handler)


def register_plain(mqtt: MQTTSubscriber, handler: PlainHandler, **options: Unpack[PlainOptions]) -> None:
    mqtt.register_handler("a", handler, **options)
    mqtt.on("b", **options)(handler)


async def decorate(mqtt: MQTTSubscriber, message: Message) -> None:
    @mqtt.on("devices/{device_id}/telemetry", concurrency=50, on_error=Retry(3))
    async def store(reading: Telemetry, device_id: str, message: Message) -> int:
        return int(reading.soil_moisture)

    @mqtt.on("devices/{device_id}/heartbeat", blocking=True)
    def note_heartbeat(payload: bytes, device_id: int) -> None: ...

    @mqtt.on("devices/+/log")
    @mqtt.on("devices/+/error")
    def note_line(message: Message) -> None: ...

    assert_type(await store(Telemetry(41), "a", message), int)
    note_heartbeat(b"", 5)
    note_line(message)


async def forward(mqtt: MQTTSubscriber, message: Message) -> None:
    await mqtt.publish(f"copies/{message.topic}", message.payload, qos=message.qos, retain=message.retain)
    await mqtt.publish("models", Telemetry(41), qos=0, properties=message.properties)
    for qos in (0, 1, 2):
        await mqtt.publish("numbers", [1, 2], qos=qos)
    await message.reply(Telemetry(41), qos=message.qos, wait=2)


async def listen(host: str, port: int, username: str, password: str) -> None:
    mqtt = MQTTSubscriber(host, port, username, password, tls=TLSOptions(), group="farm", group_anyway=True)
    mqtt.add_status_listener(note)
    mqtt.register_handler("devices/+/telemetry", handle_telemetry)
    mqtt.register_handler("devices/+/telemetry", Database())
    mqtt.register_handler("devices/+/heartbeat", handle_heartbeat)
    await mqtt.connect()
    await mqtt.subscribe("devices/+/state", Database().insert, blocking=True)
    await mqtt.subscribe("devices/+/state", handler=None, qos=None)
    try:
        assert_type(await mqtt.subscribe("devices/+/log", handle_telemetry, qos=2), int | None)
    except SubscriptionRefusedError as exc:
        assert_type(exc.filters, dict[str, int])
        assert_type((exc.reason_string, exc.server_reference), tuple[str | None, str | None])
    await asyncio.create_task(mqtt.start())
    if mqtt.client:
        assert_type(mqtt.client, aiomqtt.Client)
        await mqtt.client.publish("hello", b"1", qos=1)
    await mqtt.publish("hello", {"a": [1, 2.5, None]}, qos=1, retain=True, wait=2)
    try:
        assert_type(await mqtt.publish("hello", properties={"user-properties": {"a": "1"}}), None)
    except PublishRefusedError as exc:
        assert_type(exc.reason_code, int | None)
    await mqtt.wait()
    await mqtt.disconnect()
    assert_type(mqtt.handlers, dict[str, list[Handler]])
    assert_type((mqtt.host, mqtt.port), tuple[str, int])
    assert_type((mqtt.username, mqtt.password), tuple[str | None, str | bytes | None])


async def ask_for_password() -> bytes:
    return b"secret"


def log_in_anew(settings: Settings) -> list[MQTTSubscriber]:
    return [
        MQTTSubscriber("localhost", 1883, "alice", lambda: "secret"),
        MQTTSubscriber("localhost", 1883, "alice", ask_for_password, login_patience_seconds=90),
        MQTTSubscriber("localhost", username="alice", password=settings.password),
        MQTTSubscriber.from_settings(settings, login=("alice", ask_for_password), login_patience_seconds=0),
        MQTTSubscriber.from_settings(settings, login=("token", None)),
    ]


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
    assert_type(mqtt.health.outage_seconds, float)
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


async def test_telemetry_is_handled_without_a_broker() -> None:
    mqtt = build()
    async with testing(mqtt) as broker:
        assert_type(broker, InMemoryBroker)
        delivered = await broker.deliver(
            "devices/x/telemetry", {"soil_moisture": 41}, properties={"content-type": "a"}
        )
        assert_type(delivered, Delivered)
        assert_type(delivered.errors, tuple[BaseException, ...])
        again = await broker.deliver("devices/x/telemetry", Telemetry(41), qos=check_qos(2), retain=True)
        assert_type(broker.unacknowledged, list[Message])
        assert_type(broker.subscriptions, Mapping[str, int])
        assert again == delivered
        assert_type(broker.published, list[Message])
        broker.lose_connection()
        await broker.connected()
    with testing(mqtt) as broker:
        assert_type(broker, InMemoryBroker)


def test_a_real_broker_is_at_hand(mosquitto_broker: Mosquitto) -> None:
    assert_type((mosquitto_broker.host, mosquitto_broker.port), tuple[str, int])


app = FastAPI(lifespan=mqtt_lifespan(build(), wait_for_broker=False))
