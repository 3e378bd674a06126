"""What is known of one device: its topics, its counters, its state. Pure."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from plantops_cli.fleet.rhythm import OVERDUE, Rhythm, Signal

WINDOW_SECONDS = 60.0
"""The rate of a device is that of so long a time, or since it was heard first."""

LEAST_WINDOW_SECONDS = 10.0
"""Over a shorter time there is no rate: a few messages at once are none."""

_FEW = 6
"""Fewer messages than that in the window make no rate; what is known of the rhythm does."""

TELEMETRY, HEARTBEAT = "telemetry", "heartbeat"
RETAINED_ONLY = "retained only"


class DeviceState(StrEnum):
    """What is known of a device, worst first."""

    OFFLINE = "offline"
    NEVER_SEEN = "never_seen"
    MUTE = "mute"
    NO_HEARTBEAT = "no_heartbeat"
    LATE = "late"
    ONLINE = "online"

    @property
    def words(self) -> str:
        """The state as a person says it."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """What is known of one device; times by the clock of the caller.

    Attributes:
        device_id: the device.
        state: what its silence, or the lack of it, means.
        last_telemetry: when telemetry was heard last; None: never.
        last_heartbeat: when its heartbeat was heard last; None: never.
        interval_seconds: how often telemetry comes; None: not known yet.
        heartbeat_interval_seconds: how often its heartbeat comes; None: not known yet.
        rate: messages a second, over the last minute, or since it was heard first if that is at least ten seconds
            ago; of one that speaks too seldom for that, by its rhythm; None: not known yet.
        messages: how many were heard live.
        size_bytes: how long their payloads were in all.
        invalid: how many telemetry payloads were no JSON, or broke the contract.
        error: what was wrong with the first of these.
        is_retained_only: whether only a retained message is known of it.
        is_expected: whether it is on the roster; None without one.
        missing: sequence numbers that were skipped and have not come; None: no message of it had one.
        missed: sequence numbers that were skipped while we were not listening.
        out_of_order: messages that came after a later one, by number, or by timestamp where there is none.
        duplicates: messages that came twice, likewise.
        restarts: how often its sequence numbers began anew.
        lag_seconds: arrival less timestamp of the latest message; None without timestamps.
        jitter_seconds: how much that changes from message to message.
        skew_seconds: the smallest lag seen; below zero its clock is ahead of ours.
        payload: its latest telemetry, if payloads are kept, and up to 4 KiB.
        values: the latest numbers of the chosen field, oldest first.
        telemetry_rhythm: what is known of how often telemetry comes; None: nothing was heard of the device yet.
        heartbeat_rhythm: the same of its heartbeat.
        telemetry_silent_seconds: for how long no telemetry was heard while we listened; None: it never was.
        heartbeat_silent_seconds: the same of its heartbeat.
    """

    device_id: str
    state: DeviceState
    last_telemetry: float | None
    last_heartbeat: float | None
    interval_seconds: float | None
    heartbeat_interval_seconds: float | None
    rate: float | None
    messages: int
    size_bytes: int
    invalid: int
    error: str | None
    is_retained_only: bool
    is_expected: bool | None
    missing: int | None
    missed: int | None
    out_of_order: int | None
    duplicates: int | None
    restarts: int | None
    lag_seconds: float | None
    jitter_seconds: float | None
    skew_seconds: float | None
    payload: bytes | None
    values: tuple[float, ...]
    telemetry_rhythm: Rhythm | None = None
    heartbeat_rhythm: Rhythm | None = None
    telemetry_silent_seconds: float | None = None
    heartbeat_silent_seconds: float | None = None

    @property
    def is_judged(self) -> bool:
        """Whether the rhythm of a topic is known, so that its silence means something."""
        return bool(self.interval_seconds or self.heartbeat_interval_seconds)

    @property
    def is_quiet(self) -> bool:
        """Whether a topic fell quiet before its rhythm was known, so that its silence changes no state."""
        return Rhythm.QUIET in (self.telemetry_rhythm, self.heartbeat_rhythm)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What keeps its state from telling everything."""
        said = remarks_on((self.telemetry_rhythm, self.heartbeat_rhythm))
        return (*said, RETAINED_ONLY) if self.is_retained_only else said


