"""What a connection needs to know before it is made: where, as whom, how."""

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypedDict

from plantops_cli.addresses import shown_value
from plantops_cli.credentials import PasswordSource
from plantops_cli.errors import ConfigError, shown_username
from plantops_cli.messages import QoS
from plantops_cli.stream.handling.policy import ErrorPolicy
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.packets import LONGEST_PACKET_BYTES
from plantops_cli.stream.status import StatusListener
from plantops_cli.stream.tls import TLSOptions

CONNECT_SECONDS = 30.0
"""How long one attempt to connect may take by default; hosted brokers take up to 15 s for an answer."""

SESSION_EXPIRY_SECONDS = 86_400
"""How long a broker keeps a durable session by default: a day."""

MAX_PACKET_BYTES = 16 * 1024 * 1024
"""The longest packet to be received by default."""

RECEIVE_MAXIMUM = 65_535
"""How many messages of QoS 1 and 2 the broker may leave unacknowledged (MQTT 5, 3.1.2.11.3).

As many as there are identifiers: what waits is bounded in bytes, and a broker that has to keep it back drops what
is beyond its own queue, Mosquitto by default what is beyond 1,000. Left out, it would mean 20 to Mosquitto.
"""

DURABLE_RECEIVE_MAXIMUM = 500
"""The same for a durable session, which is to outlive a crash of the broker.

A broker may save a message only when it has to queue it, as Mosquitto does (``db__message_insert`` in its
``database.c``), and not when it goes out at once. So what is on its way is what a crash may cost.
"""

_LONGEST_BYTES = 65_535
_SHORTEST_PACKET_BYTES = 64
# room for the prefix that makes a client id of it
_LONGEST_NAME_BYTES = 65_000
_PATH = re.compile(r"/[!-~]*")
_URL_SIGNS = frozenset("/@?#")


class MQTTVersion(StrEnum):
    """Which MQTT to speak; ``AUTO`` is 5, and 3.1.1 where the broker refuses 5 or does not answer it."""

    AUTO = "auto"
    V5 = "5"
    V311 = "3.1.1"


class SubscriberOptions(TypedDict, total=False):
    """The keywords of ``MQTTSubscriber`` of which settings say nothing."""

    durable: str | None
    session_expiry_seconds: int | None
    group: str | None
    group_anyway: bool
    on_error: ErrorPolicy
    max_unacknowledged: int
    max_threads: int
    keepalive_seconds: int
    mqtt_version: MQTTVersion | Literal["auto", "5", "3.1.1"]
    qos: QoS
    max_packet_bytes: int
    max_pending_bytes: int
    websocket_path: str | None
    unix_socket: str | None
    connect_timeout_seconds: float
    login_patience_seconds: float | None
    on_status: StatusListener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_mqtt_text(text: str) -> bool:
    """Tell whether a text may stand in a packet (MQTT 5, 1.5.4)."""
    try:
        return "\0" not in text and len(text.encode()) <= _LONGEST_BYTES
    except UnicodeEncodeError:
        return False


def random_client_id() -> str:
    """Make a client id of at most 23 characters, which every broker accepts (MQTT 3.1.1, 3.1.3.1)."""
    return f"plantops-{secrets.token_hex(6)}"


