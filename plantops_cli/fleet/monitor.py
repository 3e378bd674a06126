"""A presence that follows a subscriber: its messages, its outages, and how far it can be sure of a silence."""

import time
from collections.abc import Callable

from plantops_cli.fleet.presence import Presence
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.status import Connected, Lost, Status, log_status
from plantops_cli.stream.subscriber import MQTTSubscriber

_RETAINED_OR_DUP = 0x09
_KIND_FILTERS = ("devices/+/telemetry", "devices/+/heartbeat")


class Following:
    """Keeps a ``Presence`` up to date.

    Made before its subscriber, whose ``on_status`` it is to be::

        following = Following(Presence())
        mqtt = MQTTSubscriber(host, port, username, password, on_status=following.on_status)
        following.attach(mqtt)

    Args:
        presence: keeps the account; its clock is ``time.monotonic()``, which is that of asyncio's event loop.
        on_status: told about each step too.
    """

    def __init__(self, presence: Presence, on_status: Callable[[Status], None] = log_status) -> None:
        self.presence = presence
        self._tell = on_status
        self._subscriber: MQTTSubscriber | None = None
        self._now = time.monotonic()
        self._connected_at: float | None = None
        self._listened_seconds = 0.0

    def attach(self, subscriber: MQTTSubscriber, *, is_handler: bool = True) -> None:
        """Follow a subscriber.

        Args:
            subscriber: whose ``on_status`` is that of this object.
            is_handler: whether to register handlers for both device topics; False for readers of ``batches``, who
                call ``take`` instead.
        """
        self._subscriber = subscriber
        if is_handler:
            for topic_filter in _KIND_FILTERS:
                subscriber.register_handler(topic_filter, self.handle)

    @property
    def now(self) -> float:
        """Up to when we know that we would have heard a device: the broker's last word, a message or an answer."""
        heard_at = self._subscriber.heard_at if self._subscriber else None
        self._now = max(self._now, heard_at or 0.0)
        return self._now

    @property
    def listened_seconds(self) -> float:
        """For how long there was a connection so far."""
        listened = self._listened_seconds
        return listened if self._connected_at is None else listened + time.monotonic() - self._connected_at

    def handle(self, message: Message) -> None:
        """Take note of a message; a handler for ``MQTTSubscriber``."""
        self._now = time.monotonic()
        self.presence.hear(message, self._now)

    def take(self, batch: Batch) -> None:
        """Take note of a batch."""
        self._now = time.monotonic()
        heard = self.presence.heard
        for flags, topic, _, _, payload in batch.packets:
            heard(topic, payload, self._now, is_live=not flags & _RETAINED_OR_DUP)

    def on_status(self, status: Status) -> None:
        """Take note of a step of the connection."""
        if isinstance(status, Connected):
            self._now = self._connected_at = time.monotonic()
            self.presence.resumed(self._now)
        elif isinstance(status, Lost) and self._connected_at is not None:
            self._listened_seconds += time.monotonic() - self._connected_at
            self._connected_at = None
            # what was heard last is the last that is certain
            self.presence.lost(self._now)
        self._tell(status)


def clock_offset_seconds() -> float:
    """What to add to the clock of a ``Following`` to get seconds since 1970."""
    return time.time() - time.monotonic()
