"""From signals to states: what the silence of a device's topics, or the lack of it, means. Pure.

A topic is overdue after two of its intervals, silent after four, and fine again once two of its messages have come
in time.

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
from typing import NamedTuple

from plantops_cli.fleet.device import Device, DeviceState
from plantops_cli.fleet.rhythm import FINE, SILENT, Grade, Signal, silent_after


class Patience(NamedTuple):
    """How long silence may last, for the whole fleet.

    Attributes:
        offline_after_seconds: silence that makes a topic silent; None: four of its intervals.
        heartbeat_seconds: the longest interval of a heartbeat in the fleet; 0.0: not known.
        telemetry_seconds: the same of telemetry.
    """

    offline_after_seconds: float | None = None
    heartbeat_seconds: float = 0.0
    telemetry_seconds: float = 0.0

    def longest(self, *, is_telemetry: bool) -> float:
        """The longest interval of a topic in the fleet, in seconds; 0.0: not known.

        Args:
            is_telemetry: which topic.
        """
        return self.telemetry_seconds if is_telemetry else self.heartbeat_seconds

    def lengthened(self, interval: float, *, is_telemetry: bool) -> "Patience":
        """The same with another longest interval.

        Args:
            interval: in seconds.
            is_telemetry: of which topic.
        """
        if is_telemetry:
            return self._replace(telemetry_seconds=interval)
        return self._replace(heartbeat_seconds=interval)


def steady_until(device: Device, patience: Patience) -> float:
    """Tell, cheaply, until when a device that simply goes on as it did stays online; minus infinity: it may not.

    Args:
        device: any.
        patience: how long silence may last.
    """
    telemetry, heartbeat = device.telemetry, device.heartbeat
    if device.state is not DeviceState.ONLINE or not telemetry or not heartbeat:
        return -math.inf
    if telemetry.held or heartbeat.held:
        return -math.inf
    after = patience.offline_after_seconds
    return min(telemetry.overdue_at(after), heartbeat.overdue_at(after))


def state_of(device: Device, now: float, patience: Patience) -> tuple[DeviceState, float]:
    """Tell the state of a device, and until when it holds if nothing is heard.

    Args:
        device: one that was heard live.
        now: the time, as far as we listen.
        patience: how long silence may last.
    """
    telemetry, heartbeat = _grades(device, now, patience)
    known = [grade for grade in (telemetry, heartbeat) if grade]
    turns = [moment for grade in known for moment in (grade.overdue_at, grade.silent_at)]
    if all(grade.now == SILENT for grade in known):
        state = DeviceState.OFFLINE
    else:
        lacking_at = _lacking_at(device, patience)
        turns.append(lacking_at)
        state = _state_of_one_alive(telemetry, heartbeat, is_lacking=now >= lacking_at)
    return state, min((moment for moment in turns if moment > now), default=math.inf)


def _grades(device: Device, now: float, patience: Patience) -> tuple[Grade | None, Grade | None]:
    """What the silence of telemetry and heartbeat means; None where one was never heard."""
    after = patience.offline_after_seconds
    telemetry = device.telemetry.grade(now, after) if device.telemetry else None
    heartbeat = device.heartbeat.grade(now, after) if device.heartbeat else None
    if device.telemetry and device.heartbeat and telemetry and heartbeat:
        telemetry = _estimated(telemetry, device.telemetry, heartbeat, now, patience, is_telemetry=True)
        heartbeat = _estimated(heartbeat, device.heartbeat, telemetry, now, patience, is_telemetry=False)
    return telemetry, heartbeat


def _estimated(
    grade: Grade, signal: Signal, other: Grade, now: float, patience: Patience, *, is_telemetry: bool
) -> Grade:
    """Grade a topic of unknown interval, on a device whose other topic is silent, by the whole fleet."""
    longest = patience.longest(is_telemetry=is_telemetry)
    if signal.interval or not longest or other.now != SILENT:
        return grade
    silent_at = min(grade.silent_at, signal.since + silent_after(longest, patience.offline_after_seconds))
    found = SILENT if now >= silent_at else grade.now
    return Grade(found, max(found, grade.worst), grade.heard_at, silent_at, silent_at)


def _lacking_at(device: Device, patience: Patience) -> float:
    """When a topic that a device was never heard to use is lacking, by what the rest of the fleet does."""
    if device.telemetry and device.heartbeat:
        return math.inf
    longest = patience.longest(is_telemetry=device.telemetry is None)
    # in a fleet without heartbeats nobody lacks one
    return device.first_at + silent_after(longest, patience.offline_after_seconds) if longest else math.inf


def _state_of_one_alive(telemetry: Grade | None, heartbeat: Grade | None, *, is_lacking: bool) -> DeviceState:
    if heartbeat and _goes_on_without(heartbeat, telemetry, is_lacking=is_lacking):
        return DeviceState.MUTE
    if telemetry and _goes_on_without(telemetry, heartbeat, is_lacking=is_lacking):
        return DeviceState.NO_HEARTBEAT
    is_late = any(grade.worst != FINE for grade in (telemetry, heartbeat) if grade)
    return DeviceState.LATE if is_late else DeviceState.ONLINE


def _goes_on_without(one: Grade, other: Grade | None, *, is_lacking: bool) -> bool:
    """Tell whether one topic is fine, and was so after the other one fell silent, or without it ever speaking."""
    if one.worst != FINE:
        return False
    if other is None:
        return is_lacking
    # heard before the other one fell silent, it may have fallen silent with it: a dead device, found out later
    return other.worst == SILENT and (other.now != SILENT or one.heard_at >= other.silent_at)