def remarks_on(rhythms: tuple[Rhythm | None, Rhythm | None]) -> tuple[str, ...]:
    """What a person has to know of the rhythms of telemetry and heartbeat.

    Args:
        rhythms: what is known of each.
    """
    said = (rhythm.remark(topic) for topic, rhythm in zip((TELEMETRY, HEARTBEAT), rhythms, strict=True) if rhythm)
    return tuple(filter(None, said))


class Device:
    """The account of one device.

    Args:
        device_id: in UTF-8, as it stands in the topic.
        is_expected: whether it is on the roster.

    Attributes:
        telemetry: its telemetry, once that was heard live.
        heartbeat: its heartbeat, once that was heard live.
        state: None: nothing was heard of it yet.
        due_at: its state may be another from here on, if nothing is heard: a bound, for messages put it off.
        first_at: when it was heard first, moved by our outages since.
        window_count: how many messages came in the window of the rate.
        window_before: how many came in the window before.
    """

    # thousands of them are kept: every slot counts
    __slots__ = (
        "count",
        "device_id",
        "due_at",
        "error",
        "first_at",
        "heartbeat",
        "invalid",
        "is_expected",
        "is_retained",
        "payload",
        "size",
        "state",
        "telemetry",
        "values",
        "window_before",
        "window_count",
    )

    def __init__(self, device_id: bytes, *, is_expected: bool) -> None:
        self.device_id = device_id
        self.is_expected = is_expected
        self.is_retained = False
        self.state: DeviceState | None = DeviceState.NEVER_SEEN if is_expected else None
        self.due_at = math.inf
        self.telemetry: Signal | None = None
        self.heartbeat: Signal | None = None
        self.first_at = 0.0
        self.count = 0
        self.size = 0
        self.invalid = 0
        self.error: str | None = None
        self.payload: bytes | None = None
        self.values: deque[float] | None = None
        self.window_count = 0
        self.window_before = 0

    @property
    def name(self) -> str:
        """Its id as text."""
        # whoever publishes chooses the id, and need not know UTF-8
        return self.device_id.decode(errors="replace")

    @property
    def heard_at(self) -> float:
        """When it was heard last, moved by our outages since; only for one that was heard."""
        return max(signal.heard_at for signal in self.signals())

    def signals(self) -> Iterator[Signal]:
        """Its topics, as far as they were heard."""
        return (signal for signal in (self.telemetry, self.heartbeat) if signal)

    def topics(self) -> tuple[tuple[str, Signal | None], ...]:
        """Its topics by name; None: not heard."""
        return (TELEMETRY, self.telemetry), (HEARTBEAT, self.heartbeat)

    def signal(self, topic: str) -> Signal | None:
        """One of its topics; None: not heard.

        Args:
            topic: ``TELEMETRY`` or ``HEARTBEAT``.
        """
        return self.telemetry if topic == TELEMETRY else self.heartbeat

    def silent_seconds(self, topic: str | None, now: float) -> float:
        """For how long nothing was heard while we listened; of a topic that never was, since the device was.

        Args:
            topic: which topic; None: any.
            now: the time, as far as we listen.
        """
        signal = self.signal(topic) if topic else None
        heard_at = signal.heard_at if signal else self.first_at if topic else self.heard_at
        return max(0.0, now - heard_at)

    def quiet_since(self, moment: float) -> str | None:
        """Which topic is called quiet from exactly this moment on."""
        return next((topic for topic, signal in self.topics() if signal and signal.quiet_at == moment), None)

    def rhythms(self, now: float) -> tuple[Rhythm | None, Rhythm | None]:
        """What is known of how often telemetry and heartbeat come; None: nothing was heard of it yet.

        Args:
            now: the time, as far as we listen.
        """
        if not self.count:
            return None, None
        telemetry, heartbeat = self.telemetry, self.heartbeat
        return (
            telemetry.rhythm(now) if telemetry else Rhythm.NOT_HEARD,
            heartbeat.rhythm(now) if heartbeat else Rhythm.NOT_HEARD,
        )

    def rate(self, now: float, window_end: float) -> float | None:
        """Messages a second over the last minute, or since it was heard first; None: that is too short a time.

        Args:
            now: the time, as far as we listen.
            window_end: when the window that is being counted ends.
        """
        known = now - self.first_at
        if self.count < 2 or known < LEAST_WINDOW_SECONDS:
            return None
        if known < WINDOW_SECONDS:
            return (self.count - 1) / known
        # of the window before, the part that still lies within the last minute
        before = self.window_before * max(0.0, window_end - now) / WINDOW_SECONDS
        counted = self.window_count + before
        return counted / WINDOW_SECONDS if counted >= _FEW else self._rate_by_rhythm(now)

    def _rate_by_rhythm(self, now: float) -> float:
        regular = [signal for signal in self.signals() if signal.interval]
        if not regular:
            return (self.count - 1) / (now - self.first_at)
        return sum(1 / signal.interval for signal in regular if now < signal.silent_at(None))

    def miss(self, lost_at: float, now: float) -> None:
        """Take note that we have not listened for a while, and hold that time against none of its topics.

        Args:
            lost_at: when that began.
            now: when it ended.
        """
        self.first_at += now - lost_at
        self.due_at += now - lost_at
        for signal in self.signals():
            signal.miss(lost_at, now)

    def welcome_back(self, now: float) -> None:
        """Give each topic of a device that was offline the time that it needs.

        Args:
            now: the time, as far as we listen.
        """
        for signal in self.signals():
            if signal.heard_at < now:
                signal.wait_anew(now)
            if signal.interval:
                # late until it is regular, so that a device on a bad link does not flap
                signal.held = OVERDUE

    def report(self, now: float, *, window_end: float, has_roster: bool) -> DeviceReport:
        """Tell what is known of it.

        Args:
            now: the time, as far as we listen.
            window_end: when the window that is being counted ends.
            has_roster: whether there is a roster that it could be on.
        """
        telemetry, heartbeat = self.telemetry, self.heartbeat
        signals = list(self.signals())
        sequences = [signal.sequence for signal in signals if signal.sequence]
        clocks = [signal.clock for signal in signals if signal.clock]
        # one message in the wrong place is told once; a number tells it better than a clock, which may be coarse
        orders = [order for signal in signals if (order := signal.sequence or signal.clock)]
        clock = clocks[0] if clocks else None
        telemetry_rhythm, heartbeat_rhythm = self.rhythms(now)
        return DeviceReport(
            device_id=self.name,
            state=self.state or DeviceState.NEVER_SEEN,
            last_telemetry=telemetry.last_at if telemetry else None,
            last_heartbeat=heartbeat.last_at if heartbeat else None,
            interval_seconds=(telemetry.interval or None) if telemetry else None,
            heartbeat_interval_seconds=(heartbeat.interval or None) if heartbeat else None,
            rate=self.rate(now, window_end),
            messages=self.count,
            size_bytes=self.size,
            invalid=self.invalid,
            error=self.error,
            is_retained_only=self.is_retained and not self.count,
            is_expected=self.is_expected if has_roster else None,
            missing=sum(one.missing for one in sequences) if sequences else None,
            missed=sum(one.missed for one in sequences) if sequences else None,
            out_of_order=sum(one.out_of_order for one in orders) if orders else None,
            duplicates=sum(one.duplicates for one in orders) if orders else None,
            restarts=sum(one.restarts for one in sequences) if sequences else None,
            lag_seconds=clock.lag_seconds if clock else None,
            jitter_seconds=clock.jitter_seconds if clock else None,
            skew_seconds=clock.skew_seconds if clock else None,
            payload=self.payload,
            values=tuple(self.values or ()),
            telemetry_rhythm=telemetry_rhythm,
            heartbeat_rhythm=heartbeat_rhythm,
            telemetry_silent_seconds=self.silent_seconds(TELEMETRY, now) if telemetry else None,
            heartbeat_silent_seconds=self.silent_seconds(HEARTBEAT, now) if heartbeat else None,
        )
