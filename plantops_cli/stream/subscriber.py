"""MQTTSubscriber: a subscription that stays alive, and the handlers it feeds."""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from plantops_cli.credentials import shown_username
from plantops_cli.errors import (
    BrokerError,
    ConfigError,
    ConnectionLostError,
    HeldUpError,
    PlantopsError,
    StateError,
    SubscriptionRefusedError,
)
from plantops_cli.messages import Message, in_utc, now
from plantops_cli.stream import failures
from plantops_cli.stream.backoff import STABLE_SECONDS, Backoff
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.exactly_once import LEAST_BYTES, ExactlyOnce
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.options import (
    MAX_PACKET_BYTES,
    SESSION_EXPIRY_SECONDS,
    ConnectOptions,
    MQTTVersion,
    durable_client_id,
    random_client_id,
)
from plantops_cli.stream.packets import LONGEST_PACKET_BYTES, LONGEST_TOPIC_KEPT, QOS_1_OR_2, RETAIN
from plantops_cli.stream.session import SUBACK_SECONDS, AiomqttClient, AtOnce, Session, open_session
from plantops_cli.stream.status import (
    Connected,
    Connecting,
    Health,
    Lost,
    Outage,
    Resumed,
    Retrying,
    SessionBegun,
    SessionLost,
    State,
    Status,
    StatusListener,
    log_status,
)
from plantops_cli.stream.tls import TLSOptions
from plantops_cli.stream.waiting import unless
from plantops_cli.topics import check_filter, matches

if TYPE_CHECKING:
    from plantops_cli.config import Settings

logger = logging.getLogger("plantops.stream")

Handler = Callable[[Message], Awaitable[object] | object]
"""What a message is handed to: a function or a coroutine function."""


class SubscriberOptions(TypedDict, total=False):
    """The keywords of ``MQTTSubscriber`` of which settings say nothing."""

    durable: str | None
    session_expiry_seconds: int | None
    group: str | None
    on_error: Literal["ack", "keep"]
    keepalive_seconds: int
    mqtt_version: str
    qos: int
    max_packet_bytes: int
    max_pending_bytes: int
    websocket_path: str | None
    unix_socket: str | None
    connect_timeout_seconds: float
    on_status: StatusListener


DRAIN_SECONDS = 3.0
"""How long ``disconnect`` waits for the handlers to finish what has arrived."""

_KICKS_OF_A_TAKEOVER = 3
# a durable one outlives a broker that crashes again and again, and restarts too fast for us to notice
_KICKS_OF_A_TAKEOVER_IF_DURABLE = 20
_OUTAGES_KEPT = 100
_QOS_OR_RETAIN = QOS_1_OR_2 | RETAIN
_ROUTES_KEPT = 10_000
_PATIENCE_SECONDS = 3600.0


