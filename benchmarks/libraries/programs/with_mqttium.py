"""MQTTium, as its README and its cookbook tell.

Callbacks where a handler is quick; else the iterator with workers behind it, and manual acknowledgement with a
durable session. What blocks goes to a thread.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mqttium import NotConnectedError
from mqttium.api import AsyncClient, ReconnectPolicy

from benchmarks.libraries.programs.fan_out import fan_out
from benchmarks.libraries.programs.job import (
    BLOCKING,
    CLIENT_ID,
    HEARTBEAT,
    HOST,
    QUICK,
    TELEMETRY,
    Job,
    Reading,
    Work,
    device_of,
    run,
)

_AGAIN_SECONDS = 0.1


@asynccontextmanager
async def listening(job: Job) -> AsyncIterator[None]:
    """Handle in the background."""
    work = Work(job)
    options: dict[str, Any] = {"username": job.username, "password": job.password}
    options["reconnect"] = ReconnectPolicy(max_retries=None)
    if job.work == QUICK:
        client = AsyncClient(CLIENT_ID, message_delivery="callback", **options)
        client.message_callback_add(
            TELEMETRY,
            lambda message: work.keep(device_of(message.topic), Reading.model_validate_json(message.payload)),
        )
        client.message_callback_add(HEARTBEAT, lambda message: work.beat(device_of(message.topic)))
    else:
        client = AsyncClient(CLIENT_ID, manual_ack=job.is_durable, clean_start=not job.is_durable, **options)
    await client.connect(HOST, job.port)
    await client.subscribe(TELEMETRY, qos=1)
    if job.work == QUICK:
        await client.subscribe(HEARTBEAT, qos=1)
        yield
    else:
        task = asyncio.create_task(handle_all(client, job, work))
        yield
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    await client.disconnect()


async def acknowledge(client: Any, message: Any) -> None:
    """Acknowledge, again after a reconnection: its handle stays good, and those behind it wait for it."""
    while True:
        try:
            await client.ack(message)
        except NotConnectedError:
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            return


async def handle_all(client: Any, job: Job, work: Work) -> None:
    """Read in one task, and fan out."""

    async def handle(message: Any) -> None:
        reading = Reading.model_validate_json(message.payload)
        if job.work == BLOCKING:
            await asyncio.to_thread(work.block, reading)
        else:
            await work.handle(reading)
        if job.is_durable:
            await acknowledge(client, message)

    await fan_out(client.messages(), handle, job.concurrency)


if __name__ == "__main__":
    run(listening)
