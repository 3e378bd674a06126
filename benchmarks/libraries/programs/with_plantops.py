"""plantops, with handlers that take a Message and validate by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    run,
)
from plantops_cli import Message, MQTTSubscriber


@asynccontextmanager
async def listening(job: Job) -> AsyncIterator[None]:
    """Handle in the background."""
    work = Work(job)

    async def quick(message: Message) -> None:
        work.keep(message.device_id or "", Reading.model_validate_json(message.payload))

    async def heartbeat(message: Message) -> None:
        work.beat(message.device_id or "")

    async def slow(message: Message) -> None:
        await work.handle(Reading.model_validate_json(message.payload))

    def blocking(message: Message) -> None:
        work.block(Reading.model_validate_json(message.payload))

    durable = CLIENT_ID if job.is_durable else None
    mqtt = MQTTSubscriber(HOST, job.port, job.username, job.password, durable=durable)
    mqtt.register_handler(TELEMETRY, {QUICK: quick, BLOCKING: blocking}.get(job.work, slow))
    if job.work == QUICK:
        mqtt.register_handler(HEARTBEAT, heartbeat)
    async with mqtt:
        await mqtt.start()
        yield


if __name__ == "__main__":
    run(listening)
