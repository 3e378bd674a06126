"""The run of ``listen``: from the broker to standard output, until something says stop."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from plantops_cli.cli.exits import Exit
from plantops_cli.cli.options import OutputChoice
from plantops_cli.cli.output import Output
from plantops_cli.cli.selection import Selection
from plantops_cli.cli.stopping import Stop, die_next_time, exit_for, on_signals
from plantops_cli.cli.summary import Summary
from plantops_cli.cli.talk import say
from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.sinks import jsonl
from plantops_cli.sinks.terminal import json_escape
from plantops_cli.stream.racing import unless
from plantops_cli.stream.status import Status, describe
from plantops_cli.stream.subscriber import MQTTSubscriber

Render = Callable[[Sequence[Message]], bytes]


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
        render: turns messages into the bytes to write.
        limits: when to stop.
    """

    def __init__(self, subscriber: MQTTSubscriber, selection: Selection, render: Render, limits: Limits) -> None:
        self._subscriber = subscriber
        self._selection = selection
        self._render = render
        self._limits = limits
        self._summary = Summary()
        self._stopped = asyncio.Event()
        self._reason: Stop | None = None

    def stop(self, reason: Stop) -> None:
        """Let the stream end after what has arrived; the first reason counts.

        Args:
            reason: why.
        """
        self._reason = self._reason or reason
        self._stopped.set()
        self._subscriber.stop()

    async def run(self) -> Exit:
        """Stream until stopped, and return the exit code.

        Raises:
            BrokerError: the first connection failed, or the stream ended for good.
            OutputError: standard output refused a write.
        """
        output = Output(sys.stdout.fileno())
        began = time.monotonic()
        with self._stops(output):
            try:
                await self._stream(output)
            except BrokenPipeError:
                self.stop(Stop.READER_GONE)
            finally:
                await self._subscriber.disconnect()
                if self._subscriber.health.connection_count and not self._limits.is_quiet:
                    self._say_summary(time.monotonic() - began)
        return exit_for(self._reason, count=self._limits.count, shown=self._summary.shown)

    async def _stream(self, output: Output) -> None:
        for topic_filter in self._selection.topic_filters:
            await self._subscriber.subscribe(topic_filter)
        if not self._limits.wait_for_broker:
            await unless(self._stopped, self._subscriber.connect())
        if self._stopped.is_set():
            return
        async with aclosing(self._subscriber.batches()) as batches:
            async for batch in batches:
                self._summary.count(batch)
                await self._show(self._wanted(batch), output)
                if self._summary.shown == self._limits.count:
                    self.stop(Stop.COUNT)
                    return

    async def _show(self, messages: list[Message], output: Output) -> None:
        lines = self._render(messages)
        written = await output.write(lines, stopped=self._stopped)
        self._summary.shown += len(messages) if written == len(lines) else lines.count(b"\n", 0, written)

    def _wanted(self, batch: list[Message]) -> list[Message]:
        wanted = [message for message in batch if self._selection.wants(message)]
        if self._limits.count is None:
            return wanted
        return wanted[: self._limits.count - self._summary.shown]

    @contextmanager
    def _stops(self, output: Output) -> Iterator[None]:
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
    """Choose who is told about each step: a person on stderr, or nobody."""
    if limits.is_quiet:
        return lambda _: None
    return lambda status: say(describe(status))


def renderer(choice: OutputChoice | None) -> Render:
    """Choose how messages are written; by default for people on a terminal, for programs elsewhere.

    Args:
        choice: the value of ``-o``, or None.
    """
    is_terminal = sys.stdout.isatty()
    if choice is OutputChoice.PRETTY or (choice is None and is_terminal):
        return _pretty(is_terminal)
    if is_terminal:
        return lambda messages: json_escape(_json_lines(messages))
    return _json_lines


def _json_lines(messages: Sequence[Message]) -> bytes:
    return b"".join(map(jsonl.encode, messages))


def _pretty(is_terminal: bool) -> Render:
    from rich.console import Console

    from plantops_cli.sinks.pretty import Pretty

    console = Console()
    pretty = Pretty(console, width=console.width if is_terminal else None)
    return lambda messages: pretty.render(messages).encode(errors="replace")
