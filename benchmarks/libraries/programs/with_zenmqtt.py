"""zenmqtt, as its README tells: one task reads, workers behind a queue.

Each message is acknowledged when it is done with. What blocks goes to a thread.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from zenmqtt import MQTTClient

from benchmarks.libraries.programs.fan_out import fan_out
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
    async with MQTTClient(CLIENT_ID) as client:
        await client.connect(
            f"tcp://{HOST}:{job.port}",
            username=job.username,
            password=job.password,
            clean_start=not job.is_durable,
            properties={"session_expiry_interval": SESSION_SECONDS} if job.is_durable else None,
        )
        await client.subscribe([(TELEMETRY, 1), (HEARTBEAT, 1)] if job.work == QUICK else [(TELEMETRY, 1)])
        task = asyncio.create_task(handle_all(client, job, work))
        yield
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass


async def handle_all(client: Any, job: Job, work: Work) -> None:
    """Read in one task, and fan out."""

    async def handle(message: Any) -> None:
        reading = Reading.model_validate_json(message.payload)
        if job.work == BLOCKING:
            await asyncio.to_thread(work.block, reading)
        else:
            await work.handle(reading)
        await client.ack(message)

    if job.work != QUICK:
        await fan_out(client.messages, handle, job.concurrency)
    async for message in client.messages:
        if message.topic.endswith("/telemetry"):
            work.keep(device_of(message.topic), Reading.model_validate_json(message.payload))
        else:
            work.beat(device_of(message.topic))
        await client.ack(message)


if __name__ == "__main__":
    run(listening)
