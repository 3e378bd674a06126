"""A presence that follows a subscriber: its messages, its outages, and how far it can be sure of a silence."""

import time
from typing import Self

from plantops_cli.fleet.presence import Presence
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.clock import since_boot
from plantops_cli.stream.packets import RETAINED_OR_DUP
from plantops_cli.stream.status import Connected, Lost, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.topics import DEVICE_FILTERS

SETTLING_SECONDS = 0.5
"""What comes at once after a pause of the network or of our own gets so long to be read before silence counts."""


class FleetMonitor:
    """Keeps a ``Presence`` up to date with what a subscriber hears; made by ``follow``.

    ::

        mqtt = MQTTSubscriber(host, port, username, password)
        monitor = FleetMonitor.follow(mqtt)
        monitor.presence.reports(monitor.now)

    Attributes:
        presence: the account of each device; its clock is ``plantops_cli.stream.clock.since_boot``, which goes on
            while the machine sleeps. That time, and any in which this program was stopped, counts as an outage.
    """

    def __init__(self, subscriber: MQTTSubscriber, presence: Presence) -> None:
        self.presence = presence
        self._subscriber = subscriber
        self._now = self._pending_at = since_boot()
        presence.certain_at = self._now
        self._hearing = subscriber.hearing
        self._gap_count = self._hearing.gap_count if self._hearing else 0
        # whoever is connected already tells of it no more
        self._connected_at = None if subscriber.heard_at is None else self._now
        self._listened_seconds = 0.0

    @classmethod
    def follow(
        cls, subscriber: MQTTSubscriber, *, presence: Presence | None = None, has_handlers: bool = True
    ) -> Self:
        """Follow a subscriber from now on, whether it is connected or not.

        Args:
            subscriber: whose messages and outages count; it gets a status listener.
            presence: keeps the account; default: a new one, without roster.
            has_handlers: whether handlers are registered for both device topics; False for a reader of ``batches``
                or ``messages``, who calls ``take`` or ``handle`` instead.
        """
        monitor = cls(subscriber, Presence() if presence is None else presence)
        subscriber.add_status_listener(monitor.on_status)
        if has_handlers:
            for topic_filter in DEVICE_FILTERS:
                subscriber.register_handler(topic_filter, monitor.handle, blocking=False)
        return monitor

    @property
    def now(self) -> float:
        """Up to when we know that we would have heard a device: the broker's last word, a message or an answer."""
        self._mind_gaps()
        self._note(self._hearing.heard_at if self._hearing else self._now)
        return self._now

    @property
    def listened_seconds(self) -> float:
        """For how long there was a connection so far."""
        listened = self._listened_seconds
        return listened if self._connected_at is None else listened + since_boot() - self._connected_at

    def handle(self, message: Message) -> None:
        """Take note of a message; a handler for ``MQTTSubscriber``."""
        self.presence.hear(message, self._arrival())

    def take(self, batch: Batch) -> None:
        """Take note of a batch."""
        heard, at = self.presence.heard, self._arrival()
        for flags, topic, _, _, payload in batch.packets:
            heard(topic, payload, at, is_live=not flags & RETAINED_OR_DUP)

    def on_status(self, status: Status) -> None:
        """Take note of a step of the connection; a status listener for ``MQTTSubscriber``."""
        if isinstance(status, Lost):
            # what was heard last is the last that is certain
            self._end(max(self._now, since_boot() - status.silent_seconds))
        elif isinstance(status, Connected):
            # who disconnects of its own accord tells of no loss, and may come back later
            self._hearing = self._subscriber.hearing
            self._gap_count = self._hearing.gap_count if self._hearing else 0
            self._end(self._now)
            self._listen()

    def _arrival(self) -> float:
        """The time of what has just arrived."""
        self._mind_gaps()
        self._note(since_boot())
        return self._now

    def _mind_gaps(self) -> None:
        """Hold it against no device that we were stopped or asleep."""
        if self._hearing and self._hearing.gap_count != self._gap_count:
            self._gap_count = self._hearing.gap_count
            if self._connected_at is not None:
                self._end(self._now)
                self._listen()

    def _listen(self) -> None:
        self._now = self._pending_at = self._connected_at = since_boot()
        self.presence.resumed(self._now)

    def _note(self, heard_at: float) -> None:
        """Take note of when the broker was heard, and of up to when all that it sent must have been read."""
        now = since_boot()
        self._now = max(self._now, heard_at)
        if now - self._now >= SETTLING_SECONDS:
            self.presence.certain_at = self._pending_at = self._now
        elif now - self._pending_at >= SETTLING_SECONDS:
            self.presence.certain_at, self._pending_at = self._pending_at, self._now

    def _end(self, ended_at: float) -> None:
        if self._connected_at is None:
            return
        self._listened_seconds += ended_at - self._connected_at
        self._connected_at = None
        self.presence.lost(ended_at)


def clock_offset_seconds() -> float:
    """What to add to the clock of a ``FleetMonitor`` to get seconds since 1970."""
    return time.time() - since_boot()
