"""What is wrong with a connection: each layer tried by itself, from the name of the host to the first message."""

import asyncio
import os
import secrets
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from plantops_cli.credentials import shown_username
from plantops_cli.errors import (
    BrokerError,
    CredentialsRefusedError,
    PlantopsError,
    ProtocolRefusedError,
    SubscriptionRefusedError,
)
from plantops_cli.messages import Message
from plantops_cli.stream import failures
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import SILENT_SECONDS, Session, open_session
from plantops_cli.stream.waiting import in_daemon_thread
from plantops_cli.topics import matches

STEP_SECONDS = 5.0
_EXPIRES_SOON_DAYS = 14
_DAY_SECONDS = 86_400
# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name
_ANY_TIME = 0x20_0000
_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
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
    "acl_file, so that a granted SUBACK proves nothing. --canary tells them apart if this user may publish"
)


class Status(StrEnum):
    """How a step went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found.

    Attributes:
        name: the step.
        status: how it went.
        seconds: how long it took.
        details: what was found, a line each.
        cure: how to mend it, or None when there is nothing to mend.
        error: what is broken, or None.
    """

    name: str
    status: Status
    seconds: float
    details: tuple[str, ...]
    cure: str | None = None
    error: PlantopsError | None = None


class _BrokenError(Exception):
    """A step failed; the ones behind it make no sense."""

    def __init__(self, error: BrokerError, *details: str, cure: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.details = details or (str(error),)
        self.cure = cure or error.hint


_Address = tuple[socket.AddressFamily, Any]
_Outcome = tuple[Status, Sequence[str], str | None]


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
        self._addresses: list[_Address] = []
        self._reachable: _Address | None = None
        self._session: Session | None = None
        self._reading: asyncio.Task[None] | None = None
        self._first: Message | None = None
        self._canary_topic = f"devices/plantops-canary-{secrets.token_hex(4)}/heartbeat"
        self._is_canary_back = False
        self._news = asyncio.Event()

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """Examine, and yield what each step found as soon as it is known."""
        steps: list[tuple[str, Callable[[], Awaitable[_Outcome]]]] = [
            ("name", self._resolve),
            ("TCP", self._reach),
            ("TLS", self._handshake),
            ("MQTT", self._connect),
            ("grants", self._look_at_grants),
            *(("subscribe", self._subscription_of(name)) for name in self._filters),
            ("canary" if self._is_canary else "message", self._canary if self._is_canary else self._first_message),
        ]
        if self._options.unix_socket is not None:
            steps[:3] = [("socket", self._reach_unix)]
        elif self._options.tls is None:
            del steps[2]
        is_broken = False
        try:
            for name, step in steps:
                if is_broken:
                    yield Finding(name, Status.SKIPPED, 0.0, ())
                    continue
                finding = await _examine(name, step)
                is_broken = finding.status is Status.FAILED
                yield finding
        finally:
            if self._reading:
                self._reading.cancel()
                await asyncio.gather(self._reading, return_exceptions=True)
            if self._session:
                await self._session.close()

    async def _resolve(self) -> _Outcome:
        options = self._options

        def look_up() -> list[_Address]:
            found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys((family, address) for family, _, _, _, address in found))

        try:
            async with asyncio.timeout(STEP_SECONDS):
                self._addresses = await in_daemon_thread(look_up)
        except (OSError, UnicodeError) as exc:
            if isinstance(exc, TimeoutError):
                exc = socket.gaierror("no answer from the name server")
            raise _BrokenError(failures.connect_failed(exc, endpoint=options.endpoint, is_tls=False)) from exc
        names = ", ".join(str(address[0]) for _, address in self._addresses)
        return Status.OK, [f"{options.host} is {names}"], None

    async def _reach(self) -> _Outcome:
        refused, failure = list[str](), None
        for family, address in self._addresses:
            try:
                await self._open(family, address)
            except OSError as exc:
                refused.append(f"{address[0]} port {address[1]}: {_reason(exc)}")
                failure = exc
            else:
                self._reachable = family, address
                said = [f"{address[0]} port {address[1]} answers", *refused]
                # the first one is tried first by everybody, and each has to wait for it
                cure = f"{self._options.host} has addresses that do not answer" if refused else None
                return Status.WARNING if refused else Status.OK, said, cure
        assert failure is not None
        error = failures.connect_failed(failure, endpoint=self._options.endpoint, is_tls=False)
        raise _BrokenError(error, *refused)

    async def _reach_unix(self) -> _Outcome:
        path = self._options.unix_socket
        assert path is not None
        try:
            await self._open(socket.AF_UNIX, path)
        except OSError as exc:
            error = failures.connect_failed(exc, endpoint=self._options.endpoint, is_tls=False)
            raise _BrokenError(error, cure="is the broker running, and has it a listener 0 at this path?") from exc
        return Status.OK, [f"{path} answers"], None

    async def _open(self, family: socket.AddressFamily, address: Any) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            async with asyncio.timeout(STEP_SECONDS):
                await asyncio.get_running_loop().sock_connect(probe, address)

    async def _handshake(self) -> _Outcome:
        tls = self._options.tls
        assert tls is not None
        context = tls.context()
        try:
            version, cipher, certificate = await in_daemon_thread(lambda: self._shake_hands(context))
        except ssl.SSLCertVerificationError as exc:
            raise await self._explain_certificate(exc) from exc
        except (OSError, ValueError) as exc:
            error = failures.connect_failed(exc, endpoint=self._options.endpoint, is_tls=True)
            raise _BrokenError(error) from exc
        said = [f"{version}, {cipher}", *_describe(certificate)]
        if tls.insecure:
            return Status.WARNING, said, "the certificate is not checked: leave --insecure away"
        days = _days_left(certificate)
        if days is not None and days < _EXPIRES_SOON_DAYS:
            return Status.WARNING, said, f"renew the broker's certificate: it ends in {days:.0f} days"
        return Status.OK, said, None

    def _shake_hands(self, context: ssl.SSLContext) -> tuple[str, str, dict[str, object]]:
        assert self._reachable is not None
        family, address = self._reachable
        with socket.socket(family, socket.SOCK_STREAM) as plain:
            plain.settimeout(STEP_SECONDS)
            plain.connect(address)
            with context.wrap_socket(plain, server_hostname=self._options.host) as wrapped:
                cipher = wrapped.cipher()
                certificate: dict[str, object] = dict(wrapped.getpeercert() or {})
                return wrapped.version() or "TLS", cipher[0] if cipher else "", certificate

    async def _explain_certificate(self, exc: ssl.SSLCertVerificationError) -> _BrokenError:
        """Look at a certificate that was refused, as far as it can be trusted otherwise."""
        assert self._options.tls is not None
        context = self._options.tls.context()
        context.check_hostname = False
        context.verify_flags |= _ANY_TIME
        try:
            _, _, certificate = await in_daemon_thread(lambda: self._shake_hands(context))
        except (OSError, ValueError):
            certificate = {}
        host, said = self._options.host, _describe(certificate)
        cures = {
            _EXPIRED: "renew the broker's certificate, and let the broker read it again",
            _NOT_YET: "set the clock of this machine, or wait",
            _OTHER_HOST: f"connect to a name that stands in it, or issue one for {host}",
            _OTHER_ADDRESS: f"connect to a name that stands in it, or issue one for {host}",
        }
        cure = cures.get(exc.verify_code, "name the authority that signed it: --cafile FILE, or MQTT_CAFILE")
        error = ProtocolRefusedError(
            f"{self._options.endpoint}: the broker's certificate was not accepted: {exc.verify_message}",
            endpoint=self._options.endpoint,
            hint=cure,
        )
        return _BrokenError(error, f"certificate not accepted: {exc.verify_message}", *said)

    async def _connect(self) -> _Outcome:
        try:
            self._session = await open_session(self._options, lambda _: None)
        except CredentialsRefusedError as exc:
            raise _BrokenError(exc, str(exc), _REFUSALS) from exc
        except BrokerError as exc:
            raise _BrokenError(exc) from exc
        self._reading = asyncio.create_task(self._read(self._session), name="plantops-diagnosis")
        username = self._options.username
        who = f"as {shown_username(username)!r}" if username is not None else "anonymously"
        version = self._session.options.mqtt_version
        said = [f"connected with MQTT {version} {who}, client id {self._options.client_id!r}"]
        cures = list[str]()
        if self._session.is_version_a_guess:
            said.append(
                f"no answer to MQTT 5 within {SILENT_SECONDS:g} s: the broker does not know it, or is slow"
            )
            cures.append("look at the broker's load, or save each connection that wait: -V 3.1.1")
        elif version is MQTTVersion.V311 and self._options.mqtt_version is MQTTVersion.AUTO:
            said.append("the broker does not take MQTT 5")
        if dangers := self._options.dangers:
            said += dangers
            cures.append("use TLS: --tls")
        return Status.WARNING if cures else Status.OK, said, "; ".join(cures) or None

    async def _look_at_grants(self) -> _Outcome:
        session = self._live
        if session.options.mqtt_version is not MQTTVersion.V5:
            return Status.OK, ["MQTT 3.1.1 has no words for it"], None
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
        return Status.WARNING if lacking else Status.OK, [", ".join(said[:half]), ", ".join(said[half:])], cure

    def _subscription_of(self, name: str) -> Callable[[], Awaitable[_Outcome]]:
        async def subscribe() -> _Outcome:
            try:
                granted = (await self._live.subscribe({name: self._qos}))[name]
            except SubscriptionRefusedError as exc:
                code = exc.filters[name]
                raise _BrokenError(exc, f"{name}: refused, SUBACK 0x{code:02x}") from exc
            except BrokerError as exc:
                raise _BrokenError(exc) from exc
            if granted < self._qos:
                return (
                    Status.WARNING,
                    [f"{name}: granted at QoS {granted}, not {self._qos}"],
                    "messages may be lost",
                )
            return Status.OK, [f"{name}: granted at QoS {granted}"], None

        return subscribe

    async def _first_message(self) -> _Outcome:
        await self._wait_until(lambda: self._first is not None)
        message = self._first
        if message is None:
            said = f"none in {self._wait_seconds:g} s"
            return Status.WARNING, [said], _SILENT_ACL
        kind = "retained, from before" if message.retain else "live"
        return Status.OK, [f"{message.topic} ({kind}, {len(message.payload)} bytes)"], None

    async def _canary(self) -> _Outcome:
        topic = self._canary_topic
        if not any(matches(name, topic) for name in self._filters):
            return Status.WARNING, [f"no filter matches {topic}"], "leave the filters out"
        try:
            code = await self._live.publish(topic, b'{"canary":true}', qos=1, retain=False)
        except BrokerError as exc:
            raise _BrokenError(exc) from exc
        if code >= 0x80:
            said = f"this user may not publish {topic} (PUBACK 0x{code:02x}), as it should be for a backend"
            return (
                Status.WARNING,
                [said],
                "to prove the right to read, run it as a user who may publish as a device",
            )
        await self._wait_until(lambda: self._is_canary_back)
        if self._is_canary_back:
            return Status.OK, [f"{topic} came back: this user may read what it is subscribed to"], None
        said = f"{topic} was published and did not come back in {self._wait_seconds:g} s"
        if code == _NO_MATCHING_SUBSCRIBERS:
            said += " (PUBACK 0x10: nobody may read it)"
        error = SubscriptionRefusedError(
            f"{self._options.endpoint}: {said}",
            endpoint=self._options.endpoint,
            filters=dict.fromkeys(self._filters, code),
            hint="the broker's ACL grants the subscription and withholds the messages: give the user the right to "
            "read, for example with plantops provision-user --acl-file",
        )
        if self._live.options.mqtt_version is not MQTTVersion.V5:
            # MQTT 3.1.1 acknowledges what it then throws away
            return Status.WARNING, [said], "this user may not publish, or not read; MQTT 3.1.1 does not tell"
        raise _BrokenError(error, said)

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
                raise _BrokenError(exc) from exc

    @property
    def _live(self) -> Session:
        assert self._session is not None
        return self._session


