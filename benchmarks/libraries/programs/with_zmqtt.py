"""zmqtt, as its README tells: a subscription to iterate over, manual acknowledgement with a durable session.

What blocks goes to a thread. Its buffers have their defaults, 1,000 messages; both of them made larger get it over
a backlog that is longer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import zmqtt

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


@asynccontextmanager
async def listening(job: Job) -> AsyncIterator[None]:
    """Handle in the background."""
    task = asyncio.create_task(listen(job))
    yield
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


async def listen(job: Job) -> None:
    """Subscribe and handle."""
    work = Work(job)

    async def handle(message: Any) -> None:
        reading = Reading.model_validate_json(message.payload)
        if job.work == BLOCKING:
            await asyncio.to_thread(work.block, reading)
        else:
            await work.handle(reading)
        if job.is_durable:
            await message.ack()

    client = zmqtt.create_client(
        HOST,
        job.port,
        client_id=CLIENT_ID if job.is_durable else "",
        clean_session=not job.is_durable,
        username=job.username,
        password=job.password,
        reconnect=zmqtt.ReconnectConfig(max_attempts=None),
    )
    one = zmqtt.QoS.AT_LEAST_ONCE
    async with client:
        if job.work == QUICK:
            async with client.subscribe(TELEMETRY, HEARTBEAT, qos=one) as messages:
                async for message in messages:
                    if message.topic.endswith("/telemetry"):
                        work.keep(device_of(message.topic), Reading.model_validate_json(message.payload))
                    else:
                        work.beat(device_of(message.topic))
        async with client.subscribe(TELEMETRY, qos=one, auto_ack=not job.is_durable) as messages:
            await fan_out(messages, handle, job.concurrency)


if __name__ == "__main__":
    run(listening)
