"""The run of ``listen``: from the broker to standard output, until something says stop."""

import asyncio
import signal
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.service import Service
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.stopping import Stop, die_next_time, exit_for, on_signals
from plantops_cli.cli.shared.summary import Summary, never_connected
from plantops_cli.errors import ConfigError
from plantops_cli.formats.registry import Format
from plantops_cli.formats.renderer import Renderer
from plantops_cli.outputs.destination import Destination
from plantops_cli.outputs.stdout import StandardOutput
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.status import SessionLost, Status, describe, log_status
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.waiting import unless


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop, and how much to say.

    Args:
        count: stop after so many messages shown; None: never.
        timeout_seconds: stop after so long; None: never.
        wait_for_broker: whether the first connection may take several attempts.
        is_quiet: True leaves out status and summary.
    """

    count: int | None = None
    timeout_seconds: float | None = None
    wait_for_broker: bool = False
    is_quiet: bool = False

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ConfigError(f"--count {self.count}: must be at least 1")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds < float("inf"):
            raise ConfigError(f"--timeout {self.timeout_seconds:g}: must be more than 0 seconds")


class Listening:
    """One run: subscribe, show what is wanted, stop when told, account for it.

    Args:
        subscriber: not yet connected.
        selection: what to subscribe to and show.
        renderer: turns messages into the bytes to write; leaves out those that are not wanted.
        limits: when to stop.
        destination: where to write; default: standard output.
        service: tells of the run; None: nobody does.
    """

    def __init__(
        self,
        subscriber: MQTTSubscriber,
        selection: Selection,
        renderer: Renderer,
        limits: Limits,
        destination: Destination | None = None,
        service: Service | None = None,
    ) -> None:
        self._destination = destination
        self._service = service
        self._monitor = service.follow(subscriber) if service else None
        self._subscriber = subscriber
        self._selection = selection
        self._renderer = renderer
        self._limits = limits
        self._summary = Summary()
        self._stopped = asyncio.Event()
        self._reason: Stop | None = None
        self._obstacle: str | None = None

    def stop(self, reason: Stop) -> None:
        """Let the stream end after what has arrived; the first reason counts.

        Args:
            reason: why.
        """
        if self._reason is None:
            self._reason, self._obstacle = reason, self._subscriber.obstacle
        self._stopped.set()
        self._subscriber.stop()

    async def run(self) -> Exit:
        """Stream until stopped, and return the exit code.

        Raises:
            BrokerError: the first connection failed, or the stream ended for good.
            OutputError: standard output refused a write.
        """
        output = self._destination or StandardOutput(sys.stdout.fileno())
        began = time.monotonic()
        with self._stops(output):
            try:
                async with self._service.attending(self._subscriber) if self._service else nullcontext():
                    await self._stream(output)
            except BrokenPipeError:
                self.stop(Stop.READER_GONE)
            finally:
                await self._subscriber.disconnect()
                if not self._limits.is_quiet:
                    self._say_summary(time.monotonic() - began)
        return exit_for(self._reason, count=self._limits.count, shown=self._summary.shown)

    async def _stream(self, output: Destination) -> None:
        for topic_filter in self._selection.topic_filters:
            await self._subscriber.subscribe(topic_filter)
        if not self._limits.wait_for_broker:
            await unless(self._stopped, self._subscriber.connect())
        if self._stopped.is_set():
            return
        at_once = partial(self._show_at_once, output) if output.is_prompt else None
        async with aclosing(self._subscriber.batches(at_once)) as batches:
            async for batch in batches:
                is_done = await self._show(batch, output)
                self._take_note(batch)
                if self._summary.shown == self._limits.count:
                    self.stop(Stop.COUNT)
                if not is_done:
                    return

    def _show_at_once(self, output: Destination, batch: Batch) -> bool:
        """Write a batch if there is room for it, and no limit is near."""
        count = self._limits.count
        if count is not None and count - self._summary.shown <= len(batch):
            return False
        lines, shown, invalid = self._renderer.render(batch, None)
        if not output.write_at_once(lines):
            return False
        self._summary.shown += shown
        self._summary.invalid += invalid
        self._take_note(batch)
        return True

    def _take_note(self, batch: Batch) -> None:
        self._summary.count(batch)
        if self._monitor:
            self._monitor.take(batch)

    async def _show(self, batch: Batch, output: Destination) -> bool:
        """Write a batch, and tell whether it may be acknowledged as a whole; otherwise what was written is."""
        count = self._limits.count
        rest = None if count is None else count - self._summary.shown
        lines, shown, invalid = self._renderer.render(batch, rest)
        written = await output.write(lines, stopped=self._stopped)
        is_written = written == len(lines)
        if is_written and shown != rest:
            self._summary.shown += shown
            self._summary.invalid += invalid
            return True
        ends = self._renderer.ends(batch, rest)
        handled = bisect_right(ends, written)
        self._summary.shown += shown if is_written else len({*ends[:handled]} - {0})
        self._summary.invalid += invalid
        self._subscriber.acknowledge(batch, handled=handled)
        return False

    @contextmanager
    def _stops(self, output: Destination) -> Iterator[None]:
        """Watch clock and reader while the stream runs."""
        loop = asyncio.get_running_loop()
        output.on_reader_gone(lambda: self.stop(Stop.READER_GONE))
        timeout = self._limits.timeout_seconds
        timer = loop.call_later(timeout, self.stop, Stop.TIMEOUT) if timeout else None
        try:
            yield
        finally:
            if timer:
                timer.cancel()
            output.close()

    def _say_summary(self, elapsed_seconds: float) -> None:
        if not self._subscriber.health.connection_count:
            if self._reason is Stop.TIMEOUT:
                obstacle = self._obstacle or f"{self._subscriber.options.endpoint}: not connected"
                say(never_connected(obstacle, elapsed_seconds=elapsed_seconds))
            return
        for line in self._summary.lines(self._subscriber.health, elapsed_seconds=elapsed_seconds):
            say(line)


async def listen_until_stopped(listening: Listening) -> Exit:
    """Run until a signal, or whatever else, ends it; a second signal of a kind kills the program.

    Args:
        listening: the run.
    """

    def react(number: signal.Signals, reason: Stop) -> None:
        listening.stop(reason)
        die_next_time(number)

    with on_signals(react):
        return await listening.run()


def announce(limits: Limits) -> Callable[[Status], None]:
    """Choose who is told about each step: a person on stderr, or nobody; of lost messages everybody is warned."""

    def tell(status: Status) -> None:
        if isinstance(status, SessionLost):
            log_status(status)
        elif not limits.is_quiet:
            say(describe(status))

    return tell


def renderer(choice: Format | None, selection: Selection, *, is_for_file: bool = False) -> Renderer:
    """Choose how messages are written; by default for people on a terminal, for programs elsewhere.

    Args:
        choice: the value of ``-o``, or None.
        selection: tells which messages are wanted.
        is_for_file: whether they go to a file of their own, and not to standard output.
    """
    is_terminal = sys.stdout.isatty() and not is_for_file
    chosen = choice or (Format.PRETTY if is_terminal else Format.JSONL)
    return chosen.renderer(selection.wants, is_terminal=is_terminal)
