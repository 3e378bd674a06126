"""The consumer of the commands that show a fleet: what comes goes into its account."""

import asyncio

from plantops_cli.fleet.monitor import FleetMonitor, clock_offset_seconds
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.subscriber import MQTTSubscriber


class PresenceKeeper:
    """Takes note of what the devices say, and lets somebody look now and then.

    Args:
        subscriber: not yet connected.
        presence: keeps the account.

    Attributes:
        monitor: ties the account to the subscriber.
        at_once: None, for a batch is as good a moment.
    """

    at_once = None

    def __init__(self, subscriber: MQTTSubscriber, presence: Presence) -> None:
        self.monitor = FleetMonitor.follow(subscriber, presence=presence, has_handlers=False)
        self._subscriber = subscriber

    async def take(self, batch: Batch, *, stopped: asyncio.Event) -> None:  # noqa: ARG002  # it waits for nobody
        """Take note of a batch.

        Args:
            batch: messages as they arrived.
            stopped: as every consumer is given it.
        """
        self.monitor.take(batch)

    async def follow(self) -> None:
        """Note now and then up to when the broker was heard, for silence counts no further."""
        _ = self.monitor.now

    def look(self) -> Snapshot:
        """What is known by now."""
        monitor = self.monitor
        now = monitor.now
        return Snapshot(
            reports=tuple(monitor.presence.reports(now)),
            taken_at=now,
            listened_seconds=monitor.listened_seconds,
            messages=monitor.presence.message_count,
            passed_over=monitor.presence.passed_over,
            outages=self._subscriber.health.outage_count,
            clock_offset_seconds=clock_offset_seconds(),
            absent_fields=monitor.presence.absent_fields,
            old_messages=monitor.presence.old_count,
        )
