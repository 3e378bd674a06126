"""From signals to states: what the silence of a device's topics, or the lack of it, means. Pure.

A topic is overdue after two of its intervals, silent after four, and fine again once two of its messages have come
in time. One whose interval is not known yet, or that was never heard, changes no state, unless somebody said how
long silence may last: what other devices do says nothing about this one.

============  ====================================================================================================
online        what the device is known to send comes
late          a topic is overdue, or came back and is not regular yet
offline       everything whose interval is known is silent, and the rest was not heard for as long
mute          the heartbeat goes on after telemetry fell silent: a dead sensor
no heartbeat  telemetry goes on after the heartbeat fell silent
never seen    known from the roster, or from a retained message, which proves nothing about now
============  ====================================================================================================
"""

import math
from typing import NamedTuple

from plantops_cli.fleet.device import HEARTBEAT, TELEMETRY, Device, DeviceState
from plantops_cli.fleet.rhythm import FINE, SILENT, Grade


class Patience(NamedTuple):
    """How long silence may last, for the whole fleet.

    Attributes:
        offline_after_seconds: silence that makes a topic silent; None: four of its intervals.
        topics: which topics are in use: nobody lacks one that no device was heard to use.
    """

    offline_after_seconds: float | None = None
    topics: frozenset[str] = frozenset()


class Judgement(NamedTuple):
    """What silence means for a device.

    Attributes:
        state: its state.
        until: until when that holds if nothing is heard.
        topic: the topic whose silence makes it so; None: that of all of them, or none at all.
    """

    state: DeviceState
    until: float
    topic: str | None = None


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
    return min(telemetry.turns_at(after), heartbeat.turns_at(after))


def state_of(device: Device, now: float, patience: Patience) -> Judgement:
    """Tell the state of a device, until when it holds if nothing is heard, and which topic makes it so.

    Args:
        device: one that was heard live.
        now: the time, as far as we listen.
        patience: how long silence may last.
    """
    after = patience.offline_after_seconds
    grades = {topic: signal.grade(now, after) for topic, signal in device.topics() if signal}
    turns = [moment for grade in grades.values() for moment in (grade.overdue_at, grade.silent_at)]
    turns += [signal.quiet_at for signal in device.signals()]
    gone_at, lacking_at = _gone_at(list(grades.values())), _lacking_at(device, patience)
    turns.append(gone_at)
    if now >= gone_at:
        return Judgement(DeviceState.OFFLINE, _next(turns, now))
    state, topic = _state_of_one_alive(grades, now, before=device.state, is_lacking=now >= lacking_at)
    return Judgement(state, _next([*turns, lacking_at], now), topic)


def _next(turns: list[float], now: float) -> float:
    return min((moment for moment in turns if moment > now), default=math.inf)


def _gone_at(grades: list[Grade]) -> float:
    """When all that can be judged is silent, and the rest unheard for as long; never if it was heard since."""
    judged = [grade for grade in grades if grade.is_judged]
    heard_at = max((grade.heard_at for grade in grades if not grade.is_judged), default=-math.inf)
    if not judged or any(heard_at >= grade.lapsed_at for grade in judged):
        return math.inf
    patience = max(grade.lapsed_at - grade.heard_at for grade in judged)
    return max(heard_at + patience, *(grade.silent_at for grade in judged))


def _lacking_at(device: Device, patience: Patience) -> float:
    """When a topic that a device was never heard to use is lacking, if somebody said how long that may take."""
    lacks = any(signal is None and topic in patience.topics for topic, signal in device.topics())
    after = patience.offline_after_seconds
    return device.first_at + after if lacks and after is not None else math.inf


def _state_of_one_alive(
    grades: dict[str, Grade], now: float, *, before: DeviceState | None, is_lacking: bool
) -> tuple[DeviceState, str | None]:
    telemetry, heartbeat = grades.get(TELEMETRY), grades.get(HEARTBEAT)
    was_mute, was_without = before is DeviceState.MUTE, before is DeviceState.NO_HEARTBEAT
    if heartbeat and _goes_on_without(heartbeat, telemetry, has_done=was_mute, is_lacking=is_lacking):
        return DeviceState.MUTE, TELEMETRY
    if telemetry and _goes_on_without(telemetry, heartbeat, has_done=was_without, is_lacking=is_lacking):
        return DeviceState.NO_HEARTBEAT, HEARTBEAT
    late = [topic for topic, grade in grades.items() if grade.worst != FINE]
    if not late:
        return DeviceState.ONLINE, None
    # what turned last is the news
    return DeviceState.LATE, max(late, key=lambda topic: grades[topic].turned_at(now))


def _goes_on_without(one: Grade, other: Grade | None, *, has_done: bool, is_lacking: bool) -> bool:
    """Tell whether one topic is fine, and was so after the other one fell silent, or without it ever speaking."""
    if one.worst != FINE:
        return False
    if other is None:
        return is_lacking
    if other.worst != SILENT:
        return False
    if other.now != SILENT:
        # back, but not regular yet: no news of its silence any more
        return has_done
    if not one.is_judged:
        # its silence means nothing, but what was heard of it does
        return one.heard_at >= other.lapsed_at
    # heard before the other one fell silent, it may have fallen silent with it: a dead device, found out later
    return one.heard_at >= other.silent_at
