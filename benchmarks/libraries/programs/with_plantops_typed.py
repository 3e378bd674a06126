"""plantops, with typed handlers and as much concurrency as the job asks for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.libraries.programs.job import BLOCKING, CLIENT_ID, HOST, QUICK, Job, Reading, Work, run
from plantops_cli import MQTTSubscriber

TELEMETRY = "devices/{device_id}/telemetry"
HEARTBEAT = "devices/{device_id}/heartbeat"


@asynccontextmanager
async def listening(job: Job) -> AsyncIterator[None]:
    """Handle in the background."""
    work = Work(job)
    durable = CLIENT_ID if job.is_durable else None
    mqtt = MQTTSubscriber(HOST, job.port, job.username, job.password, durable=durable)

    if job.work == QUICK:

        @mqtt.on(TELEMETRY, concurrency=job.concurrency)
        async def quick(reading: Reading, device_id: str) -> None:
            work.keep(device_id, reading)

        @mqtt.on(HEARTBEAT)
        async def heartbeat(device_id: str) -> None:
            work.beat(device_id)

    elif job.work == BLOCKING:

        @mqtt.on(TELEMETRY, concurrency=job.concurrency)
        def blocking(reading: Reading) -> None:
            work.block(reading)

    else:

        @mqtt.on(TELEMETRY, concurrency=job.concurrency)
        async def slow(reading: Reading) -> None:
            await work.handle(reading)

    async with mqtt:
        await mqtt.start()
        yield


if __name__ == "__main__":
    run(listening)
