"""The account of a subscriber: what it has received, when it was connected, and what it may have missed."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from plantops_cli.errors import BrokerError
from plantops_cli.messages import in_utc, now
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.clock import since_boot
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.packets import QOS_OR_RETAIN
from plantops_cli.stream.status import Health, Outage, Resumed, SessionBegun, SessionLost, State

logger = logging.getLogger("plantops.stream")

_OUTAGES_KEPT = 100
_SLEW = timedelta(seconds=1)


class Counts(Protocol):
    """What a session counts by itself."""

    @property
    def invalid(self) -> int:
        """PUBLISH packets without a valid topic name."""

    @property
    def paused_seconds(self) -> float:
        """How long it was held up."""


class Account:
    """Counters and outages, over all connections of a subscriber.

    Args:
        is_durable: whether the broker keeps the session, so that what is of QoS 0 is worth a warning.
        clock: seconds by which outages are measured, going on while the machine sleeps.

    Attributes:
        state: where the subscriber stands.
    """

    def __init__(self, *, is_durable: bool = False, clock: Callable[[], float] = since_boot) -> None:
        self.state = State.DISCONNECTED
        self._clock = clock
        self._is_durable = is_durable
        self._is_qos_0_news = is_durable
        self._connected_since: datetime | None = None
        self._connection_count = 0
        self._received = 0
        self._invalid = 0
        self._paused_seconds = 0.0
        self._outage_count = 0
        self._outage_since: float | None = None
        self._outage_seconds = 0.0
        self._outages: deque[Outage] = deque(maxlen=_OUTAGES_KEPT)
        self._lost_sessions = 0
        self._last_message_ns: int | None = None

    @property
    def is_in_outage(self) -> bool:
        """Whether a connection was lost, and none was made since."""
        return self._outage_since is not None

    def count(self, batch: Batch) -> None:
        """Count the messages of a batch."""
        self._received += len(batch)
        self._last_message_ns = batch.reads[-1].received_ns
        if self._is_qos_0_news:
            # a look costs, so only at the first: whoever publishes so is the first of a batch before long
            packets = batch.reads[0].packets
            if packets and not packets[0][0] & QOS_OR_RETAIN:
                self.note_qos_0(f"a message of {packets[0][1].decode()!a} came at QoS 0")

    def note_qos_0(self, occasion: str) -> None:
        """Warn, once, of what a durable session cannot keep.

        Args:
            occasion: where QoS 0 showed.
        """
        if self._is_qos_0_news:
            self._is_qos_0_news = False
            logger.warning("%s: nothing of QoS 0 is kept while this listener is away", occasion)

    def connected(self) -> None:
        """Take note of a connection."""
        self.state = State.CONNECTED
        self._connection_count += 1
        self._connected_since = now()

    def look_at_session(self, options: ConnectOptions, *, is_resumed: bool) -> SessionBegun | SessionLost | None:
        """Tell when a durable session is a new one; lost is one of which we know that it was there.

        Args:
            options: of the connection that was just made.
            is_resumed: whether the broker had kept the session.
        """
        if not self._is_durable or is_resumed:
            return None
        where, who = options.endpoint, options.client_id
        if self._connection_count == 1:
            return SessionBegun(where, who)
        self._lost_sessions += 1
        return SessionLost(where, who)

    def close_outage(self, *, is_resumed: bool) -> Resumed | None:
        """End the outage, if there is one, with the connection that was just made.

        Args:
            is_resumed: whether the broker had kept the session meanwhile.
        """
        if self._outage_since is None:
            return None
        seconds = self._running_outage_seconds
        began_at, ended_at = self._outages[-1].began_at, now()
        lasted = timedelta(seconds=seconds)
        if abs(ended_at - began_at - lasted) > _SLEW:
            # the time of day was set meanwhile, as happens when the network is back: tell it as it goes now
            began_at = ended_at - lasted
        self._outages[-1] = replace(self._outages[-1], began_at=began_at, ended_at=ended_at, is_bridged=is_resumed)
        self._outage_seconds += seconds
        self._outage_since = None
        return Resumed(seconds, is_session_kept=is_resumed)

    @property
    def _running_outage_seconds(self) -> float:
        return 0.0 if self._outage_since is None else self._clock() - self._outage_since

    def lost(self, error: BrokerError, began_at: datetime) -> None:
        """Open an outage.

        Args:
            error: what ended the connection.
            began_at: since when nothing can have been heard, in UTC.
        """
        self._outage_count += 1
        self._outage_since = self._clock() - (now() - began_at).total_seconds()
        self._outages.append(Outage(began_at, None, str(error)))

    def disconnected(self) -> None:
        """Take note of a wanted end; what has failed stays so."""
        if self.state is not State.FAILED:
            self.state = State.DISCONNECTED

    def closed(self, counts: Counts) -> None:
        """Take note that a session is over, and add what it has counted."""
        self._connected_since = None
        self._invalid += counts.invalid
        self._paused_seconds += counts.paused_seconds

    def health(self, counts: Counts | None, tally: Tally) -> Health:
        """Take a snapshot.

        Args:
            counts: of the session that is up, which are not in the account yet.
            tally: of the handlers.
        """
        return Health(
            state=self.state,
            connected_since=self._connected_since,
            connection_count=self._connection_count,
            received=self._received,
            invalid=self._invalid + (counts.invalid if counts else 0),
            handler_errors=tally.failures,
            handler_timeouts=tally.timeouts,
            handler_retries=tally.retries,
            dead_letters=tally.dead_letters,
            invalid_payloads=tally.invalid,
            outage_count=self._outage_count,
            outages=tuple(self._outages),
            outage_seconds=self._outage_seconds + self._running_outage_seconds,
            lost_sessions=self._lost_sessions,
            paused_seconds=self._paused_seconds
            + tally.paused_seconds
            + (counts.paused_seconds if counts else 0.0),
            last_message_at=None if self._last_message_ns is None else in_utc(self._last_message_ns),
        )