def parse_version(text: str) -> MQTTVersion:
    """Find the MQTT version of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return MQTTVersion(text)
    except ValueError:
        raise ConfigError(f"unknown MQTT version {text!r}", hint="auto, 5 or 3.1.1") from None


def choose_session(
    *, durable: str | None, client_id: str | None, expiry_seconds: int | None, qos: int
) -> tuple[str, int | None]:
    """Choose the client id, and for how long the broker keeps the session; None: no longer than the connection.

    Args:
        durable: name of a durable session, or None.
        client_id: the client id that was asked for, or None.
        expiry_seconds: how long the broker shall keep a durable session, or None for a day.
        qos: the QoS to subscribe with.

    Raises:
        ConfigError: they contradict each other, or the name is not usable.
    """
    if durable is None:
        if expiry_seconds is not None:
            raise ConfigError(
                "a session expiry is for a durable session", hint="give the session a name: durable=NAME"
            )
        return (random_client_id() if client_id is None else client_id), None
    if client_id is not None:
        raise ConfigError(
            "a durable session has a client id of its own", hint="give either the session's name or a client id"
        )
    if not durable or not durable.isprintable() or len(durable.encode()) > _LONGEST_NAME_BYTES:
        raise ConfigError(f"durable name {durable[:40]!r} is not usable", hint="printable text, not empty")
    if qos == 0:
        raise ConfigError(
            "a broker keeps nothing of QoS 0 for a durable session",
            hint="qos 1 or 2; subscribe() may name another",
        )
    # the same at every start, for by it the broker knows the session again
    return f"plantops-{durable}", SESSION_EXPIRY_SECONDS if expiry_seconds is None else expiry_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """Where to connect, as whom and how.

    Args:
        host: name or address of the broker.
        port: its TCP port.
        username: MQTT user name, or None for an anonymous client.
        password: MQTT password; text is sent as UTF-8.
        client_id: MQTT client id.
        tls: TLS options, or None for a plain connection.
        keepalive_seconds: longest silence before a ping (MQTT 5, 3.1.2.10).
        mqtt_version: the protocol version to speak.
        timeout_seconds: bound of one whole attempt to connect; of it, until CONNECT can be sent, at most 10 s.
        unix_socket: path of a Unix socket to connect to instead of ``host`` and ``port``.
        websocket_path: path of the broker's WebSocket, or None for plain MQTT.
        session_expiry_seconds: how long the broker keeps the session after the connection has ended (MQTT 5,
            3.1.2.11.2; a 3.1.1 broker by its own rules); None for a session that ends with the connection.
        max_packet_bytes: longest packet to be received (MQTT 5, 3.1.2.11.4); a longer one ends the connection.
        max_pending_bytes: memory that messages may take that wait or are being handled; as in ``Inbox``.

    Raises:
        ConfigError: the host is empty, a URL or a piece of one; user name, password or client id are not what
            CONNECT can carry (MQTT 5, 3.1.3); or a number is out of its range.
    """

    host: str
    port: int = 1883
    # a password may stand behind a colon in it
    username: str | None = field(default=None, repr=False)
    password: str | bytes | PasswordSource | None = field(default=None, repr=False)
    client_id: str = field(default_factory=random_client_id)
    tls: TLSOptions | None = None
    keepalive_seconds: int = 15
    mqtt_version: MQTTVersion = MQTTVersion.AUTO
    timeout_seconds: float = CONNECT_SECONDS
    unix_socket: str | None = None
    websocket_path: str | None = None
    session_expiry_seconds: int | None = None
    max_packet_bytes: int = MAX_PACKET_BYTES
    max_pending_bytes: int = MAX_PENDING_BYTES

    def __post_init__(self) -> None:
        # of a Unix socket the broker has neither
        if self.unix_socket is None:
            _check_host(self.host)
            _check_port(self.port)
        if self.websocket_path is not None and not _PATH.fullmatch(self.websocket_path):
            raise ConfigError(
                f"{shown_value(self.websocket_path)!r} is not usable as the path of a WebSocket",
                hint="a path such as /mqtt; what is not ASCII, and blanks, percent-encoded (RFC 3986, 2.1)",
            )
        _check_client_id(self.client_id)
        if self.username is not None:
            _check_username(self.username, is_token=self.is_token)
        if isinstance(self.password, (str, bytes)):
            _check_password(self.password)
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not 1 <= self.keepalive_seconds <= 65_535:
            raise ConfigError(f"keep-alive of {self.keepalive_seconds} s is out of range", hint="1 to 65535 s")
        # the largest number means for ever (MQTT 5, 3.1.2.11.2)
        if self.session_expiry_seconds is not None and not 0 < self.session_expiry_seconds < 2**32:
            raise ConfigError(
                f"session expiry of {self.session_expiry_seconds} s is out of range",
                hint="1 to 4294967295 s, the last: never",
            )
        if not _SHORTEST_PACKET_BYTES <= self.max_packet_bytes <= LONGEST_PACKET_BYTES:
            raise ConfigError(
                f"a largest packet of {self.max_packet_bytes} bytes is out of range",
                hint=f"{_SHORTEST_PACKET_BYTES} to {LONGEST_PACKET_BYTES} bytes (MQTT 5, 1.5.5)",
            )
        if not 0 < self.timeout_seconds < float("inf"):
            raise ConfigError(
                f"a connect timeout of {self.timeout_seconds:g} s is out of range", hint="more than 0 s"
            )
        if self.max_pending_bytes < 1:
            raise ConfigError(
                f"{self.max_pending_bytes} bytes for the messages that wait are out of range",
                hint="at least 1; a message is taken whatever its size",
            )

    @property
    def is_token(self) -> bool:
        """Whether the user name goes alone, as brokers want it that take a token there; it is a secret then."""
        return self.username is not None and self.password is None

    @property
    def secrets(self) -> tuple[str | bytes | None, ...]:
        """What is to appear in no output: the password, a token as user name, and what is behind a colon of it."""
        token = self.username if self.is_token else self.username and self.username.partition(":")[2]
        known = self.password if isinstance(self.password, (str, bytes)) else None
        return known, token

    @property
    def receive_maximum(self) -> int:
        """How many messages of QoS 1 and 2 the broker may leave unacknowledged."""
        return RECEIVE_MAXIMUM if self.session_expiry_seconds is None else DURABLE_RECEIVE_MAXIMUM

    @property
    def properties(self) -> dict[str, object]:
        """The properties of a CONNECT of MQTT 5 (3.1.2.11), by paho's names."""
        asked: dict[str, object] = {
            "ReceiveMaximum": self.receive_maximum,
            "MaximumPacketSize": self.max_packet_bytes,
        }
        if self.session_expiry_seconds is not None:
            asked["SessionExpiryInterval"] = self.session_expiry_seconds
        return asked

    @property
    def endpoint(self) -> str:
        """The broker as ``host:port``, or the path of its Unix socket."""
        if self.unix_socket is not None:
            return self.unix_socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def layers(self) -> list[str]:
        """What has to come about, in this order, before a word of MQTT is spoken."""
        if self.unix_socket is not None:
            return ["Unix socket"]
        return ["name", "TCP", *(["TLS"] if self.tls else []), *(["WebSocket"] if self.websocket_path else [])]

    @property
    def dangers(self) -> list[str]:
        """What an eavesdropper or a false broker could do to this connection, a line each."""
        if self.unix_socket is not None:
            return []
        found = []
        secret = "the password" if self.password is not None else "the user name" if self.is_token else None
        if secret and self.tls is None and not _is_loopback(self.host):
            found.append(
                f"{secret} crosses the network to {self.endpoint} unencrypted; use TLS (tls=TLSOptions())"
            )
        if self.tls and self.tls.danger:
            found.append(f"the certificate of {self.endpoint} {self.tls.danger}")
        return found


