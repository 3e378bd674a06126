"""One connection to one broker: the only module that imports aiomqtt.

aiomqtt does the protocol; the reading is driven from here, so that messages come in batches, a slow consumer
stops the socket instead of filling the memory, QoS 1 is acknowledged after the consumer is done with a batch, and
no packet of a broker can make the reader spin. The private names of aiomqtt and paho that this leans on are
listed in ``PRIVATE_NAMES``; a test fails when a release moves one of them.
"""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Self, cast

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from plantops_cli.errors import BrokerError, ConnectionLostError, StateError, SubscriptionRefusedError
from plantops_cli.messages import Message, now
from plantops_cli.stream import failures
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.racing import unless
from plantops_cli.stream.status import Connecting, FellBack, Status

logger = logging.getLogger("plantops.stream")

PRIVATE_NAMES = {
    aiomqtt.Client: (
        "_client_connect",
        "_misc_loop",
        "_on_connect",
        "_on_disconnect",
        "_on_message",
        "_on_publish",
        "_on_socket_close",
        "_on_socket_open",
        "_on_socket_register_write",
    ),
    paho.Client: ("_create_unix_socket_connection", "_sock_close"),
}
"""Methods that ``_Client`` overrides or calls although they are not public.

Of the attributes, ``_client``, ``_connected``, ``_disconnected``, ``_loop``, ``_misc_task`` and paho's
``MQTTMessage._topic`` are used too; they stand on instances only, so that working sessions prove them.
"""

AiomqttClient = aiomqtt.Client
"""The type of ``MQTTSubscriber.client``, for those who may not import aiomqtt."""

TCP_CONNECT_SECONDS = 4.0
# With the 6.5 s of an attempt to connect this stays below the 10 s that connect() promises
SUBACK_SECONDS = 2.5
MAX_PENDING_MESSAGES = 1_000
MAX_PENDING_BYTES = 16 * 1024 * 1024
_PACKETS_PER_TURN = 200

_PROPERTY_NAMES = {
    "PayloadFormatIndicator": "payload-format-indicator",
    "MessageExpiryInterval": "message-expiry-interval",
    "ContentType": "content-type",
    "ResponseTopic": "response-topic",
    "CorrelationData": "correlation-data",
    "UserProperty": "user-properties",
}
_NO_PROPERTIES: Mapping[str, object] = {}


_PROTOCOLS = {MQTTVersion.V5: aiomqtt.ProtocolVersion.V5, MQTTVersion.V311: aiomqtt.ProtocolVersion.V311}


async def open_session(options: ConnectOptions, on_status: Callable[[Status], None]) -> "Session":
    """Connect once, within ``options.timeout_seconds``; with ``AUTO``, MQTT 3.1.1 follows a refused MQTT 5.

    Args:
        options: where and how to connect.
        on_status: told about each step.

    Raises:
        BrokerError: no connection came about.
        ConfigError: a TLS file is missing or unusable.
    """
    on_status(Connecting(options.endpoint))
    deadline = asyncio.get_running_loop().time() + options.timeout_seconds
    if options.mqtt_version is not MQTTVersion.AUTO:
        return await Session(options).connect(deadline)
    session = Session(replace(options, mqtt_version=MQTTVersion.V5))
    try:
        return await session.connect(deadline)
    except BrokerError as exc:
        if not session.is_version_refused:
            raise
        on_status(FellBack(options.endpoint, str(exc)))
    return await Session(replace(options, mqtt_version=MQTTVersion.V311)).connect(deadline)


