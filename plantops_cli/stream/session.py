"""One connection to one broker: the only module that imports aiomqtt.

aiomqtt does the protocol, except that a tap in front of paho's socket takes the messages out. Thus they come in
batches, a slow consumer stops the socket instead of filling the memory, what is to be acknowledged is acknowledged
after the consumer is done with a batch, and no packet of a broker can make the reader spin. The private names of
aiomqtt and paho that this leans on are listed in ``PRIVATE_NAMES``; a session refuses to start when one has moved.
"""

import asyncio
import logging
import math
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import groupby, takewhile
from typing import Any, Literal, Self, cast

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from plantops_cli.errors import (
    BrokerError,
    ConfigError,
    ConnectionLostError,
    HeldUpError,
    StateError,
    SubscriptionRefusedError,
)
from plantops_cli.stream import failures
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.exactly_once import LEAST_BYTES, ExactlyOnce, UnreleasedError
from plantops_cli.stream.inbox import BATCH_MESSAGES, Inbox
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.packets import (
    DUP,
    LONGEST_TOPIC_KEPT,
    PUBREL,
    QOS_2,
    MalformedPacketError,
    Packet,
    Splitter,
    parse_properties,
    puback,
    pubcomp,
    pubrec,
)
from plantops_cli.stream.status import Connecting, FellBack, Paused, Status
from plantops_cli.stream.tap import READ_BYTES, Tap
from plantops_cli.stream.waiting import in_daemon_thread, unless

logger = logging.getLogger("plantops.stream")

PRIVATE_NAMES = {
    aiomqtt.Client: (
        "_client_connect",
        "_on_connect",
        "_on_disconnect",
        "_on_publish",
        "_on_socket_close",
        "_on_socket_open",
        "_on_socket_register_write",
        "_on_socket_unregister_write",
    ),
    paho.Client: (
        "_create_socket_connection",
        "_create_unix_socket_connection",
        "_handle_pingresp",
        "_send_pingreq",
        "_sock_close",
        "_ssl_wrap_socket",
    ),
}
"""Methods that ``_Client`` overrides or calls although they are not public.

Of the attributes, those in ``_ATTRIBUTES`` and ``_PAHO_ATTRIBUTES`` are used too; they stand on instances only,
where each session looks for them.
"""

_ATTRIBUTES = ("_client", "_connected", "_disconnected", "_hostname", "_loop", "_misc_task")
_PAHO_ATTRIBUTES = ("_keepalive", "_last_bytes_received", "_ping_t", "_sock")


AiomqttClient = aiomqtt.Client
"""The type of ``MQTTSubscriber.client``, for those who may not import aiomqtt."""

TCP_CONNECT_SECONDS = 4.0
SILENT_SECONDS = 3.0
"""A connection without any answer to CONNECT for so long is one to a broker that may not know MQTT 5."""

# With the 6.5 s of an attempt to connect this stays below the 10 s that connect() promises
SUBACK_SECONDS = 2.5
SLOW_SECONDS = 2.0
"""A batch that is handled for longer holds the stream up."""

AtOnce = Callable[[Batch], bool]
"""Handles a few messages of QoS 0 and 1 in no time, or refuses them."""

RECEIVE_MAXIMUM = 65_535
"""How many messages of QoS 1 and 2 the broker may leave unacknowledged (MQTT 5, 3.1.2.11.3).

As many as there are identifiers: what waits is bounded in bytes, and a broker that has to keep it back drops what
is beyond its own queue, Mosquitto by default what is beyond 1,000. Left out, it would mean 20 to Mosquitto.
"""

UNSENT_BYTES = 1024 * 1024
"""How many bytes of acknowledgements may wait for a broker that takes none, while it goes on sending."""

HELD_UP_SECONDS = 0.2
"""When the socket has been left unread for so long, nobody waits for an answer of the broker any more."""

_FEW_MESSAGES, _FEW_BYTES = 8, 2 * 1024
_TOPICS_KEPT = 100_000
_PINGREQ = b"\xc0\x00"
# the answers to pings, two bytes each, do not show that a packet makes headway
_HEADWAY_BYTES = 1024
_PAHO_SECONDS = _TURN_SECONDS = 0.02

# Sixteen reads in a row, of less than 16 KiB each and less than 0.3 ms apart, are a flood in small pieces; a rest
# was worth it when it brought 2 KiB
_CLOSE_READS, _SMALL_BYTES, _CLOSE_SECONDS = 16, 16 * 1024, 0.000_3
_REST_SECONDS, _WORTH_A_REST_BYTES = 0.001, 2 * 1024
_FORBIDDEN_IN_TOPICS = "+#\0"

_PROTOCOLS = {MQTTVersion.V5: aiomqtt.ProtocolVersion.V5, MQTTVersion.V311: aiomqtt.ProtocolVersion.V311}


async def open_session(
    options: ConnectOptions,
    on_status: Callable[[Status], None],
    exactly_once: ExactlyOnce | None = None,
    *,
    on_reached: Callable[[], None] = lambda: None,
) -> "Session":
    """Connect once, within ``options.timeout_seconds``.

    With ``AUTO``, MQTT 3.1.1 follows an MQTT 5 that the broker refuses, hangs up on, or does not answer for
    ``SILENT_SECONDS``; the time that it takes to connect does not count.

    Args:
        options: where and how to connect.
        on_status: told about each step.
        exactly_once: as in ``Session``.
        on_reached: called when a connection is made, and the answer of the broker is waited for.

    Raises:
        BrokerError: no connection came about.
        ConfigError: a TLS file is missing or unusable.
    """
    on_status(Connecting(options.endpoint))
    deadline = asyncio.get_running_loop().time() + options.timeout_seconds
    if options.mqtt_version is not MQTTVersion.AUTO:
        return await Session(options, on_status, exactly_once).connect(deadline, on_reached=on_reached)
    session = Session(replace(options, mqtt_version=MQTTVersion.V5), on_status, exactly_once)
    try:
        return await session.connect(deadline, is_last=False, on_reached=on_reached)
    except BrokerError as exc:
        if not session.is_version_refused:
            raise
        on_status(FellBack(options.endpoint, str(exc)))
    second = Session(replace(options, mqtt_version=MQTTVersion.V311), on_status, exactly_once)
    second.is_version_a_guess = session.is_version_a_guess
    return await second.connect(deadline)


