"""The panel Connection: where the broker is, as whom to log in there, and how to speak to it."""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from plantops_cli.cli.shared.flags.parsed import DURATION

_option = partial(typer.Option, rich_help_panel="Connection")


def _client_id(otherwise: str) -> Any:
    return _option("-i", "--client-id", help=f"MQTT client id. ({otherwise})")


class MQTTVersionChoice(StrEnum):
    """The values of ``-V``."""

    AUTO = "auto"
    V5 = "5"
    V311 = "3.1.1"


Url = Annotated[
    str | None,
    _option(
        "-L",
        "--url",
        metavar="URL",
        help="Broker as mqtt://[USER@]HOST[:PORT] or ws://HOST/PATH; with TLS mqtts:// or wss://. (MQTT_URL)",
    ),
]
Host = Annotated[
    str | None, _option("-h", "--host", help="Name or address of the broker. (MQTT_HOST, else localhost)")
]
BrokerPort = Annotated[int | None, _option("-p", "--port", help="Its port. (MQTT_PORT, else 1883, with TLS 8883)")]
Username = Annotated[
    str | None, _option("-u", "--username", help="User name. (MQTT_BACKEND_USERNAME, else plantops_backend)")
]
SecretFile = Annotated[
    str | None,
    _option(
        "--secret-file",
        metavar="FILE",
        help="File that holds the password; - is standard input. (MQTT_BACKEND_PASSWORD)",
    ),
]
AskPassword = Annotated[bool, _option("-P", "--ask-password", help="Ask for the password.")]
LoginPatience = Annotated[
    float | None,
    DURATION,
    _option(
        "--login-patience",
        metavar="TIME",
        help="How long a login may be refused that was right before, for its password may be changing. (60s if "
        "that stands in a file, else not at all)",
    ),
]
NoPassword = Annotated[bool, _option("--no-password", help="Send the user name alone, which is a token.")]
Anonymous = Annotated[bool, _option("--anonymous", help="Connect without user name and password.")]
ClientId = Annotated[str | None, _client_id("MQTT_CLIENT_ID, else a random one")]
BystanderClientId = Annotated[str | None, _client_id("a random one, for MQTT_CLIENT_ID is the listener's")]
Keepalive = Annotated[int, _option("-k", "--keepalive", metavar="SECONDS", help="Seconds between pings.")]
ConnectTimeout = Annotated[
    float,
    _option(
        "--connect-timeout",
        metavar="SECONDS",
        show_default="30",
        help="How long an attempt to connect may take.",
    ),
]
MqttVersion = Annotated[
    MQTTVersionChoice,
    _option(
        "-V",
        "--mqtt-version",
        help="MQTT to speak; auto is 5, and 3.1.1 where the broker refuses 5, or is silent for 10 s.",
    ),
]
Tls = Annotated[
    bool | None,
    _option("--tls/--no-tls", help="Speak TLS, or not. (by port and certificate files)", show_default=False),
]
Cafile = Annotated[Path | None, _option("--cafile", help="Certificate authorities to trust, PEM. (the system's)")]
Cert = Annotated[Path | None, _option("--cert", help="Client certificate, PEM.")]
Key = Annotated[Path | None, _option("--key", help="Its private key, PEM.")]
Insecure = Annotated[
    bool,
    _option(
        "--insecure",
        help="Do not check the name in the broker's certificate; without --cafile check nothing of it.",
    ),
]
Websockets = Annotated[
    str | None,
    _option("--websockets", metavar="PATH", help="Speak MQTT over WebSocket, at this path: often /mqtt."),
]
Unix = Annotated[str | None, _option("--unix", metavar="PATH", help="Connect to a Unix socket instead.")]
EnvFilePath = Annotated[
    Path | None,
    _option(
        "--env-file",
        metavar="FILE",
        help="Take settings from this file, whoever owns it. (.env here, if nobody else may write it)",
    ),
]
EnsureUser = Annotated[
    bool, _option("--ensure-user", help="First add the login to MQTT_PASSWORD_FILE if it is not there.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFlags:
    """Where the broker is and how to connect, as it was given; None and False: not given.

    A new flag is an alias above, a field here, and a line below: in ``settings`` if the environment may say it
    too, else in ``keywords``. The library has it in ``Settings``, or in ``ConnectOptions`` and ``MQTTSubscriber``.
    """

    url: Url = None
    host: Host = None
    port: BrokerPort = None
    username: Username = None
    secret_file: SecretFile = None
    ask_password: AskPassword = False
    login_patience: LoginPatience = None
    no_password: NoPassword = False
    anonymous: Anonymous = False
    client_id: ClientId = None
    keepalive: Keepalive = 15
    connect_timeout: ConnectTimeout = 30.0
    mqtt_version: MqttVersion = MQTTVersionChoice.AUTO
    tls: Tls = None
    cafile: Cafile = None
    cert: Cert = None
    key: Key = None
    insecure: Insecure = False
    websockets: Websockets = None
    unix: Unix = None
    env_file: EnvFilePath = None

    @property
    def settings(self) -> dict[str, object]:
        """The fields of ``Settings`` that are given besides those in the URL; None: not given."""
        return {
            "mqtt_host": self.host,
            "mqtt_port": self.port,
            "mqtt_backend_username": self.username,
            "mqtt_tls": self.tls,
            "mqtt_cafile": self.cafile,
            "mqtt_certfile": self.cert,
            "mqtt_keyfile": self.key,
            "mqtt_client_id": self.client_id,
        }

    @property
    def keywords(self) -> dict[str, Any]:
        """What ``MQTTSubscriber.from_settings`` takes besides the settings."""
        return {
            "insecure": self.insecure,
            "login_patience_seconds": self.login_patience,
            "keepalive_seconds": self.keepalive,
            "connect_timeout_seconds": self.connect_timeout,
            "mqtt_version": self.mqtt_version,
            "websocket_path": self.websockets,
            "unix_socket": self.unix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BystanderConnectionFlags(ConnectionFlags):
    """The same for who looks on beside a listener with the same settings, and must not take its client id over."""

    client_id: BystanderClientId = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchfulConnectionFlags(BystanderConnectionFlags):
    """The same for who tells whether devices are there: it has to know soon that its own connection is gone."""

    keepalive: Keepalive = 5
