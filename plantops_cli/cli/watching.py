"""The run of whatever keeps account of a fleet: from the broker into a ``Presence``, until something says stop."""

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from plantops_cli.cli.connection import ConnectionFlags, subscriber
from plantops_cli.cli.selection import Selection
from plantops_cli.cli.stopping import Stop, die_next_time, on_signals
from plantops_cli.errors import ConfigError
from plantops_cli.fleet.look import Look
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.roster import parse_ids, parse_roster
from plantops_cli.stream.racing import unless
from plantops_cli.stream.status import Connected, Health, Lost, Status

TICK_SECONDS = 0.25

_RETAINED_OR_DUP = 9
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Watching:
    """One run: subscribe to the devices, take note of what they say, and let somebody look now and then.

    Args:
        flags: where the broker is.
        presence: keeps the account; its clock is that of the event loop.
        devices: the only devices wanted; none: all.
        qos: the QoS to subscribe with.
        on_status: told about each step.
        wait_for_broker: whether the first connection may take several attempts.
        stop_after_seconds: when to stop, counted from the first connection; None: never.

    Attributes:
        reason: why the run ended.
        on_stop: called as soon as it is to end.
    """

    def __init__(
        self,
        flags: ConnectionFlags,
        presence: Presence,
        *,
        devices: tuple[str, ...] = (),
        qos: int = 1,
        on_status: Callable[[Status], None],
        wait_for_broker: bool = False,
        stop_after_seconds: float | None = None,
    ) -> None:
        self.presence = presence
        self.reason: Stop | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self._selection = Selection(devices=devices)
        self._subscriber = subscriber(flags, qos=qos, on_status=self._take_note)
        self._on_status = on_status
        self._wait_for_broker = wait_for_broker
        self._stop_after_seconds = stop_after_seconds
        self._stopped = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._now = time.monotonic()
        self._connected_at: float | None = None
        self._listened_seconds = 0.0

    @property
    def endpoint(self) -> str:
        """The broker's address."""
        return self._subscriber.options.endpoint

    @property
    def stopped(self) -> asyncio.Event:
        """Set as soon as the run is to end."""
        return self._stopped

    @property
    def health(self) -> Health:
        """The subscriber's own account."""
        return self._subscriber.health

    @property
    def now(self) -> float:
        """Up to when we know that we would have heard a device: the broker's last word, a message or an answer."""
        self._now = max(self._now, self._subscriber.heard_at or 0.0)
        return self._now

    def look(self) -> Look:
        """What is known by now."""
        listened = self._listened_seconds
        if self._connected_at is not None:
            listened += time.monotonic() - self._connected_at
        return Look(
            reports=tuple(self.presence.reports(self.now)),
            listened_seconds=listened,
            messages=self.presence.message_count,
            passed_over=self.presence.passed_over,
            outages=self.health.outage_count,
            clock_offset_seconds=clock_offset_seconds(),
        )

    def stop(self, reason: Stop) -> None:
        """End the run after what has arrived; the first reason counts.

        Args:
            reason: why.
        """
        self.reason = self.reason or reason
        self._stopped.set()
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
            listening = asyncio.create_task(self._listen(), name="plantops-watching")
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
            await unless(self._stopped, self._subscriber.connect())
        if self._stopped.is_set():
            return
        heard, clock = self.presence.heard, asyncio.get_running_loop().time
        async with aclosing(self._subscriber.batches()) as batches:
            async for batch in batches:
                self._now = max(self._now, clock())
                for flags, topic, _, _, payload in batch.packets:
                    heard(topic, payload, self._now, is_live=not flags & _RETAINED_OR_DUP)

    def _take_note(self, status: Status) -> None:
        if isinstance(status, Connected):
            self._now = asyncio.get_running_loop().time()
            self._connected_at = self._now
            self.presence.resumed(self._now)
            if self._stop_after_seconds is not None and self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._stop_after_seconds, self.stop, Stop.TIMEOUT)
        elif isinstance(status, Lost) and self._connected_at is not None:
            self._listened_seconds += self._now - self._connected_at
            self._connected_at = None
            self.presence.lost(self._now)
        self._on_status(status)


def clock_offset_seconds() -> float:
    """What to add to the clock of the event loop to get seconds since 1970."""
    return time.time() - time.monotonic()


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
