"""Who is alive: what was heard of each device, how often it speaks, and what its silence means.

Pure: messages and the time come in from outside, so that a simulated clock tells the same story as a real one.

Silence is measured while we listen: our own outages are taken out of it, and it counts no further than it is
certain that nothing is still on its way. What it means, ``judging`` tells.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from plantops_cli.fleet.device import (
    HEARTBEAT,
    RETAINED_ONLY,
    TELEMETRY,
    WINDOW_SECONDS,
    Device,
    DeviceReport,
    DeviceState,
    remarks_on,
)
from plantops_cli.fleet.judging import Patience, state_of, steady_until
from plantops_cli.fleet.rhythm import Rhythm, Signal
from plantops_cli.fleet.sequence import (
    DeviceClock,
    SequenceNumbers,
    find,
    moment_of,
    number_of,
    sequence_number_of,
)
from plantops_cli.messages import Message, parse_json

MAX_DEVICES = 100_000
"""How many devices are kept; ids are the choice of whoever publishes."""

MAX_CHANGES = 10_000
"""How many changes are kept that nobody has asked for yet."""

# whether it is telemetry
_KINDS = {b"heartbeat": False, b"telemetry": True}
_VALUES_KEPT = 32
_LONGEST_PAYLOAD_KEPT = 4096
# what a contract says may repeat a name or a value of the payload, as long as whoever publishes likes
_LONGEST_ERROR_KEPT = 200


class Change(NamedTuple):
    """A device is in another state than before.

    Attributes:
        at: when it came to be so, by the clock of the caller.
        device_id: the device.
        before: its state before, or None when it was not known.
        state: its state now.
        silent_seconds: for how long that which it is about had not been heard while we listened: the topic, or the
            device as a whole.
        topic: the topic that it is about, ``telemetry`` or ``heartbeat``; None: the device as a whole.
        remarks: what keeps the state from telling everything, such as ``heartbeat not heard yet``.
    """

    at: float
    device_id: str
    before: DeviceState | None
    state: DeviceState
    silent_seconds: float
    topic: str | None = None
    remarks: tuple[str, ...] = ()


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
        certain_at: up to when it is certain that nothing is still on its way, so that silence counts; None: up to
            the moment of each call.
        message_count: messages taken note of.
        old_count: how many of them were retained or came a second time.
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
        self._absent = {role: name for role, name in (("seq", seq), ("clock", clock), ("field", field)) if name}
        self._is_looked_for = False
        self._contract = contract
        self._is_payload_kept = is_payload_kept
        self._clock_offset_seconds = clock_offset_seconds
        self._max_devices = max_devices
        # by the id in UTF-8, as it stands in the topic
        expected = [device_id.encode() for device_id in roster]
        self._devices = {device_id: Device(device_id, is_expected=True) for device_id in expected}
        self._has_roster = bool(self._devices)
        self._changes = deque[Change](maxlen=max_changes)
        self._remarks = deque[Change](maxlen=max_changes)
        self._patience = Patience(offline_after_seconds)
        self._lost_at: float | None = None
        self._window_end = -math.inf
        self.certain_at: float | None = None
        self.message_count = 0
        self.old_count = 0
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
        self.old_count += not is_live
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
        certain_at = self._certain(now)
        signal = device.telemetry if is_telemetry else device.heartbeat
        if certain_at >= device.due_at and (
            signal is None
            or device.state is not DeviceState.ONLINE
            or certain_at >= signal.turns_at(self._offline_after_seconds)
        ):
            self._settle(device, certain_at)
        signal = signal or self._begin(device, is_telemetry, now)
        device.count += 1
        device.size += len(payload)
        device.window_count += 1
        if is_telemetry:
            self._look_into(device, signal, payload, at)
        elif self._is_order_kept:
            self._look_for_order(signal, parse_json(payload)[0], at)
        if signal.hear(now, at, certain_at):
            device.due_at = min(device.due_at, signal.turns_at(self._offline_after_seconds))
        if device.state is not DeviceState.ONLINE:
            if device.count == 1:
                device.first_at = now
            if device.state is DeviceState.OFFLINE:
                device.welcome_back(now)
            self._step(device, certain_at, at=now)

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
            device.miss(lost_at, at)

    def changes(self, at: float) -> list[Change]:
        """Return what has changed since the last call, oldest first.

        Args:
            at: now.
        """
        self._sweep(self._now(at))
        changes = sorted(self._changes, key=lambda change: change.at)
        self._changes.clear()
        return changes

    def remarks(self, at: float) -> list[Change]:
        """Return what there is to remark since the last call without a change of state, oldest first.

        A topic that falls quiet before its rhythm is known changes no state: ``before`` and ``state`` are one.

        Args:
            at: now.
        """
        self._sweep(self._now(at))
        remarks = sorted(self._remarks, key=lambda remark: remark.at)
        self._remarks.clear()
        return remarks

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

    def count_rhythms(self, at: float) -> dict[tuple[str, Rhythm], int]:
        """Count the topics of the devices that were heard by what is known of their rhythm, every one named.

        Args:
            at: now.
        """
        now = self._now(at)
        counts = dict.fromkeys(((topic, rhythm) for topic in (TELEMETRY, HEARTBEAT) for rhythm in Rhythm), 0)
        for device in self._devices.values():
            for topic, rhythm in zip((TELEMETRY, HEARTBEAT), device.rhythms(now), strict=True):
                if rhythm:
                    counts[topic, rhythm] += 1
        return counts

    @property
    def retained_only_count(self) -> int:
        """How many devices are known from a retained message only."""
        return sum(device.is_retained and not device.count for device in self._devices.values())

    @property
    def unknown_count(self) -> int:
        """How many devices were heard that are not on the roster, if there is one."""
        if not self._has_roster:
            return 0
        return sum(bool(device.count) and not device.is_expected for device in self._devices.values())

    @property
    def absent_fields(self) -> dict[str, str]:
        """Names given as ``seq``, ``clock`` or ``field``, by these, where no message had what was looked for."""
        return dict(self._absent) if self._is_looked_for else {}

    def reports(self, at: float) -> list[DeviceReport]:
        """Report on every device, in the order in which they were met.

        Args:
            at: now.
        """
        now = self._now(at)
        self._sweep(now)
        if now >= self._window_end:
            self._turn_window(now)
        return [
            device.report(now, window_end=self._window_end, has_roster=self._has_roster)
            for device in self._devices.values()
        ]

    def _now(self, at: float) -> float:
        # time stands still for the devices while we do not listen
        return at if self._lost_at is None else self._lost_at

    def _find(self, topic: bytes) -> tuple[Device | None, bool]:
        """The device of a topic, or None when it is of none, or of one too many; and whether it is telemetry."""
        parts = topic.split(b"/")
        is_telemetry = _KINDS.get(parts[-1])
        if is_telemetry is None or len(parts) != 3 or parts[0] != b"devices":
            return None, False
        device = self._devices.get(parts[1])
        if device is None and parts[1] and len(self._devices) < self._max_devices:
            device = self._devices[parts[1]] = Device(parts[1], is_expected=False)
        return device, is_telemetry

    def _certain(self, now: float) -> float:
        """Up to when silence is certain, at most until now."""
        return now if self.certain_at is None or self.certain_at > now else self.certain_at

    def _begin(self, device: Device, is_telemetry: bool, now: float) -> Signal:
        """Begin to keep a topic of a device."""
        signal = Signal()
        topic = TELEMETRY if is_telemetry else HEARTBEAT
        if topic not in self._patience.topics:
            self._use(topic, now)
        if is_telemetry:
            device.telemetry = signal
        else:
            device.heartbeat = signal
        return signal

    def _turn_window(self, now: float) -> None:
        """Begin to count anew, for the rates."""
        is_next = now < self._window_end + WINDOW_SECONDS
        for device in self._devices.values():
            device.window_before = device.window_count if is_next else 0
            device.window_count = 0
        self._window_end = now + WINDOW_SECONDS

    def _know(self, device: Device, at: float) -> None:
        """Take note that a device exists, which is all that a message of another time says."""
        device.is_retained = True
        if device.state is None:
            device.state = DeviceState.NEVER_SEEN
            self._changes.append(
                Change(at, device.name, None, DeviceState.NEVER_SEEN, 0.0, remarks=(RETAINED_ONLY,))
            )

    def _use(self, topic: str, now: float) -> None:
        """Take note that a topic is in use, so that who is never heard to use it may lack it."""
        self._patience = self._patience._replace(topics=self._patience.topics | {topic})
        for device in self._devices.values():
            if device.count:
                device.due_at = min(device.due_at, now)

    def _look_into(self, device: Device, signal: Signal, payload: bytes, at: float) -> None:
        """Check a telemetry payload, and keep of it what is asked for."""
        document, error = parse_json(payload)
        if self._contract:
            error = self._contract(payload)
        if error is not None:
            device.invalid += 1
            self.invalid_count += 1
            device.error = device.error or error[:_LONGEST_ERROR_KEPT]
        if self._is_payload_kept:
            device.payload = payload if len(payload) <= _LONGEST_PAYLOAD_KEPT else None
        if self._field:
            self._is_looked_for = True
            value = number_of(find(document, self._field))
            if value is not None:
                self._absent.pop("field", None)
                if device.values is None:
                    device.values = deque(maxlen=_VALUES_KEPT)
                device.values.append(value)
        if self._is_order_kept:
            self._look_for_order(signal, document, at)

    def _look_for_order(self, signal: Signal, document: object, at: float) -> None:
        self._is_looked_for = True
        number = sequence_number_of(find(document, self._seq)) if self._seq else None
        if number is not None:
            self._absent.pop("seq", None)
            signal.sequence = signal.sequence or SequenceNumbers()
            signal.sequence.take(number)
        stamp = moment_of(find(document, self._clock)) if self._clock else None
        if stamp is not None:
            self._absent.pop("clock", None)
            signal.clock = signal.clock or DeviceClock()
            signal.clock.take(stamp, arrived=at + self._clock_offset_seconds)

    def _sweep(self, now: float) -> None:
        certain_at = self._certain(now)
        for device in self._devices.values():
            if certain_at >= device.due_at:
                self._settle(device, certain_at)

    def _settle(self, device: Device, certain_at: float) -> None:
        """Bring a device's state up to date, each change at its own moment.

        Args:
            device: a device that was heard live.
            certain_at: up to when.
        """
        steady = steady_until(device, self._patience)
        if certain_at < steady:
            device.due_at = steady
            return
        heard_at = device.heard_at
        while device.due_at <= certain_at:
            moment = max(device.due_at, heard_at)
            # what was heard meanwhile says nothing about what is still on its way
            self._step(device, min(moment, certain_at), at=moment)

    def _step(self, device: Device, certain_at: float, *, at: float) -> None:
        before, quiet = device.state, device.quiet_since(certain_at)
        state, device.due_at, topic = state_of(device, certain_at, self._patience)
        if state is not before:
            device.state = state
            self._changes.append(_change(device, before, topic, at))
        elif quiet:
            self._remarks.append(_change(device, before, quiet, at))


def _change(device: Device, before: DeviceState | None, topic: str | None, at: float) -> Change:
    state = device.state or DeviceState.NEVER_SEEN
    return Change(
        at, device.name, before, state, device.silent_seconds(topic, at), topic, remarks_on(device.rhythms(at))
    )


def _path(name: str | None) -> tuple[str, ...]:
    return tuple(name.split(".")) if name else ()
