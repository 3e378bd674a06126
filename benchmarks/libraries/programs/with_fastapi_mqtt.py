"""fastapi-mqtt, as its README tells: async handlers by topic filter, and a lifespan.

It acknowledges before the handlers; 3.0 can be asked to do so afterwards, which 2.2 ignores.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi_mqtt import FastMQTT, MQTTConfig

from benchmarks.libraries.programs.job import (
    BLOCKING,
    CLIENT_ID,
    HEARTBEAT,
    HOST,
    QUICK,
    SESSION_SECONDS,
    TELEMETRY,
    Job,
    Reading,
    Work,
    device_of,
    run,
)


@asynccontextmanager
async def listening(job: Job) -> AsyncIterator[None]:
    """Handle in the background."""
    work = Work(job)
    options = {"session_expiry_interval": SESSION_SECONDS} if job.is_durable else {}
    mqtt = FastMQTT(
        MQTTConfig(host=HOST, port=job.port, username=job.username, password=job.password),
        client_id=CLIENT_ID,
        clean_session=not job.is_durable,
        optimistic_acknowledgement=not job.is_durable,
        **options,
    )

    if job.work == QUICK:

        @mqtt.subscribe(TELEMETRY, qos=1)
        async def quick(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> None:
            work.keep(device_of(topic), Reading.model_validate_json(payload))

        @mqtt.subscribe(HEARTBEAT, qos=1)
        async def heartbeat(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> None:
            work.beat(device_of(topic))

    elif job.work == BLOCKING:

        @mqtt.subscribe(TELEMETRY, qos=1)
        async def blocking(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> None:
            work.block(Reading.model_validate_json(payload))

    else:

        @mqtt.subscribe(TELEMETRY, qos=1)
        async def slow(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> None:
            await work.handle(Reading.model_validate_json(payload))

    await mqtt.mqtt_startup()
    yield
    await mqtt.mqtt_shutdown()


if __name__ == "__main__":
    run(listening)
