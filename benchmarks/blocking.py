"""What a plain handler costs in a thread and on the event loop, and what more threads gain when it waits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from benchmarks.measure import Comparison, MeasurementError, Section, Sizes, amount, compare
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.handling.bounds import MAX_THREADS, Bounds
from plantops_cli.stream.handling.dispatcher import Dispatcher
from plantops_cli.stream.handling.handlers import Handlers
from plantops_cli.stream.handling.registration import Handler
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.packets import PUBLISH, QOS_1, Packet
from plantops_cli.stream.status import Status
from plantops_cli.topics import parse_pattern

_QUICK, _WAITING = 50_000, 5_000  # messages
_AT_ONCE = 500  # messages of a batch
_DEVICES = 250  # more than may be in hand at once, for those of one device are handled in order
_CONCURRENCY = 128
_WAIT_SECONDS = 0.010
_THREADS = (8, 32, 64)
_TICK_SECONDS = 0.001
_REST_SECONDS = 1.6  # as long as the default number of threads takes
_LEAVE_SECONDS = 3.0
_PATTERN = parse_pattern("devices/+/telemetry")
_PAYLOAD = b'{"soil_moisture":41.5,"temperature":21.25,"battery":87.1}'
_METHOD = (
    f"Messages at QoS 1 of {_DEVICES} devices, {_AT_ONCE} at a time, through the dispatcher of a subscriber, "
    f"without a network. Quick: {_QUICK:,} for a plain function that does nothing, one at a time; CPU is user and "
    f"system time of the process, threads included. Waiting: {_WAITING:,} for one that sleeps for "
    f"{_WAIT_SECONDS * 1000:.0f} ms, concurrency={_CONCURRENCY}; meanwhile a task sleeps for "
    f"{_TICK_SECONDS * 1000:.0f} ms again and again, and what it sleeps longer is how long the event loop did not "
    "get round. At rest is the same with no message: what the machine does by itself. Rounds, by turns: {rounds}; "
    "seconds are their median."
)


@dataclass(frozen=True, slots=True)
class Run:
    """What it took to handle messages that wait.

    Attributes:
        seconds: from the first that is taken to the end.
        longest_seconds: for which the event loop did not get round.
    """

    seconds: float
    longest_seconds: float


def measure(sizes: Sizes) -> Section:
    """Measure quick plain handlers in a thread and on the event loop, and waiting ones in few threads and many."""
    return Section(
        "Plain handlers",
        _METHOD.format(rounds=sizes.rounds),
        (_quick(sizes.rounds),),
        ("threads", f"{_WAITING:,} that wait", "event loop did not get round, median", "at worst"),
        tuple(_waiting(sizes.rounds)),
    )


def figures(name: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """A row of what was measured, round by round."""
    longest = [run.longest_seconds * 1000 for run in runs]
    return (
        name,
        amount(median(run.seconds for run in runs), "s"),
        amount(median(longest), "ms"),
        amount(max(longest), "ms"),
    )


async def handle(
    handler: Handler,
    count: int,
    *,
    concurrency: int = 1,
    is_blocking: bool = True,
    max_threads: int = MAX_THREADS,
) -> None:
    """Let a dispatcher handle messages.

    Args:
        handler: a plain function.
        count: messages.
        concurrency: as the option of a handler.
        is_blocking: whether it is called in a thread.
        max_threads: as the bound of a subscriber.

    Raises:
        MeasurementError: not all of them were acknowledged.
    """
    dispatcher, connection = _dispatcher(handler, max_threads, concurrency, is_blocking), _Connection()
    for batch in _batches(count):
        await dispatcher.take(batch, connection)
    await dispatcher.finish()
    await dispatcher.leave(_LEAVE_SECONDS)
    if connection.acknowledged_count != count:
        raise MeasurementError(f"{connection.acknowledged_count:,} of {count:,} messages were acknowledged")


def _quick(rounds: int) -> Comparison:
    compared = compare(
        "CPU per message, a quick plain function in a thread",
        "blocking=False",
        ours=lambda: asyncio.run(_microseconds(is_blocking=True)),
        peers=lambda: asyncio.run(_microseconds(is_blocking=False)),
        runs=rounds,
    )
    return replace(compared, unit="µs")


async def _microseconds(*, is_blocking: bool) -> float:
    began = time.process_time()
    await handle(_do_nothing, _QUICK, is_blocking=is_blocking)
    return (time.process_time() - began) / _QUICK * 1e6


def _waiting(rounds: int) -> Iterator[tuple[str, ...]]:
    jobs = {f"max_threads={count}": partial(_wait_in_threads, count) for count in _THREADS}
    jobs["at rest"] = partial(asyncio.sleep, _REST_SECONDS)
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            runs[name].append(asyncio.run(_watch(job)))
    return (figures(name, of_one) for name, of_one in runs.items())


async def _wait_in_threads(count: int) -> None:
    await handle(_wait, _WAITING, concurrency=_CONCURRENCY, max_threads=count)


async def _watch(job: Callable[[], Awaitable[None]]) -> Run:
    async with _lateness() as lateness:
        began = time.monotonic()
        await job()
        seconds = time.monotonic() - began
    return Run(seconds, max(lateness))


def _do_nothing(_: Message) -> None: ...


def _wait(_: Message) -> None:
    time.sleep(_WAIT_SECONDS)


@asynccontextmanager
async def _lateness() -> AsyncIterator[list[float]]:
    """Note how late a task is that wants its turn again and again."""
    lateness, is_over = [0.0], asyncio.Event()

    async def watch() -> None:
        while not is_over.is_set():
            due = time.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            lateness.append(time.monotonic() - due)

    watcher = asyncio.create_task(watch())
    try:
        yield lateness
    finally:
        is_over.set()
        await watcher


def _batches(count: int) -> Iterator[Batch]:
    packets = [_packet(number) for number in range(min(count, _AT_ONCE))]
    for begun in range(0, count, _AT_ONCE):
        yield Batch([Read(time.time_ns(), packets[: count - begun])])


def _packet(number: int) -> Packet:
    return PUBLISH | QOS_1, f"devices/plant-{number % _DEVICES:03}/telemetry".encode(), number + 1, b"", _PAYLOAD


def _dispatcher(handler: Handler, max_threads: int, concurrency: int, is_blocking: bool) -> Dispatcher:
    handlers = Handlers()
    handlers.add(handlers.make(_PATTERN, handler, concurrency=concurrency, blocking=is_blocking))
    bounds = Bounds(_AT_ONCE, max_threads)
    return Dispatcher(handlers, Tally(), _publish, _Nothing(), _ignore, bounds=bounds, is_durable=False)


async def _publish(topic: str, payload: object = b"", **options: object) -> None:
    """Publish nothing, for no handler here does."""


def _ignore(_: Status) -> None: ...


class _Nothing:
    held = 0

    def leave_to_broker(self) -> None: ...


class _Connection:
    is_resumed = has_ended = has_properties = False

    def __init__(self) -> None:
        self.acknowledged_count = 0

    def acknowledge(self, packets: list[Packet]) -> bool:
        self.acknowledged_count += len(packets)
        return True

    def let_go(self, size: int) -> None: ...

    def when_ended(self, told: Callable[[], None]) -> None: ...

    def give_up(self) -> None: ...
