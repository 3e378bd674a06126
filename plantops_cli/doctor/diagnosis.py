"""What is wrong with a connection: each layer tried by itself, from the name of the host to the first message."""

import asyncio
import os
import secrets
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from plantops_cli.doctor import certificate
from plantops_cli.doctor.step import BrokenError, Step, StepReport, StepResult, take
from plantops_cli.errors import (
    BrokerError,
    CredentialsRefusedError,
    ProtocolRefusedError,
    SubscriptionRefusedError,
    shown_username,
)
from plantops_cli.messages import Message, QoS
from plantops_cli.stream import asking, failures, unconnected
from plantops_cli.stream.opening import REACH_SECONDS
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import Session, open_session
from plantops_cli.stream.staggering import Address, connect_to_first, look_up
from plantops_cli.stream.waiting import in_daemon_thread
from plantops_cli.stream.words import Words, quoted
from plantops_cli.topics import matches

PROBE_SECONDS = 2.0
"""How long an address gets that has not answered before another one did."""

_NO_MATCHING_SUBSCRIBERS = 0x10
# what stands in no CONNACK is allowed without a limit (MQTT 5, 3.2.2.3)
_GRANTS = (
    ("SessionExpiryInterval", "session expiry", "as asked"),
    ("ReceiveMaximum", "receive maximum", 65_535),
    ("MaximumQoS", "maximum QoS", 2),
    ("MaximumPacketSize", "maximum packet size", "no limit"),
    ("RetainAvailable", "retained messages", 1),
    ("WildcardSubscriptionAvailable", "wildcards", 1),
    ("SharedSubscriptionAvailable", "shared subscriptions", 1),
    ("ServerKeepAlive", "keep-alive", "as asked"),
)
_YES_NO = ("RetainAvailable", "WildcardSubscriptionAvailable", "SharedSubscriptionAvailable")
_REFUSALS = (
    "4 and 5 of MQTT 3.1.1, 0x86 and 0x87 of MQTT 5 all mean a wrong user name or password: Mosquitto says 5 and "
    "0x87, not authorized, where other brokers say 4 and 0x86, bad user name or password"
)
_SILENT_ACL = (
    "nobody may have published; or the broker's acl_file withholds it: Mosquitto grants every SUBSCRIBE under an "
    "acl_file, so that a granted SUBACK proves nothing. is_canary=True tells them apart if this user may publish"
)
_SILENT_GROUP = "or it goes to others of the group, or the broker does not know shared subscriptions: try without"
_NOT_SHARED = "MQTT 3.1.1 has no shared subscriptions: unless the broker shares all the same, nothing comes"


