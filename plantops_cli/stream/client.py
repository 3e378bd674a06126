"""The MQTT client of one connection: the only module that imports aiomqtt and paho, whose errors end here.

aiomqtt does the protocol, except that a tap in front of paho's socket takes the messages out. Thus they come in
batches, a slow consumer stops the socket instead of filling the memory, what is to be acknowledged is acknowledged
after the consumer is done with a batch, and no packet of a broker can make the reader spin. The private names that
this leans on are listed in ``private``; a client refuses to be made when one has moved.

What has the name that it has in aiomqtt raises the errors of aiomqtt: users call it, by ``MQTTSubscriber.client``.
All else raises ours.
"""

import asyncio
import logging
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, cast

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from plantops_cli.errors import BrokerError, ConnectionLostError, HeldUpError
from plantops_cli.stream import failures, private, unconnected
from plantops_cli.stream.answers import Answers, unless_silent
from plantops_cli.stream.asking import in_packets
from plantops_cli.stream.greeting import Greeting
from plantops_cli.stream.keepalive import KeepAlive, Vigil
from plantops_cli.stream.opening import Opening, tls_context, transport
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.packets import Splitter
from plantops_cli.stream.paho_log import PahoLog
from plantops_cli.stream.parting import Parting, hear_out
from plantops_cli.stream.port import Owner, Receiver
from plantops_cli.stream.publishing import PublishRequest, by_pahos_names
from plantops_cli.stream.reading import Reading
from plantops_cli.stream.receipts import UNTOLD_MOST, Receipts, Subacks, Unanswered, most_on_their_way
from plantops_cli.stream.tap import Tap
from plantops_cli.stream.waiting import in_daemon_thread
from plantops_cli.stream.websocket import HandshakeRefusedError
from plantops_cli.stream.words import Answer, Words
from plantops_cli.stream.writing import Writing

logger = logging.getLogger("plantops.stream")

PRIVATE_NAMES = {aiomqtt.Client: private.AIOMQTT_METHODS, paho.Client: private.PAHO_METHODS}
"""Methods that ``Client`` overrides, replaces or calls although they are not public."""

AiomqttClient = aiomqtt.Client
"""The type of ``MQTTSubscriber.client``, for those who may not import aiomqtt."""

_DISCONNECT = 0xE0
_PACKET_IDS = 65_535
_PROTOCOLS = {MQTTVersion.V5: aiomqtt.ProtocolVersion.V5, MQTTVersion.V311: aiomqtt.ProtocolVersion.V311}


class _HeldUpError(HeldUpError, aiomqtt.MqttError):
    """A ``HeldUpError`` for those, too, who expect the errors of ``aiomqtt.Client``."""