def _check_host(host: str) -> None:
    if not host:
        raise ConfigError("the broker's host name is empty")
    if any(map(str.isspace, host)):
        raise ConfigError(
            "the host is not a name or an address, but has a blank in it",
            hint="give the name or the address alone",
        )
    if not _URL_SIGNS.isdisjoint(host):
        # not repeated: a URL often holds a password
        raise ConfigError(
            "the host is not a name or an address, but looks like a URL",
            hint="give the name or the address alone",
        )
    if ":" in host and not _is_address(host):
        raise ConfigError(
            "the host is not a name or an address, but has a port or brackets",
            hint="give it alone, and port= beside it",
        )


def _check_port(port: int) -> None:
    if not 1 <= port <= 65_535:
        raise ConfigError(f"port {port} is out of range", hint="1 to 65535; MQTT usually 1883, with TLS 8883")


def _check_client_id(client_id: str) -> None:
    if not client_id.isprintable() or not 1 <= len(client_id.encode()) <= _LONGEST_BYTES:
        raise ConfigError(
            f"client id {client_id[:40]!r} is not usable",
            hint="printable text of 1 to 65535 bytes (MQTT 5, 3.1.3.1)",
        )


def _check_username(username: str, *, is_token: bool) -> None:
    if not _is_mqtt_text(username):
        raise ConfigError(
            f"user name {shown_username(username, is_alone=is_token)[:40]!a} is not usable",
            hint="UTF-8 text without NUL, of at most 65535 bytes (MQTT 5, 3.1.3.5)",
        )


def _check_password(password: str | bytes) -> None:
    if isinstance(password, str):
        try:
            password = password.encode()
        except UnicodeEncodeError:
            # from None: the foreign error holds the password
            raise ConfigError("the password is not UTF-8 text", hint="give it as bytes") from None
    if len(password) > _LONGEST_BYTES:
        raise ConfigError("the password has more than 65535 bytes", hint="is it the right one?")
