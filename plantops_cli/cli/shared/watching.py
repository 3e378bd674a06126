"""The run of whatever keeps account of a fleet: from the broker into a ``Presence``, until something says stop."""

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from plantops_cli.cli.shared.connection import ConnectionFlags, subscriber
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.service import Service
from plantops_cli.cli.shared.stopping import Stop, die_next_time, on_signals
from plantops_cli.errors import ConfigError
from plantops_cli.fleet.monitor import clock_offset_seconds
from plantops_cli.fleet.roster import parse_ids, parse_roster
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.stream.status import Connected, Health, Status
from plantops_cli.stream.waiting import unless

TICK_SECONDS = 0.25
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Watching:
    """One run: subscribe to the devices, take note of what they say, and let somebody look now and then.

    Args:
        flags: where the broker is.
        service: keeps the account, and tells of it.
        devices: the only devices wanted; none: all.
        qos: the QoS to subscribe with.
        wait_for_broker: whether the first connection may take several attempts.
        stop_after_seconds: when to stop, counted from the first connection; None: never.
        timeout_seconds: when to stop, counted from the beginning; None: never.

    Attributes:
        monitor: keeps the account.
        stopped: set as soon as the run is to end.
        reason: why it is to end.
        on_stop: called as soon as it is to end.
    """

    def __init__(
        self,
        flags: ConnectionFlags,
        service: Service,
        *,
        devices: tuple[str, ...] = (),
        qos: int = 1,
        wait_for_broker: bool = False,
        stop_after_seconds: float | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        self.stopped = asyncio.Event()
        self.reason: Stop | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self._service = service
        self._selection = Selection(devices=devices)
        self._subscriber = subscriber(flags, qos=qos, on_status=self._take_note)
        monitor = service.follow(self._subscriber)
        assert monitor is not None
        self.monitor = monitor
        self._wait_for_broker = wait_for_broker
        self._stop_after_seconds = stop_after_seconds
        self._timeout_seconds = timeout_seconds
        self._obstacle: str | None = None
        self._began = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def endpoint(self) -> str:
        """The broker's address."""
        return self._subscriber.options.endpoint

    @property
    def obstacle(self) -> str | None:
        """What was waited for when the time ran out without a connection; None when it did not."""
        is_missing = self.reason is Stop.TIMEOUT and not self.health.connection_count
        return (self._obstacle or f"{self.endpoint}: not connected") if is_missing else None

    @property
    def elapsed_seconds(self) -> float:
        """How long ago the run began."""
        return time.monotonic() - self._began

    @property
    def health(self) -> Health:
        """The subscriber's own account."""
        return self._subscriber.health

    def look(self) -> Snapshot:
        """What is known by now."""
        monitor = self.monitor
        return Snapshot(
            reports=tuple(monitor.presence.reports(monitor.now)),
            listened_seconds=monitor.listened_seconds,
            messages=monitor.presence.message_count,
            passed_over=monitor.presence.passed_over,
            outages=self.health.outage_count,
            clock_offset_seconds=clock_offset_seconds(),
        )

    def stop(self, reason: Stop) -> None:
        """End the run after what has arrived; the first reason counts.

        Args:
            reason: why.
        """
        if self.reason is None:
            self.reason, self._obstacle = reason, self._subscriber.obstacle
        self.stopped.set()
        self._subscriber.stop()
        self.on_stop()

    async def run(self, tick: Callable[[], Awaitable[None]] | None = None) -> None:
        """Listen until stopped, by a signal too.

        Args:
            tick: called four times a second, and once more at the end.

        Raises:
            BrokerError: the first connection failed, or the stream ended for good.
        """

        def react(number: signal.Signals, reason: Stop) -> None:
            self.stop(reason)
            die_next_time(number)

        with on_signals(react):
            async with self._service.attending(self._subscriber):
                await self._run(tick)

    async def _run(self, tick: Callable[[], Awaitable[None]] | None) -> None:
        listening = asyncio.create_task(self._listen(), name="plantops-watching")
        if self._timeout_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_seconds, self.stop, Stop.TIMEOUT)
        try:
            while tick and not listening.done():
                await asyncio.wait((listening,), timeout=TICK_SECONDS)
                await tick()
            await listening
        finally:
            listening.cancel()
            await asyncio.wait((listening,))
            if self._timer:
                self._timer.cancel()
            await self._subscriber.disconnect()

    async def _listen(self) -> None:
        for topic_filter in self._selection.topic_filters:
            await self._subscriber.subscribe(topic_filter)
        if not self._wait_for_broker:
            await unless(self.stopped, self._subscriber.connect())
        if self.stopped.is_set():
            return
        async with aclosing(self._subscriber.batches()) as batches:
            async for batch in batches:
                self.monitor.take(batch)

    def _take_note(self, status: Status) -> None:
        if isinstance(status, Connected) and self._stop_after_seconds is not None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._stop_after_seconds, self.stop, Stop.TIMEOUT)
        self._service.on_status(status)


def read_roster(path: Path | None, ids: str | None) -> tuple[str, ...]:
    """Return the ids of ``--expect`` or ``--expect-ids``; none without either.

    Args:
        path: the value of ``--expect``.
        ids: the value of ``--expect-ids``.

    Raises:
        ConfigError: both are given, or the roster cannot be read, or holds what is no device id.
    """
    if path is not None and ids is not None:
        raise ConfigError("--expect and --expect-ids were given together", hint="leave one of them out")
    if ids is not None:
        return parse_ids(ids, name="--expect-ids")
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigError(f"--expect {str(path)!r}: {reason}") from exc
    return parse_roster(text, name=f"--expect {str(path)!r}")


def parse_duration(text: str, *, flag: str) -> float:
    """Read a time such as ``30``, ``90s``, ``15m`` or ``1.5h``, in seconds.

    Args:
        text: the value of a flag.
        flag: its name.

    Raises:
        ConfigError: it is none, or none at all.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < 1e9:
        raise ConfigError(f"{flag} {text!r}: no time above 0", hint="seconds, or for example 90s, 15m, 1h")
    return seconds
