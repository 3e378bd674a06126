"""A broker in memory for the test of a program: the subscriber, and what it does with a message, is the real one.

It keeps a session as a broker does: what was not acknowledged comes again on the next connection of a durable one,
with the DUP flag (MQTT 5, 4.4). Retained messages it does not keep.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import cast

from plantops_cli.errors import StateError, TopicError
from plantops_cli.messages import Message, QoS
from plantops_cli.stream.backoff import Backoff
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.reconnection import Reconnection
from plantops_cli.stream.status import State
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.testing.memory_line import MemoryLine
from plantops_cli.testing.memory_session import MemorySession
from plantops_cli.testing.published import Delivered
from plantops_cli.topics import matches

PATIENCE_SECONDS = 10.0
"""How long a test waits for anything before it fails."""

RECONNECT_SECONDS = 0.01
"""How long the subscriber waits between its attempts to connect: no test is to wait as a network would want it."""

# of a login, a filter or a message that is refused (MQTT 5, 2.4)
_NOT_AUTHORIZED = 0x87
_POLL_SECONDS = 0.001


class InMemoryBroker:
    """What the subscriber of a test takes for its broker; ``testing`` makes one.

    Its methods may be called from any event loop and thread, whatever those of the subscriber are.

    Args:
        subscriber: whom it serves.
        session: what it knows of it.
        patience_seconds: how long each of its coroutines waits at most.
    """

    def __init__(self, subscriber: MQTTSubscriber, session: MemorySession, *, patience_seconds: float) -> None:
        self._subscriber = subscriber
        self._patience_seconds = patience_seconds
        self._session = session

    # What comes, and what goes

    async def deliver(
        self,
        topic: str,
        payload: object = b"",
        *,
        qos: QoS = 1,
        retain: bool = False,
        properties: Mapping[str, object] | None = None,
    ) -> Delivered:
        """Let a message come, and return when it is dealt with.

        That is when it is acknowledged (PUBACK, PUBREC), or the connection on which it came has ended; at QoS 0,
        when its handlers are done. A subscriber that is about to connect or to subscribe is waited for.

        Args:
            topic: the topic name.
            payload: as ``MQTTSubscriber.publish`` takes it.
            qos: at which it is published; it comes at no more than its subscription was granted.
            retain: whether it comes as one that the broker had kept.
            properties: MQTT 5 properties, as ``MQTTSubscriber.publish`` takes them.

        Raises:
            TopicError: no filter of the subscriber matches, or no message can have this topic name.
            ConfigError: payload, QoS or properties are not usable.
            StateError: nobody has connected the subscriber, or it has given up.
            TimeoutError: it was not dealt with in time.
        """
        request = PublishRequest.of(topic, payload, qos=qos, retain=retain, properties=properties)
        await self._subscribed(topic)
        line = self._session.line
        if line is None:  # lost in this very moment
            return await self.deliver(topic, payload, qos=qos, retain=retain, properties=properties)
        return await _in_loop(line.loop, lambda: self._deliver(line, request))

    @property
    def published(self) -> list[Message]:
        """What the subscriber has published and the broker taken, replies and dead letters too, oldest first.

        Each is equal to a ``Message.of`` with the same topic, payload, QoS, retain flag and properties.
        """
        return self._session.published

    @property
    def acknowledged(self) -> list[Message]:
        """What the subscriber has acknowledged, in that order; equal to others as those of ``published`` are."""
        return self._session.acknowledged

    @property
    def unacknowledged(self) -> list[Message]:
        """What was sent to the subscriber at QoS 1 or 2 and is not acknowledged, oldest first."""
        return [sent.message for sent in self._session.sent.values() if sent.message.qos]

    @property
    def subscriptions(self) -> Mapping[str, int]:
        """The QoS that was granted to each topic filter."""
        return self._session.subscriptions

    @property
    def connection_count(self) -> int:
        """How many connections were made."""
        return self._session.connection_count

    # Waiting

    async def connected(self) -> None:
        """Wait until the subscriber is connected and has subscribed, be it again after a connection was lost.

        Raises:
            StateError: nobody has connected it in time, or it has given up.
        """
        if not await self._until(self._is_connected):
            raise StateError(
                f"the subscriber was not connected within {self._patience_seconds:g} s"
                + (f": {self._subscriber.obstacle}" if self._subscriber.obstacle else ""),
                hint="`async with testing(...)` connects and starts it; in `with testing(...)` the program does",
            )

    async def settled(self) -> None:
        """Wait until all that was sent to the subscriber is acknowledged, and at QoS 0 handled.

        Raises:
            TimeoutError: some of it was not in time.
        """
        if not await self._until(lambda: not self._session.sent):
            topics = ", ".join(ascii(sent.message.topic) for sent in self._session.sent.values())
            raise TimeoutError(f"not dealt with within {self._patience_seconds:g} s: {topics}")

    # What goes wrong

    def lose_connection(self, code: int | None = None) -> None:
        """End the connection; the subscriber connects again at once.

        Args:
            code: of a DISCONNECT that says why (MQTT 5, 3.14.2.1): 0x8E, another client has taken the session
                over. None: the connection just ends.
        """
        line, self._session.line = self._session.line, None
        if line is not None:
            line.loop.call_soon_threadsafe(line.end, code)

    def stop(self) -> None:
        """Go away: the connection ends, and nobody listens until ``start``."""
        self._session.is_stopped = True
        self.lose_connection()

    def start(self) -> None:
        """Come back after ``stop``; the session of a durable subscriber was kept."""
        self._session.is_stopped = False

    def forget_session(self) -> None:
        """Have no session any more when the subscriber connects again."""
        self._session.is_kept = False

    def refuse_login(self, code: int = _NOT_AUTHORIZED) -> None:
        """Let nobody in who connects from now on.

        Args:
            code: of the CONNACK (MQTT 5, 3.2.2.2); 0x88, of a broker that is not available, may heal.
        """
        self._session.login_code = code

    def refuse_subscription(self, topic_filter: str, code: int = _NOT_AUTHORIZED) -> None:
        """Refuse to subscribe a filter.

        Args:
            topic_filter: the filter as it is asked for.
            code: of the SUBACK, 0x80 or above (MQTT 5, 3.9.3).
        """
        self._session.refused_filters[topic_filter] = code

    def refuse_publish(self, topic_filter: str = "#", code: int = _NOT_AUTHORIZED) -> None:
        """Take no message of the subscriber on the topics that a filter matches.

        Args:
            topic_filter: a topic filter.
            code: of the PUBACK, 0x80 or above (MQTT 5, 3.4.2.1).
        """
        self._session.refused_topics[topic_filter] = code

    def accept(self) -> None:
        """Refuse nothing any more."""
        self._session.login_code = 0
        self._session.refused_filters.clear()
        self._session.refused_topics.clear()

    def slow(self, seconds: float = 1.0) -> None:
        """Answer late from now on to what is subscribed or published.

        Args:
            seconds: how late; 0: at once.
        """
        self._session.answer_seconds = seconds

    # Inside

    async def _deliver(self, line: MemoryLine, request: PublishRequest) -> Delivered:
        granted = self._session.granted(request.topic)
        sent = self._session.send(line, request, min(request.qos, granted or 0))
        done, _ = await asyncio.wait((sent.settled,), timeout=self._patience_seconds)
        if not done:
            raise TimeoutError(
                f"{request.topic!a} was not dealt with within {self._patience_seconds:g} s: "
                "is a handler busy with it, or does nobody read the messages?"
            )
        return Delivered(sent.message, sent.settled.result(), tuple(sent.errors))

    async def _subscribed(self, topic: str) -> None:
        """Wait until a topic is subscribed that the subscriber wants, at least."""
        await self.connected()
        known = sorted({*self._wanted, *self._session.subscriptions})
        if not any(matches(name, topic) for name in known):
            raise TopicError(
                f"no filter of the subscriber matches {topic!a}: {', '.join(map(ascii, known)) or 'it has none'}",
                hint="is the topic misspelt, or a handler not registered?",
            )
        if not await self._until(lambda: self._is_connected() and self._session.granted(topic) is not None):
            raise TimeoutError(f"nothing that matches {topic!a} was subscribed in time")

    @property
    def _wanted(self) -> Mapping[str, int]:
        return self._subscriber._subscriptions.wanted  # noqa: SLF001  # users have no use for it

    def _is_connected(self) -> bool:
        if self._subscriber.health.state is State.FAILED:
            raise StateError("the subscriber has given up", hint="its wait() says why")
        line = self._session.line
        return line is not None and line.is_open and cast("object", self._subscriber.client) is line

    async def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds, of what another thread may change; False when it does not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_seconds
        while not condition():
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True


class testing:  # noqa: N801  # a context manager that reads as a word, as contextlib has them
    """Put a broker in memory in the place of the network, for as long as the context lasts.

    ``async with`` connects and starts the subscriber, and disconnects it in the end. A program that does so by
    itself, as a FastAPI application in its lifespan, is tested in a plain ``with``.

    Args:
        subscriber: the one that the program uses, not connected.
        patience_seconds: how long the broker waits for what a test waits for, before it fails.

    Raises:
        StateError: the subscriber is connected, or listens.
    """

    __test__ = False  # pytest is not to take it for a test

    def __init__(self, subscriber: MQTTSubscriber, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._subscriber = subscriber
        self._lifeline = subscriber._lifeline  # noqa: SLF001  # where it connects, which users have no use for
        self._tally = subscriber._tally  # noqa: SLF001  # which is told what fails, as above
        self._session = MemorySession()
        self._broker = InMemoryBroker(subscriber, self._session, patience_seconds=patience_seconds)
        self._usual = (self._lifeline.make_client, self._lifeline.reconnection, self._tally.on_failure)

    def __enter__(self) -> InMemoryBroker:
        """Let the subscriber connect to the broker in memory from now on."""
        if self._lifeline.is_connected or self._lifeline.reader:
            raise StateError("the subscriber is connected already", hint="begin the test before it connects")
        self._lifeline.make_client = self._session.make_line
        self._lifeline.reconnection = Reconnection(
            backoff=Backoff(uniform=lambda *_: RECONNECT_SECONDS),
            login_patience_seconds=self._lifeline.reconnection.login_patience_seconds,
        )
        self._tally.on_failure = self._session.note_failure
        return self._broker

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        """Give it the network back."""
        self._lifeline.make_client, self._lifeline.reconnection, self._tally.on_failure = self._usual

    async def __aenter__(self) -> InMemoryBroker:
        """Connect and start it, too."""
        broker = self.__enter__()
        try:
            await self._subscriber.connect()
            await self._subscriber.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return broker

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        """Disconnect it, and give it the network back."""
        if isinstance(exc, StateError):
            exc.add_note("a program that connects by itself is tested in `with testing(...)`, without async")
        try:
            await self._subscriber.disconnect()
        finally:
            self.__exit__(None, None, None)


async def _in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[Delivered]]) -> Delivered:
    """Await work in an event loop, which may be one of another thread."""
    if loop is asyncio.get_running_loop():
        return await work()

    async def there() -> Delivered:
        return await work()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), loop))