class Session:
    """One connection, from CONNECT to its end; used once.

    Args:
        options: where and how to connect; ``mqtt_version`` must name a version.

    Attributes:
        options: as given.
        is_version_refused: True when ``connect`` failed because the broker does not take this MQTT version.
        filters: the topic filters asked for so far, and the QoS of each.
        invalid: PUBLISH packets that carried no valid topic name.
    """

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self.is_version_refused = False
        self.filters: dict[str, int] = {}
        self.invalid = 0
        self._client: _Client | None = None
        self._pending: list[Message] = []
        self._pending_bytes = 0
        self._news = asyncio.Event()
        self._ended: BrokerError | None = None
        self._is_finishing = False

    @property
    def client(self) -> "_Client | None":
        """The live client of aiomqtt, or None before ``connect`` and after the end."""
        return self._client if self._client and self._client.is_open else None

    async def connect(self, deadline: float) -> Self:
        """Connect, wait for the CONNACK, and return the session.

        Args:
            deadline: moment of the event loop's clock at which to give up.

        Raises:
            BrokerError: no connection came about.
            ConfigError: a TLS file is missing or unusable.
        """
        options = self.options
        is_tls = options.tls is not None
        self._client = client = _Client(options, self)
        is_connected = False
        try:
            async with asyncio.timeout_at(deadline) as limit:
                await client.open()
            is_connected = True
            return self
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
            BrokerError: the connection ended, or no acknowledgement came within 10 s.
        """
        client = self.client
        if client is None:
            raise self._ended or StateError("the session is not connected")
        try:
            code = await unless(client.ended, client.publish_for_code(topic, payload, qos=qos, retain=retain))
        except aiomqtt.MqttError as exc:
            raise self._ended or ConnectionLostError(
                f"{self.options.endpoint}: publishing failed: {exc}", endpoint=self.options.endpoint
            ) from exc
        if code is None:
            raise self._ended or StateError("the session was closed meanwhile")
        return code

    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, int]:
        """Subscribe to topic filters and return the QoS that the broker granted to each.

        Args:
            filters: valid topic filters, and the QoS asked for each.

        Raises:
            SubscriptionRefusedError: the broker refused one of them.
            BrokerError: the connection ended, or no SUBACK came within 2.5 s.
        """
        client = self.client
        if client is None:
            raise self._ended or StateError("the session is not connected")
        if not filters:
            return {}
        self.filters.update(filters)
        codes = await unless(client.ended, self._suback(client, filters))
        if codes is None:
            raise self._ended or StateError("the session was closed meanwhile")
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

    async def batches(self) -> AsyncGenerator[list[Message], None]:
        """Yield what has arrived, a non-empty list at a time, until ``finish`` is called.

        The QoS 1 and 2 messages of a batch are acknowledged when the next one is asked for, or when ``finish``
        ends the iteration: whoever iterates is then done with them. After ``break`` they stay unacknowledged.

        Raises:
            BrokerError: the connection ended; everything that had arrived was yielded before.
        """
        while True:
            if not self._pending:
                if self._is_finishing:
                    return
                if self._ended:
                    raise self._ended
                self._news.clear()
                await self._news.wait()
                continue
            batch = self._take()
            yield batch
            self._acknowledge(batch)

    def finish(self) -> None:
        """Let ``batches`` end after what has arrived; nothing more is read."""
        self._is_finishing = True
        if self._client:
            self._client.pause_reading()
        self._news.set()

    def fail(self, error: BrokerError) -> None:
        """End the session for a reason found outside of it; ``batches`` raises it."""
        self._end(error)
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
                    await client.__aexit__(None, None, None)
        except (TimeoutError, aiomqtt.MqttError, OSError) as exc:
            logger.debug("no clean end of the connection: %s", exc)
        finally:
            client.abort()
            await asyncio.sleep(0)  # for the tasks that were cancelled to be gone

    def take_message(self, message: paho.MQTTMessage, received_at: datetime) -> None:
        """Queue one message of the reader; one without a valid topic name is counted and acknowledged."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._pass_over(message, "its topic is not UTF-8")
            return
        if "+" in topic or "#" in topic or "\0" in topic or not topic:
            self._pass_over(message, "its topic is empty or holds a wildcard or NUL (MQTT 3.3.2.1)")
            return
        received = Message(
            topic=topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retain=message.retain,
            dup=message.dup,
            mid=message.mid,
            properties=_properties(getattr(message, "properties", None)),
            received_at=received_at,
        )
        self._pending.append(received)
        self._pending_bytes += len(received.payload) + len(topic)
        self._news.set()

    @property
    def held(self) -> int:
        """How many messages were read so far and not yet taken, the passed over ones included."""
        return len(self._pending) + self.invalid

    @property
    def is_full(self) -> bool:
        """True when as much is held as may be; the socket is then not read until a batch is taken."""
        return len(self._pending) >= MAX_PENDING_MESSAGES or self._pending_bytes >= MAX_PENDING_BYTES

    def connection_ended(self, code: int, name: str, *, by_broker: bool) -> None:
        """Take note of the end of the connection."""
        self._end(failures.disconnected(code, name, endpoint=self.options.endpoint, by_broker=by_broker))

    def reading_failed(self, exc: Exception) -> None:
        """Give the connection up after bytes that are no MQTT; its state cannot be trusted any more."""
        self.fail(
            ConnectionLostError(
                f"{self.options.endpoint}: connection given up: a malformed packet ({type(exc).__name__})",
                endpoint=self.options.endpoint,
            )
        )

    def _end(self, error: BrokerError) -> None:
        self._ended = self._ended or error
        self._news.set()
        if self._client:
            self._client.ended.set()

    def _take(self) -> list[Message]:
        batch, self._pending = self._pending, []
        self._pending_bytes = 0
        if self._client and not self._is_finishing:
            self._client.resume_reading()
        return batch

    def _acknowledge(self, batch: list[Message]) -> None:
        client = self._client
        if client is None or not client.is_open:
            return
        for message in batch:
            if message.qos:
                client.acknowledge(message.mid, message.qos)

    def _pass_over(self, message: paho.MQTTMessage, why: str) -> None:
        self.invalid += 1
        logger.warning("message passed over: %s: %s", why, ascii(bytes(message._topic)[:80]))  # .topic raises
        if self._client and message.qos:
            self._client.acknowledge(message.mid, message.qos)

    async def _suback(self, client: "_Client", filters: Mapping[str, int]) -> list[int]:
        is_v5 = self.options.mqtt_version is MQTTVersion.V5
        wanted: list[Any] = [(name, SubscribeOptions(qos=qos) if is_v5 else qos) for name, qos in filters.items()]
        try:
            codes = await client.subscribe(wanted, timeout=SUBACK_SECONDS)
        except aiomqtt.MqttError as exc:
            raise ConnectionLostError(
                f"{self.options.endpoint}: no answer to SUBSCRIBE within {SUBACK_SECONDS:g} s",
                endpoint=self.options.endpoint,
            ) from exc
        if len(codes) != len(filters):
            raise ConnectionLostError(
                f"{self.options.endpoint}: SUBACK with {len(codes)} codes for {len(filters)} filters",
                endpoint=self.options.endpoint,
            )
        return [_code_and_name(code)[0] for code in codes]