class Session:
    """One connection, from CONNECT to its end; used once.

    Args:
        options: where and how to connect; ``mqtt_version`` must name a version.
        on_status: told when a batch holds the stream up.
        exactly_once: what is known of an earlier connection's messages of QoS 2; default: nothing.

    Attributes:
        options: as given.
        is_version_refused: True when ``connect`` failed because the broker does not take this MQTT version.
        is_version_a_guess: True when silence was the only reason against MQTT 5, which a slow broker gives too.
        filters: the topic filters asked for so far, and the QoS of each.
        is_finishing: True once nothing more is to be read.
        invalid: PUBLISH packets that carried no valid topic name.
        paused_seconds: how long batches held the stream up that took longer than ``SLOW_SECONDS``.
        ended_at: when the connection ended, by the clock of the event loop.
        is_given_up: True when it was this side that ended the connection.
        is_resumed: True when the broker had kept the session of an earlier connection (MQTT 5, 3.2.2.1.1).
        inbox: what has been read and is not done with.
        reader: the task that iterates over ``batches``, or None.
        granted: the properties of the CONNACK by paho's names, such as ``ReceiveMaximum`` (MQTT 5, 3.2.2.3).
    """

    def __init__(
        self,
        options: ConnectOptions,
        on_status: Callable[[Status], None],
        exactly_once: ExactlyOnce | None = None,
    ) -> None:
        check_private_names()
        self.options = options
        self.on_status = on_status
        self.is_version_refused = False
        self.is_version_a_guess = False
        self.filters: dict[str, int] = {}
        self.invalid = 0
        self.paused_seconds = 0.0
        self.ended_at = 0.0
        self.is_given_up = False
        self.is_resumed = False
        self.granted: Mapping[str, object] = {}
        self._client: _Client | None = None
        self.inbox = Inbox(options.max_pending_bytes)
        self.reader: asyncio.Task[Any] | None = None
        self._exactly_once = exactly_once or ExactlyOnce(max(options.max_pending_bytes, LEAST_BYTES))
        self._exactly_once.begin()
        self._unanswered: list[int] = []
        self._highest_granted = -1
        self._topics: set[bytes] = set()
        self._at_once: AtOnce | None = None
        self._failure: Exception | None = None
        self._kept: Batch | None = None
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._held_since: float | None = None
        self._gave_way_at = 0.0
        self._next_notice = SLOW_SECONDS
        self._ended: BrokerError | None = None
        self.is_finishing = False

    @property
    def client(self) -> "_Client | None":
        """The live client of aiomqtt, or None before ``connect`` and after the end."""
        return self._client if self._client and self._client.is_open else None

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
        is_tls = options.tls is not None
        try:
            self._client = client = _Client(options, self)
        except OSError as exc:  # no room to open the TLS files; another time there may be
            raise failures.connect_failed(exc, endpoint=options.endpoint, is_tls=is_tls) from exc
        is_connected = False
        try:
            async with asyncio.timeout_at(deadline) as limit:
                began = self._loop.time()
                await client.reach()
                took = self._loop.time() - began
                on_reached()
                silence = None if is_last else _silence_seconds(took, deadline - self._loop.time())
                await client.connack(silence)
            is_connected = True
            return self
        except _SilentError as exc:
            self.is_version_refused = self.is_version_a_guess = True
            raise failures.no_answer(options.endpoint, seconds=exc.seconds, is_tls=is_tls) from None
        except TimeoutError as exc:
            if not limit.expired():
                raise failures.connect_failed(exc, endpoint=options.endpoint, is_tls=is_tls) from exc
            raise failures.no_answer(options.endpoint, seconds=options.timeout_seconds, is_tls=is_tls) from None
        except _ClosedBeforeConnackError:
            # Some brokers do not refuse MQTT 5 but hang up on it
            self.is_version_refused = True
            raise failures.closed_before_connack(options.endpoint, is_tls=is_tls) from None
        except aiomqtt.MqttCodeError as exc:
            code, name = _code_and_name(exc.rc)
            self.is_version_refused = code == failures.UNSUPPORTED_VERSION
            raise failures.connack_refused(
                code, name, endpoint=options.endpoint, username=options.username
            ) from exc
        except (OSError, UnicodeError) as exc:
            raise failures.connect_failed(exc, endpoint=options.endpoint, is_tls=is_tls) from exc
        finally:
            # cancelled in the very turn of the CONNACK, too
            if not is_connected:
                client.abort()

    def begun(self, *, is_resumed: bool) -> None:
        """Take note of the CONNACK; messages that came along with it have been looked at already."""
        self.is_resumed = is_resumed
        if not is_resumed:
            self._exactly_once.forget()

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Publish one message, and return when it is out, at QoS 1 when it is acknowledged.

        Returns the reason code of the acknowledgement (MQTT 5, 3.4.2.1): below 0x80 the broker took the
        message. It is 0 at QoS 0 and with MQTT 3.1.1, where an acknowledgement says nothing.

        Args:
            topic: a topic name.
            payload: any bytes.
            qos: 0, 1 or 2.
            retain: whether the broker keeps it for later subscribers.

        Raises:
            HeldUpError: the acknowledgement would come behind messages that nobody takes.
            BrokerError: the connection ended, or no acknowledgement came within 10 s.
        """
        client = self.client
        if client is None:
            raise self._ended or StateError("the session is not connected")
        try:
            code = await unless(client.ended, client.publish_for_code(topic, payload, qos=qos, retain=retain))
        except HeldUpError:
            raise
        except aiomqtt.MqttError as exc:
            raise self._ended or ConnectionLostError(
                f"{self.options.endpoint}: publishing failed: {exc}", endpoint=self.options.endpoint
            ) from exc
        if code is None:
            raise self._ended or StateError("the session was closed meanwhile")
        return code

    async def subscribe(
        self, filters: Mapping[str, int], *, timeout_seconds: float = SUBACK_SECONDS
    ) -> dict[str, int]:
        """Subscribe to topic filters and return the QoS that the broker granted to each.

        Args:
            filters: valid topic filters, and the QoS asked for each.
            timeout_seconds: how long the broker may say nothing before its SUBACK. It comes behind all that was
                sent before, which may be any number of messages (MQTT 5, 3.8.4); somebody has to take them.

        Raises:
            SubscriptionRefusedError: the broker refused one of them.
            BrokerError: the connection ended, or no SUBACK came in time.
        """
        client = self.client
        if client is None:
            raise self._ended or StateError("the session is not connected")
        if not filters:
            return {}
        self.filters.update(filters)
        asked = max(filters.values())
        self._unanswered.append(asked)
        self._limit_qos()
        codes = await unless(client.ended, self._suback(client, filters, timeout_seconds))
        if codes is None:
            raise self._ended or StateError("the session was closed meanwhile")
        self._unanswered.remove(asked)
        self._highest_granted = max(self._highest_granted, *(code for code in codes if code < 0x80), -1)
        self._limit_qos()
        granted = dict(zip(filters, codes, strict=True))
        refused = {name: code for name, code in granted.items() if code >= 0x80}
        if refused:
            raise SubscriptionRefusedError(
                f"{self.options.endpoint}: the broker refused to subscribe "
                + ", ".join(f"{name!r} (SUBACK 0x{code:02x})" for name, code in refused.items()),
                endpoint=self.options.endpoint,
                filters=refused,
                hint="the user needs the right to subscribe to it: check the broker's access control",
            )
        return granted

    async def batches(self, at_once: AtOnce | None = None) -> AsyncGenerator[Batch, None]:
        """Yield what has arrived, a non-empty batch at a time, until ``finish`` is called.

        The QoS 1 and 2 messages of a batch are acknowledged when the next one is asked for, or when ``finish``
        ends the iteration: whoever iterates is then done with them. After ``break`` they stay unacknowledged.

        Args:
            at_once: is offered a few messages that nothing waits before, in the very turn of the event loop in
                which they are read; True when it is done with them, so that they are acknowledged, not yielded.

        Raises:
            BrokerError: the connection ended; everything that had arrived was yielded before.
            Exception: whatever ``at_once`` raised; its messages stay unacknowledged.
        """
        self._at_once = at_once
        self._watch()
        try:
            while True:
                self.reader = asyncio.current_task()
                if self._failure:
                    raise self._failure
                if not self.inbox:
                    if self.is_finishing:
                        return
                    if self._ended:
                        raise self._ended
                    self._news.clear()
                    await self._news.wait()
                    self._gave_way_at = self._loop.time()
                    continue
                batch = self.inbox.take()
                if not batch:  # nothing in it but what was passed over
                    self.acknowledge(batch.acknowledgeable(0))
                    self._let_go()
                    await self._give_way()
                    continue
                began = self._held_since = self._loop.time()
                self._next_notice = SLOW_SECONDS
                try:
                    yield batch
                finally:
                    self._held_since = None
                    seconds = self._loop.time() - began
                    if seconds >= SLOW_SECONDS:
                        self.paused_seconds += seconds
                if batch is not self._kept:
                    self.acknowledge(batch.acknowledgeable(len(batch)))
                self._let_go()
                await self._give_way()
        finally:
            self._at_once = self.reader = None
            self._watcher.cancel()
            self._let_go()

    def finish(self) -> None:
        """Let ``batches`` end after what has arrived; messages that come later are dropped, unacknowledged."""
        self.is_finishing = True
        if self._client:
            # handlers may still wait for answers of the broker
            self._client.resume_reading()
        self._news.set()

    async def _give_way(self) -> None:
        """Let others have their turn now and then: a reader that never waits would keep them waiting.

        Not after each batch: reading, which comes twice in a turn, would then run away from it.
        """
        if self._loop.time() - self._gave_way_at > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._gave_way_at = self._loop.time()

    def _let_go(self) -> None:
        self.inbox.let_go()
        if self._client:
            self._client.resume_reading()

    def fail(self, error: BrokerError) -> None:
        """End the session for a reason found outside of it; ``batches`` raises it."""
        self._end(error, by_us=True)
        if self._client:
            self._client.abort()

    async def close(self, timeout_seconds: float = 1.0) -> None:
        """Send DISCONNECT, and close the connection within ``timeout_seconds`` whatever the broker does."""
        self.finish()
        client = self._client
        if client is None:
            return
        try:
            if client.is_open:
                async with asyncio.timeout(timeout_seconds):
                    await client.leave()
        except (TimeoutError, aiomqtt.MqttError, OSError) as exc:
            logger.debug("no clean end of the connection: %s", exc)
        finally:
            client.abort()
            await client.parted(timeout_seconds)
            await asyncio.sleep(0)  # for the tasks that were cancelled to be gone

    def acknowledge(self, packets: Iterable[Packet]) -> None:
        """Tell the broker that these messages are done with, in this order (MQTT 5, 4.6).

        Args:
            packets: messages of this session; those of QoS 0 are passed over.
        """
        at_least_once: list[int] = []
        exactly_once: list[int] = []
        for first, topic, mid, _, payload in packets:
            if first & QOS_2:
                exactly_once.append(mid)
                self._exactly_once.handled(mid, len(topic) + len(payload))
            elif mid:
                at_least_once.append(mid)
        client = self.client
        if client is None:
            return
        if at_least_once:
            client.push(puback(at_least_once))
        if exactly_once:
            client.push(pubrec(exactly_once))
            self._look_for_pubrels(client)

    def _look_for_pubrels(self, client: "_Client") -> None:
        """Ask a broker that owes many a PUBREL for a sign behind them, and give it up when they do not come."""
        try:
            if self._exactly_once.is_to_be_asked():
                client.ask(self._look_after_pong)
        except UnreleasedError as exc:
            self.reading_failed(exc)

    def _look_after_pong(self) -> None:
        try:
            self._exactly_once.answered()
        except UnreleasedError as exc:
            self.reading_failed(exc)

    def give_up(self, batch: Batch, *, handled: int) -> None:
        """Acknowledge the first messages of a batch only, and end the connection, so that the rest come again.

        Args:
            batch: the batch that is being handled.
            handled: how many of its messages are done with.
        """
        self.acknowledge(batch.acknowledgeable(handled))
        self._kept = batch
        if self.options.session_expiry_seconds is not None:
            self.inbox.drop_what_comes_again()
        endpoint = self.options.endpoint
        self.fail(
            ConnectionLostError(
                f"{endpoint}: connection given up: a handler failed, and keeps its message", endpoint=endpoint
            )
        )

    def take(self, packets: list[Packet], size: int) -> None:
        """Hand messages to the reader: at once if they are few and it is free, else in its turn.

        Those without a valid topic name are counted and passed over; they are acknowledged in their turn.

        Args:
            packets: the messages, at least one.
            size: how many bytes they took, with all that came along.

        Raises:
            MalformedPacketError: the properties of one are not valid; those before it were handed over.
        """
        if self.is_finishing:
            return
        topics = self._topics
        for packet in packets:
            if packet[3] or packet[1] not in topics:
                self._take_carefully(packets, size)
                return
        self._hand_over(packets, size)

    def take_exactly_once(self, packets: list[Packet], size: int) -> None:
        """Do what ``take`` does with messages among which some are of QoS 2, or with PUBRELs.

        Args:
            packets: the messages and PUBRELs, at least one.
            size: how many bytes they took, with all that came along.

        Raises:
            MalformedPacketError: as in ``take``.
        """
        new: list[Packet] = []
        repeated: list[int] = []
        released: list[int] = []
        for packet in packets:
            first, mid = packet[0], packet[2]
            if first == PUBREL:
                self._exactly_once.released(mid)
                released.append(mid)
            elif not first & QOS_2 or self._exactly_once.came(mid, is_dup=bool(first & DUP)):
                new.append(packet)
            elif self._exactly_once.is_handled(mid):
                repeated.append(mid)
        if self._client and (repeated or released):
            self._client.push(pubrec(repeated) + pubcomp(released))
        if new:
            self.take(new, size)

    def _take_carefully(self, packets: list[Packet], size: int) -> None:
        """Do what ``take`` does with messages that have properties, or topics that are not known yet."""
        malformed = _find_malformed({packet[3] for packet in packets})
        if malformed:
            packets = list(takewhile(lambda packet: packet[3] not in malformed, packets))
        wrong = self._find_wrong_topics(packets)
        if wrong:
            for is_wrong, group in groupby(packets, lambda packet: packet[1] in wrong):
                some = list(group)
                some_bytes = sum(len(packet[1]) + len(packet[3]) + len(packet[4]) for packet in some)
                (self._pass_over if is_wrong else self._hand_over)(some, some_bytes)
        elif packets:
            self._hand_over(packets, size)
        if malformed:
            raise next(iter(malformed.values()))

    def _hand_over(self, packets: list[Packet], size: int) -> None:
        read = Read(time.time_ns(), packets)
        if self._offer(read, size):
            self.acknowledge(packets)
        else:
            self._queue(read, size)

    def _pass_over(self, packets: list[Packet], size: int) -> None:
        """Count messages without a valid topic name, and acknowledge them behind what waits (MQTT 5, 4.6)."""
        self.invalid += len(packets)
        for packet in packets:
            logger.warning(
                "message passed over: its topic is empty, no UTF-8, or holds a wildcard or NUL (MQTT 3.3.2.1): %s",
                ascii(packet[1][:80]),
            )
        if self.inbox or self._held_since is not None:
            self._queue(Read(time.time_ns(), [], passed_over=packets), size)
        else:
            self.acknowledge(packets)

    def _offer(self, read: Read, size: int) -> bool:
        """Offer what was read to ``at_once``, if it is little and nothing waits before it; True when done."""
        if self._at_once is None or self.inbox or self._held_since is not None:
            return False
        if size > _FEW_BYTES or len(read.packets) > _FEW_MESSAGES:
            return False
        if read.packets[0][0] & QOS_2:  # seldom: let many come together
            return False
        try:
            return self._at_once(Batch([read]))
        except Exception as exc:
            self._failure, self._at_once = exc, None  # raised where the reader can catch it
            return False

    def _queue(self, read: Read, size: int) -> None:
        self.inbox.put(read, size)
        self._news.set()

    @property
    def room(self) -> int:
        """How many more messages may come at once."""
        # what comes too late is dropped and takes none, and an answer may stand behind it
        return BATCH_MESSAGES if self.is_finishing else self.inbox.room

    def is_full(self, partial_bytes: int) -> bool:
        """Whether nothing more is to be read until the reader has done with something.

        Args:
            partial_bytes: what has come of a packet that is not whole yet.
        """
        return not self.is_finishing and self.inbox.is_full(partial_bytes)

    @property
    def heard_at(self) -> float:
        """When something came from the broker last, be it the answer to a ping, by the clock of the event loop."""
        return self._client.read_at if self._client else 0.0

    @property
    def held(self) -> int:
        """How many messages were read and not yet taken."""
        return self.inbox.count

    def connection_ended(self, code: int, name: str, *, by_broker: bool) -> None:
        """Take note of the end of the connection."""
        error = failures.disconnected(
            code,
            name,
            endpoint=self.options.endpoint,
            by_broker=by_broker,
            is_durable=self.options.session_expiry_seconds is not None,
        )
        self._end(error, by_us=not by_broker and failures.is_given_up(name))

    def reading_failed(self, exc: Exception) -> None:
        """Give the connection up after bytes that are no MQTT; its state cannot be trusted any more."""
        code = exc.reason_code if isinstance(exc, MalformedPacketError) else MalformedPacketError.reason_code
        reason = exc if isinstance(exc, MalformedPacketError) else type(exc).__name__
        if self.client and self.options.mqtt_version is MQTTVersion.V5:
            self.client.part(bytes((0xE0, 1, code)))  # DISCONNECT (MQTT 5, 4.13.1)
        self.fail(failures.protocol_broken(code, str(reason), endpoint=self.options.endpoint))

    def way_back_clogged(self) -> None:
        """Give the connection up to a broker that sends and sends, and takes nothing."""
        endpoint = self.options.endpoint
        self.fail(
            ConnectionLostError(
                f"{endpoint}: connection given up: the broker takes no acknowledgements", endpoint=endpoint
            )
        )

    def _end(self, error: BrokerError, *, by_us: bool) -> None:
        if self._ended is None:
            self._ended, self.ended_at, self.is_given_up = error, self._loop.time(), by_us
        self._news.set()
        if self._client:
            self._client.end()

    def _watch(self) -> None:
        """Say that a batch is still being handled, ever more seldom; one timer for all, for each would cost."""
        seconds = 0.0 if self._held_since is None else self._loop.time() - self._held_since
        if seconds >= self._next_notice and not self.is_finishing:
            self._next_notice = 2 * seconds
            self.on_status(Paused(seconds))
        self._watcher = self._loop.call_later(SLOW_SECONDS / 4, self._watch)

    def trust_qos(self) -> None:
        """Take messages of any QoS: somebody has subscribed past this session."""
        self._unanswered.append(2)
        self._limit_qos()

    def held_up(self) -> HeldUpError:
        """Say that an answer of the broker cannot be waited for."""
        return _HeldUpError(
            f"{self.options.endpoint}: the broker's answer lies behind messages that wait to be handled, "
            f"{self.options.max_pending_bytes:,} bytes of them",
            endpoint=self.options.endpoint,
            hint="let the handlers be faster, or try again later; max_pending_bytes is how much may wait",
        )

    def why_ended(self) -> str:
        """Say why the connection has ended."""
        return str(self._ended or f"{self.options.endpoint}: the connection was closed meanwhile")

    def _limit_qos(self) -> None:
        """Let the broker send no higher QoS than it was asked for or has granted (MQTT 5, 3.8.4-8).

        A session that was resumed may still hold messages of earlier subscriptions.
        """
        if self._client and not self.is_resumed:
            highest = max(self._highest_granted, *self._unanswered, -1)
            self._client.limit_qos(2 if highest < 0 else highest)

    def _find_wrong_topics(self, packets: list[Packet]) -> set[bytes]:
        """Find topics that are no valid topic names, and remember those that are, but for the long ones."""
        unknown = {packet[1] for packet in packets} - self._topics
        wrong = {topic for topic in unknown if not _is_topic(topic)}
        if len(self._topics) > _TOPICS_KEPT:
            self._topics.clear()
        self._topics |= {topic for topic in unknown - wrong if len(topic) <= LONGEST_TOPIC_KEPT}
        return wrong

    @asynccontextmanager
    async def _unless_silent(self, client: "_Client", seconds: float) -> AsyncGenerator[None]:
        """Raise TimeoutError once the broker has said nothing for so long; what is left unread is no silence."""
        limit = asyncio.timeout(seconds)
        timer: asyncio.TimerHandle

        def look(heard_bytes: int) -> None:
            nonlocal timer
            if (client.heard_bytes != heard_bytes or client.paused.is_set()) and not limit.expired():
                limit.reschedule(self._loop.time() + seconds)
            timer = self._loop.call_later(seconds / 2, look, client.heard_bytes)

        timer = self._loop.call_later(seconds / 2, look, client.heard_bytes)
        try:
            async with limit:
                yield
        finally:
            timer.cancel()

    async def _suback(self, client: "_Client", filters: Mapping[str, int], timeout_seconds: float) -> list[int]:
        is_v5 = self.options.mqtt_version is MQTTVersion.V5
        # who resumes a session has had the retained messages already
        handling = (
            SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            if self.is_resumed
            else SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        )
        wanted: list[Any] = [
            (name, SubscribeOptions(qos=qos, retainHandling=handling) if is_v5 else qos)
            for name, qos in filters.items()
        ]
        try:
            async with self._unless_silent(client, timeout_seconds):
                codes = await client.subscribe_patiently(wanted)
        except TimeoutError:
            raise ConnectionLostError(
                f"{self.options.endpoint}: no answer to SUBSCRIBE within {timeout_seconds:g} s",
                endpoint=self.options.endpoint,
            ) from None
        except aiomqtt.MqttError as exc:
            raise ConnectionLostError(
                f"{self.options.endpoint}: subscribing failed: {exc}", endpoint=self.options.endpoint
            ) from exc
        if len(codes) != len(filters):
            raise ConnectionLostError(
                f"{self.options.endpoint}: SUBACK with {len(codes)} codes for {len(filters)} filters",
                endpoint=self.options.endpoint,
            )
        return [_code_and_name(code)[0] for code in codes]


class _ClosedBeforeConnackError(Exception):
    """The connection ended where a CONNACK was due."""


class _HeldUpError(HeldUpError, aiomqtt.MqttError):
    """A ``HeldUpError`` for those, too, who expect the errors of ``aiomqtt.Client``."""


class _SilentError(Exception):
    """No CONNACK came in time.

    Args:
        seconds: how long it was waited for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Client(aiomqtt.Client):
    """An ``aiomqtt.Client`` whose opening, reading and ending are driven by a session.

    The blocking part of connecting runs in a daemon thread, so that neither a silent name server nor a firewall
    can keep the program from ending. ``abort`` may be called at any moment, again and again.

    Attributes:
        ended: set when the connection has ended.
        paused: set while the socket is left unread, whatever comes.
    """

    def __init__(self, options: ConnectOptions, session: Session) -> None:
        is_v5 = options.mqtt_version is MQTTVersion.V5
        is_durable = options.session_expiry_seconds is not None
        super().__init__(
            # paho takes the path of a Unix socket from the host
            options.host if options.unix_socket is None else options.unix_socket,
            options.port,
            transport=_transport(options),
            websocket_path=options.websocket_path,
            username=options.username,
            password=cast("str | None", options.password),  # paho sends bytes as they are
            identifier=options.client_id,
            protocol=_PROTOCOLS[options.mqtt_version],
            keepalive=options.keepalive_seconds,
            clean_session=None if is_v5 else not is_durable,
            clean_start=not is_durable if is_v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_connect_properties(options) if is_v5 else None,
            tls_context=options.tls.context() if options.tls else None,
            tls_insecure=options.tls.insecure if options.tls else None,
            logger=logging.getLogger("plantops.paho"),
        )
        _check_attributes(self, _ATTRIBUTES)
        _check_attributes(self._client, _PAHO_ATTRIBUTES)
        self.ended = asyncio.Event()
        self._session = session
        self._is_aborted = False
        self._tap: Tap | None = None
        self._parting: Tap | None = None
        self.paused = asyncio.Event()
        self.read_at = 0.0
        self._waiting: set[asyncio.Timeout] = set()
        self._unanswered: set[asyncio.Timeout] = set()
        self._held_up: asyncio.TimerHandle | None = None
        self._is_held_up = False
        self._has_heard = False
        self._partial_bytes = 0
        self._close_reads = 0
        self._is_rested = False
        self._owner = threading.current_thread()
        self._reason_codes: dict[int, asyncio.Future[int]] = {}
        self._client.connect_timeout = TCP_CONNECT_SECONDS
        # paho's own leaves the socket open when it cannot connect, and waits without end in a full queue
        self._client._create_unix_socket_connection = self._connect_unix  # type: ignore[method-assign]  # see above
        # of a WebSocket we would hear only when its handshake is done, which a broker can put off for ever
        self._unopened: socket.socket | None = None
        self._create_tcp = self._client._create_socket_connection
        self._client._create_socket_connection = self._connect_tcp  # type: ignore[method-assign]  # see above
        self._wrap_tls = self._client._ssl_wrap_socket
        self._client._ssl_wrap_socket = self._connect_tls  # type: ignore[method-assign,assignment]  # see above
        # nothing else tells of a ping and its answer
        self._pings: deque[Callable[[], None]] = deque()
        self._send_ping = self._client._send_pingreq
        self._client._send_pingreq = self._ping  # type: ignore[method-assign]  # see above
        self._pong = self._client._handle_pingresp
        self._client._handle_pingresp = self._ponged  # type: ignore[method-assign]  # see above

    @property
    def is_open(self) -> bool:
        """True from a CONNACK that accepts until the end of the connection."""
        return (
            not self._is_aborted
            and not self.ended.is_set()
            and self._connected.done()
            and not self._connected.cancelled()
            and self._connected.exception() is None
        )

    @property
    def heard_bytes(self) -> int:
        """How many bytes have come from the broker."""
        return self._tap.heard_bytes if self._tap else 0

    async def reach(self) -> None:
        """Connect and send CONNECT; the caller bounds the time and calls ``abort`` on failure."""
        await in_daemon_thread(self._client_connect)

    async def connack(self, silence_seconds: float | None) -> None:
        """Wait for the CONNACK; as ``reach``.

        Args:
            silence_seconds: how long to wait; None: without end.

        Raises:
            _SilentError: there was none within that time.
        """
        await asyncio.wait((self._connected,), timeout=silence_seconds)
        if silence_seconds is not None and not self._connected.done():
            raise _SilentError(silence_seconds)
        await self._connected

    def abort(self) -> None:
        """Close the socket and stop everything that belongs to it, without a word to the broker."""
        self._is_aborted = True
        self._client._sock_close()
        if self._tap is None:
            if self._unopened:
                _wake_and_close(self._unopened)
        elif self._parting is None:
            self._tap.abort()
        if self._misc_task:
            self._misc_task.cancel()
        for future in (self._connected, self._disconnected):
            # retrieved, or asyncio would report an exception that nobody waits for
            if future.done() and not future.cancelled():
                future.exception()
        self.end()

    def end(self) -> None:
        """Let nobody wait for an answer any longer: the connection has ended."""
        self.ended.set()
        _expire(self._unanswered, self._loop)

    async def leave(self) -> None:
        """Send DISCONNECT, and wait until the broker has hung up.

        To close a socket that holds unread messages would reset the connection, and a broker that is slow would
        lose our last acknowledgements by it.
        """
        tap = self._tap
        if tap is not None:
            tap.linger()
        await self.__aexit__(None, None, None)
        if tap is not None:
            await self._discard(tap)

    def part(self, goodbye: bytes) -> None:
        """Say a last word; ``abort`` then leaves it to ``parted`` to close the socket.

        Args:
            goodbye: a whole packet.
        """
        if self._tap is not None and self._parting is None:
            self.push(goodbye)
            self._tap.linger()
            self._parting = self._tap

    async def parted(self, timeout_seconds: float) -> None:
        """Wait until the broker has hung up on our last word, and close the socket.

        Args:
            timeout_seconds: how long to wait at most.
        """
        tap, self._parting = self._parting, None
        if tap is None:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._discard(tap)
        except (TimeoutError, OSError) as exc:
            logger.debug("the broker did not hang up: %s", exc)
        finally:
            tap.abort()

    async def _discard(self, tap: Tap) -> None:
        """Read and forget what still comes, to the end of the connection."""
        while not tap.discard():
            readable = asyncio.Event()
            descriptor = tap.fileno()
            self._loop.add_reader(descriptor, readable.set)
            try:
                await readable.wait()
            finally:
                self._loop.remove_reader(descriptor)

    async def publish(self, /, *args: Any, **kwargs: Any) -> None:
        """Publish a message, as ``aiomqtt.Client`` does.

        Raises:
            HeldUpError: the acknowledgement of QoS 1 or 2 would come behind messages that nobody takes.
            aiomqtt.MqttError: it could not be sent, or was not acknowledged in time.
        """
        qos = kwargs["qos"] if "qos" in kwargs else args[2] if len(args) > 2 else 0
        if not qos:
            await super().publish(*args, **kwargs)
            return
        async with self._until_the_end(), self.answerable():
            await super().publish(*args, **kwargs)

    async def subscribe(self, /, *args: Any, **kwargs: Any) -> Any:
        """Subscribe past the subscriber, as ``aiomqtt.Client`` does; the next connection knows nothing of it.

        Raises:
            HeldUpError: the SUBACK would come behind messages that nobody takes.
            aiomqtt.MqttError: it could not be sent, or was not answered in time.
        """
        self._session.trust_qos()
        async with self._until_the_end(), self.answerable():
            return await super().subscribe(*args, **kwargs)

    async def subscribe_patiently(self, wanted: list[Any]) -> Any:
        """Subscribe, and wait for the SUBACK for ever."""
        return await super().subscribe(wanted, timeout=math.inf)

    async def unsubscribe(self, /, *args: Any, **kwargs: Any) -> None:
        """Unsubscribe, as ``aiomqtt.Client`` does.

        Raises:
            HeldUpError: the UNSUBACK would come behind messages that nobody takes.
            aiomqtt.MqttError: it could not be sent, or was not answered in time.
        """
        async with self._until_the_end(), self.answerable():
            await super().unsubscribe(*args, **kwargs)

    @asynccontextmanager
    async def answerable(self) -> AsyncGenerator[None]:
        """Raise HeldUpError in the block as soon as an answer of the broker cannot be waited for.

        It comes behind the messages that were sent before it, and when these fill the memory that they may take,
        they are left unread until somebody takes them: at once for who would have to, else after a moment.
        """
        if self._is_held_up or (self.paused.is_set() and asyncio.current_task() is self._session.reader):
            raise self._session.held_up()
        async with _unless_expired(self._waiting, self._session.held_up):
            yield

    @asynccontextmanager
    async def _until_the_end(self) -> AsyncGenerator[None]:
        """Raise an error in the block as soon as the connection ends; aiomqtt would wait for its full 10 s."""
        async with _unless_expired(self._unanswered, lambda: aiomqtt.MqttError(self._session.why_ended())):
            yield

    async def publish_for_code(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Publish, and return the reason code of PUBACK or PUBCOMP; 0 at QoS 0.

        Raises:
            HeldUpError: the acknowledgement would come behind messages that nobody takes.
            aiomqtt.MqttError: it could not be sent, or was not acknowledged in time.
        """
        async with self.answerable():
            return await self._publish_for_code(topic, payload, qos=qos, retain=retain)

    async def _publish_for_code(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        if info.is_published():  # before publish() returned: QoS 0 only, for nothing is read in there
            return 0
        acknowledged: asyncio.Future[int] = self._loop.create_future()
        self._reason_codes[info.mid] = acknowledged
        try:
            async with asyncio.timeout(self.timeout):
                return await acknowledged
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None
        finally:
            self._reason_codes.pop(info.mid, None)

    def ask(self, answered: Callable[[], None]) -> None:
        """Send a ping of our own.

        Args:
            answered: called when the broker has answered, and so has dealt with all that was sent before.
        """
        self._pings.append(answered)
        self.push(_PINGREQ)

    def _ping(self) -> MQTTErrorCode:
        self._pings.append(_do_nothing)
        return self._send_ping()

    def _ponged(self) -> MQTTErrorCode:
        code = self._pong()
        if self._pings:
            self._pings.popleft()()
        return code

    def push(self, data: bytes) -> None:
        """Send whole packets past paho."""
        tap = self._tap
        if tap is None or self._client.socket() is None:
            return
        try:
            tap.push(data)
        except OSError as exc:
            logger.debug("cannot acknowledge: %s", exc)  # the reader will find the end of the connection
            return
        if tap.unsent_bytes:
            self._attach_writer(tap)
        if tap.unsent_bytes > UNSENT_BYTES:
            self._session.way_back_clogged()

    def limit_qos(self, max_qos: int) -> None:
        """Take messages of a higher QoS for a breach of the protocol."""
        if self._tap:
            self._tap.limit_qos(max_qos)

    def pause_reading(self) -> None:
        """Leave the socket unread until ``resume_reading``."""
        if self._tap is not None and self._client.socket() is not None and not self.paused.is_set():
            self.paused.set()
            self._loop.remove_reader(self._tap.fileno())
            self._held_up = self._loop.call_later(HELD_UP_SECONDS, self._hold_up)

    def _hold_up(self) -> None:
        """Let nobody wait any longer for what stands behind unread messages."""
        self._is_held_up = True
        _expire(self._waiting, self._loop)

    def resume_reading(self) -> None:
        """Read the socket again."""
        if not self.paused.is_set():
            return
        self.paused.clear()
        self._is_held_up = False
        if self._held_up:
            self._held_up.cancel()
        if self._tap is not None and self._client.socket() is not None:
            self._loop.add_reader(self._tap.fileno(), self._read)
            # TLS may hold decrypted bytes of which the selector knows nothing
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        tap, session = self._tap, self._session
        if tap is None or self.paused.is_set() or self._client.socket() is None:
            return
        try:
            packets, size = ([], 0) if tap.has_foreign else tap.fill(session.room)
            try:
                if packets:
                    self._has_heard = True
                    (session.take_exactly_once if tap.is_exactly_once else session.take)(packets, size)
            finally:
                self._let_paho_read(tap)
        except Exception as exc:  # paho raises whatever its parser trips over
            session.reading_failed(exc)
            return
        moment = self._loop.time()
        seconds = moment - self.read_at
        if size:
            self.read_at = moment
        if tap.has_news:
            self._loop.call_soon(self._read)
        elif session.is_full(tap.partial_bytes):
            self.pause_reading()
        elif tap.has_more or tap.pending():
            self._loop.call_soon(self._read)
        elif self._is_hurried(size, seconds):
            self._rest()

    def _let_paho_read(self, tap: Tap) -> None:
        """Hand on what is no message, for no longer than others can wait."""
        if not tap.has_news:
            return
        until = self._loop.time() + _PAHO_SECONDS
        while tap.has_news and self._client.socket() is not None and self._loop.time() < until:
            self._client.loop_read()

    def _is_hurried(self, size: int, seconds: float) -> bool:
        """Tell whether a flood comes in small pieces, each of which costs a turn of the event loop.

        Args:
            size: bytes that the last read has brought.
            seconds: time from the one before it.
        """
        if self._is_rested:
            self._is_rested = False
            is_close = _WORTH_A_REST_BYTES <= size < READ_BYTES
        else:
            is_close = 0 < size < _SMALL_BYTES and seconds < _CLOSE_SECONDS
        self._close_reads = self._close_reads + 1 if is_close else 0
        return self._close_reads >= _CLOSE_READS

    def _rest(self) -> None:
        """Leave the socket alone for a moment, so that the next read finds more."""
        if self._tap is not None and self._client.socket() is not None:
            self._loop.remove_reader(self._tap.fileno())
            self._loop.call_later(_REST_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._tap is not None and self._client.socket() is not None and not self.paused.is_set():
            self._is_rested = True
            self._loop.add_reader(self._tap.fileno(), self._read)
            self._read()

    def _write(self) -> None:
        tap = self._tap
        if tap is None or self._client.socket() is None:
            return
        try:
            tap.flush()
        except OSError:
            # found again by the reader, who tells
            self._loop.remove_writer(tap.fileno())
            return
        if self._client.want_write():
            self._client.loop_write()
        elif not tap.unsent_bytes:
            self._loop.remove_writer(tap.fileno())

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        except BaseException:
            if self._tap is None and self._unopened:
                self._unopened.close()
            raise
        finally:
            # given up meanwhile by the event loop: leave no connection behind that nobody owns
            if self._is_aborted:
                self._client._sock_close()

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Runs in the connecting thread, before paho has read or written a byte
        if self._is_aborted:
            raise ConnectionAbortedError("given up before the connection was made")
        options = self._session.options
        is_v5 = options.mqtt_version is MQTTVersion.V5
        self._tap = Tap(sock, Splitter(is_v5=is_v5, max_packet_size=options.max_packet_bytes))
        client._sock = self._tap
        self._loop.call_soon_threadsafe(self._attach, self._tap)

    def _attach(self, sock: Any) -> None:
        if self._is_aborted or sock.fileno() < 0:
            return
        self._loop.add_reader(sock.fileno(), self._read)
        self._misc_task = self._loop.create_task(self._keep_alive(), name="plantops-keepalive")

    async def _keep_alive(self) -> None:
        """Send pings, and end a connection on which nothing at all has come for too long."""
        # paho would give up a connection without a CONNACK after one keep-alive
        await asyncio.wait((self._connected,))
        while True:
            if self._is_alive():
                # a PINGRESP may lie behind messages, read or unread, without end
                self._client._ping_t = 0.0
                self._client._last_bytes_received = time.monotonic()
            if not self._is_end_unread() and self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(1)

    def _is_alive(self) -> bool:
        """Tell whether the broker has sent a message, or a good piece of one, or something lies unread."""
        tap = self._tap
        if tap is None:
            return False
        headway = tap.partial_bytes - self._partial_bytes
        is_alive = self._has_heard or headway < 0 or headway >= _HEADWAY_BYTES or tap.has_unread
        self._has_heard = False
        if is_alive:
            self._partial_bytes = tap.partial_bytes
        return is_alive

    def _is_end_unread(self) -> bool:
        """Tell whether the end waits behind messages; over a ping that fails paho would close the socket."""
        return self._tap is not None and self.paused.is_set() and self._tap.is_hung_up

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        if threading.current_thread() is self._owner:
            super()._on_socket_close(client, userdata, sock)
            if sock.fileno() >= 0:
                self._loop.remove_writer(sock.fileno())

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Called in either thread
        self._loop.call_soon_threadsafe(self._attach_writer, sock)

    def _on_socket_unregister_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        if self._tap is None or not self._tap.unsent_bytes:
            super()._on_socket_unregister_write(client, userdata, sock)

    def _attach_writer(self, sock: Any) -> None:
        # closed meanwhile, its number may belong to somebody else's socket already
        if sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._session.begun(is_resumed=flags.session_present)
        # paho has taken the broker's, by which a dead connection might never be noticed (MQTT 5, 3.2.2.3.14)
        ours = self._session.options.keepalive_seconds
        self._client._keepalive = min(self._client._keepalive or ours, ours)
        if properties is not None:
            self._session.granted = properties.json()  # type: ignore[no-untyped-call]  # paho is silent about it
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():
            self._connected.set_exception(_ClosedBeforeConnackError())
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        code, name = _code_and_name(reason_code)
        self._session.connection_ended(code, name, by_broker=flags.is_disconnect_packet_from_server)

    def _connect_tcp(self) -> Any:
        self._unopened = self._create_tcp()
        return self._unopened

    def _connect_tls(self, sock: Any) -> Any:
        self._unopened = self._wrap_tls(sock)
        return self._unopened

    def _connect_unix(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(TCP_CONNECT_SECONDS)
            sock.connect(self._hostname)
        except BaseException:
            sock.close()
            raise
        return sock

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        acknowledged = self._reason_codes.get(mid)
        if acknowledged is None:
            super()._on_publish(client, userdata, mid, reason_code, properties)
        elif not acknowledged.done():
            acknowledged.set_result(_code_and_name(reason_code)[0])


def _do_nothing() -> None: ...


@asynccontextmanager
async def _unless_expired(limits: set[asyncio.Timeout], why: Callable[[], Exception]) -> AsyncGenerator[None]:
    """Let ``_expire`` end a block with an error.

    Args:
        limits: what ``_expire`` is called with.
        why: makes the error.
    """
    limit = asyncio.timeout(None)
    limits.add(limit)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise why() from None
    finally:
        limits.discard(limit)


def _expire(limits: Iterable[asyncio.Timeout], loop: asyncio.AbstractEventLoop) -> None:
    for limit in limits:
        if not limit.expired():
            limit.reschedule(loop.time())


def _wake_and_close(sock: socket.socket) -> None:
    """Close a socket on which another thread may be waiting."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _silence_seconds(took_seconds: float, left_seconds: float) -> float:
    """How long to wait for an answer to MQTT 5, so that MQTT 3.1.1 has the same time after it.

    Args:
        took_seconds: how long it took to connect; an answer may take as long, and the next connection will.
        left_seconds: what is left of the attempt.
    """
    return round(min(SILENT_SECONDS, max(took_seconds, (left_seconds - took_seconds) / 2)), 2)


def _code_and_name(code: Any) -> tuple[int, str]:
    """Take a paho reason code or a bare MQTT 3.1.1 return code apart."""
    if isinstance(code, ReasonCode):
        return code.value, str(code)
    return int(code), f"code {int(code)}"


def check_private_names() -> None:
    """Make sure that aiomqtt and paho still have the private names that a session leans on.

    Raises:
        ConfigError: the installed release has moved one of them.
    """
    for kind, names in PRIVATE_NAMES.items():
        _check_attributes(kind, names)


def _check_attributes(thing: object, names: Iterable[str]) -> None:
    missing = [name for name in names if not hasattr(thing, name)]
    if missing:
        kind = thing if isinstance(thing, type) else type(thing)
        raise ConfigError(
            f"{kind.__module__}.{kind.__qualname__} of the installed release has no {', '.join(missing)}",
            hint="install the releases that plantops-cli was tested with: aiomqtt 2.5.1 and paho-mqtt 2.2.0",
        )


def _transport(options: ConnectOptions) -> Literal["tcp", "websockets", "unix"]:
    if options.unix_socket is not None:
        return "unix"
    return "tcp" if options.websocket_path is None else "websockets"


def _connect_properties(options: ConnectOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho is silent about it
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = options.max_packet_bytes
    if options.session_expiry_seconds is not None:
        properties.SessionExpiryInterval = options.session_expiry_seconds
    return properties


def _find_malformed(blocks: set[bytes]) -> dict[bytes, MalformedPacketError]:
    """Find properties that nobody may send, and what is wrong with them."""
    found = {}
    for block in blocks:
        try:
            parse_properties(block)
        except MalformedPacketError as exc:
            found[block] = exc
    return found


def _is_topic(topic: bytes) -> bool:
    """Tell whether a topic name may stand in a message (MQTT 5, 3.3.2.1)."""
    try:
        return bool(topic) and not any(character in topic.decode() for character in _FORBIDDEN_IN_TOPICS)
    except UnicodeDecodeError:
        return False
