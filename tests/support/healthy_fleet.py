"""A fleet in which every device is well, heard as networks and outages let it be heard, on a simulated clock."""

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.monitor import SETTLING_SECONDS
from plantops_cli.fleet.presence import Change, Presence

SHORTEST_SECONDS, LONGEST_SECONDS = 0.2, 6 * 3600.0
MISS = 0.2
ALARMS = {DeviceState.LATE, DeviceState.MUTE, DeviceState.NO_HEARTBEAT, DeviceState.OFFLINE}


@dataclass
class Topic:
    """One topic of one device.

    Args:
        name: in UTF-8.
        interval: how often it speaks, in seconds.
        chance: by how much each beat misses its time.
        is_grid: whether a beat that misses its time leaves the next one where it was.
        is_extreme: whether each beat misses its time by as much as it may.
        ends_at: when it stops for good.
    """

    name: bytes
    interval: float
    chance: random.Random
    is_grid: bool = True
    is_extreme: bool = False
    ends_at: float = math.inf
    last_at: float = -math.inf
    count: int = 0

    def beats(self, begin: float) -> Iterator[float]:
        """When it speaks, if it has done so for ever: the first beat may come at any moment."""
        turn = begin + self.chance.uniform(0, self.interval)
        while True:
            miss = MISS * (self.chance.choice((-1, 1)) if self.is_extreme else self.chance.uniform(-1, 1))
            at = turn + self.interval * miss
            turn = (turn if self.is_grid else at) + self.interval
            if at > self.ends_at:
                return
            if at >= begin:
                yield at


@dataclass
class Listening:
    """How a fleet is heard.

    Args:
        topics: all that speak.
        chance: when somebody looks.
        outages: when we were not connected: begin and end, in order.
        pauses: when the network held everything back and then brought it at once: begin and end, in order.
        is_settled: whether it is known up to when nothing is on its way, as a ``FleetMonitor`` knows it.
        is_retained: whether the broker keeps the last message of each topic, and sends it after each connection.
        look_seconds: how often somebody looks, about.
    """

    topics: list[Topic]
    chance: random.Random
    outages: Iterable[tuple[float, float]] = ()
    pauses: Iterable[tuple[float, float]] = ()
    is_settled: bool = False
    is_retained: bool = False
    look_seconds: float = 1.0
    presence: Presence = field(default_factory=Presence)
    messages: int = 0
    _heard_at: float = -math.inf
    _pending_at: float = -math.inf

    def changes(self, begin: float, end: float) -> list[Change]:
        """Listen, and return what changed."""
        told = list[Change]()
        held = list[Topic]()
        beats = [(topic.beats(begin), topic) for topic in self.topics]
        waiting = [(next(moments, math.inf), number) for number, (moments, _) in enumerate(beats)]
        heapq.heapify(waiting)
        steps = self._steps(begin, end)
        step_at, what = next(steps)
        is_away = is_held = False
        while True:
            at, number = waiting[0]
            if step_at <= at:
                match what:
                    case "end":
                        return told + self._look(end)
                    case "look" if not is_held:
                        told += self._look(step_at)
                    case "lost":
                        self.presence.lost(step_at)
                        is_away = True
                    case "resumed":
                        self.presence.resumed(step_at)
                        self._heard_at = self._pending_at = step_at
                        is_away = False
                        self._bring_retained(step_at)
                    case "held":
                        is_held = True
                    case "released":
                        is_held = False
                        for topic in held:
                            self._hear(topic, step_at)
                            told += self._look(step_at)  # not all of it need be in one read
                        held.clear()
                step_at, what = next(steps)
                continue
            moments, topic = beats[number]
            heapq.heapreplace(waiting, (next(moments, math.inf), number))
            topic.last_at, topic.count = at, topic.count + 1
            if is_held:
                held.append(topic)
            elif not is_away:
                self._hear(topic, at)

    def _steps(self, begin: float, end: float) -> Iterator[tuple[float, str]]:
        steps = [(end, "end")]
        for began, ended in self.outages:
            steps += [(began, "lost"), (ended, "resumed")]
        for began, ended in self.pauses:
            steps += [(began, "held"), (ended, "released")]
        steps.sort()
        look_at = begin
        for at, what in steps:
            while look_at < at:
                yield look_at, "look"
                look_at += self.look_seconds * self.chance.uniform(0.1, 1.9)
            yield at, what

    def _hear(self, topic: Topic, at: float) -> None:
        self._note(at)
        self.messages += 1
        self.presence.heard(topic.name, b"{}", at)

    def _look(self, at: float) -> list[Change]:
        self._note(at)
        return self.presence.changes(at)

    def _note(self, at: float) -> None:
        """Know up to when nothing is on its way, as a ``FleetMonitor`` does."""
        self._heard_at = max(self._heard_at, at)
        if self.is_settled and at - self._pending_at >= SETTLING_SECONDS:
            self.presence.certain_at = self._pending_at
            self._pending_at = self._heard_at

    def _bring_retained(self, at: float) -> None:
        for topic in self.topics if self.is_retained else ():
            if topic.count:
                self.presence.heard(topic.name, b"{}", at, is_live=False)


def alarms(changes: Iterable[Change]) -> list[Change]:
    """The changes that a healthy fleet never makes."""
    return [change for change in changes if change.state in ALARMS]
