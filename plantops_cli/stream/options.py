"""What a connection needs to know before it is made: where, as whom, how."""

import ipaddress
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from plantops_cli.credentials import shown_username
from plantops_cli.errors import ConfigError
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.tls import TLSOptions

SESSION_EXPIRY_SECONDS = 86_400
"""How long a broker keeps a durable session by default: a day."""

MAX_PACKET_BYTES = 16 * 1024 * 1024
"""The longest packet to be received by default."""

_LONGEST_BYTES = 65_535
_URL_SIGNS = frozenset("/@?#")


class MQTTVersion(StrEnum):
    """Which MQTT to speak; ``AUTO`` is 5, and 3.1.1 where the broker refuses 5 or does not answer it."""

    AUTO = "auto"
    V5 = "5"
    V311 = "3.1.1"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _is_mqtt_text(text: str) -> bool:
    """Tell whether a text may stand in a packet (MQTT 5, 1.5.4)."""
    try:
        return "\0" not in text and len(text.encode()) <= _LONGEST_BYTES
    except UnicodeEncodeError:
        return False


def random_client_id() -> str:
    """Make a client id of at most 23 characters, which every broker accepts (MQTT 3.1.1, 3.1.3.1)."""
    return f"plantops-{secrets.token_hex(6)}"


def durable_client_id(name: str) -> str:
    """Make the client id of a durable session, the same at every start."""
    return f"plantops-{name}"


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
        timeout_seconds: bound of one whole attempt to connect.
        unix_socket: path of a Unix socket to connect to instead of ``host`` and ``port``.
        websocket_path: path of the broker's WebSocket, or None for plain MQTT.
        session_expiry_seconds: how long the broker keeps the session after the connection has ended (MQTT 5,
            3.1.2.11.2; a 3.1.1 broker by its own rules); None for a session that ends with the connection.
        max_packet_bytes: longest packet to be received (MQTT 5, 3.1.2.11.4); a longer one ends the connection.
        max_pending_bytes: memory that messages may take that wait or are being handled; as in ``Inbox``.

    Raises:
        ConfigError: the host is a URL or a piece of one, or user name or password are not what CONNECT can carry
            (MQTT 5, 3.1.3.5, 3.1.3.6).
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | bytes | None = field(default=None, repr=False)
    client_id: str = field(default_factory=random_client_id)
    tls: TLSOptions | None = None
    keepalive_seconds: int = 15
    mqtt_version: MQTTVersion = MQTTVersion.AUTO
    timeout_seconds: float = 6.5
    unix_socket: str | None = None
    websocket_path: str | None = None
    session_expiry_seconds: int | None = None
    max_packet_bytes: int = MAX_PACKET_BYTES
    max_pending_bytes: int = MAX_PENDING_BYTES

    def __post_init__(self) -> None:
        if self.unix_socket is None and not _URL_SIGNS.isdisjoint(self.host):
            # not repeated: a URL often holds a password
            raise ConfigError(
                "the host is not a name or an address, but looks like a URL",
                hint="give the name or the address alone, or the whole as -L/--url mqtt://HOST:PORT",
            )
        if self.username is not None and not _is_mqtt_text(self.username):
            raise ConfigError(
                f"user name {shown_username(self.username)[:40]!a} is not usable",
                hint="UTF-8 text without NUL, of at most 65535 bytes (MQTT 5, 3.1.3.5)",
            )
        password = self.password
        if isinstance(password, str):
            try:
                password = password.encode()
            except UnicodeEncodeError:
                # from None: the foreign error holds the password
                raise ConfigError("the password is not UTF-8 text", hint="give it as bytes") from None
        if password is not None and len(password) > _LONGEST_BYTES:
            raise ConfigError("the password has more than 65535 bytes", hint="is it the right one?")

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
        if self.password is not None and self.tls is None and not _is_loopback(self.host):
            found.append(f"the password crosses the network to {self.endpoint} unencrypted; use TLS (--tls)")
        if self.tls and self.tls.insecure:
            found.append(f"the certificate of {self.endpoint} is not checked: anybody in between can read all")
        return found