class Diagnosis:
    """One examination of a broker, step by step; a step that fails is the last.

    Args:
        options: where to connect, as whom and how.
        filters: topic filters to subscribe to.
        qos: the QoS asked for.
        wait_seconds: how long to wait for a message.
        is_canary: whether to publish a message and wait for it.
    """

    def __init__(
        self,
        options: ConnectOptions,
        filters: Sequence[str],
        *,
        qos: int = 1,
        wait_seconds: float = 10.0,
        is_canary: bool = False,
    ) -> None:
        self._options = options
        self._filters = filters
        self._qos = qos
        self._wait_seconds = wait_seconds
        self._is_canary = is_canary
        self._addresses: list[Address] = []
        self._reachable: Address | None = None
        self._session: Session | None = None
        self._reading: asyncio.Task[None] | None = None
        self._first: Message | None = None
        self._canary_topic = f"devices/plantops-canary-{secrets.token_hex(4)}/heartbeat"
        self._is_canary_back = False
        self._news = asyncio.Event()

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Examine, and yield what each step found as soon as it is known."""
        trials: list[tuple[str, Callable[[], Awaitable[StepReport]]]] = [
            ("name", self._resolve),
            ("TCP", self._reach),
            ("TLS", self._handshake),
            ("MQTT", self._connect),
            ("grants", self._look_at_grants),
            *(("subscribe", self._subscription_of(name)) for name in self._filters),
            ("canary" if self._is_canary else "message", self._canary if self._is_canary else self._first_message),
        ]
        if self._options.unix_socket is not None:
            trials[:3] = [("socket", self._reach_unix)]
        elif self._options.tls is None:
            del trials[2]
        is_broken = False
        try:
            for name, trial in trials:
                if is_broken:
                    yield Step(name, StepResult.SKIPPED, 0.0, ())
                    continue
                step = await take(name, trial)
                is_broken = step.result is StepResult.FAILED
                yield step
        finally:
            if self._reading:
                self._reading.cancel()
                await asyncio.gather(self._reading, return_exceptions=True)
            if self._session:
                await self._session.close()

    @property
    def _reach_seconds(self) -> float:
        """What whoever connects has for it."""
        return min(REACH_SECONDS, self._options.timeout_seconds)

    def _not_reached(self, layer: str) -> BrokerError:
        return unconnected.not_reached(layer, endpoint=self._options.endpoint, seconds=self._reach_seconds)

    async def _resolve(self) -> StepReport:
        options = self._options
        try:
            async with asyncio.timeout(self._reach_seconds):
                self._addresses = await look_up(options.host, options.port)
        except TimeoutError as exc:
            raise BrokenError(self._not_reached("name")) from exc
        except (OSError, UnicodeError) as exc:
            raise BrokenError(unconnected.connect_failed(exc, endpoint=options.endpoint, is_tls=False)) from exc
        names = ", ".join(str(address[4][0]) for address in self._addresses)
        return StepReport([f"{options.host} is {names}"])

    async def _reach(self) -> StepReport:
        tried = list[Address]()
        try:
            sock = await connect_to_first(self._addresses, seconds=self._reach_seconds, on_try=tried.append)
        except OSError as exc:
            endpoint = self._options.endpoint
            error = unconnected.connect_failed(exc, endpoint=endpoint, is_tls=False)
            if isinstance(exc, TimeoutError):
                error = self._not_reached("TCP")
            raise BrokenError(error, *await self._why_not(tried)) from exc
        with sock:
            peer = sock.getpeername()  # which is another one than was tried, where that was 0.0.0.0
            self._reachable = (sock.family, sock.type, sock.proto, "", peer)
        refused = await self._why_not([address for address in tried if address[4][:2] != peer[:2]])
        # everybody tries them first, and loses a moment
        cure = f"{self._options.host} has addresses that do not answer" if refused else None
        return StepReport([f"{peer[0]} port {peer[1]} answers", *refused], cure)

    async def _why_not(self, addresses: Sequence[Address]) -> list[str]:
        """Say of each address why it does not answer; one that does, a moment later, is left out."""
        found = await asyncio.gather(*map(self._probe, addresses))
        return [why for why in found if why is not None]

    async def _probe(self, address: Address) -> str | None:
        where = f"{address[4][0]} port {address[4][1]}"
        try:
            (await connect_to_first([address], seconds=min(PROBE_SECONDS, self._reach_seconds))).close()
        except TimeoutError:
            return f"{where}: no answer"
        except OSError as exc:
            return f"{where}: {os.strerror(exc.errno).lower() if exc.errno else exc}"
        return None

    async def _reach_unix(self) -> StepReport:
        path = self._options.unix_socket
        assert path is not None
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(self._reach_seconds)
                await in_daemon_thread(lambda: probe.connect(path))
        except OSError as exc:
            error = unconnected.connect_failed(exc, endpoint=self._options.endpoint, is_tls=False)
            raise BrokenError(error, cure="is the broker running, and has it a listener 0 at this path?") from exc
        return StepReport([f"{path} answers"])

    async def _handshake(self) -> StepReport:
        tls = self._options.tls
        assert tls is not None
        context = tls.context()
        try:
            version, cipher, shown = await in_daemon_thread(lambda: self._shake_hands(context))
        except ssl.SSLCertVerificationError as exc:
            raise await self._explain_certificate(exc) from exc
        except TimeoutError as exc:
            raise BrokenError(self._not_reached("TLS")) from exc
        except (OSError, ValueError) as exc:
            error = unconnected.connect_failed(exc, endpoint=self._options.endpoint, is_tls=True)
            raise BrokenError(error) from exc
        said = [f"{version}, {cipher}", *certificate.describe(shown, now=time.time())]
        if tls.insecure:
            what = "the certificate is not checked" if tls.cafile is None else "the name in it is not checked"
            return StepReport(said, f"{what}: leave TLSOptions(insecure=True) away")
        return StepReport(said, certificate.renewal(shown, now=time.time()))

    def _shake_hands(self, context: ssl.SSLContext) -> tuple[str, str, dict[str, object]]:
        assert self._reachable is not None
        with socket.socket(*self._reachable[:3]) as plain:
            plain.settimeout(self._reach_seconds)
            plain.connect(self._reachable[4])
            with context.wrap_socket(plain, server_hostname=self._options.host) as wrapped:
                cipher = wrapped.cipher()
                shown: dict[str, object] = dict(wrapped.getpeercert() or {})
                return wrapped.version() or "TLS", cipher[0] if cipher else "", shown

    async def _explain_certificate(self, exc: ssl.SSLCertVerificationError) -> BrokenError:
        """Look at a certificate that was refused, as far as it can be trusted otherwise."""
        assert self._options.tls is not None
        context = self._options.tls.context()
        certificate.accept_any_name_and_time(context)
        try:
            _, _, shown = await in_daemon_thread(lambda: self._shake_hands(context))
        except (OSError, ValueError):
            shown = {}
        error = ProtocolRefusedError(
            f"{self._options.endpoint}: the broker's certificate was not accepted: {exc.verify_message}",
            endpoint=self._options.endpoint,
            hint=certificate.cure_of(exc.verify_code, host=self._options.host),
        )
        said = certificate.describe(shown, now=time.time())
        return BrokenError(error, f"certificate not accepted: {exc.verify_message}", *said)

    async def _connect(self) -> StepReport:
        try:
            self._session = await open_session(self._options)
        except CredentialsRefusedError as exc:
            raise BrokenError(exc, str(exc), _REFUSALS) from exc
        except BrokerError as exc:
            raise BrokenError(exc) from exc
        self._reading = asyncio.create_task(self._read(self._session), name="plantops-diagnosis")
        username = self._options.username
        is_token = self._options.is_token
        who = "anonymously" if username is None else f"as {shown_username(username, is_alone=is_token)!r}"
        version = self._session.options.mqtt_version
        said = [f"connected with MQTT {version} {who}, client id {self._options.client_id!r}"]
        cures = list[str]()
        if self._session.is_version_a_guess:
            seconds = self._session.silent_seconds
            said.append(f"no answer to MQTT 5 within {seconds:g} s: the broker does not know it, or is slow")
            cures.append("look at the broker's load, or save each connection that wait: mqtt_version='3.1.1'")
        elif version is MQTTVersion.V311 and self._options.mqtt_version is MQTTVersion.AUTO:
            said.append("the broker does not take MQTT 5")
        if dangers := self._options.dangers:
            said += dangers
            is_plain = self._options.tls is None
            cures.append("use TLS: tls=TLSOptions()" if is_plain else "leave TLSOptions(insecure=True) away")
        return StepReport(said, "; ".join(cures) or None)

    async def _look_at_grants(self) -> StepReport:
        session = self._live
        if session.options.mqtt_version is not MQTTVersion.V5:
            return StepReport(["MQTT 3.1.1 has no words for it"])
        lacking, said = list[str](), list[str]()
        for name, words, default in _GRANTS:
            value = session.granted.get(name, default)
            if name in _YES_NO:
                value = "yes" if value else "no"
                if value == "no" and name != "RetainAvailable":
                    lacking.append(words)
            said.append(f"{words}: {value}")
        maximum = session.granted.get("MaximumQoS", 2)
        if isinstance(maximum, int) and maximum < self._qos:
            lacking.append(f"QoS {self._qos}")
        cure = f"this broker has no {', no '.join(lacking)}" if lacking else None
        half = len(said) // 2
        others = _said(Words.of(session.granted, secrets=session.options.secrets).reason)
        return StepReport([", ".join(said[:half]), ", ".join(said[half:]), *others], cure)

    def _subscription_of(self, name: str) -> Callable[[], Awaitable[StepReport]]:
        async def subscribe() -> StepReport:
            try:
                granted = (await self._live.subscribe({name: self._qos}))[name]
            except SubscriptionRefusedError as exc:
                raise BrokenError(exc, *self._why_refused(name, exc)) from exc
            except BrokerError as exc:
                raise BrokenError(exc) from exc
            if granted < self._qos:
                return StepReport([f"{name}: granted at QoS {granted}, not {self._qos}"], "messages may be lost")
            is_doubtful = asking.is_shared(name) and not self._live.has_properties
            return StepReport([f"{name}: granted at QoS {granted}"], _NOT_SHARED if is_doubtful else None)

        return subscribe

    def _why_refused(self, name: str, error: SubscriptionRefusedError) -> list[str]:
        session = self._live
        if session.has_ended or asking.unavailable({name: self._qos}, session.granted):
            return [str(error)]
        suback = failures.name_of_suback(error.filters[name], is_v5=session.has_properties)
        return [f"{name}: refused, {suback}", *_said(error.reason_string)]

    async def _first_message(self) -> StepReport:
        await self._wait_until(lambda: self._first is not None)
        message = self._first
        if message is None:
            cures = [_SILENT_ACL, *([_SILENT_GROUP] if any(map(asking.is_shared, self._filters)) else [])]
            return StepReport([f"none in {self._wait_seconds:g} s"], "; ".join(cures))
        kind = "retained, from before" if message.retain else "live"
        return StepReport([f"{message.topic} ({kind}, {len(message.payload)} bytes)"])

    async def _canary(self) -> StepReport:
        topic = self._canary_topic
        if not any(matches(name, topic) for name in self._filters):
            return StepReport([f"no filter matches {topic}"], "leave the filters out")
        try:
            code = await self._live.publish(topic, b'{"canary":true}', qos=self._canary_qos, retain=False)
        except BrokerError as exc:
            raise BrokenError(exc) from exc
        if code >= 0x80:
            said = f"this user may not publish {topic} (PUBACK 0x{code:02x}), as it should be for a backend"
            return StepReport([said], "to prove the right to read, run it as a user who may publish as a device")
        await self._wait_until(lambda: self._is_canary_back)
        if self._is_canary_back:
            return StepReport([f"{topic} came back: this user may read what it is subscribed to"])
        said = f"{topic} was published and did not come back in {self._wait_seconds:g} s"
        if code == _NO_MATCHING_SUBSCRIBERS:
            said += " (PUBACK 0x10: nobody may read it)"
        error = SubscriptionRefusedError(
            f"{self._options.endpoint}: {said}",
            endpoint=self._options.endpoint,
            filters=dict.fromkeys(self._filters, code),
            hint="the broker's ACL grants the subscription and withholds the messages: give the user the right to "
            "read, for example with plantops provision-user",
        )
        if self._live.options.mqtt_version is not MQTTVersion.V5:
            # MQTT 3.1.1 acknowledges what it then throws away
            return StepReport([said], "this user may not publish, or not read; MQTT 3.1.1 does not tell")
        raise BrokenError(error, said)

    async def _read(self, session: Session) -> None:
        """Take what comes: an answer of the broker may have to wait behind any number of messages."""
        try:
            async with aclosing(session.batches()) as batches:
                async for batch in batches:
                    self._first = self._first or next(iter(batch))
                    topic = self._canary_topic.encode()
                    self._is_canary_back |= any(packet[1] == topic for packet in batch.packets)
                    self._news.set()
        finally:
            self._news.set()

    async def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for messages, until one of them has made something so, or for no longer than was asked for."""
        assert self._reading is not None
        try:
            async with asyncio.timeout(self._wait_seconds):
                while not is_so() and not self._reading.done():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return
        if self._reading.done() and not is_so():
            try:
                self._reading.result()
            except BrokerError as exc:
                raise BrokenError(exc) from exc

    @property
    def _canary_qos(self) -> QoS:
        return 1 if self._live.max_qos else 0

    @property
    def _live(self) -> Session:
        assert self._session is not None
        return self._session


def _said(reason: str | None) -> list[str]:
    return [f"the broker says {quoted(reason)}"] if reason else []