async def _examine(name: str, step: Callable[[], Awaitable[_Outcome]]) -> Finding:
    began = time.monotonic()
    try:
        status, details, cure = await step()
    except _BrokenError as exc:
        return Finding(name, Status.FAILED, time.monotonic() - began, exc.details, exc.cure, exc.error)
    return Finding(name, status, time.monotonic() - began, tuple(details), cure)


def _reason(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {STEP_SECONDS:g} s"
    return os.strerror(exc.errno).lower() if exc.errno else str(exc)


def _describe(certificate: dict[str, object]) -> list[str]:
    """What stands in a certificate, as ``SSLSocket.getpeercert`` returns it."""
    if not certificate:
        return []
    names = [str(value) for _, value in _pairs(certificate.get("subjectAltName"))]
    issuer = {str(key): str(value) for rdn in _pairs(certificate.get("issuer")) for key, value in _pairs(rdn)}
    ends_at = _ends_at(certificate)
    said = [f"for {', '.join(names) or 'no name at all'}"]
    if issuer:
        said.append(f"signed by {issuer.get('commonName') or issuer.get('organizationName') or 'nobody named'}")
    if ends_at:
        days = (ends_at.timestamp() - time.time()) / _DAY_SECONDS
        said.append(f"valid until {ends_at:%Y-%m-%d %H:%M} UTC" + (f", {days:.0f} days" if days > 0 else ""))
    return said


def _pairs(value: object) -> Sequence[tuple[object, object]]:
    return value if isinstance(value, tuple) else ()


def _ends_at(certificate: dict[str, object]) -> datetime | None:
    text = certificate.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None


def _days_left(certificate: dict[str, object]) -> float | None:
    ends_at = _ends_at(certificate)
    return (ends_at.timestamp() - time.time()) / _DAY_SECONDS if ends_at else None
