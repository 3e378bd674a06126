"""What a subscriber reports about itself: steps as they happen, and a snapshot of its health."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from plantops_cli.errors import BrokerError, CredentialsRefusedError

logger = logging.getLogger("plantops.stream")

_WORTH_SAYING_SECONDS = 1.0


class State(StrEnum):
    """Where a subscriber stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a connection, in which messages may have been missed.

    Attributes:
        began_at: when the broker was heard last, in UTC: with its last byte, or with the end of the connection if
            that was told in time.
        ended_at: when the filters were subscribed again, or None while it lasts.
        reason: what ended the connection.
        is_bridged: whether the broker had kept the session meanwhile, and with it what was published at QoS 1.
    """

    began_at: datetime
    ended_at: datetime | None
    reason: str
    is_bridged: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot of a subscriber.

    Attributes:
        state: where it stands.
        connected_since: when the present connection was made, in UTC, or None without one.
        connection_count: connections made so far.
        received: messages received so far.
        invalid: PUBLISH packets that carried no valid topic name and were passed over.
        handler_errors: calls of handlers that raised, or took longer than they may.
        outage_count: connections lost so far.
        outages: the latest outages, oldest first, at most 100.
        lost_sessions: durable sessions that the broker had forgotten when they were to be resumed.
        paused_seconds: how long the stream was held up by handlers or output that took more than 2 s for a batch.
        last_message_at: when the newest message was read, in UTC, or None before the first.
        handler_timeouts: those handler errors that were calls that took too long.
        handler_retries: calls of handlers that were made once more, after one that failed.
        dead_letters: messages that were given up, and published as dead letters.
        invalid_payloads: messages that did not fit the types of a handler.
        outage_seconds: how long all outages have lasted so far, one that lasts included.
    """

    state: State
    connected_since: datetime | None
    connection_count: int
    received: int
    invalid: int
    handler_errors: int
    outage_count: int
    outages: tuple[Outage, ...]
    lost_sessions: int
    paused_seconds: float
    last_message_at: datetime | None
    handler_timeouts: int = 0
    handler_retries: int = 0
    dead_letters: int = 0
    invalid_payloads: int = 0
    outage_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Connecting:
    """An attempt to connect begins; ``address_source`` names the file that had a say in where, if one had."""

    endpoint: str
    address_source: str | None = None


@dataclass(frozen=True, slots=True)
class FellBack:
    """The broker refused MQTT 5, hung up on it or was silent; MQTT 3.1.1 is tried."""

    endpoint: str
    reason: str


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker answered, and each filter is subscribed at the QoS it granted, or the session is resumed.

    Attributes:
        is_answered: False when messages have come instead of the answer to SUBSCRIBE, and it is still to come.
    """

    endpoint: str
    mqtt_version: str
    granted: Mapping[str, int]
    is_resumed: bool = False
    is_answered: bool = True


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection ended.

    Attributes:
        error: why.
        silent_seconds: how long ago the broker was heard last; an outage begins there.
    """

    error: BrokerError
    silent_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Retrying:
    """The next attempt comes after a delay; ``error`` is why the last one failed, None right after a loss."""

    delay_seconds: float
    error: BrokerError | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """A connection was made again after an outage; the broker may have kept the session meanwhile."""

    outage_seconds: float
    is_session_kept: bool = False


@dataclass(frozen=True, slots=True)
class SessionBegun:
    """The first connection with a durable session found nothing kept: its first start, or the broker forgot it."""

    endpoint: str
    client_id: str


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The broker has forgotten a durable session (session present is 0; MQTT 5, 3.2.2.1.1)."""

    endpoint: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Handlers or output have taken a while for what was read last, and hold up the stream.

    Attributes:
        seconds: how long so far.
        handler: the name of the handler that takes so long, or None where it is not a handler.
    """

    seconds: float
    handler: str | None = None


Status = Connecting | FellBack | Connected | Lost | Retrying | Resumed | SessionBegun | SessionLost | Paused
"""A step, as a status listener is told it."""

StatusListener = Callable[[Status], None]
"""Who is told about each step."""


def describe(status: Status) -> str:
    """Say a step in one line for a person."""
    match status:
        case Connecting(endpoint, None):
            return f"connecting to {endpoint}"
        case Connecting(endpoint, address_source):
            return f"connecting to {endpoint} ({address_source})"
        case FellBack(_, reason):
            return f"{reason}; trying MQTT 3.1.1"
        case Connected(endpoint, mqtt_version, _, True):
            return f"connected to {endpoint} with MQTT {mqtt_version}: session resumed"
        case Connected(endpoint, mqtt_version, _, _, False):
            return (
                f"connected to {endpoint} with MQTT {mqtt_version}: messages come before the answer to SUBSCRIBE"
            )
        case Connected(endpoint, mqtt_version, granted):
            filters = ", ".join(f"{name} at QoS {qos}" for name, qos in granted.items())
            return f"connected to {endpoint} with MQTT {mqtt_version}: {filters or 'nothing subscribed yet'}"
        case Lost(error, silent_seconds) if silent_seconds >= _WORTH_SAYING_SECONDS:
            return f"{error}; the broker was heard last {silent_seconds:.1f} s ago"
        case Lost(error):
            return str(error)
        case Retrying(delay_seconds, CredentialsRefusedError() as error):
            return f"{error}; it was right before, so it may be changing: retry in {delay_seconds:.1f} s"
        case Retrying(delay_seconds, error):
            return f"{error}; retry in {delay_seconds:.1f} s" if error else f"retry in {delay_seconds:.1f} s"
        case Resumed(outage_seconds, True):
            return f"resumed after {outage_seconds:.1f} s; the broker has kept the session"
        case Resumed(outage_seconds):
            return f"resumed after {outage_seconds:.1f} s; messages of that time may be missing"
        case SessionBegun(endpoint, client_id):
            return f"a new session begins: {endpoint} had kept nothing for {client_id!r}"
        case SessionLost(endpoint, client_id):
            return f"{endpoint} has forgotten the session {client_id!r}: what it was to keep is lost"
        case Paused(seconds, None):
            return f"reader slow: paused {seconds:.0f} s"
        case Paused(seconds, handler):
            return f"handler {handler} slow: {seconds:.0f} s for one message"


class StatusListeners:
    """Tells each step to everybody who wants to know.

    Args:
        first: the listener that is told first.

    Attributes:
        address_source: the file that had a say in where to connect, which each ``Connecting`` then names; or None.
    """

    def __init__(self, first: StatusListener) -> None:
        self.address_source: str | None = None
        self._listeners = [first]

    def add(self, listener: StatusListener) -> None:
        """Tell a listener too, after the others."""
        self._listeners.append(listener)

    def remove(self, listener: StatusListener) -> None:
        """Tell a listener no more; nothing happens when it is none."""
        with suppress(ValueError):
            self._listeners.remove(listener)

    def tell(self, status: Status) -> None:
        """Report a step; whoever is told must not be able to end the stream."""
        if isinstance(status, Connecting):
            status = replace(status, address_source=self.address_source)
        for listener in tuple(self._listeners):
            try:
                listener(status)
            except Exception:
                name = getattr(listener, "__qualname__", type(listener).__qualname__)
                logger.exception("status listener %s failed on %s", name, type(status).__name__)


def log_status(status: Status) -> None:
    """Hand a step to the log: trouble as a warning, the rest as information."""
    level = (
        logging.WARNING
        if isinstance(status, (FellBack, Lost, Retrying, Resumed, SessionLost, Paused))
        else logging.INFO
    )
    logger.log(level, "%s", describe(status))
