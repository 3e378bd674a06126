"""The one run of all streams, on a broker that does what it is told."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from plantops_cli.cli.shared.run import Ending, Limits, StreamRun
from plantops_cli.cli.shared.stopping import Stop
from plantops_cli.errors import ConfigError, CredentialsRefusedError
from plantops_cli.outputs.stdout import StandardOutput
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.status import Connected, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import free_port
from tests.support.scripted_broker import CLOSE, CONNECT, DISCONNECT, SUBSCRIBE, ScriptedBroker, publish, serving
from tests.support.subscribing import WAIT_SECONDS, eventually

FILTERS = ("t/#", "u")


class Taker:
    """Takes what comes, and ends where it is told to.

    Args:
        ending: asked about each batch.
    """

    at_once = None

    def __init__(self, ending: Callable[[Batch], Ending | None] = lambda _: None) -> None:
        self.payloads: list[bytes] = []
        self._ending = ending

    async def take(self, batch: Batch, *, stopped: asyncio.Event) -> Ending | None:
        self.payloads += [message.payload for message in batch]
        return self._ending(batch)


def subscriber_of(port: int) -> MQTTSubscriber:
    return MQTTSubscriber("127.0.0.1", port, "alice", "secret", on_status=lambda _: None)


def run_on(port: int, taker: Taker | None = None, limits: Limits | None = None) -> StreamRun:
    return StreamRun(subscriber_of(port), FILTERS, taker or Taker(), limits or Limits())


async def ended(run: StreamRun, tick: Callable[[], asyncio.Future[None]] | None = None) -> StreamRun:
    """The run, ended within a bounded time."""
    await asyncio.wait_for(run.run(tick), timeout=WAIT_SECONDS)
    return run


def numbered(count: int) -> bytes:
    return b"".join(publish(b"t/1", b"%d" % n, qos=1, mid=n) for n in range(1, count + 1))


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"--count {count}"):
        Limits(count=count)


@pytest.mark.parametrize("seconds", [0.0, -0.5, float("inf"), float("nan")])
def test_a_timeout_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="--timeout"):
        Limits(timeout_seconds=seconds)


async def test_all_that_comes_is_brought_to_the_consumer_and_then_acknowledged() -> None:
    taker = Taker()
    async with serving(ScriptedBroker(after_suback=numbered(3))) as broker:
        run = run_on(broker.port, taker)
        running = asyncio.create_task(run.run())
        await eventually(lambda: len(broker.acknowledged) == 3)
        run.stop(Stop.TERMINATED)
        await running
        await broker.wait_for(DISCONNECT)
    assert taker.payloads == [b"1", b"2", b"3"]
    assert len(broker.of_kind(SUBSCRIBE)) == 1
    assert run.reason is Stop.TERMINATED


@pytest.mark.parametrize("handled", [0, 1, 2, 3])
async def test_what_a_consumer_is_not_done_with_in_the_end_is_not_acknowledged(handled: int) -> None:
    taken: list[int] = []

    def ending(batch: Batch) -> Ending:
        taken.append(len(batch))
        return Ending(min(handled, len(batch)), Stop.COUNT)

    async with serving(ScriptedBroker(after_suback=numbered(3))) as broker:
        run = await ended(run_on(broker.port, Taker(ending)))
        await broker.wait_for(DISCONNECT)
    assert run.reason is Stop.COUNT
    assert broker.acknowledged == list(range(1, min(handled, taken[0]) + 1))
    assert len(taken) == 1


async def test_a_refused_login_is_raised_and_leaves_nothing_open() -> None:
    async with serving(ScriptedBroker(answers=[0x87])) as broker:
        run = run_on(broker.port)
        with pytest.raises(CredentialsRefusedError):
            await ended(run)
    assert run.subscriber.client is None
    assert run.reason is None


@pytest.mark.parametrize(
    "limits",
    [
        Limits(timeout_seconds=0.3, wait_for_broker=True),
        Limits(timeout_seconds=0.3, within_seconds=60, wait_for_broker=True),
        Limits(timeout_seconds=0.3, within_seconds=0.01, wait_for_broker=True),
    ],
    ids=["timeout", "longer look too", "shorter look too"],
)
async def test_a_timeout_counts_from_the_start_and_needs_no_broker(limits: Limits) -> None:
    port = free_port()
    run = await ended(run_on(port, limits=limits))
    assert run.reason is Stop.TIMEOUT
    assert run.obstacle is not None
    assert run.obstacle.startswith(f"127.0.0.1:{port}: no")  # nothing listens there, or no connection yet


async def test_a_look_counts_from_the_first_connection() -> None:
    connected_at: list[float] = []

    def note(status: Status) -> None:
        if isinstance(status, Connected):
            connected_at.append(time.monotonic())

    async with serving(ScriptedBroker(answers=[CLOSE, 0])) as broker:
        run = run_on(broker.port, limits=Limits(within_seconds=0.3, wait_for_broker=True))
        run.subscriber.add_status_listener(note)
        await ended(run)
        assert len(broker.of_kind(CONNECT)) >= 2
    assert time.monotonic() - connected_at[0] >= 0.3
    assert (run.reason, run.obstacle) == (Stop.TIMEOUT, None)


async def test_a_look_does_not_begin_anew_with_each_connection() -> None:
    async with serving(ScriptedBroker()) as broker:
        run = run_on(broker.port, limits=Limits(within_seconds=60))
        running = asyncio.create_task(run.run())
        await eventually(lambda: run.subscriber.health.connection_count == 1)
        first = run._look
        broker.hang_up()
        await eventually(lambda: run.subscriber.health.connection_count == 2)
        assert run._look is first is not None
        run.stop(Stop.TERMINATED)
        await asyncio.wait_for(running, timeout=WAIT_SECONDS)


@pytest.mark.parametrize(
    "limits",
    [Limits(timeout_seconds=60, within_seconds=0.2), Limits(timeout_seconds=0.2, within_seconds=60)],
    ids=["look", "timeout"],
)
async def test_of_both_clocks_the_first_to_run_out_counts(limits: Limits) -> None:
    async with serving(ScriptedBroker()) as broker:
        run = await ended(run_on(broker.port, limits=limits))
    assert run.reason is Stop.TIMEOUT


async def test_the_first_reason_to_stop_counts() -> None:
    called: list[None] = []
    run = run_on(free_port())
    run.on_stop = lambda: called.append(None)
    run.stop(Stop.COUNT)
    run.stop(Stop.TERMINATED)
    await ended(run)
    assert run.reason is Stop.COUNT
    assert len(called) == 2


async def test_a_signal_ends_it() -> None:
    async with serving(ScriptedBroker()) as broker:
        run = run_on(broker.port)
        running = asyncio.create_task(run.run())
        await broker.wait_for(SUBSCRIBE)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, timeout=WAIT_SECONDS)
    assert run.reason is Stop.TERMINATED


async def test_a_caller_that_looks_after_signals_itself_keeps_them() -> None:
    seen: list[None] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: seen.append(None))
    try:
        async with serving(ScriptedBroker()) as broker:
            run = run_on(broker.port)
            running = asyncio.create_task(run.run(has_signals=False))
            await broker.wait_for(SUBSCRIBE)
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually(lambda: seen)
            run.stop(Stop.SOURCE_GONE)
            await asyncio.wait_for(running, timeout=WAIT_SECONDS)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
    assert run.reason is Stop.SOURCE_GONE


async def test_a_tick_comes_again_and_again_and_once_more_at_the_end() -> None:
    ticks: list[bool] = []
    async with serving(ScriptedBroker()) as broker:
        run = run_on(broker.port)

        async def tick() -> None:
            ticks.append(run.stopped.is_set())
            if len(ticks) == 2:
                run.stop(Stop.COUNT)

        await asyncio.wait_for(run.run(tick), timeout=WAIT_SECONDS)
    assert ticks == [False, False, True]


async def test_a_broken_pipe_means_that_the_reader_has_gone() -> None:
    async def tick() -> None:
        raise BrokenPipeError

    async with serving(ScriptedBroker()) as broker:
        run = run_on(broker.port)
        await asyncio.wait_for(run.run(tick), timeout=WAIT_SECONDS)
    assert run.reason is Stop.READER_GONE


async def test_a_reader_that_goes_ends_it_without_a_message() -> None:
    reader, writer = os.pipe()
    async with serving(ScriptedBroker()) as broker:
        run = StreamRun(subscriber_of(broker.port), FILTERS, Taker(), Limits(), destination=StandardOutput(writer))
        running = asyncio.create_task(run.run())
        await broker.wait_for(SUBSCRIBE)
        os.close(reader)
        await asyncio.wait_for(running, timeout=WAIT_SECONDS)
    os.close(writer)
    assert run.reason is Stop.READER_GONE


@pytest.mark.parametrize("answer", [0, 0x87], ids=["granted", "refused"])
async def test_observers_are_there_from_before_the_first_step_to_the_end(answer: int) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def observer(name: str) -> AsyncIterator[None]:
        events.append(f"{name} comes")
        try:
            yield
        finally:
            events.append(f"{name} goes")

    async with serving(ScriptedBroker(answers=[answer])) as broker:
        mqtt = subscriber_of(broker.port)
        mqtt.add_status_listener(lambda status: events.append(type(status).__name__))
        observers = [observer("first"), observer("second")]
        run = StreamRun(mqtt, FILTERS, Taker(), Limits(within_seconds=0.1), observers=observers)
        try:
            await ended(run)
        except CredentialsRefusedError:
            assert answer
    assert events[:3] == ["first comes", "second comes", "Connecting"]
    assert events[-2:] == ["second goes", "first goes"]
