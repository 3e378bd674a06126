"""MQTTSubscriber: a subscription that stays alive, and the handlers it feeds."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self, Unpack

from plantops_cli.errors import PlantopsError, StateError, SubscriptionRefusedError, shown_username
from plantops_cli.messages import Message
from plantops_cli.stream.account import Account
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.handlers import Handler, Handlers
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.lifeline import Lifeline
from plantops_cli.stream.options import (
    MAX_PACKET_BYTES,
    ConnectOptions,
    MQTTVersion,
    SubscriberOptions,
    choose_session,
    parse_version,
)
from plantops_cli.stream.reconnection import Reconnection
from plantops_cli.stream.session import AiomqttClient, AtOnce
from plantops_cli.stream.status import Health, StatusListener, StatusListeners, log_status
from plantops_cli.stream.subscriptions import Subscriptions
from plantops_cli.stream.tls import TLSOptions

if TYPE_CHECKING:
    from plantops_cli.config import Settings

logger = logging.getLogger("plantops.stream")

DRAIN_SECONDS = 3.0
"""How long ``disconnect`` waits for the handlers to finish what has arrived."""


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
        session_expiry_seconds: how long, for MQTT 5 (3.1.2.11.2); default: a day. For durable sessions only.
        group: name of a shared subscription: each message goes to one of the clients of a group (MQTT 5, 4.8.2),
            and no retained ones come.
        on_error: what becomes of a message whose handler raises. ``ack``: it counts as handled. ``keep``: it stays
            unacknowledged and the connection is given up, so that it comes again, if the session is durable.
        tls: ``TLSOptions()`` for TLS, None for a plain connection.
        keepalive_seconds: longest silence before a ping; a dead connection is noticed within twice that.
        mqtt_version: ``5``, ``3.1.1``, or ``auto``: 5, and 3.1.1 where the broker refuses 5 or is silent on it.
        qos: the QoS asked for when ``subscribe`` names none: 0, 1 or 2.
        max_packet_bytes: longest packet to be received; a longer one ends the connection.
        max_pending_bytes: memory that messages may take which wait or are being handled, objects included. Up to
            it the connection is read while handlers are busy, then it is left unread; nothing is dropped.
        websocket_path: path of the broker's WebSocket, for example ``/mqtt``; None for plain MQTT.
        unix_socket: path of the broker's Unix socket, used instead of ``host`` and ``port``.
        connect_timeout_seconds: bound of one attempt to connect.
        on_status: the first status listener: told about each step (connecting, lost, ...); default: it is logged.

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
        own_id, expiry_seconds = choose_session(
            durable=durable, client_id=client_id, expiry_seconds=session_expiry_seconds, qos=qos
        )
        self._options = ConnectOptions(
            host=host,
            port=port,
            username=username,
            password=password,
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
        self._handlers = Handlers(on_error)
        self._listeners = StatusListeners(on_status)
        self._account = Account(is_durable=is_durable)
        self._subscriptions = Subscriptions(qos=qos, group=group, on_qos_0=self._account.note_qos_0)
        self._lifeline = Lifeline(
            self._options,
            account=self._account,
            subscriptions=self._subscriptions,
            reconnection=Reconnection(has_own_client_id=has_own_client_id, is_durable=is_durable),
            listeners=self._listeners,
        )
        self._owner: asyncio.Task[None] | None = None
        self._is_disconnecting = False

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
            made._listeners.address_source = settings.address_source
        return made

    async def __aenter__(self) -> Self:
        """Connect, as ``connect`` does."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect, as ``disconnect`` does; ``wait`` tells what has ended it before."""
        await self.disconnect()

    def __repr__(self) -> str:
        username = self._options.username
        who = "" if username is None else f", username={shown_username(username)!r}"
        return f"<MQTTSubscriber {self._options.endpoint}{who}, {self._lifeline.state}>"

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
        session = self._lifeline.session
        return session.client if session and not self._lifeline.is_orphaned else None

    @property
    def options(self) -> ConnectOptions:
        """Where it connects, as whom and how; the password does not show."""
        return self._options

    @property
    def handlers(self) -> dict[str, list[Handler]]:
        """The registered handlers by topic filter."""
        return self._handlers.by_filter

    @property
    def health(self) -> Health:
        """A snapshot of state and counters."""
        health = self._account.health(self._lifeline.session, handler_errors=self._handlers.failure_count)
        return replace(health, state=self._lifeline.state)

    @property
    def obstacle(self) -> str | None:
        """What it waits for instead of being connected, in words; None when it is connected, or does not try."""
        return self._lifeline.obstacle

    @property
    def heard_at(self) -> float | None:
        """When something came from the broker last, be it the answer to a ping, by the clock of the event loop.

        Until then it is certain that a message would have arrived; None while there is no connection.
        """
        return self._lifeline.session.heard_at if self._lifeline.session else None

    def add_status_listener(self, listener: StatusListener) -> None:
        """Call ``listener`` with each step from now on; one that raises is logged, and ends nothing."""
        self._listeners.add(listener)

    def remove_status_listener(self, listener: StatusListener) -> None:
        """Tell a listener no more that was added, or given as ``on_status``; nothing happens when it is none."""
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
        self._lifeline.subscribe_soon()

    async def subscribe(
        self, topic_filter: str, handler: Handler | None = None, *, qos: int | None = None
    ) -> int | None:
        """Subscribe to a filter now, and again after each reconnection.

        The broker's answer comes behind the messages that it has sent before, and is waited for 2.5 s. A refusal
        that comes after that ends the subscriber, as with ``register_handler``.

        Args:
            topic_filter: an MQTT topic filter.
            handler: called with each message that matches; None for readers of ``messages`` or ``batches``.
            qos: highest QoS wanted; default: that of the constructor.

        Returns:
            The QoS that the broker granted, or None when there is no connection or no answer yet.

        Raises:
            TopicError: the filter is not valid (MQTT 4.7).
            SubscriptionRefusedError: the broker refused it (SUBACK 0x80 or above); a new filter is forgotten.
            HeldUpError: the answer lies behind more messages than may wait, before ``start`` or for a handler; the
                filter is kept, and subscribed when they are handled.
            BrokerError: the connection ended meanwhile.
        """
        self._enter_loop()
        is_new = topic_filter not in self._subscriptions.wanted
        self._note(topic_filter, handler, qos)
        try:
            return await self._subscriptions.ask_for_one(self._lifeline.session, topic_filter)
        except SubscriptionRefusedError:
            if is_new:
                self._subscriptions.forget(topic_filter)
                self._handlers.forget(topic_filter)
            raise

    def _note(self, topic_filter: str, handler: Handler | None, qos: int | None) -> None:
        self._subscriptions.want(topic_filter, qos)
        self._handlers.add(topic_filter, handler)

    async def connect(self) -> None:
        """Connect once and subscribe what was registered.

        Raises:
            BrokerError: no connection came about within ``connect_timeout_seconds``, or a filter was refused.
            ConfigError: a TLS file is missing or unusable.
            StateError: it is connected or started already, or ``disconnect`` was called meanwhile.
        """
        self._enter_loop()
        if self._lifeline.is_connected or self._is_running:
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
        if self._is_disconnecting:
            return
        if self._is_running:
            raise StateError("the subscriber is started already")
        self._lifeline.begin()
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
        self._lifeline.stop()

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
        if self._owner and self._owner.get_loop() is not asyncio.get_running_loop():
            self._owner = None

    async def _join_owner(self) -> None:
        owner = self._owner
        if owner and owner is not asyncio.current_task():
            await asyncio.wait((owner,), timeout=DRAIN_SECONDS)
            owner.cancel()
            await asyncio.wait((owner,), timeout=1.0)

    @property
    def _is_running(self) -> bool:
        return self._owner is not None and not self._owner.done()

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
        dispatch = self._handlers.dispatch
        for position, message in enumerate(batch):
            try:
                is_handled = await dispatch(message)
            except asyncio.CancelledError:
                self.acknowledge(batch, handled=position)  # what is done with is not to come again
                raise
            if not is_handled and self._handlers.keeps_failed and message.qos and self._lifeline.session:
                self._lifeline.session.give_up(batch, handled=position)
                return


def _retrieve(owner: asyncio.Task[None]) -> None:
    """Look at the outcome of a background task, so that asyncio does not report it a second time."""
    if not owner.cancelled():
        owner.exception()
