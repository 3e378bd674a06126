"""Who is alive: what was heard of each device, how often it speaks, and what its silence means.

Pure: messages and the time come in from outside, so that a simulated clock tells the same story as a real one.

Silence is measured while we listen: our own outages are taken out of it. A topic is overdue after two of its
intervals, silent after four, and fine again once two of its messages have come in time.

============  ====================================================================================================
online        what the device is known to send comes
late          a topic is overdue, or came back and is not regular yet
offline       everything is silent
mute          the heartbeat goes on after telemetry fell silent: a dead sensor
no heartbeat  telemetry goes on after the heartbeat fell silent
never seen    known from the roster, or from a retained message, which proves nothing about now
============  ====================================================================================================
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import orjson

from plantops_cli.fleet.rhythm import FINE, OVERDUE, SILENT, Grade, Signal, silent_after
from plantops_cli.fleet.sequence import DeviceClock, Sequence, find, moment_of, number_of
from plantops_cli.messages import Message

MAX_DEVICES = 100_000
"""How many devices are kept; ids are the choice of whoever publishes."""

MAX_CHANGES = 10_000
"""How many changes are kept that nobody has asked for yet."""

# whether it is telemetry
_KINDS = {b"heartbeat": False, b"telemetry": True}
_WINDOW_SECONDS = 60.0
_VALUES_KEPT = 32
_LONGEST_PAYLOAD_KEPT = 4096


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


class Change(NamedTuple):
    """A device is in another state than before.

    Attributes:
        at: when it came to be so, by the clock of the caller.
        device_id: the device.
        before: its state before, or None when it was not known.
        state: its state now.
        silent_seconds: for how long nothing of it had been heard while we listened.
    """

    at: float
    device_id: str
    before: DeviceState | None
    state: DeviceState
    silent_seconds: float


class _Device:
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
        # its state may be another from here on, if nothing is heard: a bound, for messages put it off
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

    def signals(self) -> Iterator[Signal]:
        """Its topics, as far as they were heard."""
        return (signal for signal in (self.telemetry, self.heartbeat) if signal)

    def rate(self, now: float, window_end: float) -> float:
        """Messages a second over the last minute, or since it was heard first if that is not so long ago."""
        known = now - self.first_at
        if known < _WINDOW_SECONDS:
            return (self.count - 1) / known if self.count > 1 and known else 0.0
        before = self.window_before * max(0.0, window_end - now) / _WINDOW_SECONDS
        return (self.window_count + before) / _WINDOW_SECONDS


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
        rate: messages a second, over the last minute.
        messages: how many were heard live.
        size_bytes: how long their payloads were in all.
        invalid: how many telemetry payloads were no JSON, or broke the contract.
        error: what was wrong with the first of these.
        is_retained_only: whether only a retained message is known of it.
        is_expected: whether it is on the roster; None without one.
        missing: sequence numbers that were skipped and have not come; None without such a field.
        missed: sequence numbers that were skipped while we were not listening.
        out_of_order: messages that came after a later one, by sequence number or timestamp.
        duplicates: messages that came twice, by sequence number or timestamp.
        restarts: how often its sequence numbers began anew.
        lag_seconds: arrival less timestamp of the latest message; None without timestamps.
        jitter_seconds: how much that changes from message to message.
        skew_seconds: the smallest lag seen; below zero its clock is ahead of ours.
        payload: its latest telemetry, if payloads are kept, and up to 4 KiB.
        values: the latest numbers of the chosen field, oldest first.
    """

    device_id: str
    state: DeviceState
    last_telemetry: float | None
    last_heartbeat: float | None
    interval_seconds: float | None
    heartbeat_interval_seconds: float | None
    rate: float
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


