"""Publishing across connections: it waits for one, sends again what a lost one may have cost, and ends in time."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from plantops_cli.errors import BrokerError, BrokerUnreachableError, ConfigError, PlantopsError, StateError
from plantops_cli.stream import failures
from plantops_cli.stream.options import MQTTVersion
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.receipts import Unanswered
from plantops_cli.stream.session import Session

WAIT_SECONDS = 10.0
"""How long ``publish`` takes by default, at most."""


class Connections(Protocol):
    """One session after another, and what is known of the next one; ``Lifeline`` is it.

    Attributes:
        session: the one at hand, or None.
        obstacle: what it waits for instead of being connected, in words; None when it does not wait.
        last_error: why the last attempt to connect failed or the last connection ended, or None.
        failure: what has ended it for good, or None.
    """

    session: Session | None
    obstacle: str | None
    last_error: BrokerError | None
    failure: Exception | None

    @property
    def is_stopped(self) -> bool: ...
    @property
    def is_kept_up(self) -> bool: ...
    async def change(self) -> None: ...


class Outgoing:
    """What a subscriber publishes.

    Args:
        connections: where it goes out.
        endpoint: the broker as ``host:port``.
    """

    def __init__(self, connections: Connections, endpoint: str) -> None:
        self._connections = connections
        self._endpoint = endpoint
        self._one_by_one = asyncio.Lock()

    async def publish(
        self,
        topic: str,
        payload: object = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, object] | None = None,
        wait: float = WAIT_SECONDS,
    ) -> None:
        """Publish a message, as ``MQTTSubscriber.publish``."""
        request = PublishRequest.of(topic, payload, qos=qos, retain=retain, properties=properties)
        seconds = _check_seconds(wait)
        try:
            async with asyncio.timeout(seconds):
                code = await self._deliver(request)
        except TimeoutError:
            raise self._too_late(request, seconds) from self._connections.last_error
        if code >= 0x80:
            raise failures.publish_refused(code, topic, endpoint=self._endpoint)

    async def _deliver(self, request: PublishRequest) -> int:
        """Send a message until it is acknowledged, and return the reason code.

        There are brokers that end the connection over a message that they do not take. So one that was on its way
        when a connection ended is sent once more, and alone: if it was to blame, it costs the others no more.
        """
        code = await self._send(request)
        if code is Unanswered.LOST and request.qos < 2:
            async with self._one_by_one:
                code = await self._send(request)
        if isinstance(code, Unanswered):
            raise failures.lost_unacknowledged(request.topic, endpoint=self._endpoint, qos=request.qos)
        return code

    async def _send(self, request: PublishRequest) -> int | Unanswered:
        """Send a message on the first connection on which it goes out."""
        outcome: int | Unanswered = Unanswered.NOT_SENT
        while outcome is Unanswered.NOT_SENT:
            session = await self._live_session()
            is_v5 = session.options.mqtt_version is MQTTVersion.V5
            if refusal := request.refusal(session.granted, is_v5=is_v5, endpoint=self._endpoint):
                raise refusal
            outcome = await session.publish_once(request)
        return outcome

    async def _live_session(self) -> Session:
        """Wait for a connection, unless none is to come.

        Raises:
            PlantopsError: why none is to come.
        """
        connections = self._connections
        while True:
            session = connections.session
            if session is not None and session.client is not None:
                return session
            if error := self._why_none_comes():
                raise error
            await connections.change()

    def _why_none_comes(self) -> PlantopsError | None:
        connections = self._connections
        if isinstance(connections.failure, PlantopsError):
            return _copy(connections.failure)
        if connections.is_stopped:
            return StateError("the subscriber was disconnected, and the message not published")
        if connections.is_kept_up:
            return None
        if connections.session is not None and connections.session.ended is not None:
            return _copy(connections.session.ended)
        why = f": {connections.last_error}" if connections.last_error else ""
        return StateError(f"the subscriber is not connected{why}", hint="call connect() or start() first")

    def _too_late(self, request: PublishRequest, seconds: float) -> BrokerError:
        connections = self._connections
        session, error = connections.session, connections.last_error
        if session is not None and session.client is not None:
            return failures.no_receipt(request.topic, endpoint=self._endpoint, seconds=seconds, qos=request.qos)
        why = connections.obstacle or (session and session.ended) or error or f"{self._endpoint}: no connection"
        return BrokerUnreachableError(
            f"{why} (nothing published within {seconds:g} s)",
            endpoint=self._endpoint,
            hint=error.hint if error else None,
        )


def _check_seconds(wait: Any) -> float:
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not wait > 0:
        raise ConfigError(f"wait={wait!r} is not usable", hint="seconds, more than 0")
    return float(wait)


def _copy(error: PlantopsError) -> PlantopsError:
    """Return an error anew: one that many raise would hold what each of them was doing."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error
    return copy
