"""The run of every command that hears a stream: from the broker to a consumer, until something says stop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from plantops_cli.cli.shared.observers import Observer
from plantops_cli.cli.shared.stopping import Stop, ending_by_signals
from plantops_cli.errors import ConfigError
from plantops_cli.outputs.destination import Destination
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.clock import since_boot
from plantops_cli.stream.status import Connected, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.waiting import unless

TICK_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop.

    Args:
        count: stop after so many messages shown; None: never.
        timeout_seconds: stop so long after the start, with a broker or without; None: never.
        within_seconds: stop so long after the first connection, for a look lasts so long; None: never.
        wait_for_broker: whether the first connection may take several attempts.
    """

    count: int | None = None
    timeout_seconds: float | None = None
    within_seconds: float | None = None
    wait_for_broker: bool = False

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ConfigError(f"--count {self.count}: must be at least 1")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds < float("inf"):
            raise ConfigError(f"--timeout {self.timeout_seconds:g}: must be more than 0 seconds")


class Ending(NamedTuple):
    """How a consumer ends a run.

    Attributes:
        handled: how many messages of the batch at hand, from the first, are done with; only they are acknowledged.
        reason: why it ends; None: it was told to stop already.
    """

    handled: int
    reason: Stop | None


class Consumer(Protocol):
    """What a run brings messages to."""

    @property
    def at_once(self) -> Callable[[Batch], bool] | None:
        """Takes a few messages in no time, as ``MQTTSubscriber.batches`` offers them; None: it never does."""
        ...

    async def take(self, batch: Batch, *, stopped: asyncio.Event) -> Ending | None:
        """Take a batch; None when all of it is done with, and more is welcome.

        Args:
            batch: messages as they arrived.
            stopped: once it is set, nothing slow is to be waited for.
        """
        ...


class StreamRun:
    """One run: subscribe, connect, bring what comes to a consumer, and know at the end why it ended.

    Args:
        subscriber: not yet connected.
        topic_filters: what to subscribe to.
        consumer: takes the messages.
        limits: when to stop.
        observers: stand beside the run as long as it lasts.
        destination: where the consumer writes; whose reader goes ends the run, and it is closed in the end.

    Attributes:
        subscriber: the one given.
        stopped: set as soon as the run is to end.
        reason: why it is to end.
        on_stop: called as soon as it is to end.
    """

    def __init__(
        self,
        subscriber: MQTTSubscriber,
        topic_filters: Sequence[str],
        consumer: Consumer,
        limits: Limits,
        *,
        observers: Sequence[Observer] = (),
        destination: Destination | None = None,
    ) -> None:
        self.subscriber = subscriber
        self.stopped = asyncio.Event()
        self.reason: Stop | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self._topic_filters = topic_filters
        self._consumer = consumer
        self._limits = limits
        self._observers = observers
        self._destination = destination
        self._obstacle: str | None = None
        self._began = since_boot()
        self._timeout: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        subscriber.add_status_listener(self._take_note)

    @property
    def obstacle(self) -> str | None:
        """What was waited for when the time ran out without a connection; None when it did not."""
        is_missing = self.reason is Stop.TIMEOUT and not self.subscriber.health.connection_count
        return (self._obstacle or f"{self.subscriber.options.endpoint}: not connected") if is_missing else None

    @property
    def elapsed_seconds(self) -> float:
        """How long ago the run began."""
        return since_boot() - self._began

    def stop(self, reason: Stop) -> None:
        """End the run after what has arrived; the first reason counts.

        Args:
            reason: why.
        """
        if self.reason is None:
            # the subscriber forgets what it waited for as soon as it stops
            self.reason, self._obstacle = reason, self.subscriber.obstacle
        self.stopped.set()
        self.subscriber.stop()
        self.on_stop()

    async def run(self, tick: Callable[[], Awaitable[None]] | None = None, *, has_signals: bool = True) -> None:
        """Hear until stopped, and disconnect.

        Args:
            tick: called four times a second, and once more at the end.
            has_signals: whether signals end it; False for a caller that looks after them itself.

        Raises:
            BrokerError: the first connection failed, or the stream ended for good.
            OutputError: the destination refused a write.
        """
        with ending_by_signals(self.stop) if has_signals else nullcontext():
            self._start_watching()
            try:
                async with AsyncExitStack() as beside:
                    for observer in self._observers:
                        await beside.enter_async_context(observer)
                    await self._hear(tick)
            except BrokenPipeError:
                self.stop(Stop.READER_GONE)
            finally:
                try:
                    await self.subscriber.disconnect()
                finally:
                    self._stop_watching()

    def _start_watching(self) -> None:
        """Watch the clock and the reader."""
        self._began = since_boot()
        if self._destination:
            self._destination.on_reader_gone(lambda: self.stop(Stop.READER_GONE))
        if self._limits.timeout_seconds is not None:
            self._timeout = self._stop_after(self._limits.timeout_seconds)

    def _stop_watching(self) -> None:
        for timer in (self._timeout, self._look):
            if timer:
                timer.cancel()
        if self._destination:
            self._destination.close()

    def _take_note(self, status: Status) -> None:
        """Let a look begin with the first connection."""
        if self._limits.within_seconds is not None and isinstance(status, Connected) and self._look is None:
            self._look = self._stop_after(self._limits.within_seconds)

    def _stop_after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.stop, Stop.TIMEOUT)

    async def _hear(self, tick: Callable[[], Awaitable[None]] | None) -> None:
        if tick is None:
            await self._bring()  # without a task between, a caller who is cancelled while it connects ends at once
            return
        bringing = asyncio.create_task(self._bring(), name="plantops-run")
        try:
            while not bringing.done():
                await asyncio.wait((bringing,), timeout=TICK_SECONDS)
                await tick()
            await bringing
        finally:
            bringing.cancel()
            await asyncio.wait((bringing,))

    async def _bring(self) -> None:
        """Bring what comes to the consumer, and acknowledge what it is done with."""
        for topic_filter in self._topic_filters:
            await self.subscriber.subscribe(topic_filter)
        if not self._limits.wait_for_broker:
            await unless(self.stopped, self.subscriber.connect())
        if self.stopped.is_set():
            return  # there may be no connection, and batches() would try to make one
        async with aclosing(self.subscriber.batches(self._consumer.at_once)) as batches:
            async for batch in batches:
                ending = await self._consumer.take(batch, stopped=self.stopped)
                if ending is not None:
                    # here, for the next batch is not asked for, which would acknowledge all of this one
                    self.subscriber.acknowledge(batch, handled=ending.handled)
                    if ending.reason is not None:
                        self.stop(ending.reason)
                    return
