"""FastStream's MQTTBroker, as its documentation tells: typed handlers, path parameters, max_workers.

It acknowledges after the handler. A log line for each message, its default, is switched off.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Path
from faststream.mqtt import MQTTBroker, QoS, ReconnectConfig
from faststream.security import SASLPlaintext

from benchmarks.libraries.programs.job import (
    BLOCKING,
    CLIENT_ID,
    HOST,
    QUICK,
    SESSION_SECONDS,
    Job,
    Reading,
    Work,
    run,
)

TELEMETRY = "devices/{device_id}/telemetry"
HEARTBEAT = "devices/{device_id}/heartbeat"


@asynccontextmanager
async def listening(job: Job) -> AsyncIterator[None]:
    """Handle in the background."""
    work = Work(job)
    options: dict[str, Any] = {}
    if job.is_durable:
        options = {
            "client_id": CLIENT_ID,
            "clean_session": False,
            "session_expiry_interval": SESSION_SECONDS,
        }
    broker = MQTTBroker(
        host=HOST,
        port=job.port,
        security=SASLPlaintext(job.username, job.password),
        reconnect=ReconnectConfig(max_attempts=None),
        logger=None,
        **options,
    )

    if job.work == QUICK:

        @broker.subscriber(TELEMETRY, qos=QoS.AT_LEAST_ONCE)
        async def quick(reading: Reading, device_id: Annotated[str, Path()]) -> None:
            work.keep(device_id, reading)

        @broker.subscriber(HEARTBEAT, qos=QoS.AT_LEAST_ONCE)
        async def heartbeat(device_id: Annotated[str, Path()]) -> None:
            work.beat(device_id)

    elif job.work == BLOCKING:

        @broker.subscriber(TELEMETRY, qos=QoS.AT_LEAST_ONCE, max_workers=job.concurrency)
        def blocking(reading: Reading) -> None:
            work.block(reading)

    else:

        @broker.subscriber(TELEMETRY, qos=QoS.AT_LEAST_ONCE, max_workers=job.concurrency)
        async def slow(reading: Reading) -> None:
            await work.handle(reading)

    async with broker:
        await broker.start()
        yield


if __name__ == "__main__":
    run(listening)
