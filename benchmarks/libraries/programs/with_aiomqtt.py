"""aiomqtt, as its guides tell: a listener task beside the application, workers, and a loop that reconnects.

It acknowledges before a message is handed out, and offers nothing else. What blocks goes to a thread.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt

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

_INTERVAL_SECONDS = 5  # the one of the guide


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
    """Subscribe, work, and do it again when the connection is lost."""
    work = Work(job)
    client = aiomqtt.Client(
        HOST,
        job.port,
        username=job.username,
        password=job.password,
        identifier=CLIENT_ID if job.is_durable else None,
        clean_session=not job.is_durable,
    )
    while True:
        try:
            async with client:
                await client.subscribe(TELEMETRY, qos=1)
                if job.work == QUICK:
                    await client.subscribe(HEARTBEAT, qos=1)
                async with asyncio.TaskGroup() as workers:
                    for _ in range(1 if job.work == QUICK else job.concurrency):
                        workers.create_task(handle_all(client, job.work, work))
        except* aiomqtt.MqttError:
            await asyncio.sleep(_INTERVAL_SECONDS)


async def handle_all(client: aiomqtt.Client, kind: str, work: Work) -> None:
    """Be one worker."""
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        if message.topic.matches(HEARTBEAT):
            work.beat(device_of(message.topic.value))
            continue
        reading = Reading.model_validate_json(message.payload)
        if kind == QUICK:
            work.keep(device_of(message.topic.value), reading)
        elif kind == BLOCKING:
            await asyncio.to_thread(work.block, reading)
        else:
            await work.handle(reading)


if __name__ == "__main__":
    run(listening)