class _ClosedBeforeConnackError(Exception):
    """The connection ended where a CONNACK was due."""


class _Client(aiomqtt.Client):
    """An ``aiomqtt.Client`` whose opening, reading and ending are driven by a session.

    The blocking part of connecting runs in a daemon thread, so that neither a silent name server nor a firewall
    can keep the program from ending. ``abort`` may be called at any moment, again and again.
    """

    def __init__(self, options: ConnectOptions, session: Session) -> None:
        super().__init__(
            # paho takes the path of a Unix socket from the host
            options.host if options.unix_socket is None else options.unix_socket,
            options.port,
            transport="tcp" if options.unix_socket is None else "unix",
            username=options.username,
            password=cast("str | None", options.password),  # paho sends bytes as they are
            identifier=options.client_id,
            protocol=_PROTOCOLS[options.mqtt_version],
            keepalive=options.keepalive_seconds,
            clean_session=None if options.mqtt_version is MQTTVersion.V5 else True,
            tls_context=options.tls.context() if options.tls else None,
            tls_insecure=options.tls.insecure if options.tls else None,
            logger=logging.getLogger("plantops.paho"),
        )
        self.ended = asyncio.Event()
        self._session = session
        self._is_aborted = False
        self._is_paused = False
        self._received_at = now()
        self._owner = threading.current_thread()
        self._reason_codes: dict[int, asyncio.Future[int]] = {}
        self._client.connect_timeout = TCP_CONNECT_SECONDS
        self._client.manual_ack_set(True)
        # paho's own leaves the socket open when it cannot connect, and waits without end in a full queue
        self._client._create_unix_socket_connection = self._connect_unix  # type: ignore[method-assign]  # see above

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

    async def open(self) -> None:
        """Connect and wait for the CONNACK; the caller bounds the time and calls ``abort`` on failure."""
        await _in_daemon_thread(self._client_connect)
        await self._connected

    def abort(self) -> None:
        """Close the socket and stop everything that belongs to it, without a word to the broker."""
        self._is_aborted = True
        self._client._sock_close()
        if self._misc_task:
            self._misc_task.cancel()
        for future in (self._connected, self._disconnected):
            # retrieved, or asyncio would report an exception that nobody waits for
            if future.done() and not future.cancelled():
                future.exception()
        self.ended.set()

    async def publish_for_code(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Publish, and return the reason code of PUBACK or PUBCOMP; 0 at QoS 0.

        Raises:
            aiomqtt.MqttError: it could not be sent, or was not acknowledged in time.
        """
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

    def acknowledge(self, mid: int, qos: int) -> None:
        """Send PUBACK or PUBCOMP for a message."""
        self._client.ack(mid, qos)

    def pause_reading(self) -> None:
        """Leave the socket unread until ``resume_reading``."""
        sock = self._client.socket()
        if sock is not None and not self._is_paused:
            self._is_paused = True
            self._loop.remove_reader(sock.fileno())

    def resume_reading(self) -> None:
        """Read the socket again."""
        sock = self._client.socket()
        if sock is not None and self._is_paused:
            self._is_paused = False
            self._loop.add_reader(sock.fileno(), self._read)
            # TLS may hold decrypted bytes of which the selector knows nothing
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        if self._is_paused or self._client.socket() is None:
            return
        self._received_at = now()
        try:
            for _ in range(_PACKETS_PER_TURN):
                held = self._session.held
                self._client.loop_read()
                if self._session.is_full:
                    self.pause_reading()
                    return
                if self._session.held == held and not self._has_decrypted_bytes():
                    return
        except Exception as exc:  # paho raises whatever its parser trips over
            self._session.reading_failed(exc)

    def _has_decrypted_bytes(self) -> bool:
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        finally:
            # given up meanwhile by the event loop: leave no connection behind that nobody owns
            if self._is_aborted:
                self._client._sock_close()

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Runs in the connecting thread
        if self._is_aborted:
            raise ConnectionAbortedError("given up before the connection was made")
        self._loop.call_soon_threadsafe(self._attach, sock)

    def _attach(self, sock: Any) -> None:
        if self._is_aborted or sock.fileno() < 0:
            return
        self._loop.add_reader(sock.fileno(), self._read)
        self._misc_task = self._loop.create_task(self._misc_loop(), name="plantops-keepalive")

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        if threading.current_thread() is self._owner:
            super()._on_socket_close(client, userdata, sock)

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Called in either thread
        self._loop.call_soon_threadsafe(self._attach_writer, sock)

    def _attach_writer(self, sock: Any) -> None:
        # closed meanwhile, its number may belong to somebody else's socket already
        if sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._client.loop_write)

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

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._session.take_message(message, self._received_at)


async def _in_daemon_thread(function: Callable[[], None]) -> None:
    """Run a blocking function in a thread that an exit of the program does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(exc: Exception | None) -> None:
        if done.done():
            return
        if exc is None:
            done.set_result(None)
        else:
            done.set_exception(exc)

    def work() -> None:
        failure: Exception | None = None
        try:
            function()
        except Exception as exc:  # handed to whoever awaits
            failure = exc
        try:
            loop.call_soon_threadsafe(settle, failure)
        except RuntimeError:
            logger.debug("the event loop ended before an attempt to connect did")

    threading.Thread(target=work, name="plantops-connect", daemon=True).start()
    await done


def _code_and_name(code: Any) -> tuple[int, str]:
    """Take a paho reason code or a bare MQTT 3.1.1 return code apart."""
    if isinstance(code, ReasonCode):
        return code.value, str(code)
    return int(code), f"code {int(code)}"


def _properties(properties: Properties | None) -> Mapping[str, object]:
    """Translate the properties of a PUBLISH to Mosquitto's names (mosquitto_sub ``%j``)."""
    if properties is None:
        return _NO_PROPERTIES
    # paho keeps those that were sent as attributes; its own test for emptiness is slow
    sent = vars(properties)
    if sent.keys().isdisjoint(_PROPERTY_NAMES):
        return _NO_PROPERTIES
    found = {ours: sent[theirs] for theirs, ours in _PROPERTY_NAMES.items() if theirs in sent}
    pairs = cast("list[tuple[str, str]]", found.get("user-properties", []))
    return found | {"user-properties": [list(pair) for pair in pairs]} if pairs else found
