"""gmqtt, as its README tells: an on_message callback, async where it has to wait, and a reason code returned.

By default it acknowledges before the callback; with a durable session it is asked to do so afterwards.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gmqtt

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

    def on_connect(client: Any, flags: int, rc: int, properties: Any) -> None:
        client.subscribe(TELEMETRY, qos=1)
        if job.work == QUICK:
            client.subscribe(HEARTBEAT, qos=1)

    def quick(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        if topic.endswith("/telemetry"):
            work.keep(device_of(topic), Reading.model_validate_json(payload))
        else:
            work.beat(device_of(topic))
        return 0

    async def slow(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        await work.handle(Reading.model_validate_json(payload))
        return 0

    def blocking(client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        work.block(Reading.model_validate_json(payload))
        return 0

    options = {"session_expiry_interval": SESSION_SECONDS} if job.is_durable else {}
    client = gmqtt.Client(
        CLIENT_ID, clean_session=not job.is_durable, optimistic_acknowledgement=not job.is_durable, **options
    )
    client.set_auth_credentials(job.username, job.password)
    client.on_connect = on_connect
    client.on_message = {QUICK: quick, BLOCKING: blocking}.get(job.work, slow)
    await client.connect(HOST, job.port)
    yield
    await client.disconnect()


if __name__ == "__main__":
    run(listening)