class Client(aiomqtt.Client):
    """An ``aiomqtt.Client`` whose opening, reading and ending are driven by a session; used once.

    The blocking part of connecting runs in a daemon thread, so that neither a silent name server nor a firewall
    can keep the program from ending. ``abort`` may be called at any moment, again and again.

    Args:
        options: where and how to connect; ``mqtt_version`` must name a version.
        owner: is told what happens to the connection.
        receiver: gets the messages.

    Attributes:
        answers: those who wait for the broker.
        ask: sends a ping of ours; as ``KeepAlive.ask``.
        reading: when the socket is read.
        receipts: of what was published.
        writing: takes what is to be sent past paho.
        is_version_refused: True when no connection came about because the broker does not take this MQTT version.
        is_version_a_guess: True when silence was the only reason to say so, which a slow broker gives too.

    Raises:
        BrokerUnreachableError: there is no room to open the TLS files; another time there may be.
        ConfigError: a TLS file is missing or unusable, or an installed release has moved a private name.
    """

    def __init__(self, options: ConnectOptions, owner: Owner, receiver: Receiver) -> None:
        # before anything is made of classes that may have changed
        for kind, names in PRIVATE_NAMES.items():
            private.check_names(kind, names)
        is_v5 = options.mqtt_version is MQTTVersion.V5
        is_durable = options.session_expiry_seconds is not None
        context = tls_context(options)
        super().__init__(
            # paho takes the path of a Unix socket from the host
            options.host if options.unix_socket is None else options.unix_socket,
            options.port,
            transport=transport(options),
            websocket_path=options.websocket_path,
            username=options.username,
            password=cast("str | None", options.password),  # paho sends bytes as they are
            identifier=options.client_id,
            protocol=_PROTOCOLS[options.mqtt_version],
            keepalive=options.keepalive_seconds,
            clean_session=None if is_v5 else not is_durable,
            clean_start=not is_durable if is_v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_properties(PacketTypes.CONNECT, options.properties.items()) if is_v5 else None,
            tls_context=context,
            tls_insecure=options.tls.insecure if options.tls else None,
            logger=cast("logging.Logger", PahoLog(options.secrets)),
        )
        # attributes stand on instances only
        private.check_names(self, private.AIOMQTT_ATTRIBUTES)
        private.check_names(self._client, private.PAHO_ATTRIBUTES)
        self.is_version_refused = False
        self.is_version_a_guess = False
        self.answers = Answers()
        self.reading = Reading(self._client, receiver, self.answers, self.break_off)
        self.writing = Writing(self._client, self._clogged)
        self._parting = Parting(self.writing.push)
        look, note = self._client.loop_misc, self._note_headway
        self._vigil = Vigil(self.reading, look=look, note_headway=note, ask=self._ask_unless_asked)
        self._options = options
        self._owner = owner
        self._receiver = receiver
        self._is_aborted = False
        self._tap: Tap | None = None
        self._home_thread = threading.current_thread()
        self.receipts = Receipts(UNTOLD_MOST)
        self._subacks = Subacks()
        self._granted: Mapping[str, object] = {}
        if is_durable:
            # what an earlier connection has left half done at QoS 2 is no message of ours (MQTT 5, 4.3.3)
            self._client._last_mid = secrets.randbelow(_PACKET_IDS)
        self._take_over(context)

    def _take_over(self, context: ssl.SSLContext | None) -> None:
        """Put our own in the place of methods of paho that nobody can override from here."""
        inner = self._client
        # paho tells of a socket only when all handshakes are done, which a broker can put off for ever, and its
        # WebSocket is not as RFC 6455 has it
        self._opening = Opening(self._options, context)
        inner._create_socket = self._opening.create  # type: ignore[method-assign]  # no hook for it
        # nothing else tells of a ping and its answer
        self._pings = pings = KeepAlive(inner._send_pingreq, inner._handle_pingresp, self.writing.push)
        inner._send_pingreq = partial(self._vigil.ping, pings.ping)  # type: ignore[method-assign]  # no hook for it
        inner._handle_pingresp = pings.ponged  # type: ignore[method-assign]  # nor this
        self.ask = pings.ask
        # nor of a refusal
        inner._handle_pubackcomp = partial(self._unless_refused, inner._handle_pubackcomp)  # type: ignore[method-assign]  # nor this
        inner._handle_pubrec = partial(self._unless_refused, inner._handle_pubrec)  # type: ignore[method-assign]  # nor this

    @property
    def is_open(self) -> bool:
        """True from a CONNACK that accepts until the end of the connection."""
        return (
            not self._is_aborted
            and not self.answers.ended.is_set()
            and self._connected.done()
            and not self._connected.cancelled()
            and self._connected.exception() is None
        )

    # Opening

    async def reach(self, seconds: float) -> None:
        """Connect and send CONNECT within so many seconds; the caller calls ``abort`` on failure.

        Raises:
            BrokerError: no connection came about.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._opening.connect(seconds)
                await in_daemon_thread(self._client_connect)
        except (OSError, UnicodeError, HandshakeRefusedError) as exc:
            raise self._opening.explain(exc, seconds=seconds) from exc

    async def connack(self, silence_seconds: float | None) -> None:
        """Wait for the CONNACK; as ``reach``.

        Args:
            silence_seconds: how long to wait; None: without end.

        Raises:
            BrokerError: there was none within that time, or it refuses the connection.
        """
        options = self._options
        # not wait_for(), which would cancel what paho is about to set
        await asyncio.wait((self._connected,), timeout=silence_seconds)
        if silence_seconds is not None and not self._connected.done():
            self.is_version_refused = self.is_version_a_guess = True
            raise unconnected.no_answer(options.endpoint, seconds=silence_seconds, is_tls=self._is_tls)
        try:
            await self._connected
        except aiomqtt.MqttCodeError as exc:
            code, name = _code_and_name(exc.rc)
            self.is_version_refused = code == unconnected.UNSUPPORTED_VERSION
            words = Words.of(self._granted, secrets=options.secrets)
            raise self._refused(code, name, words, packet="CONNACK") from exc

    def _refused(self, code: int, name: str, words: Words, *, packet: str) -> BrokerError:
        options = self._options
        return unconnected.connect_refused(
            code,
            name,
            packet=packet,
            endpoint=options.endpoint,
            username=options.username,
            has_password=not options.is_token,
            words=words,
        )

    @property
    def _is_tls(self) -> bool:
        return self._options.tls is not None

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        except BaseException:
            if self._tap is None:  # else paho knows of the socket, and abort() closes it
                self._opening.close()
            raise
        finally:
            # given up meanwhile by the event loop: leave no connection behind that nobody owns
            if self._is_aborted:
                self._client._sock_close()

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Runs in the connecting thread, before paho has read or written a byte
        if self._is_aborted:
            raise ConnectionAbortedError("given up before the connection was made")
        is_v5 = self._options.mqtt_version is MQTTVersion.V5
        self._tap = Tap(sock, Splitter(is_v5=is_v5, max_packet_size=self._options.max_packet_bytes), Greeting())
        client._sock = self._tap
        # put in line before paho, still in this thread, registers that it has a CONNECT to write
        self._loop.call_soon_threadsafe(self._attach, self._tap)

    def _attach(self, tap: Tap) -> None:
        # back in the event loop, where the attempt may have been given up meanwhile
        if self._is_aborted or tap.fileno() < 0:
            return
        self.writing.begin(tap)
        self.reading.begin(tap)
        self._misc_task = self._loop.create_task(self._vigil.keep(self._connected), name="plantops-keepalive")

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        # paho has taken the broker's, by which a dead connection might never be noticed (MQTT 5, 3.2.2.3.14)
        ours = self._options.keepalive_seconds
        self._client._keepalive = min(self._client._keepalive or ours, ours)
        self._granted = granted = _by_name(properties)
        # paho does not heed it either (MQTT 5, 3.2.2.3.3)
        most = most_on_their_way(granted, is_v5=self._options.mqtt_version is MQTTVersion.V5)
        self._client._max_inflight_messages = most
        self.receipts = Receipts(most)
        self._owner.begun(is_resumed=flags.session_present, granted=granted)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    # Keep-alive

    def _ask_unless_asked(self) -> None:
        if not self._client._ping_t:
            self._client._send_pingreq()

    def _note_headway(self) -> None:
        self._client._ping_t = 0.0
        self._client._last_bytes_received = time.monotonic()

    # Writing

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Called in either thread
        self._loop.call_soon_threadsafe(self.writing.attach, sock)

    def _on_socket_unregister_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # paho has nothing more to write, but acknowledgements of ours may wait
        if self.writing.is_done:
            super()._on_socket_unregister_write(client, userdata, sock)

    def _clogged(self) -> None:
        self._owner.fail(failures.way_back_clogged(self._options.endpoint))

    # Asking, as aiomqtt.Client does

    async def publish(self, /, *args: Any, **kwargs: Any) -> None:
        """Publish a message, as ``aiomqtt.Client`` does.

        Raises:
            HeldUpError: the acknowledgement of QoS 1 or 2 would come behind messages that nobody takes.
            aiomqtt.MqttError: it could not be sent, or was not acknowledged in time.
        """
        qos = kwargs["qos"] if "qos" in kwargs else args[2] if len(args) > 2 else 0
        if not qos:  # nothing is waited for
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
        self._owner.trust_qos()
        async with self._until_the_end(), self.answerable():
            return await super().subscribe(*args, **kwargs)

    async def unsubscribe(self, /, *args: Any, **kwargs: Any) -> None:
        """Unsubscribe, as ``aiomqtt.Client`` does.

        Raises:
            HeldUpError: the UNSUBACK would come behind messages that nobody takes.
            aiomqtt.MqttError: it could not be sent, or was not answered in time.
        """
        async with self._until_the_end(), self.answerable():
            await super().unsubscribe(*args, **kwargs)

    def answerable(self) -> AbstractAsyncContextManager[None]:
        """Raise HeldUpError in the block as soon as an answer of the broker cannot be waited for.

        It comes behind the messages that were sent before it, and when these fill the memory that they may take,
        they are left unread until somebody takes them: at once for who would have to, else after a moment.
        """
        is_ours_to_take = asyncio.current_task() is self._receiver.reader
        return self.answers.unless_held_up(self._held_up, is_blocked=self.reading.is_paused and is_ours_to_take)

    def _until_the_end(self) -> AbstractAsyncContextManager[None]:
        """Raise an error in the block as soon as the connection ends; aiomqtt would wait for its full 10 s."""
        return self.answers.unless_ended(lambda: aiomqtt.MqttError(self._why_ended()))

    def _why_ended(self) -> str:
        return str(self._owner.ended or f"{self._options.endpoint}: the connection was closed meanwhile")

    def _held_up(self) -> HeldUpError:
        most = self._options.max_pending_bytes
        return failures.held_up(_HeldUpError, self._options.endpoint, max_pending_bytes=most)

    # Asking, as a session does

    async def publish_once(self, request: PublishRequest) -> int | Unanswered:
        """Publish on this connection, and return the reason code of PUBACK, PUBREC or PUBCOMP; 0 at QoS 0.

        Messages are read on meanwhile, beyond what may wait.

        Raises:
            HeldUpError: the acknowledgement would come behind messages that nobody takes.
            ConnectionLostError: it could not be sent, although there is a connection.
        """
        if not self.is_open:
            return Unanswered.NOT_SENT
        with self.reading.read_on():
            async with self.answerable():
                return await self.receipts.in_turn(request.qos, lambda: self._send(request))

    def _send(self, request: PublishRequest) -> asyncio.Future[int | Unanswered] | int | Unanswered:
        """Let paho send a message, and return the receipt to come, or what is known already."""
        if not self.is_open:  # any more: it had to wait
            return Unanswered.NOT_SENT
        named = by_pahos_names(request.properties)
        properties = _properties(PacketTypes.PUBLISH, named) if request.properties else None
        info = self._client.publish(request.topic, request.payload, request.qos, request.retain, properties)
        if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            return Unanswered.NOT_SENT
        if info.is_published():  # before publish() returned: QoS 0 only, for nothing is read in there
            return 0
        if not self.is_open:
            return Unanswered.LOST
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._lost(f"publishing failed: {paho.error_string(info.rc)}")
        return self.receipts.expect(info.mid, request.qos)

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        if not self.receipts.came(mid, self._answer(reason_code, properties)):
            super()._on_publish(client, userdata, mid, reason_code, properties)

    def _unless_refused(self, take: Callable[..., MQTTErrorCode], *arguments: Any) -> MQTTErrorCode:
        """Let paho take a PUBACK, PUBREC or PUBCOMP; a refusal is settled here.

        paho overlooks it in a PUBREC, so that its PUBREL would be answered with success (MQTT 5, 4.3.3), and trips
        over a code that is not listed for PUBACK: Mosquitto says 0x95 to what is too large.
        """
        packet = self._client._in_packet["packet"]
        mid, code = int.from_bytes(packet[:2], "big"), packet[2] if len(packet) > 2 else 0
        if code < 0x80 or mid not in self._client._out_messages:
            return take(*arguments)
        said = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]  # paho is silent about it
        if len(packet) > 3:
            said.unpack(packet[3:])  # type: ignore[no-untyped-call]  # nor about this
        return self._client._do_on_publish(mid, code, said)  # type: ignore[arg-type]  # goes to _on_publish

    async def subscribe_for_codes(
        self, filters: Mapping[str, int], *, is_resumed: bool, timeout_seconds: float
    ) -> list[int]:
        """Subscribe, and return the reason codes of the SUBACK, one for each filter.

        Args:
            filters: topic filters, and the QoS asked for each.
            is_resumed: whether the session is an earlier one's.
            timeout_seconds: how long the broker may say nothing before its SUBACK.

        Raises:
            ConnectionLostError: it could not be sent, or was not answered in time, or not as it should be.
        """
        packets = list(in_packets(filters, self._granted))
        # all of them at once: each answer comes behind the messages that the ones before have brought
        subacks = [self._send_subscribe(packet, is_resumed=is_resumed) for packet in packets]
        try:
            async with unless_silent(timeout_seconds, self._heard_bytes):
                answers = [await suback for suback in subacks]
        except TimeoutError:
            raise self._lost(f"no answer to SUBSCRIBE within {timeout_seconds:.3g} s") from None
        for codes, packet in zip(answers, packets, strict=True):
            if len(codes) != len(packet):
                raise self._lost(f"SUBACK with {len(codes)} codes for {len(packet)} filters")
        return [code for codes in answers for code in codes]

    def _send_subscribe(self, filters: Mapping[str, int], *, is_resumed: bool) -> asyncio.Future[Sequence[int]]:
        wanted: Any = [(name, self._subscription(qos, is_resumed=is_resumed)) for name, qos in filters.items()]
        # past our own, which would trust any QoS; and past aiomqtt's, whose clock hears no message
        code, mid = self._client.subscribe(wanted)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._lost(f"subscribing failed: {paho.error_string(code)}")
        return self._subacks.expect(mid)

    def _on_subscribe(
        self, client: Any, userdata: Any, mid: int, reason_codes: list[ReasonCode], properties: Any = None
    ) -> None:
        if not self._subacks.came(mid, [self._answer(code, properties) for code in reason_codes]):
            super()._on_subscribe(client, userdata, mid, reason_codes, properties)

    def _subscription(self, qos: int, *, is_resumed: bool) -> SubscribeOptions | int:
        if self._options.mqtt_version is not MQTTVersion.V5:
            return qos
        # who resumes a session has had the retained messages already
        handling = (
            SubscribeOptions.RETAIN_SEND_IF_NEW_SUB if is_resumed else SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        )
        return SubscribeOptions(qos=qos, retainHandling=handling)

    def _heard_bytes(self) -> int | None:
        """Return what has come so far but for answers to pings, or None while it is left unread."""
        if self.reading.is_paused or self._tap is None:
            return None
        return self._tap.heard_bytes - self._pings.heard_bytes

    def _answer(self, reason_code: Any, properties: Properties | None) -> int:
        code, _ = _code_and_name(reason_code)
        return Answer(code, self._words(properties)) if code >= 0x80 else code

    def _words(self, properties: Properties | None) -> Words:
        return Words.of(_by_name(properties), secrets=self._options.secrets)

    def _lost(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(f"{self._options.endpoint}: {what}", endpoint=self._options.endpoint)

    def limit_qos(self, max_qos: int) -> None:
        """Take messages of a higher QoS for a breach of the protocol."""
        if self._tap:
            self._tap.limit_qos(max_qos)

    # Ending

    def abort(self) -> None:
        """Close the socket and stop everything that belongs to it, without a word to the broker."""
        self._is_aborted = True  # read by the connecting thread, which may be about to open the socket
        self._client._sock_close()
        if self._tap is None:
            self._opening.abort()
        elif not self._parting.is_under_way:
            self._tap.abort()
        if self._misc_task:
            self._misc_task.cancel()
        for future in (self._connected, self._disconnected):
            # retrieved, or asyncio would report an exception that nobody waits for
            if future.done() and not future.cancelled():
                future.exception()
        self.end_waiting()

    def end_waiting(self) -> None:
        """Let nobody wait for the broker any longer: the connection has ended."""
        self.answers.end()
        self.receipts.end()

    def break_off(self, exc: Exception) -> None:
        """Give the connection up: after bytes that are no MQTT its state cannot be trusted any more."""
        code, error = failures.tripped_over(exc, endpoint=self._options.endpoint)
        if self.is_open and self._tap and self._options.mqtt_version is MQTTVersion.V5:
            self._parting.begin(
                self._tap, bytes((_DISCONNECT, 1, code))
            )  # MQTT 5, 4.13.1; 3.1.1 knows no such word
        if not self._connected.done():
            self._connected.set_exception(error)
        self._owner.fail(error)

    async def leave(self, timeout_seconds: float) -> None:
        """Send DISCONNECT, and wait until the broker has hung up; then ``abort``, whatever it does.

        Args:
            timeout_seconds: how long to wait at most, for each.
        """
        try:
            if self.is_open:
                async with asyncio.timeout(timeout_seconds):
                    await self._say_goodbye()
        except (TimeoutError, aiomqtt.MqttError, OSError) as exc:
            logger.debug("no clean end of the connection: %s", exc)
        finally:
            self.abort()
            await self._parting.finish(timeout_seconds)
            await asyncio.sleep(0)  # for the tasks that were cancelled to be gone

    async def _say_goodbye(self) -> None:
        tap = self._tap
        if tap is not None:
            tap.linger()  # for aiomqtt closes the socket behind its DISCONNECT
        await self.__aexit__(None, None, None)
        if tap is not None:
            await hear_out(tap)

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # the connecting thread has nothing to do with the event loop
        if threading.current_thread() is self._home_thread:
            super()._on_socket_close(client, userdata, sock)
            if sock.fileno() >= 0:
                self._loop.remove_writer(sock.fileno())

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        said = self._tap.last_word if self._tap else None
        code, name = _code_and_name(reason_code)
        by_broker = flags.is_disconnect_packet_from_server
        if not self._connected.done():  # aiomqtt would leave whoever waits for the CONNACK waiting
            # some brokers do not refuse MQTT 5 but hang up on it, with a word that says no more, or without
            is_told = by_broker and code > unconnected.UNSUPPORTED_VERSION
            self.is_version_refused = not is_told
            self._connected.set_exception(
                self._refused(code, name, self._words(properties), packet="DISCONNECT")
                if is_told
                else unconnected.closed_before_connack(
                    self._options.endpoint, is_tls=self._is_tls, said=said or failures.breach(name)
                )
            )
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        error = failures.disconnected(
            code,
            name,
            endpoint=self._options.endpoint,
            by_broker=by_broker,
            is_durable=self._options.session_expiry_seconds is not None,
            words=self._words(properties),
            filters=self._owner.filters,
            said=said,
        )
        self._owner.end(error, by_us=not by_broker and failures.is_given_up(name))


def _code_and_name(code: Any) -> tuple[int, str]:
    """Take a paho reason code or a bare MQTT 3.1.1 return code apart."""
    if isinstance(code, ReasonCode):  # of MQTT 5, or what paho makes of a CONNACK of MQTT 3.1.1
        return code.value, str(code)
    return int(code), f"code {int(code)}"


def _by_name(properties: Properties | None) -> dict[str, object]:
    return {} if properties is None else properties.json()  # type: ignore[no-untyped-call]  # paho is silent about it


def _properties(kind: int, values: Iterable[tuple[str, object]]) -> Properties:
    made = Properties(kind)  # type: ignore[no-untyped-call]  # paho is silent about it
    for name, value in values:
        setattr(made, name, value)
    return made
