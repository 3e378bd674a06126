"""MQTTSubscriber: a subscription that stays alive, and the handlers it feeds."""

from __future__ import annotations  # so that help() shows the signatures as they are written here

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from plantops_cli.addresses import PLAIN_PORT
from plantops_cli.credentials import KeptPassword, PasswordSource
from plantops_cli.errors import ConfigError, StateError, SubscriptionRefusedError
from plantops_cli.messages import Message, QoS
from plantops_cli.stream.account import Account
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.handling.bounds import MAX_THREADS, MAX_UNACKNOWLEDGED, Bounds
from plantops_cli.stream.handling.feeding import Feeding
from plantops_cli.stream.handling.handlers import Handlers
from plantops_cli.stream.handling.policy import ErrorPolicy
from plantops_cli.stream.handling.registration import Handler, HandlerOptions, PlainHandler, PlainOptions
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.lifeline import Lifeline
from plantops_cli.stream.options import (
    CONNECT_SECONDS,
    MAX_PACKET_BYTES,
    ConnectOptions,
    MQTTVersion,
    SubscriberOptions,
    choose_session,
    parse_version,
)
from plantops_cli.stream.outgoing import WAIT_SECONDS
from plantops_cli.stream.reconnection import Reconnection, choose_patience
from plantops_cli.stream.session import AtOnce
from plantops_cli.stream.standing import Standing
from plantops_cli.stream.status import StatusListener, StatusListeners, log_status
from plantops_cli.stream.subscriptions import Subscriptions
from plantops_cli.stream.tls import TLSOptions
from plantops_cli.topics import parse_pattern

if TYPE_CHECKING:
    from plantops_cli.config import Settings

AnyHandler = TypeVar("AnyHandler", bound=Handler)
AnyPlain = TypeVar("AnyPlain", bound=PlainHandler)