class Presence:
    """Keeps account of a fleet.

    Times are seconds by one clock of the caller's choice that never goes back, such as ``time.monotonic()``.

    Args:
        roster: ids of the devices that are expected.
        offline_after_seconds: silence that makes a topic silent; default: four of its intervals.
        seq: name of the field that holds a sequence number; ``soil.seq`` is ``seq`` in the object ``soil``.
        clock: name of the field that holds the device's timestamp.
        field: name of a field whose latest numbers are kept.
        contract: tells what is wrong with a telemetry payload, or None; default: that it is no JSON.
        is_payload_kept: whether the latest telemetry of each device is kept.
        clock_offset_seconds: what to add to the clock of the caller to get seconds since 1970, for ``clock``.
        max_devices: how many devices to keep; messages of others are passed over, and counted.
        max_changes: how many changes to keep for ``changes``; the oldest ones go first.

    Attributes:
        message_count: messages taken note of.
        passed_over: how many of them were of no device, or of one too many.
        invalid_count: telemetry payloads that were no JSON, or broke the contract.
    """

    def __init__(
        self,
        *,
        roster: Iterable[str] = (),
        offline_after_seconds: float | None = None,
        seq: str | None = None,
        clock: str | None = None,
        field: str | None = None,
        contract: Callable[[bytes], str | None] | None = None,
        is_payload_kept: bool = False,
        clock_offset_seconds: float = 0.0,
        max_devices: int = MAX_DEVICES,
        max_changes: int = MAX_CHANGES,
    ) -> None:
        self._offline_after_seconds = offline_after_seconds
        self._seq, self._clock, self._field = _path(seq), _path(clock), _path(field)
        self._is_order_kept = bool(seq or clock)
        self._contract = contract
        self._is_payload_kept = is_payload_kept
        self._clock_offset_seconds = clock_offset_seconds
        self._max_devices = max_devices
        # by the id in UTF-8, as it stands in the topic
        expected = [device_id.encode() for device_id in roster]
        self._devices = {device_id: _Device(device_id, is_expected=True) for device_id in expected}
        self._has_roster = bool(self._devices)
        self._changes = deque[Change](maxlen=max_changes)
        # of the whole fleet, heartbeat and telemetry: what to expect of a topic that was not heard yet
        self._longest = [0.0, 0.0]
        self._lost_at: float | None = None
        self._window_end = -math.inf
        self.message_count = 0
        self.passed_over = 0
        self.invalid_count = 0

    def heard(self, topic: bytes, payload: bytes, at: float, *, is_live: bool = True) -> None:
        """Take note of a message.

        Args:
            topic: its topic name, in UTF-8.
            payload: its payload.
            at: when it was read.
            is_live: False for one that is retained or comes a second time, which proves nothing about now.
        """
        self.message_count += 1
        device, is_telemetry = self._find(topic)
        if device is None:
            self.passed_over += 1
            return
        if not is_live:
            self._know(device, at)
            return
        now = at if self._lost_at is None else self._lost_at
        if now >= self._window_end:
            self._turn_window(now)
        signal = device.telemetry if is_telemetry else device.heartbeat
        if now >= device.due_at and (
            signal is None
            or device.state is not DeviceState.ONLINE
            or now >= signal.overdue_at(self._offline_after_seconds)
        ):
            self._settle(device, now)
        signal = signal or self._begin(device, is_telemetry)
        device.count += 1
        device.size += len(payload)
        device.window_count += 1
        if is_telemetry:
            self._look_into(device, signal, payload, at)
        elif self._is_order_kept:
            self._look_for_order(signal, _parsed(payload), at)
        if signal.hear(now, at):
            if signal.interval > self._longest[is_telemetry]:
                self._lengthen(signal.interval, now, is_telemetry=is_telemetry)
            device.due_at = min(device.due_at, signal.overdue_at(self._offline_after_seconds))
        if device.state is not DeviceState.ONLINE:
            if device.count == 1:
                device.first_at = now
            if device.state is DeviceState.OFFLINE:
                _welcome_back(device, now)
            self._step(device, now, silent_seconds=0.0)

    def hear(self, message: Message, at: float) -> None:
        """Take note of a message, as ``heard`` does.

        Args:
            message: a message.
            at: when it was read.
        """
        self.heard(message.topic.encode(), message.payload, at, is_live=not (message.retain or message.dup))

    def lost(self, at: float) -> None:
        """Take note that our own connection has ended: from now on no device can be heard.

        Args:
            at: when.
        """
        if self._lost_at is None:
            self._sweep(at)
            self._lost_at = at

    def resumed(self, at: float) -> None:
        """Take note that we listen again: the time between is held against no device.

        Args:
            at: when.
        """
        if self._lost_at is None:
            return
        lost_at, self._lost_at = self._lost_at, None
        self._window_end += at - lost_at
        for device in self._devices.values():
            device.first_at += at - lost_at
            device.due_at += at - lost_at
            for signal in device.signals():
                signal.miss(lost_at, at)

    def changes(self, at: float) -> list[Change]:
        """Return what has changed since the last call, oldest first.

        Args:
            at: now.
        """
        self._sweep(self._now(at))
        changes = sorted(self._changes, key=lambda change: change.at)
        self._changes.clear()
        return changes

    def count(self, at: float) -> dict[DeviceState, int]:
        """Count the devices by state, every state named.

        Args:
            at: now.
        """
        self._sweep(self._now(at))
        counts = dict.fromkeys(DeviceState, 0)
        for device in self._devices.values():
            if device.state:
                counts[device.state] += 1
        return counts

    @property
    def unknown_count(self) -> int:
        """How many devices were heard that are not on the roster, if there is one."""
        if not self._has_roster:
            return 0
        return sum(bool(device.count) and not device.is_expected for device in self._devices.values())

    def reports(self, at: float) -> list[DeviceReport]:
        """Report on every device, in the order in which they were met.

        Args:
            at: now.
        """
        now = self._now(at)
        self._sweep(now)
        if now >= self._window_end:
            self._turn_window(now)
        return [self._report(device, now) for device in self._devices.values()]

    def _now(self, at: float) -> float:
        # time stands still for the devices while we do not listen
        return at if self._lost_at is None else self._lost_at

    def _find(self, topic: bytes) -> tuple["_Device | None", bool]:
        """The device of a topic, or None when it is of none, or of one too many; and whether it is telemetry."""
        parts = topic.split(b"/")
        is_telemetry = _KINDS.get(parts[-1])
        if is_telemetry is None or len(parts) != 3 or parts[0] != b"devices":
            return None, False
        device = self._devices.get(parts[1])
        if device is None and parts[1] and len(self._devices) < self._max_devices:
            device = self._devices[parts[1]] = _Device(parts[1], is_expected=False)
        return device, is_telemetry

    def _begin(self, device: "_Device", is_telemetry: bool) -> Signal:
        """Begin to keep a topic of a device."""
        signal = Signal()
        if self._seq:
            signal.sequence = Sequence()
        if is_telemetry:
            device.telemetry = signal
        else:
            device.heartbeat = signal
        return signal

    def _turn_window(self, now: float) -> None:
        """Begin to count anew, for the rates."""
        is_next = now < self._window_end + _WINDOW_SECONDS
        for device in self._devices.values():
            device.window_before = device.window_count if is_next else 0
            device.window_count = 0
        self._window_end = now + _WINDOW_SECONDS

    def _know(self, device: _Device, at: float) -> None:
        """Take note that a device exists, which is all that a message of another time says."""
        device.is_retained = True
        if device.state is None:
            device.state = DeviceState.NEVER_SEEN
            self._changes.append(Change(at, _text(device), None, DeviceState.NEVER_SEEN, 0.0))

    def _lengthen(self, interval: float, now: float, *, is_telemetry: bool) -> None:
        is_first = not self._longest[is_telemetry]
        self._longest[is_telemetry] = interval
        if is_first:
            # now it is known what those lack that were never heard to send it
            for device in self._devices.values():
                if device.count and not (device.telemetry and device.heartbeat):
                    device.due_at = min(device.due_at, now)

    def _look_into(self, device: _Device, signal: Signal, payload: bytes, at: float) -> None:
        """Check a telemetry payload, and keep of it what is asked for."""
        document, error = None, None
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError as exc:
            error = f"not JSON: {exc.msg}" if payload else "empty payload"
        if self._contract:
            error = self._contract(payload)
        if error is not None:
            device.invalid += 1
            self.invalid_count += 1
            device.error = device.error or error
        if self._is_payload_kept:
            device.payload = payload if len(payload) <= _LONGEST_PAYLOAD_KEPT else None
        if self._field:
            value = number_of(find(document, self._field))
            if value is not None:
                if device.values is None:
                    device.values = deque(maxlen=_VALUES_KEPT)
                device.values.append(value)
        if self._is_order_kept:
            self._look_for_order(signal, document, at)

    def _look_for_order(self, signal: Signal, document: object, at: float) -> None:
        if signal.sequence:
            value = number_of(find(document, self._seq))
            if isinstance(value, int):
                signal.sequence.take(value)
        stamp = moment_of(find(document, self._clock)) if self._clock else None
        if stamp is not None:
            signal.clock = signal.clock or DeviceClock()
            signal.clock.take(stamp, arrived=at + self._clock_offset_seconds)

    def _sweep(self, now: float) -> None:
        for device in self._devices.values():
            if now >= device.due_at:
                self._settle(device, now)

    def _settle(self, device: _Device, now: float) -> None:
        """Bring a device's state up to date, each change at its own moment.

        Args:
            device: a device that was heard live.
            now: the time, as far as we listen.
        """
        if self._is_in_time(device, now):
            return
        heard_at = max(signal.heard_at for signal in device.signals())
        while device.due_at <= now:
            moment = max(device.due_at, heard_at)
            self._step(device, moment, silent_seconds=moment - heard_at)

    def _is_in_time(self, device: _Device, now: float) -> bool:
        """Tell, cheaply, whether a device simply goes on as it did; if so, put off when to look again."""
        telemetry, heartbeat = device.telemetry, device.heartbeat
        if device.state is not DeviceState.ONLINE or not telemetry or not heartbeat:
            return False
        due_at = min(
            telemetry.overdue_at(self._offline_after_seconds), heartbeat.overdue_at(self._offline_after_seconds)
        )
        if now >= due_at or telemetry.held or heartbeat.held:
            return False
        device.due_at = due_at
        return True

    def _step(self, device: _Device, now: float, *, silent_seconds: float) -> None:
        state, device.due_at = self._judge(device, now)
        if state is not device.state:
            change = Change(now, _text(device), device.state, state, silent_seconds)
            self._changes.append(change)
            device.state = state

    def _judge(self, device: _Device, now: float) -> tuple[DeviceState, float]:
        """Tell the state of a device, and until when it holds if nothing is heard."""
        telemetry = device.telemetry.grade(now, self._offline_after_seconds) if device.telemetry else None
        heartbeat = device.heartbeat.grade(now, self._offline_after_seconds) if device.heartbeat else None
        if device.telemetry and device.heartbeat and telemetry and heartbeat:
            telemetry = self._estimated(telemetry, device.telemetry, heartbeat, now, is_telemetry=True)
            heartbeat = self._estimated(heartbeat, device.heartbeat, telemetry, now, is_telemetry=False)
        grades = [grade for grade in (telemetry, heartbeat) if grade]
        until = [moment for grade in grades for moment in (grade.overdue_at, grade.silent_at)]
        if all(grade.now == SILENT for grade in grades):
            state = DeviceState.OFFLINE
        elif heartbeat and self._goes_on_without(heartbeat, telemetry or self._lacking(device, now, until)):
            state = DeviceState.MUTE
        elif telemetry and self._goes_on_without(telemetry, heartbeat or self._lacking(device, now, until)):
            state = DeviceState.NO_HEARTBEAT
        elif any(grade.worst for grade in grades):
            state = DeviceState.LATE
        else:
            state = DeviceState.ONLINE
        return state, min((moment for moment in until if moment > now), default=math.inf)

    def _estimated(self, grade: Grade, signal: Signal, other: Grade, now: float, *, is_telemetry: bool) -> Grade:
        """Grade a topic of unknown interval, on a device whose other topic is silent, by the whole fleet."""
        longest = self._longest[is_telemetry]
        if signal.interval or not longest or other.now != SILENT:
            return grade
        silent_at = min(grade.silent_at, signal.since + silent_after(longest, self._offline_after_seconds))
        found = SILENT if now >= silent_at else grade.now
        return Grade(found, max(found, grade.worst), grade.heard_at, silent_at, silent_at)

    def _lacking(self, device: _Device, now: float, until: list[float]) -> Grade:
        """Grade the topic that a device was never heard to use by what the rest of the fleet does."""
        longest = self._longest[device.telemetry is None]
        silent_at = device.first_at + silent_after(longest, self._offline_after_seconds) if longest else math.inf
        until.append(silent_at)
        grade = SILENT if now >= silent_at else FINE
        # whatever was heard was heard after nothing
        return Grade(grade, grade, -math.inf, -math.inf, -math.inf)

    @staticmethod
    def _goes_on_without(one: Grade, other: Grade) -> bool:
        """Tell whether one topic is fine, and was so after the other one fell silent."""
        if one.worst != FINE or other.worst != SILENT:
            return False
        return other.now != SILENT or one.heard_at >= other.silent_at

    def _report(self, device: _Device, now: float) -> DeviceReport:
        signals = list(device.signals())
        sequences = [signal.sequence for signal in signals if signal.sequence]
        clocks = [signal.clock for signal in signals if signal.clock]
        orders: list[Sequence | DeviceClock] = [*sequences, *clocks]
        clock = clocks[0] if clocks else None
        return DeviceReport(
            device_id=_text(device),
            state=device.state or DeviceState.NEVER_SEEN,
            last_telemetry=device.telemetry.last_at if device.telemetry else None,
            last_heartbeat=device.heartbeat.last_at if device.heartbeat else None,
            interval_seconds=(device.telemetry.interval or None) if device.telemetry else None,
            heartbeat_interval_seconds=(device.heartbeat.interval or None) if device.heartbeat else None,
            rate=device.rate(now, self._window_end),
            messages=device.count,
            size_bytes=device.size,
            invalid=device.invalid,
            error=device.error,
            is_retained_only=device.is_retained and not device.count,
            is_expected=device.is_expected if self._has_roster else None,
            missing=sum(one.missing for one in sequences) if self._seq else None,
            missed=sum(one.missed for one in sequences) if self._seq else None,
            out_of_order=sum(one.out_of_order for one in orders) if self._is_order_kept else None,
            duplicates=sum(one.duplicates for one in orders) if self._is_order_kept else None,
            restarts=sum(one.restarts for one in sequences) if self._seq else None,
            lag_seconds=clock.lag_seconds if clock else None,
            jitter_seconds=clock.jitter_seconds if clock else None,
            skew_seconds=clock.skew_seconds if clock else None,
            payload=device.payload,
            values=tuple(device.values or ()),
        )


def _welcome_back(device: _Device, now: float) -> None:
    """Give each topic of a device that was offline the time that it needs."""
    for signal in device.signals():
        if signal.heard_at < now:
            signal.wait_anew(now)
        signal.held = OVERDUE


def _text(device: _Device) -> str:
    return device.device_id.decode(errors="replace")


def _path(name: str | None) -> tuple[str, ...]:
    return tuple(name.split(".")) if name else ()


def _parsed(payload: bytes) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
