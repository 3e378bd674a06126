"""What all programs share: what they are to do, the model, the work of a handler, and the end."""

import asyncio
import atexit
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.libraries.journal import Journal, Kind

HOST = "127.0.0.1"
TELEMETRY = "devices/+/telemetry"
HEARTBEAT = "devices/+/heartbeat"
SESSION_SECONDS = 3_600
CLIENT_ID = "listener"
VARIABLE = "BENCHMARK_JOB"

# The work of a handler
QUICK, WAITING, VARIED, MIXED, BLOCKING, COMPUTING = "quick", "waiting", "varied", "mixed", "blocking", "computing"

_WAIT_SECONDS = 0.01
_COMPUTE_SECONDS = 0.001
_NOTE_EVERY = 1_000


class Reading(BaseModel):
    """What a device says."""

    soil_moisture: float
    temperature: float
    humidity: float
    light: int
    battery: float
    seq: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a program is to do.

    Attributes:
        port: of the broker.
        username: of its login.
        password: of its login.
        work: what its handlers do.
        concurrency: messages to be in hand at once, where the library has a way to say so.
        journal: file to be written.
        count: messages that will come, for the size of the journal.
        is_durable: whether the broker keeps the session.
        http_port: where to serve HTTP beside, or 0.
    """

    port: int
    username: str
    password: str
    work: str
    concurrency: int
    journal: str
    count: int
    is_durable: bool = False
    http_port: int = 0

    @classmethod
    def from_environment(cls) -> "Job":
        """Read it from the environment of this process."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def environment(self) -> dict[str, str]:
        """The variables by which a process finds it."""
        return {VARIABLE: json.dumps(asdict(self))}


class Work:
    """What handlers do with a message.

    Args:
        job: whose handlers.

    Attributes:
        journal: where it is noted.
        seconds_of: how long the handling of a message lasts, by its number.
        latest: what quick handlers keep.
        beats: what they count.
    """

    def __init__(self, job: Job) -> None:
        self.journal = Journal(Path(job.journal), job.count * 8 + 10_000)
        self.seconds_of = _SECONDS_OF.get(job.work, _same)
        self._is_computing = job.work == COMPUTING
        self._handled = 0
        if job.work == QUICK:
            atexit.register(lambda: self.journal.count(self._handled))  # what came behind the last note
        self.latest: dict[str, Reading] = {}
        self.beats: dict[str, int] = {}

    def keep(self, device_id: str, reading: Reading) -> None:
        """Quick: keep the latest reading of a device."""
        self.latest[device_id] = reading
        self._handled += 1
        if self._handled == 1 or not self._handled % _NOTE_EVERY:
            self.journal.count(self._handled)

    def beat(self, device_id: str) -> None:
        """Quick: count the heartbeats of a device."""
        self.beats[device_id] = self.beats.get(device_id, 0) + 1
        self._handled += 1
        if self._handled == 1 or not self._handled % _NOTE_EVERY:
            self.journal.count(self._handled)

    async def handle(self, reading: Reading) -> None:
        """Take time over a message: wait as for a database, or compute."""
        self.journal.note(Kind.BEGUN, reading.seq)
        if self._is_computing:
            compute()
        elif seconds := self.seconds_of(reading.seq):
            await asyncio.sleep(seconds)
        self.journal.note(Kind.ENDED, reading.seq)

    def block(self, reading: Reading) -> None:
        """Take the same time over a message, and the thread."""
        self.journal.note(Kind.BEGUN, reading.seq)
        if seconds := self.seconds_of(reading.seq):
            time.sleep(seconds)
        self.journal.note(Kind.ENDED, reading.seq)


def mixed_seconds(number: int) -> float:
    """How long the handling of a message lasts in a mixed stream.

    Args:
        number: of the message.

    Returns:
        50 ms for one in a thousand, 5 ms for twenty, nothing for the others; any device has some of each.
    """
    place = (number * 37 + number // 100 * 11) % 1000
    if place == 0:
        return 0.05
    return 0.005 if place <= 20 else 0.0


def varied_seconds(number: int) -> float:
    """The same where it varies from 5 to 15 ms, 10 in the mean.

    Args:
        number: of the message.
    """
    return 0.005 + (number * 37 + number // 100 * 3) % 11 / 1_000


def _same(_: int) -> float:
    return _WAIT_SECONDS


_SECONDS_OF = {MIXED: mixed_seconds, VARIED: varied_seconds}


def compute() -> None:
    """Use a millisecond of CPU, however long that takes."""
    until = time.thread_time() + _COMPUTE_SECONDS
    while time.thread_time() < until:
        pass


def device_of(topic: str) -> str:
    """The device id in a topic, where a library leaves that to its user."""
    return topic.split("/")[1]


def run(listening: Callable[[Job], AbstractAsyncContextManager[None]]) -> None:
    """Listen until SIGTERM, with a web application beside if the job says so.

    Args:
        listening: what connects, subscribes, handles in the background, and disconnects.
    """
    job = Job.from_environment()
    asyncio.run(_serve(listening, job) if job.http_port else _listen(listening, job))


async def _listen(listening: Callable[[Job], AbstractAsyncContextManager[None]], job: Job) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with listening(job):
        await stopped.wait()


async def _serve(listening: Callable[[Job], AbstractAsyncContextManager[None]], job: Job) -> None:
    import uvicorn
    from fastapi import FastAPI

    def lifespan(_: Any) -> AbstractAsyncContextManager[None]:
        return listening(job)

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def root() -> dict[str, str]:
        return {"status": "ok"}

    config = uvicorn.Config(app, host=HOST, port=job.http_port, log_level="warning")
    await uvicorn.Server(config).serve()