class MQTTSubscriber(Standing):
    """Subscribe to a broker, stay subscribed, and feed handlers with messages.

    Nothing is connected before ``connect`` or ``start``. ``async with``
    connects, and disconnects in the end; inside, ``start`` feeds the handlers,
    or ``messages`` or ``batches`` is iterated over. It may be used again after
    ``disconnect``, and on another event loop when the first has ended.

    Args:
        host: name or address of the broker.
        port: its TCP port.
        username: MQTT user name, or None to connect anonymously.
        password: text, bytes, or a function that gives it, plain or async, asked
            before each attempt. None: the user name goes alone, as tokens do.
        client_id: MQTT client id; default: random, or made of ``durable``.
        durable: name of a session that the broker keeps while this client is
            away, so that nothing of QoS 1 is lost as far as the broker keeps
            it; no two clients may use the same name at once.
        session_expiry_seconds: how long (MQTT 5, 3.1.2.11.2); default: a day.
        group: name of a shared subscription: each message goes to one of the
            clients of a group (MQTT 5, 4.8.2), and no retained ones come.
        group_anyway: whether to share though the broker may not know how to.
        on_error: what becomes of a message whose handler fails. ``ack``: it
            counts as handled. ``keep``: it stays unacknowledged and the
            connection is given up, so that it comes again, if the session is
            durable. ``Retry``: its handler is called again.
        max_unacknowledged: how many messages may be in hand, or wait for one
            before them; then nothing more is taken, and nothing retried.
        max_threads: how many plain functions may block at once as handlers.
        tls: ``TLSOptions()`` for TLS, None for a plain connection.
        keepalive_seconds: longest silence before a ping; a dead connection is
            noticed within twice that.
        mqtt_version: ``auto`` is 5, and 3.1.1 where 5 is refused or unanswered.
        qos: the QoS asked for when ``subscribe`` names none.
        max_packet_bytes: longest packet; a longer one ends the connection.
        max_pending_bytes: memory of messages that wait or are being handled.
            Then the connection is left unread, nothing is dropped; at twice as
            much while ``publish`` waits, whose answer lies behind messages.
        websocket_path: path of the broker's WebSocket, such as ``/mqtt``, or None.
        unix_socket: path of its Unix socket, instead of host and port.
        connect_timeout_seconds: bound of one attempt to connect and subscribe.
        login_patience_seconds: how long a login that was right may be refused;
            default: 60 if a function or a file has the password, else 0.
        on_status: first status listener, told each step; default: it is logged.

    Raises:
        ConfigError: an argument is out of its range.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        username: str | None = None,
        password: str | bytes | PasswordSource | None = None,
        *,
        client_id: str | None = None,
        durable: str | None = None,
        session_expiry_seconds: int | None = None,
        group: str | None = None,
        group_anyway: bool = False,
        on_error: ErrorPolicy = "ack",
        max_unacknowledged: int = MAX_UNACKNOWLEDGED,
        max_threads: int = MAX_THREADS,
        tls: TLSOptions | None = None,
        keepalive_seconds: int = 15,
        mqtt_version: MQTTVersion | Literal["auto", "5", "3.1.1"] = MQTTVersion.AUTO,
        qos: QoS = 1,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        websocket_path: str | None = None,
        unix_socket: str | None = None,
        connect_timeout_seconds: float = CONNECT_SECONDS,
        login_patience_seconds: float | None = None,
        on_status: StatusListener = log_status,
    ) -> None:
        kept = password if isinstance(password, KeptPassword) else None
        patience_seconds = choose_patience(login_patience_seconds, may_change=callable(password))
        own_id, expiry_seconds = choose_session(
            durable=durable, client_id=client_id, expiry_seconds=session_expiry_seconds, qos=qos
        )
        self._options = ConnectOptions(
            host=host,
            port=port,
            username=username,
            password=password if kept is None else kept(),
            client_id=own_id,
            tls=tls,
            keepalive_seconds=keepalive_seconds,
            mqtt_version=parse_version(mqtt_version),
            timeout_seconds=connect_timeout_seconds,
            session_expiry_seconds=expiry_seconds,
            max_packet_bytes=max_packet_bytes,
            max_pending_bytes=max_pending_bytes,
            websocket_path=websocket_path,
            unix_socket=unix_socket,
        )
        is_durable = durable is not None
        has_own_client_id = is_durable or client_id is not None
        self._handlers = Handlers(on_error, is_durable=is_durable)
        self._tally = Tally()
        self._listeners = StatusListeners(on_status)
        self._account = Account(is_durable=is_durable)
        self._subscriptions = Subscriptions(
            qos=qos,
            group=group,
            on_qos_0=self._account.note_qos_0,
            version=self._options.mqtt_version,
            group_anyway=group_anyway,
        )
        self._lifeline = Lifeline(
            self._options,
            account=self._account,
            subscriptions=self._subscriptions,
            reconnection=Reconnection(
                has_own_client_id=has_own_client_id,
                is_durable=is_durable,
                login_patience_seconds=patience_seconds,
            ),
            listeners=self._listeners,
        )
        self._lifeline.kept = kept
        self._feeding = Feeding(
            self._lifeline,
            self._handlers,
            self._tally,
            self.publish,
            self._listeners,
            bounds=Bounds(max_unacknowledged, max_threads),
            is_durable=is_durable,
        )
        self._is_disconnecting = False

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        login: tuple[str | None, str | bytes | PasswordSource | None] | None = None,
        insecure: bool = False,
        **options: Unpack[SubscriberOptions],
    ) -> Self:
        """Make the subscriber that the settings describe.

        Where a file had a say in where a password goes, each attempt to connect names it.

        Args:
            settings: resolved settings, of ``load_settings``. Beside a listener of
                the same settings use ``settings.without_client_id()``.
            login: user name and password instead of those of the settings; None
                for what is not to be sent.
            insecure: as in ``TLSOptions``.
            options: the other keywords of the constructor.

        Raises:
            ConfigError: no password, or an argument or a TLS file that is not usable.
        """
        username, password = login or (settings.mqtt_backend_username, settings.kept_password())
        options["websocket_path"] = options.get("websocket_path") or settings.websocket_path
        made = cls(
            settings.mqtt_host,
            # a Unix socket has none, and what is set for it may be none
            settings.port if options.get("unix_socket") is None else PLAIN_PORT,
            username,
            password,
            client_id=settings.mqtt_client_id,
            tls=TLSOptions.from_settings(settings, insecure=insecure),
            **options,
        )
        if username is not None and options.get("unix_socket") is None:
            made._listeners.address_source = settings.address_source
        return made

    async def __aenter__(self) -> Self:
        """Connect, as ``connect`` does."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect, as ``disconnect`` does; ``wait`` tells what has ended it before."""
        await self.disconnect()

    @overload
    def register_handler(
        self, topic_filter: str, handler: PlainHandler, **options: Unpack[PlainOptions]
    ) -> None: ...
    @overload
    def register_handler(self, topic_filter: str, handler: Handler, **options: Unpack[HandlerOptions]) -> None: ...
    def register_handler(self, topic_filter: str, handler: Handler, **options: Unpack[PlainOptions]) -> None:
        """Call ``handler`` with each message that matches, and subscribe to that.

        Before ``connect`` or ``start`` this only takes note. On a live connection
        it is subscribed in the background, and a refusal ends the subscriber.

        Args:
            topic_filter: an MQTT topic filter, or a pattern: some of its levels are
                names in braces, as in ``devices/{device_id}/telemetry``.
            handler: a function or coroutine function, of one ``Message`` or of what
                its parameters name; as ``on`` tells.
            options: ``concurrency``, ``key``, ``blocking``, ``timeout_seconds``,
                ``on_error`` and ``on_invalid``, as ``HandlerOptions`` says.

        Raises:
            TopicError: the filter is not valid (MQTT 4.7).
            ConfigError: an option, or a parameter of the handler, is not usable.
        """
        self._note(topic_filter, handler, None, options)
        self._lifeline.subscribe_soon()

    @overload
    def on(self, pattern: str, **options: Unpack[HandlerOptions]) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def on(self, pattern: str, **options: Unpack[PlainOptions]) -> Callable[[AnyPlain], AnyPlain]: ...
    def on(self, pattern: str, **options: Unpack[PlainOptions]) -> Callable[[Any], Any]:
        """Register the function below as a handler, as ``register_handler`` does, and leave it as it is.

        ::

            @mqtt.on("devices/{device_id}/telemetry", concurrency=50)
            async def store(reading: Telemetry, device_id: str) -> None: ...

        A parameter that is annotated ``Message`` gets the message, one with a name of the pattern what the topic
        has there, and one more the payload: ``bytes``, ``str``, or JSON of whatever type it is annotated with.
        """
        parse_pattern(pattern)  # now: of @mqtt.on without a pattern, nothing would be called later

        def register(handler: Any) -> Any:
            self.register_handler(pattern, handler, **options)
            return handler

        return register

    @overload
    async def subscribe(
        self, topic_filter: str, handler: None = None, *, qos: QoS | None = None
    ) -> int | None: ...
    @overload
    async def subscribe(
        self, topic_filter: str, handler: PlainHandler, *, qos: QoS | None = None, **options: Unpack[PlainOptions]
    ) -> int | None: ...
    @overload
    async def subscribe(
        self, topic_filter: str, handler: Handler, *, qos: QoS | None = None, **options: Unpack[HandlerOptions]
    ) -> int | None: ...
    async def subscribe(
        self,
        topic_filter: str,
        handler: Handler | None = None,
        *,
        qos: QoS | None = None,
        **options: Unpack[PlainOptions],
    ) -> int | None:
        """Subscribe to a filter now, and again after each reconnection.

        The answer comes behind earlier messages, and is waited for as long as an
        attempt to connect may take. A later refusal ends the subscriber.

        Args:
            topic_filter: an MQTT topic filter; with a handler it may be a pattern.
            handler: called with what matches; None for ``messages`` or ``batches``.
            qos: highest QoS wanted; default: that of the constructor.
            options: of the handler, as in ``register_handler``.

        Returns:
            The QoS granted, or None when there is no connection or no answer yet.

        Raises:
            TopicError, ConfigError: as in ``register_handler``.
            SubscriptionRefusedError: refused (SUBACK 0x80 or above) and forgotten.
            HeldUpError: the answer lies behind more messages than may wait, and the
                filter is subscribed when they are handled.
            BrokerError: the connection ended meanwhile.
        """
        self._enter_loop()
        known = set(self._subscriptions.wanted)
        if handler is None:
            self._note_filter(topic_filter, qos, options)
        else:
            topic_filter = self._note(topic_filter, handler, qos, options)
        is_new = topic_filter not in known
        try:
            return await self._subscriptions.ask_for_one(self._lifeline.session, topic_filter)
        except SubscriptionRefusedError:
            if is_new:
                self._subscriptions.forget(topic_filter)
                self._handlers.forget(topic_filter)
            raise

    async def publish(
        self,
        topic: str,
        payload: object = b"",
        *,
        qos: QoS = 1,
        retain: bool = False,
        properties: Mapping[str, object] | None = None,
        wait: float = WAIT_SECONDS,
    ) -> None:
        """Publish a message, and return when the broker has it, at QoS 0 when out.

        It waits for a connection that is being made, or made anew. What was under
        way when one ended is sent again, not at QoS 2. It works in handlers too.

        Args:
            topic: a topic name.
            payload: bytes, text, None for nothing; all else, models too, as JSON.
            qos: 0, 1 or 2.
            retain: whether the broker keeps it for later subscribers.
            properties: as in ``Message``; ``user-properties`` may be a mapping.
            wait: how many seconds it may take in all.

        Raises:
            PublishRefusedError: the broker refused it, or said it would (MQTT 5).
            HeldUpError: too many messages wait before the answer; it may be taken.
            BrokerError: not taken within ``wait``, or what ended the subscriber.
            StateError: it is not connected nor started, or disconnected meanwhile.
            TopicError, ConfigError: an argument is not usable.
        """
        self._enter_loop()
        await self._lifeline.outgoing.publish(
            topic, payload, qos=qos, retain=retain, properties=properties, wait=wait
        )

    def _note_filter(self, topic_filter: str, qos: QoS | None, options: PlainOptions) -> None:
        if options:
            raise ConfigError(f"subscribe({topic_filter!r}): {min(options)} is for a handler, and there is none")
        self._subscriptions.want(topic_filter, qos)
        self._handlers.note(topic_filter)

    def _note(self, text: str, handler: Handler, qos: QoS | None, options: PlainOptions) -> str:
        """Take note of what is wanted, all of it or nothing, and return the topic filter."""
        registration = self._handlers.make(parse_pattern(text), handler, **options)
        topic_filter = registration.pattern.topic_filter
        self._subscriptions.want(topic_filter, qos)
        self._handlers.add(registration)
        return topic_filter

    async def connect(self) -> None:
        """Connect once and subscribe what was registered.

        Raises:
            BrokerError: no connection came about within ``connect_timeout_seconds``, or a filter was refused.
            ConfigError: a TLS file is missing or unusable.
            StateError: it is connected or started already, or ``disconnect`` was called meanwhile.
        """
        self._enter_loop()
        if self._lifeline.is_connected or self._feeding.is_running:
            raise StateError("the subscriber is connected already", hint="disconnect() first")
        await self._lifeline.connect()

    async def start(self) -> None:
        """Begin to listen in a background task, and return.

        Without ``connect`` before it, the task keeps trying for the first connection too. Begun late, while
        ``disconnect`` is under way, it does nothing.

        Raises:
            StateError: it is started already.
        """
        self._enter_loop()
        if not self._is_disconnecting:
            self._feeding.start(f"plantops-subscriber {self._options.endpoint}")

    async def wait(self) -> None:
        """Wait until listening ends: by ``disconnect``, or by an error that no reconnection can heal.

        Raises:
            BrokerError: what ended it.
            StateError: ``start`` was not called.
        """
        self._enter_loop()
        await self._feeding.wait()

    def stop(self) -> None:
        """Read nothing more; ``batches`` and the background task end after what has arrived."""
        self._lifeline.stop()

    async def disconnect(self) -> None:
        """Stop listening, let the handlers finish, acknowledge what they have handled, and close the connection.

        They get 3 s. What they have not begun is left to the broker if it keeps the session; else they begin it
        still. Safe to call again, and at any moment; ends within 5 s whatever the broker does.
        """
        self._enter_loop()
        self.stop()
        self._is_disconnecting = True
        try:
            # a create_task(start()) of a moment ago begins now, and finds that it comes too late
            await asyncio.sleep(0)
            await self._feeding.leave()
            await self._lifeline.close()
        finally:
            self._is_disconnecting = False
        self._account.disconnected()

    def batches(self, at_once: AtOnce | None = None) -> AsyncGenerator[Batch, None]:
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
        return self._lifeline.batches(at_once)

    def messages(self) -> AsyncGenerator[Message, None]:
        """Yield messages one at a time, as ``batches`` does; use one of the two, or ``start``.

        A message of QoS 1 or 2 is acknowledged when the next one is asked for, thus not at all when the loop is
        left by ``break`` or an error. Leave it to disconnect, as that of ``batches``, which costs less a message.

        Raises:
            BrokerError: an error that no reconnection can heal.
        """
        return self._lifeline.messages()

    def acknowledge(self, batch: Batch, *, handled: int) -> None:
        """Acknowledge the first messages of the batch at hand; for a reader of ``batches`` that then breaks off.

        Args:
            batch: the batch that was yielded last.
            handled: how many of its messages are done with.
        """
        if self._lifeline.session:
            self._lifeline.session.acknowledge(batch.acknowledgeable(handled))

    def _enter_loop(self) -> None:
        self._lifeline.enter_loop()
        self._feeding.enter_loop()
