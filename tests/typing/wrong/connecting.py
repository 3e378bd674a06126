"""Subscribers that cannot be made, and connections that are used wrongly."""

from fastapi import FastAPI

from plantops_cli import (
    MQTTSubscriber,
    MQTTVersion,
    Settings,
    Status,
    TLSOptions,
    check_qos,
    load_settings,
    mqtt_lifespan,
)


async def hear(status: Status) -> None: ...


def make(level: int, version: str, settings: Settings) -> None:
    MQTTSubscriber()  # wrong: where is the broker?
    MQTTSubscriber("localhost", "1883")  # wrong
    MQTTSubscriber("localhost", 1883, "alice", "secret", "alice-1")  # wrong: the client id has a name
    MQTTSubscriber("localhost", mqtt_version="4")  # wrong: no such version
    MQTTSubscriber("localhost", mqtt_version=5)  # wrong: versions are text
    MQTTSubscriber("localhost", mqtt_version=version)  # wrong: any text at all
    MQTTSubscriber("localhost", mqtt_version=MQTTVersion.V4)  # wrong
    MQTTSubscriber("localhost", qos=3)  # wrong
    MQTTSubscriber("localhost", qos=level)  # wrong: any number at all, which check_qos would check
    MQTTSubscriber("localhost", qos=check_qos)  # wrong: not called
    MQTTSubscriber("localhost", on_error="drop")  # wrong
    MQTTSubscriber("localhost", on_error="retry")  # wrong
    MQTTSubscriber("localhost", group_anyway="farm")  # wrong: whether, not which
    MQTTSubscriber("localhost", password=lambda: 12345)  # wrong
    MQTTSubscriber("localhost", password=print)  # wrong: it gives nothing
    MQTTSubscriber("localhost", password=len)  # wrong: it is called with nothing
    MQTTSubscriber("localhost", tls=True)  # wrong: TLSOptions()
    MQTTSubscriber("localhost", tls=TLSOptions)  # wrong: the class
    MQTTSubscriber("localhost", keepalive=30)  # wrong: keepalive_seconds
    MQTTSubscriber("localhost", max_threads="all")  # wrong
    MQTTSubscriber("localhost", on_status=hear)  # wrong: nobody would await it
    MQTTSubscriber.from_settings()  # wrong
    MQTTSubscriber.from_settings(settings, host="localhost")  # wrong: the settings say it
    MQTTSubscriber.from_settings(settings, qos=3)  # wrong
    MQTTSubscriber.from_settings(settings, mqtt_version="4")  # wrong
    MQTTSubscriber.from_settings(settings, login=("alice",))  # wrong: a password, too
    MQTTSubscriber.from_settings(settings, max_packet_size=10)  # wrong: max_packet_bytes
    load_settings(".env")  # wrong: it has a name


async def use(mqtt: MQTTSubscriber) -> None:
    mqtt.connect()  # wrong: never awaited
    mqtt.start()  # wrong
    mqtt.disconnect()  # wrong
    await mqtt.stop()  # wrong: it is no coroutine
    await mqtt.register_handler("a", print)  # wrong
    await mqtt.health  # wrong
    mqtt.host = "elsewhere"  # wrong: read only
    mqtt.handlers = {}  # wrong
    mqtt.health()  # wrong: a property
    mqtt.client.publish("a")  # wrong: None while there is no connection
    mqtt.on_status = print  # wrong: add_status_listener
    mqtt.add_status_listener(hear)  # wrong: nobody would await it
    with mqtt:  # wrong: async with
        pass
    for _ in mqtt.messages():  # wrong: async for
        break
    async for _ in mqtt.batches:  # wrong: not called
        break


FastAPI(lifespan=mqtt_lifespan)  # wrong: of which subscriber?
FastAPI(lifespan=mqtt_lifespan(MQTTSubscriber))  # wrong: the class
