"""One connection to one broker: the order of its events, from CONNECT to the end.

What happens in it is done elsewhere: ``client`` speaks MQTT, ``delivery`` takes the messages to their handlers.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Self, cast

from plantops_cli.errors import BrokerError, ConnectionLostError, StateError
from plantops_cli.messages import QoS
from plantops_cli.stream import asking, failures, unconnected
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.client import AiomqttClient, Client
from plantops_cli.stream.clock import since_boot
from plantops_cli.stream.delivery import AtOnce, Claim, Delivery
from plantops_cli.stream.exactly_once import LEAST_BYTES, ExactlyOnce
from plantops_cli.stream.hearing import Hearing
from plantops_cli.stream.inbox import Grants, Inbox, InHand
from plantops_cli.stream.opening import REACH_SECONDS
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.packets import Packet
from plantops_cli.stream.password import with_password
from plantops_cli.stream.port import ClientPort, MakeClient
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.receipts import Unanswered
from plantops_cli.stream.status import Connecting, FellBack, Status
from plantops_cli.stream.waiting import unless

# all that a subscriber needs of a connection, behind one door
__all__ = ["AiomqttClient", "AtOnce", "Claim", "Client", "Session", "open_session"]

SILENT_SECONDS = 10.0
"""A connection without any answer to CONNECT for so long is one to a broker that may not know MQTT 5."""

PUBACK_SECONDS = 10.0
"""How long one session waits for an acknowledgement."""


async def open_session(
    options: ConnectOptions,
    on_status: Callable[[Status], None] = lambda _: None,
    exactly_once: ExactlyOnce | None = None,
    *,
    in_hand: InHand | None = None,
    on_reached: Callable[[], None] = lambda: None,
    make_client: MakeClient = Client,
    patience: float = 1.0,
) -> "Session":
    """Connect once, within ``options.timeout_seconds``.

    ``REACH_SECONDS`` of it are for the connection. With ``AUTO``, MQTT 3.1.1 follows an MQTT 5 that the broker
    refuses, hangs up on, or does not answer for ``SILENT_SECONDS``; the time to connect does not count.

    Args:
        options: where and how to connect.
        on_status: told about each step; default: nobody is.
        exactly_once: as in ``Session``.
        in_hand: as in ``Session``.
        on_reached: called when a connection is made, and the answer of the broker is waited for.
        make_client: as in ``Session``.
        patience: as in ``Session``.

    Raises:
        BrokerError: no connection came about.
        ConfigError: a TLS file is missing or unusable, or a function gave what is no password.
    """
    on_status(Connecting(options.endpoint))
    deadline = asyncio.get_running_loop().time() + options.timeout_seconds
    options = await with_password(options, deadline=deadline)
    if options.mqtt_version is not MQTTVersion.AUTO:
        only = Session(options, on_status, exactly_once, in_hand, make_client=make_client, patience=patience)
        return await only.connect(deadline, on_reached=on_reached)
    v5 = replace(options, mqtt_version=MQTTVersion.V5)
    first = Session(v5, on_status, exactly_once, in_hand, make_client=make_client, patience=patience)
    try:
        return await first.connect(deadline, is_last=False, on_reached=on_reached)
    except BrokerError as exc:
        if not first.is_version_refused:
            raise
        on_status(FellBack(options.endpoint, str(exc)))
    v311 = replace(options, mqtt_version=MQTTVersion.V311)
    second = Session(v311, on_status, exactly_once, in_hand, make_client=make_client, patience=patience)
    session = await second.connect(deadline)
    # a guess is told, so that the next connection begins with MQTT 5 again
    session.is_version_a_guess, session.silent_seconds = first.is_version_a_guess, first.silent_seconds
    return session


class Session:
    """One connection, from CONNECT to its end; used once.

    Args:
        options: where and how to connect; ``mqtt_version`` must name a version.
        on_status: told when a batch holds the stream up.
        exactly_once: what is known of an earlier connection's messages of QoS 2; default: nothing.
        in_hand: what is in hand of earlier connections; default: nothing.
        make_client: makes what speaks to the broker; default: by the network.
        patience: how many times as long as usual the steps of an attempt may take.

    Attributes:
        options: as given.
        is_version_refused: True when ``connect`` failed because the broker does not take this MQTT version.
        is_version_a_guess: True when silence was the only reason against MQTT 5, which a slow broker gives too.
        silent_seconds: how long an answer to MQTT 5 was, or would have been waited for.
        filters: the topic filters asked for so far, and the QoS of each.
        ended: why the connection has ended, or None.
        ended_at: when the connection ended, by the clock of the event loop.
        silent_since: since when nothing can have been heard from the broker, once it has ended; by ``since_boot``.
        is_given_up: True when it was this side that ended the connection.
        is_resumed: True when the broker had kept the session of an earlier connection (MQTT 5, 3.2.2.1.1).
        inbox: what has been read and is not done with.
        granted: the properties of the CONNACK by paho's names, such as ``ReceiveMaximum`` (MQTT 5, 3.2.2.3).
    """

    def __init__(
        self,
        options: ConnectOptions,
        on_status: Callable[[Status], None],
        exactly_once: ExactlyOnce | None = None,
        in_hand: InHand | None = None,
        *,
        make_client: MakeClient = Client,
        patience: float = 1.0,
    ) -> None:
        self.options = options
        self.is_version_refused = False
        self.is_version_a_guess = False
        self.silent_seconds = 0.0
        self.filters: dict[str, int] = {}
        self.ended: BrokerError | None = None
        self.ended_at = self.silent_since = 0.0
        self.is_given_up = False
        self.is_resumed = False
        self.inbox = Inbox(options.max_pending_bytes, in_hand)
        self.granted: Mapping[str, object] = {}
        self._loop = asyncio.get_running_loop()
        self._make_client = make_client
        self._patience = patience
        self._client: ClientPort | None = None
        self._grants = Grants()
        # a broker that sends PUBRELs in their turn leaves some open, however little may wait
        self._exactly_once = exactly_once or ExactlyOnce(max(options.max_pending_bytes, LEAST_BYTES))
        self._exactly_once.begin()  # before the first byte, behind which messages may come at once
        self._delivery = Delivery(self.inbox, self._exactly_once, on_status)
        self._on_end: Callable[[], None] = lambda: None

    # The connection

    async def connect(
        self, deadline: float, *, is_last: bool = True, on_reached: Callable[[], None] = lambda: None
    ) -> Self:
        """Connect, wait for the CONNACK, and return the session.

        Args:
            deadline: moment of the event loop's clock at which to give up.
            is_last: False when another version is to be tried within the same time, after ``SILENT_SECONDS`` of
                silence at the latest.
            on_reached: as in ``open_session``.

        Raises:
            BrokerError: no connection came about.
            ConfigError: a TLS file is missing or unusable.
        """
        options = self.options
        self._client = self._delivery.line = client = self._make_client(options, self, self._delivery)
        is_connected = False
        try:
            began = self._loop.time()
            await client.reach(min(REACH_SECONDS * self._patience, deadline - began))
            took = self._loop.time() - began
            on_reached()
            async with asyncio.timeout_at(deadline):
                left = deadline - self._loop.time()
                self.silent_seconds = _silence_seconds(took, left, self._patience)
                await client.connack(None if is_last else self.silent_seconds)
            is_connected = True
            return self
        except TimeoutError:
            is_tls = options.tls is not None
            raise unconnected.no_answer(options.endpoint, seconds=options.timeout_seconds, is_tls=is_tls) from None
        finally:
            # cancelled in the very turn of the CONNACK, too
            if not is_connected:
                self.is_version_refused = client.is_version_refused
                self.is_version_a_guess = client.is_version_a_guess
                client.abort()

    def begun(self, *, is_resumed: bool, granted: Mapping[str, object]) -> None:
        """Take note of the CONNACK; messages that came along with it have been looked at already.

        Args:
            is_resumed: whether the broker had kept the session.
            granted: the properties of the CONNACK.
        """
        self.is_resumed = is_resumed
        self.granted = granted
        if not is_resumed:
            self._exactly_once.forget()

    @property
    def client(self) -> Client | None:
        """The live client of aiomqtt, or what a test puts in its place; None before and after the connection."""
        return cast(Client, self._client) if self._client and self._client.is_open else None

    @property
    def max_qos(self) -> int:
        """The highest QoS that the broker takes and grants."""
        return asking.max_qos(self.granted)

    @property
    def heard_at(self) -> float:
        """When something came from the broker last, be it the answer to a ping, by the clock of the event loop."""
        return self._client.reading.read_at if self._client else 0.0

    @property
    def hearing(self) -> Hearing | None:
        """What is known of when the broker was heard, or None before the connection."""
        return self._client.reading.hearing if self._client else None

    # Asking the broker

    async def publish(self, topic: str, payload: bytes, *, qos: QoS, retain: bool) -> int:
        """Publish one message, and return when it is out, at QoS 1 when it is acknowledged.

        Returns the reason code of the acknowledgement (MQTT 5, 3.4.2.1): below 0x80 the broker took the
        message. It is 0 at QoS 0 and with MQTT 3.1.1, where an acknowledgement says nothing.

        Args:
            topic: a topic name.
            payload: any bytes.
            qos: 0, 1 or 2.
            retain: whether the broker keeps it for later subscribers.

        Raises:
            PublishRefusedError: the broker has said that it would not take it.
            HeldUpError: the acknowledgement would come behind messages that nobody takes.
            BrokerError: the connection ended, or no acknowledgement came within 10 s.
        """
        client, endpoint = self._live_client(), self.options.endpoint
        request = PublishRequest(topic, payload, qos, retain)
        if refusal := request.refusal(self.granted, is_v5=self.has_properties, endpoint=endpoint):
            raise refusal
        try:
            async with asyncio.timeout(PUBACK_SECONDS):
                code = await client.publish_once(request)
        except TimeoutError:
            raise failures.no_receipt(topic, endpoint=endpoint, seconds=PUBACK_SECONDS, qos=qos) from None
        if isinstance(code, Unanswered):
            raise self.ended or StateError("the session was closed meanwhile")
        return code

    async def publish_once(self, request: PublishRequest) -> int | Unanswered:
        """Publish one message on this connection, if it has not ended; as ``Client.publish_once``."""
        client = self.client
        return Unanswered.NOT_SENT if client is None else await client.publish_once(request)

    async def subscribe(
        self,
        filters: Mapping[str, int],
        *,
        timeout_seconds: float | None = None,
        is_sharing_trusted: bool = False,
    ) -> dict[str, int]:
        """Subscribe to topic filters and return the QoS that the broker granted to each.

        Args:
            filters: valid topic filters, and the QoS asked for each; no more is asked for than the broker grants.
            timeout_seconds: how long the broker may say nothing before its SUBACK; default: as long as an attempt
                to connect may take. It comes behind all that was sent before, which may be any number of messages
                (MQTT 5, 3.8.4); somebody has to take them.
            is_sharing_trusted: whether to ask for shared subscriptions though the broker says that it has none.

        Raises:
            SubscriptionRefusedError: the broker refused one of them, or has said that it would.
            BrokerError: the connection ended, or no SUBACK came in time.
        """
        client = self._live_client()
        if not filters:
            return {}
        self.filters.update(filters)
        if lacking := asking.unavailable(filters, self.granted, is_sharing_trusted=is_sharing_trusted):
            raise failures.filters_unavailable(lacking, endpoint=self.options.endpoint)
        filters = {name: min(qos, self.max_qos) for name, qos in filters.items()}
        asked = max(filters.values())
        # before the packet goes out: messages may come before the SUBACK (MQTT 5, 3.8.4)
        self._grants.ask(asked)
        self._limit_qos()
        silence = self.options.timeout_seconds if timeout_seconds is None else timeout_seconds
        subscribing = client.subscribe_for_codes(filters, is_resumed=self.is_resumed, timeout_seconds=silence)
        codes = await unless(client.answers.ended, subscribing)
        if codes is None:
            raise self.ended or StateError("the session was closed meanwhile")
        self._grants.answer(asked, codes)
        self._limit_qos()
        granted = dict(zip(filters, codes, strict=True))
        refused = {name: code for name, code in granted.items() if code >= 0x80}
        if refused:
            raise failures.filters_refused(refused, endpoint=self.options.endpoint, is_v5=self.has_properties)
        return granted

    def trust_qos(self) -> None:
        """Take messages of any QoS: somebody has subscribed past this session."""
        self._grants.ask(2)
        self._limit_qos()

    def _limit_qos(self) -> None:
        # a session that was resumed may still hold messages of earlier subscriptions
        if self._client and not self.is_resumed:
            self._client.limit_qos(self._grants.max_qos)

    def _live_client(self) -> Client:
        client = self.client
        if client is None:
            raise self.ended or StateError("the session is not connected")
        return client

    # Messages

    def batches(self, at_once: AtOnce | None = None, claim: Claim | None = None) -> AsyncGenerator[Batch, None]:
        """Yield what has arrived, until ``finish`` is called; ``Delivery.batches`` says how."""
        return self._delivery.batches(at_once, claim)

    def acknowledge(self, packets: Iterable[Packet]) -> bool:
        """Tell the broker that these messages are done with; as ``Delivery.acknowledge``."""
        return self._delivery.acknowledge(packets)

    def let_go(self, size: int) -> None:
        """Make room: messages of a claimed batch are done with, and with them so many bytes of memory."""
        self._delivery.let_go(size)

    @property
    def held(self) -> int:
        """How many messages were read and not yet taken."""
        return self.inbox.count

    @property
    def invalid(self) -> int:
        """PUBLISH packets that carried no valid topic name."""
        return self._delivery.invalid

    @property
    def paused_seconds(self) -> float:
        """How long batches held the stream up that took long."""
        return self._delivery.paused_seconds

    # The end

    @property
    def is_finishing(self) -> bool:
        """True once nothing more is to be read."""
        return self.inbox.is_closed

    def finish(self) -> None:
        """Let ``batches`` end after what has arrived; messages that come later are dropped, unacknowledged."""
        self._delivery.finish()

    @property
    def has_ended(self) -> bool:
        """Whether the connection has ended, for whatever reason."""
        return self.ended is not None

    @property
    def has_properties(self) -> bool:
        """Whether messages may have properties (MQTT 5)."""
        return self.options.mqtt_version is MQTTVersion.V5

    def when_ended(self, told: Callable[[], None]) -> None:
        """Let somebody be told when the connection ends; who has asked before is told no more."""
        self._on_end = told

    def leave_to_broker(self) -> None:
        """Drop what waits and comes again."""
        self.inbox.drop_what_comes_again()

    def give_up(self) -> None:
        """End the connection, so that what is not acknowledged comes again."""
        endpoint = self.options.endpoint
        self.fail(
            ConnectionLostError(
                f"{endpoint}: connection given up: a handler failed, and keeps its message", endpoint=endpoint
            )
        )

    def fail(self, error: BrokerError) -> None:
        """End the session for a reason found outside of it; ``batches`` raises it."""
        self.end(error, by_us=True)
        if self._client:
            self._client.abort()

    def end(self, error: BrokerError, *, by_us: bool) -> None:
        """Take note of the end of the connection, of which the first reason counts.

        Args:
            error: why it ended.
            by_us: whether it was this side that ended it.
        """
        if self.ended is None:
            self.ended, self.ended_at, self.is_given_up = error, self._loop.time(), by_us
            self.silent_since = (
                self._client.reading.silent_since(is_given_up=by_us) if self._client else since_boot()
            )
        self._delivery.end(self.ended)
        self._on_end()
        if self._client:
            self._client.end_waiting()

    async def close(self, timeout_seconds: float = 1.0) -> None:
        """Send DISCONNECT, and close the connection within ``timeout_seconds`` whatever the broker does."""
        self.finish()
        if self._client:
            await self._client.leave(timeout_seconds)


def _silence_seconds(took_seconds: float, left_seconds: float, patience: float = 1.0) -> float:
    """How long to wait for an answer to MQTT 5, so that a broker that passes it over has time to answer 3.1.1.

    Of a short attempt that is a quarter: such a broker is no slow one.

    Args:
        took_seconds: how long it took to connect; an answer may take as long, and the next connection will.
        left_seconds: what is left of the attempt.
        patience: as in ``Session``.
    """
    seconds = min(SILENT_SECONDS * patience, max(took_seconds, (left_seconds - took_seconds) * 3 / 4))
    return round(seconds, 1 if seconds > 1 else 3)  # it is told