class MQTTSubscriber:
    """Subscribe to a broker, keep the subscription alive, and feed each message to the handlers that match.

    Nothing is connected before ``connect`` or ``start``. ``async with`` connects, and disconnects in the end;
    inside, ``start`` feeds the handlers, or ``messages`` or ``batches`` is iterated over. The object may be used
    again after ``disconnect``, and on another event loop when the first has ended, even without ``disconnect``.

    Args:
        host: name or address of the broker.
        port: its TCP port.
        username: MQTT user name, or None to connect anonymously.
        password: MQTT password; text is sent as UTF-8.
        client_id: MQTT client id; default: a random one, with ``durable`` one made of that name.
        durable: name of a session that the broker keeps while this client is away, so that nothing of QoS 1 is
            lost as far as the broker keeps it; no two clients may use the same name at once.
        session_expiry_seconds: how long the broker keeps it (MQTT 5, 3.1.2.11.2; a 3.1.1 broker by its own rules);
            default: a day. For durable sessions only.
        group: name of a shared subscription: each message goes to one of the clients of a group (MQTT 5, 4.8.2),
            and no retained ones come.
        on_error: what becomes of a message whose handler raises. ``ack``: it counts as handled. ``keep``: it stays
            unacknowledged and the connection is given up, so that it comes again, if the session is durable.
        tls: ``TLSOptions()`` for TLS, None for a plain connection.
        keepalive_seconds: longest silence before a ping; a dead connection is noticed within twice that.
        mqtt_version: ``auto`` (5, and 3.1.1 where the broker refuses 5 or is silent on it for 3 s), ``5`` or
            ``3.1.1``.
        qos: the QoS asked for when ``subscribe`` names none: 0, 1 or 2.
        max_packet_bytes: longest packet to be received; a longer one ends the connection.
        max_pending_bytes: memory that messages may take which wait or are being handled, objects included. Up to
            it the connection is read while handlers are busy, and with it the answers to pings, to ``publish`` and
            to ``subscribe``; then it is left unread, and nothing is dropped. A single message may be larger.
        websocket_path: path of the broker's WebSocket, for example ``/mqtt``; None for plain MQTT.
        unix_socket: path of the broker's Unix socket, used instead of ``host`` and ``port``.
        connect_timeout_seconds: bound of one attempt to connect.
        on_status: the first status listener, called with each step (connecting, connected, lost, ...); default: it
            is logged. ``add_status_listener`` adds others.

    Raises:
        ConfigError: an argument is out of its range.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        username: str | None = None,
        password: str | bytes | None = None,
        *,
        client_id: str | None = None,
        durable: str | None = None,
        session_expiry_seconds: int | None = None,
        group: str | None = None,
        on_error: Literal["ack", "keep"] = "ack",
        tls: TLSOptions | None = None,
        keepalive_seconds: int = 15,
        mqtt_version: str = MQTTVersion.AUTO,
        qos: int = 1,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        websocket_path: str | None = None,
        unix_socket: str | None = None,
        connect_timeout_seconds: float = 6.5,
        on_status: StatusListener = log_status,
    ) -> None:
        _check_arguments(host, port, client_id, keepalive_seconds=keepalive_seconds, mqtt_version=mqtt_version)
        _check_session(durable, client_id, session_expiry_seconds, qos=qos)
        _check_packet_size(max_packet_bytes)
        _check_pending(max_pending_bytes)
        self._options = ConnectOptions(
            host=host,
            port=port,
            username=username,
            password=password,
            client_id=client_id or (durable_client_id(durable) if durable else random_client_id()),
            tls=tls,
            keepalive_seconds=keepalive_seconds,
            mqtt_version=MQTTVersion(mqtt_version),
            timeout_seconds=connect_timeout_seconds,
            session_expiry_seconds=(session_expiry_seconds or SESSION_EXPIRY_SECONDS) if durable else None,
            max_packet_bytes=max_packet_bytes,
            max_pending_bytes=max_pending_bytes,
            websocket_path=websocket_path,
            unix_socket=unix_socket,
        )
        self._has_own_client_id = client_id is not None or durable is not None
        self._kicks_of_a_takeover = _KICKS_OF_A_TAKEOVER_IF_DURABLE if durable else _KICKS_OF_A_TAKEOVER
        self._group = _check_group(group)
        self._keeps_failed = _check_on_error(on_error) == "keep"
        self._version = self._options.mqtt_version
        self._qos = _check_qos(qos)
        self._listeners = [on_status]
        self._address_source: str | None = None
        self._handlers: dict[str, list[Handler]] = {}
        self._filters: dict[str, int] = {}
        self._routes: dict[str, tuple[Handler, ...]] = {}
        self._exactly_once = ExactlyOnce(max(max_pending_bytes, LEAST_BYTES))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: Session | None = None
        self._owner: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._asking: set[asyncio.Task[dict[str, int]]] = set()
        self._is_connecting = False
        self._is_disconnecting = False
        self._is_warned = False
        self._is_qos_0_news = durable is not None
        self._stop = asyncio.Event()
        self._backoff = Backoff()
        self._obstacle: str | None = None
        self._kicks = 0
        self._state = State.DISCONNECTED
        self._connected_since: datetime | None = None
        self._connected_at = 0.0
        self._connection_count = 0
        self._received = 0
        self._invalid = 0
        self._handler_errors = 0
        self._outage_count = 0
        self._outage_began_at: datetime | None = None
        self._lost_sessions = 0
        self._paused_seconds = 0.0
        self._outages: deque[Outage] = deque(maxlen=_OUTAGES_KEPT)
        self._last_message_ns: int | None = None

    @classmethod
    def from_settings(
        cls,
        settings: "Settings",
        *,
        login: tuple[str | None, str | bytes | None] | None = None,
        insecure: bool = False,
        **options: Unpack[SubscriberOptions],
    ) -> Self:
        """Make the subscriber that the settings describe.

        Where a file had a say in where a password goes, each attempt to connect names it.

        Args:
            settings: resolved settings, of ``load_settings``.
            login: user name and password instead of those of the settings.
            insecure: as in ``TLSOptions``.
            options: the other keywords of the constructor.

        Raises:
            ConfigError: no password, or an argument or a TLS file that is not usable.
        """
        username, password = login or (settings.mqtt_backend_username, settings.password())
        made = cls(
            settings.mqtt_host,
            settings.port,
            username,
            password,
            client_id=settings.mqtt_client_id,
            tls=TLSOptions.from_settings(settings, insecure=insecure),
            **options,
        )
        if password is not None and options.get("unix_socket") is None:
            made._address_source = settings.address_source
        return made

    async def __aenter__(self) -> Self:
        """Connect, as ``connect`` does."""
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect, as ``disconnect`` does; ``wait`` tells what has ended it before."""
        await self.disconnect()

    def __repr__(self) -> str:
        who = (
            f", username={shown_username(self._options.username)!r}" if self._options.username is not None else ""
        )
        return f"<MQTTSubscriber {self._options.endpoint}{who}, {self._state}>"

    @property
    def host(self) -> str:
        """Name or address of the broker."""
        return self._options.host

    @property
    def port(self) -> int:
        """The broker's TCP port."""
        return self._options.port

    @property
    def username(self) -> str | None:
        """MQTT user name, or None for an anonymous client."""
        return self._options.username

    @property
    def password(self) -> str | bytes | None:
        """MQTT password as it was given; nothing else shows it."""
        return self._options.password

    @property
    def client(self) -> AiomqttClient | None:
        """The live ``aiomqtt.Client``, for publishing; None while there is no connection."""
        if self._session is None or (self._loop and self._loop.is_closed()):
            return None
        return self._session.client

    @property
    def options(self) -> ConnectOptions:
        """Where it connects, as whom and how; the password does not show."""
        return self._options

    @property
    def handlers(self) -> dict[str, list[Handler]]:
        """The registered handlers by topic filter."""
        return self._handlers

    @property
    def health(self) -> Health:
        """A snapshot of state and counters."""
        return Health(
            state=self._state,
            connected_since=self._connected_since,
            connection_count=self._connection_count,
            received=self._received,
            invalid=self._invalid + (self._session.invalid if self._session else 0),
            handler_errors=self._handler_errors,
            outage_count=self._outage_count,
            outages=tuple(self._outages),
            lost_sessions=self._lost_sessions,
            paused_seconds=self._paused_seconds + (self._session.paused_seconds if self._session else 0.0),
            last_message_at=None if self._last_message_ns is None else in_utc(self._last_message_ns),
        )

    @property
    def obstacle(self) -> str | None:
        """What it waits for instead of being connected, in words; None when it is connected, or does not try."""
        return self._obstacle

    @property
    def heard_at(self) -> float | None:
        """When something came from the broker last, be it the answer to a ping, by the clock of the event loop.

        Until then it is certain that a message would have arrived; None while there is no connection.
        """
        return self._session.heard_at if self._session else None

    def add_status_listener(self, listener: StatusListener) -> None:
        """Call ``listener`` with each step from now on, after those that were added before.

        Args:
            listener: told about each step; one that raises is logged, and ends nothing.
        """
        self._listeners.append(listener)

    def remove_status_listener(self, listener: StatusListener) -> None:
        """Tell a status listener no more; nothing happens when it is none.

        Args:
            listener: what was added, or given as ``on_status``.
        """
        with suppress(ValueError):
            self._listeners.remove(listener)

    def register_handler(self, topic_filter: str, handler: Handler) -> None:
        """Call ``handler`` with each message that matches, and subscribe to the filter.

        Before ``connect`` or ``start`` this only takes note; on a live connection the filter is subscribed in the
        background, and a refusal ends the subscriber as it does in ``start``.

        Args:
            topic_filter: an MQTT topic filter, for example ``devices/+/telemetry``.
            handler: a function or coroutine function of one ``Message``; sync ones must not block.

        Raises:
            TopicError: the filter is not valid (MQTT 4.7).
        """
        self._note(topic_filter, handler, None)
        if self._reader and self._session:
            asyncio.get_running_loop().call_soon(self._subscribe_missing, self._session)

    async def subscribe(
        self, topic_filter: str, handler: Handler | None = None, *, qos: int | None = None
    ) -> int | None:
        """Subscribe to a filter now, and again after each reconnection.

        The broker's answer comes behind the messages that it has sent before, and is waited for 2.5 s. A refusal
        that comes after that ends the subscriber, as with ``register_handler``.

        Args:
            topic_filter: an MQTT topic filter.
            handler: called with each message that matches; None for readers of ``batches``.
            qos: highest QoS wanted; default: that of the constructor.

        Returns:
            The QoS that the broker granted, or None when there is no connection or no answer yet.

        Raises:
            TopicError: the filter is not valid (MQTT 4.7).
            SubscriptionRefusedError: the broker refused it (SUBACK 0x80 or above); a new filter is forgotten.
            HeldUpError: so many messages wait, before ``start`` or for a handler that holds them up, that the
                answer behind them cannot be read; the filter is kept, and subscribed when they are handled.
            BrokerError: the connection ended meanwhile.
        """
        self._enter_loop()
        is_new = topic_filter not in self._filters
        self._note(topic_filter, handler, qos)
        session = self._session
        if session is None or session.client is None:
            return None
        asking = self._ask(session, {topic_filter: self._filters[topic_filter]})
        try:
            async with session.client.answerable():
                await asyncio.wait((asking,), timeout=SUBACK_SECONDS)
        finally:
            if not asking.done():
                asking.add_done_callback(partial(_end_if_failed, session))
        if not asking.done():
            return None
        try:
            return asking.result()[topic_filter]
        except SubscriptionRefusedError:
            if is_new:
                self._forget(topic_filter)
            raise

    def _ask(
        self, session: Session, filters: Mapping[str, int], *, timeout_seconds: float = _PATIENCE_SECONDS
    ) -> asyncio.Task[dict[str, int]]:
        """Subscribe in a task, for the SUBACK may have to wait behind messages."""
        # noted at once, so that nobody asks for the same again before the task has begun
        session.filters.update({self._wire(name): qos for name, qos in filters.items()})
        asking = asyncio.create_task(
            self._subscribe(session, filters, timeout_seconds=timeout_seconds), name="plantops-subscribe"
        )
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return asking

    async def _first_answer(self, session: Session) -> dict[str, int] | None:
        """Subscribe everything, and return what was granted; None when messages are to be handled first.

        The broker may send any number of them before its SUBACK (MQTT 5, 3.8.4).
        """
        asking = self._ask(session, self._filters, timeout_seconds=SUBACK_SECONDS)
        try:
            with suppress(HeldUpError):
                while session.client and not asking.done():
                    async with session.client.answerable():
                        await asyncio.wait((asking,), timeout=SUBACK_SECONDS)
                    if session.held:
                        break
            if session.client is None or asking.done():
                return await asking
        except BaseException:
            asking.cancel()
            raise
        asking.add_done_callback(partial(_end_if_failed, session))
        return None

    async def _subscribe(
        self, session: Session, filters: Mapping[str, int], *, timeout_seconds: float = SUBACK_SECONDS
    ) -> dict[str, int]:
        """Subscribe, as a member of the group if there is one, and return what was granted to each filter."""
        names = {self._wire(name): name for name in filters}
        wanted = {wired: filters[name] for wired, name in names.items()}
        answer = await session.subscribe(wanted, timeout_seconds=timeout_seconds)
        granted = {names[wired]: qos for wired, qos in answer.items()}
        for name, qos in granted.items():
            if not qos and self._is_qos_0_news:
                self._warn_of_qos_0(f"the broker granted QoS 0 to {name!r}")
        return granted

    def _wire(self, topic_filter: str) -> str:
        is_shared = self._group is None or topic_filter.startswith("$share/")
        return topic_filter if is_shared else f"$share/{self._group}/{topic_filter}"

    async def connect(self) -> None:
        """Connect once and subscribe what was registered.

        Raises:
            BrokerError: no connection came about within ``connect_timeout_seconds``, or a filter was refused.
            ConfigError: a TLS file is missing or unusable.
            StateError: it is connected or started already, or ``disconnect`` was called meanwhile.
        """
        self._enter_loop()
        if self._session or self._is_running or self._is_connecting:
            raise StateError("the subscriber is connected already", hint="disconnect() first")
        self._stop.clear()
        self._is_connecting = True
        try:
            session = await unless(self._stop, self._open())
        except asyncio.CancelledError:
            await self._drop_session()
            raise
        finally:
            self._is_connecting = False
        if session is None:
            raise StateError("disconnected while connecting")

    async def start(self) -> None:
        """Begin to listen in a background task, and return.

        Without ``connect`` before it, the task keeps trying for the first connection too. Begun late, while
        ``disconnect`` is under way, it does nothing.

        Raises:
            StateError: it is started already.
        """
        self._enter_loop()
        if self._is_disconnecting:
            return
        if self._is_running:
            raise StateError("the subscriber is started already")
        self._stop.clear()
        self._owner = asyncio.create_task(self._run(), name=f"plantops-subscriber {self._options.endpoint}")
        self._owner.add_done_callback(_retrieve)

    async def wait(self) -> None:
        """Wait until listening ends: by ``disconnect``, or by an error that no reconnection can heal.

        Raises:
            BrokerError: what ended it.
            StateError: ``start`` was not called.
        """
        self._enter_loop()
        if self._owner is None:
            raise StateError("the subscriber was not started", hint="call start() first")
        await asyncio.wait((self._owner,))
        if not self._owner.cancelled():
            self._owner.result()

    def stop(self) -> None:
        """Read nothing more; ``batches`` and the background task end after what has arrived."""
        self._stop.set()
        if self._session:
            self._session.finish()

    async def disconnect(self) -> None:
        """Stop listening, let the handlers finish what has arrived (3 s at most), and close the connection.

        Safe to call again, and at any moment; ends within 5 s whatever the broker does.
        """
        self._enter_loop()
        self.stop()
        self._is_disconnecting = True
        try:
            # a create_task(start()) of a moment ago begins now, and finds that it comes too late
            await asyncio.sleep(0)
            await self._join_owner()
            await self._drop_session()
        finally:
            self._is_disconnecting = False
        if self._state is not State.FAILED:
            self._state = State.DISCONNECTED

    async def batches(self, at_once: AtOnce | None = None) -> AsyncGenerator[Batch, None]:
        """Yield messages as they come, a non-empty batch at a time, across reconnections, until ``stop``.

        The door for readers that want the stream itself instead of handlers; use it or ``start``, not both. A
        batch is acknowledged when the next one is asked for, and not at all when the loop is left before. Leave it
        to disconnect: what was read and not acknowledged comes again with another connection only.

        Args:
            at_once: is offered a few messages that nothing waits before, in the very turn of the event loop in
                which they are read; True when it is done with them, so that they are acknowledged, not yielded.

        Raises:
            BrokerError: an error that no reconnection can heal.
        """

        def counted_at_once(batch: Batch) -> bool:
            is_done = at_once is not None and at_once(batch)
            if is_done:
                self._count(batch)
            return is_done

        self._enter_loop()
        self._reader = asyncio.current_task()
        try:
            while session := await self._live_session():
                try:
                    self._subscribe_missing(session)
                    async with aclosing(session.batches(at_once and counted_at_once)) as batches:
                        async for batch in batches:
                            self._count(batch)
                            yield batch
                except BrokerError as exc:
                    await self._lost(session, exc)
                if self._stop.is_set():
                    return
        except Exception:
            self._state = State.FAILED
            await self._drop_session()
            raise
        finally:
            self._reader = None

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yield messages one at a time, as ``batches`` does; use one of the two, or ``start``.

        A message of QoS 1 or 2 is acknowledged when the next one is asked for, thus not at all when the loop is
        left by ``break`` or an error. Leave it to disconnect, as that of ``batches``, which costs less a message.

        Raises:
            BrokerError: an error that no reconnection can heal.
        """
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for message, packets in batch.in_turn():
                    yield message
                    if self._session:
                        self._session.acknowledge(packets)
                        batch.acknowledged += len(packets)

    def acknowledge(self, batch: Batch, *, handled: int) -> None:
        """Acknowledge the first messages of the batch at hand; for a reader of ``batches`` that then breaks off.

        Args:
            batch: the batch that was yielded last.
            handled: how many of its messages are done with.
        """
        if self._session:
            self._session.acknowledge(batch.acknowledgeable(handled))

    def _enter_loop(self) -> None:
        """Begin anew on the running event loop, if another was used before.

        An ``asyncio.run`` that ends without ``disconnect`` leaves tasks and a session that nothing can await.
        """
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        is_in_use = self._session or self._reader or self._is_running or self._is_connecting
        if is_in_use and self._loop and self._loop.is_running():
            raise StateError(
                "the subscriber is in use on another event loop, which still runs", hint="disconnect() there first"
            )
        self._loop = loop
        self._stop = asyncio.Event()
        self._owner = self._reader = None
        self._is_connecting = self._is_disconnecting = False
        self._asking.clear()
        if self._session:
            self._abandon(self._session)

    def _abandon(self, session: Session) -> None:
        """Close the socket of a session whose event loop has ended."""
        endpoint = self._options.endpoint
        with suppress(RuntimeError):  # once the socket is closed: the loop is closed, too
            session.fail(ConnectionLostError(f"{endpoint}: the event loop has ended", endpoint=endpoint))
        self._session = self._connected_since = None
        self._invalid += session.invalid
        self._paused_seconds += session.paused_seconds
        self._state = State.DISCONNECTED

    async def _join_owner(self) -> None:
        owner = self._owner
        if owner and owner is not asyncio.current_task():
            await asyncio.wait((owner,), timeout=DRAIN_SECONDS)
            owner.cancel()
            await asyncio.wait((owner,), timeout=1.0)

    @property
    def _is_durable(self) -> bool:
        return self._options.session_expiry_seconds is not None

    @property
    def _is_running(self) -> bool:
        return self._owner is not None and not self._owner.done()

    def _note(self, topic_filter: str, handler: Handler | None, qos: int | None) -> None:
        """Remember a filter, the QoS asked for and a handler."""
        check_filter(topic_filter)
        if qos is not None or topic_filter not in self._filters:
            self._filters[topic_filter] = _check_qos(self._qos if qos is None else qos)
        handlers = self._handlers.setdefault(topic_filter, [])
        if handler is not None:
            handlers.append(handler)
            self._routes.clear()

    def _forget(self, topic_filter: str) -> None:
        """Drop a filter and its handlers, so that the next reconnection does not stumble over it."""
        del self._filters[topic_filter], self._handlers[topic_filter]
        self._routes.clear()

    async def _run(self) -> None:
        try:
            async with aclosing(self.batches()) as batches:
                async for batch in batches:
                    await self._handle(batch)
        except PlantopsError as exc:
            logger.error("stopped listening: %s", exc)
            raise
        except Exception:
            logger.exception("stopped listening")
            raise

    async def _handle(self, batch: Batch) -> None:
        for position, message in enumerate(batch):
            try:
                is_handled = await self._dispatch(message)
            except asyncio.CancelledError:
                self.acknowledge(batch, handled=position)  # what is done with is not to come again
                raise
            if not is_handled and self._keeps_failed and message.qos and self._session:
                self._session.give_up(batch, handled=position)
                return

    async def _dispatch(self, message: Message) -> bool:
        """Call the handlers of a message, each of them, and tell whether none failed."""
        errors = self._handler_errors
        for handler in self._route(message.topic):
            try:
                result = handler(message)
                if inspect.isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError):
                # raised by what the handler awaited, or meant for this very task
                if _is_being_cancelled():
                    raise
                self._handler_errors += 1
                name = getattr(handler, "__qualname__", type(handler).__qualname__)
                logger.exception("handler %s failed on a message of %a", name, message.topic)
        return errors == self._handler_errors

    def _route(self, topic: str) -> tuple[Handler, ...]:
        """The handlers of a topic, each once, in the order of registration."""
        route = self._routes.get(topic)
        if route is None:
            found = (h for name, handlers in self._handlers.items() if matches(name, topic) for h in handlers)
            route = tuple(dict.fromkeys(found))
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            if len(topic) <= LONGEST_TOPIC_KEPT:
                self._routes[topic] = route
        return route

    def _count(self, batch: Batch) -> None:
        self._received += len(batch)
        self._last_message_ns = batch.reads[-1].received_ns
        if self._is_qos_0_news:
            # a look costs, so only at the first: whoever publishes so is the first of a batch before long
            packets = batch.reads[0].packets
            if packets and not packets[0][0] & _QOS_OR_RETAIN:
                self._warn_of_qos_0(f"a message of {packets[0][1].decode()!a} came at QoS 0")

    def _warn_of_qos_0(self, occasion: str) -> None:
        self._is_qos_0_news = False
        logger.warning("%s: nothing of QoS 0 is kept while this listener is away", occasion)

    async def _live_session(self) -> Session | None:
        """The session at hand, or a new one after as many attempts as it takes; None when stopped."""
        if self._session is None:
            await self._keep_trying()
        if self._session and self._stop.is_set():
            # stopped in the very moment in which the connection was made
            self._session.finish()
        return self._session

    async def _keep_trying(self) -> None:
        error: BrokerError | None = None
        is_first = self._outage_began_at is None
        while not self._stop.is_set():
            if not is_first:
                await self._pause(error)
            is_first = False
            try:
                await unless(self._stop, self._open())
            except BrokerError as exc:
                if not exc.retryable:
                    raise
                error = exc
                # whoever took our client id over would not keep us from connecting
                self._kicks = 0
                continue
            return

    async def _pause(self, error: BrokerError | None) -> None:
        delay = self._backoff.next_delay()
        self._state = State.WAITING
        self._tell(Retrying(delay, error))
        with self._waiting_for(str(error) if error else f"{self._options.endpoint}: connection lost"):
            await unless(self._stop, asyncio.sleep(delay))

    @contextmanager
    def _waiting_for(self, obstacle: str) -> Iterator[None]:
        self._obstacle = obstacle
        try:
            yield
        finally:
            self._obstacle = None

    def _take_note_of_connection(self) -> None:
        self._obstacle = f"{self._options.endpoint}: no MQTT answer"

    async def _open(self) -> Session:
        """Connect once and subscribe everything; whatever fails leaves no connection behind."""
        self._state = State.CONNECTING
        self._warn_once()
        endpoint = self._options.endpoint
        try:
            with self._waiting_for(f"{endpoint}: no connection ({', '.join(self._options.layers)})"):
                session = await open_session(
                    replace(self._options, mqtt_version=self._version),
                    self._tell,
                    self._exactly_once,
                    on_reached=self._take_note_of_connection,
                )
            try:
                # who waited for the SUBACK here would wait behind all that the broker has kept
                with self._waiting_for(f"{endpoint}: no answer to SUBSCRIBE"):
                    granted = {} if session.is_resumed else await self._first_answer(session)
            except BaseException:
                await session.close()
                raise
        except BaseException:
            self._state = State.DISCONNECTED
            raise
        # no await from here on: a cancelled task leaves no session that nobody knows of
        self._session = session
        # proven: a broker that merely hangs up while it restarts must not make us fall back; but silence proves
        # nothing, for a broker that was slow once deserves MQTT 5 next time, at the price of 3 s if it is not that
        if not session.is_version_a_guess:
            self._version = session.options.mqtt_version
        self._state = State.CONNECTED
        self._connection_count += 1
        self._connected_since = now()
        self._connected_at = asyncio.get_running_loop().time()
        self._tell(
            Connected(
                session.options.endpoint,
                session.options.mqtt_version,
                granted or {},
                session.is_resumed,
                is_answered=granted is not None,
            )
        )
        if session.is_resumed:
            self._subscribe_missing(session)
        self._look_at_session(session)
        self._close_outage(is_resumed=session.is_resumed)
        return session

    def _tell(self, status: Status) -> None:
        """Report a step; whoever is told must not be able to end the stream."""
        if isinstance(status, Connecting):
            status = replace(status, address_source=self._address_source)
        for listener in tuple(self._listeners):
            try:
                listener(status)
            except Exception:
                name = getattr(listener, "__qualname__", type(listener).__qualname__)
                logger.exception("status listener %s failed on %s", name, type(status).__name__)

    def _warn_once(self) -> None:
        if not self._is_warned:
            self._is_warned = True
            for danger in self._options.dangers:
                logger.warning("%s", danger)

    def _subscribe_missing(self, session: Session) -> None:
        """Subscribe while messages are handled, behind which the SUBACK may have to wait."""
        missing = {name: qos for name, qos in self._filters.items() if self._wire(name) not in session.filters}
        # a connection that has ended already still holds messages to be yielded
        if missing and session.client:
            self._ask(session, missing).add_done_callback(partial(_end_if_failed, session))

    async def _lost(self, session: Session, error: BrokerError) -> None:
        """Account for the end of a connection; raise if no reconnection can heal it."""
        # not now, if a handler has held up what came before the end
        began_at = now() - timedelta(seconds=asyncio.get_running_loop().time() - session.ended_at)
        lasted = session.ended_at - self._connected_at
        is_kick = lasted < STABLE_SECONDS and not session.is_given_up
        await self._drop_session()
        self._outage_count += 1
        self._outage_began_at = began_at
        self._outages.append(Outage(began_at, None, str(error)))
        self._backoff.connection_ended(lasted)
        self._kicks = self._kicks + 1 if is_kick else 0
        if not error.retryable:
            raise error
        if self._has_own_client_id and self._kicks >= self._kicks_of_a_takeover:
            raise failures.taken_over(error.endpoint, is_durable=self._is_durable) from error
        if self._is_durable and self._kicks == _KICKS_OF_A_TAKEOVER:
            logger.warning(
                "%s: %d connections in a row ended within seconds: is there another client with the id %r?",
                error.endpoint,
                self._kicks,
                self._options.client_id,
            )
        self._tell(Lost(error))

    def _look_at_session(self, session: Session) -> None:
        """Tell when a durable session is a new one; lost is one of which we know that it was there."""
        if not self._is_durable or session.is_resumed:
            return
        if self._connection_count == 1:
            self._tell(SessionBegun(session.options.endpoint, self._options.client_id))
            return
        self._lost_sessions += 1
        self._tell(SessionLost(session.options.endpoint, self._options.client_id))

    def _close_outage(self, *, is_resumed: bool) -> None:
        if self._outage_began_at is None:
            return
        ended_at = now()
        self._outages[-1] = replace(self._outages[-1], ended_at=ended_at, is_bridged=is_resumed)
        self._tell(Resumed((ended_at - self._outage_began_at).total_seconds(), is_session_kept=is_resumed))
        self._outage_began_at = None

    async def _drop_session(self) -> None:
        session, self._session = self._session, None
        self._connected_since = None
        if session:
            await session.close()
            self._invalid += session.invalid
            self._paused_seconds += session.paused_seconds
        if self._asking:
            await asyncio.wait(self._asking)


def _end_if_failed(session: Session, asking: asyncio.Task[dict[str, int]]) -> None:
    """End a session over filters that were refused when nobody waited for the answer any more."""
    with suppress(StateError, asyncio.CancelledError):  # closed meanwhile
        try:
            asking.result()
        except BrokerError as exc:
            if not session.is_finishing:
                session.fail(exc)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _retrieve(owner: asyncio.Task[None]) -> None:
    """Look at the outcome of a background task, so that asyncio does not report it a second time."""
    if not owner.cancelled():
        owner.exception()


def _check_arguments(
    host: str, port: int, client_id: str | None, *, keepalive_seconds: int, mqtt_version: str
) -> None:
    if not host:
        raise ConfigError("the broker's host name is empty")
    if not 1 <= port <= 65_535:
        raise ConfigError(f"port {port} is out of range", hint="1 to 65535; MQTT usually 1883, with TLS 8883")
    if client_id is not None and (not client_id.isprintable() or not 1 <= len(client_id.encode()) <= 65_535):
        raise ConfigError(
            f"client id {client_id[:40]!r} is not usable",
            hint="printable text of 1 to 65535 bytes (MQTT 5, 3.1.3.1)",
        )
    if not 1 <= keepalive_seconds <= 65_535:
        raise ConfigError(f"keep-alive of {keepalive_seconds} s is out of range", hint="1 to 65535 s")
    if mqtt_version not in list(MQTTVersion):
        raise ConfigError(f"unknown MQTT version {mqtt_version!r}", hint="auto, 5 or 3.1.1")


def _check_session(
    durable: str | None, client_id: str | None, session_expiry_seconds: int | None, *, qos: int
) -> None:
    if durable is None:
        if session_expiry_seconds is not None:
            raise ConfigError(
                "a session expiry is for a durable session", hint="give the session a name: --durable NAME"
            )
        return
    if client_id is not None:
        raise ConfigError(
            "a durable session has a client id of its own", hint="give either the session's name or a client id"
        )
    if not durable or not durable.isprintable() or len(durable.encode()) > 65_000:
        raise ConfigError(f"durable name {durable[:40]!r} is not usable", hint="printable text, not empty")
    if qos == 0:
        raise ConfigError(
            "a broker keeps nothing of QoS 0 for a durable session",
            hint="qos 1 or 2; subscribe() may name another",
        )
    # the largest number means for ever (MQTT 5, 3.1.2.11.2)
    if session_expiry_seconds is not None and not 0 < session_expiry_seconds < 2**32:
        raise ConfigError(
            f"session expiry of {session_expiry_seconds} s is out of range",
            hint="1 to 4294967295 s, the last: never",
        )


def _check_packet_size(max_packet_bytes: int) -> None:
    if not 64 <= max_packet_bytes <= LONGEST_PACKET_BYTES:
        raise ConfigError(
            f"a largest packet of {max_packet_bytes} bytes is out of range",
            hint=f"64 to {LONGEST_PACKET_BYTES} bytes (MQTT 5, 1.5.5)",
        )


def _check_pending(max_pending_bytes: int) -> None:
    if max_pending_bytes < 1:
        raise ConfigError(
            f"{max_pending_bytes} bytes for the messages that wait are out of range",
            hint="at least 1; a message is taken whatever its size",
        )


def _check_group(group: str | None) -> str | None:
    if group is not None and (
        not group or not group.isprintable() or any(character in group for character in "/+#")
    ):
        raise ConfigError(f"group {group!r} is not usable", hint="printable text without / + # (MQTT 5, 4.8.2)")
    return group


def _check_on_error(on_error: str) -> str:
    if on_error not in ("ack", "keep"):
        raise ConfigError(f"on_error {on_error!r} does not exist", hint="ack or keep")
    return on_error


def _check_qos(qos: int) -> int:
    if qos not in (0, 1, 2):
        raise ConfigError(f"QoS {qos} does not exist", hint="0, 1 or 2")
    return qos
