"""Every flag once: Annotated aliases that the commands put into their signatures.

Letters are mosquitto_sub's; ``-h`` is the host, help is ``--help`` only.
"""

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from plantops_cli.cli.shared.exits import DEBUG_FLAG
from plantops_cli.formats.registry import Format
from plantops_cli.topics import Kind

_CONNECTION = "Connection"
_STREAM = "Stream"
_OUTPUT = "Output"
_MODE = "What to do"
_LOGIN = "Password"
_FILES = "Files"
_BROKER = "Broker"
_FLEET = "Fleet"
_THRESHOLDS = "Thresholds"


class MQTTVersionChoice(StrEnum):
    """The values of ``-V``."""

    AUTO = "auto"
    V5 = "5"
    V311 = "3.1.1"


class DocumentChoice(StrEnum):
    """The values of ``-o`` where one result is shown."""

    TEXT = "text"
    JSON = "json"


class FleetChoice(StrEnum):
    """The values of ``-o`` where a fleet is shown."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    TEXT = "text"
    JSONL = "jsonl"


class CheckChoice(StrEnum):
    """The values of ``-o`` of a check."""

    NAGIOS = "nagios"
    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


class BackendChoice(StrEnum):
    """The values of ``--backend``."""

    FILE = "file"
    DYNSEC = "dynsec"


Url = Annotated[
    str | None,
    typer.Option(
        "-L",
        "--url",
        metavar="URL",
        help="Broker as mqtt://[USER@]HOST[:PORT] or mqtts://...",
        rich_help_panel=_CONNECTION,
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "-h",
        "--host",
        help="Name or address of the broker. (MQTT_HOST, else localhost)",
        rich_help_panel=_CONNECTION,
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "-p", "--port", help="Its port. (MQTT_PORT, else 1883, with TLS 8883)", rich_help_panel=_CONNECTION
    ),
]
Username = Annotated[
    str | None,
    typer.Option(
        "-u",
        "--username",
        help="User name. (MQTT_BACKEND_USERNAME, else plantops_backend)",
        rich_help_panel=_CONNECTION,
    ),
]
SecretFile = Annotated[
    str | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="File that holds the password; - is standard input. (MQTT_BACKEND_PASSWORD)",
        rich_help_panel=_CONNECTION,
    ),
]
AskPassword = Annotated[
    bool, typer.Option("-P", "--ask-password", help="Ask for the password.", rich_help_panel=_CONNECTION)
]
Anonymous = Annotated[
    bool,
    typer.Option("--anonymous", help="Connect without user name and password.", rich_help_panel=_CONNECTION),
]
ClientId = Annotated[
    str | None,
    typer.Option("-i", "--client-id", help="MQTT client id. (a random one)", rich_help_panel=_CONNECTION),
]
Keepalive = Annotated[
    int,
    typer.Option(
        "-k", "--keepalive", metavar="SECONDS", help="Seconds between pings.", rich_help_panel=_CONNECTION
    ),
]
MqttVersion = Annotated[
    MQTTVersionChoice,
    typer.Option(
        "-V",
        "--mqtt-version",
        help="MQTT to speak; auto is 5, and 3.1.1 where the broker refuses 5, or is silent for 3 s.",
        rich_help_panel=_CONNECTION,
    ),
]
Tls = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        help="Speak TLS, or not. (by port and certificate files)",
        show_default=False,
        rich_help_panel=_CONNECTION,
    ),
]
Cafile = Annotated[
    Path | None,
    typer.Option(
        "--cafile", help="Certificate authorities to trust, PEM. (the system's)", rich_help_panel=_CONNECTION
    ),
]
Cert = Annotated[Path | None, typer.Option("--cert", help="Client certificate, PEM.", rich_help_panel=_CONNECTION)]
Key = Annotated[Path | None, typer.Option("--key", help="Its private key, PEM.", rich_help_panel=_CONNECTION)]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Do not check the broker's certificate.", rich_help_panel=_CONNECTION),
]

Websockets = Annotated[
    str | None,
    typer.Option(
        "--websockets",
        metavar="PATH",
        help="Speak MQTT over WebSocket, at this path: often /mqtt.",
        rich_help_panel=_CONNECTION,
    ),
]
Unix = Annotated[
    str | None,
    typer.Option("--unix", metavar="PATH", help="Connect to a Unix socket instead.", rich_help_panel=_CONNECTION),
]

EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        help="Take settings from this file, whoever owns it. (.env here, if nobody else may write it)",
        rich_help_panel=_CONNECTION,
    ),
]

Connection = dict[str, Any]
"""The connection flags of a command by name, as ``ConnectionFlags`` takes them."""

_CONNECTION_FLAGS: dict[str, tuple[object, object]] = {
    "url": (Url, None),
    "host": (Host, None),
    "port": (Port, None),
    "username": (Username, None),
    "secret_file": (SecretFile, None),
    "ask_password": (AskPassword, False),
    "anonymous": (Anonymous, False),
    "client_id": (ClientId, None),
    "keepalive": (Keepalive, 15),
    "mqtt_version": (MqttVersion, MQTTVersionChoice.AUTO),
    "tls": (Tls, None),
    "cafile": (Cafile, None),
    "cert": (Cert, None),
    "key": (Key, None),
    "insecure": (Insecure, False),
    "websockets": (Websockets, None),
    "unix": (Unix, None),
    "env_file": (EnvFile, None),
}


def with_connection(**defaults: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags that are the same everywhere; its function gets them as ``connection``.

    Args:
        defaults: values other than the usual ones, by flag.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        usual = inspect.signature(function).parameters.values()
        # where a flag stands decides where its panel stands in the help
        before = [
            one for one in usual if one.name != "connection" and one.kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        after = [one for one in usual if one.name != "connection" and one.kind is inspect.Parameter.KEYWORD_ONLY]
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, default), annotation=hint
            )
            for name, (hint, default) in _CONNECTION_FLAGS.items()
        ]

        @wraps(function)
        def command(**given: Any) -> None:
            connection = {name: given.pop(name) for name in _CONNECTION_FLAGS}
            function(connection=connection, **given)

        parameters = [*before, *added, *after]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


IfMissing = Annotated[
    bool,
    typer.Option("--if-missing", help="Create only: leave a user alone who is there.", rich_help_panel=_MODE),
]
FailOnDrift = Annotated[
    bool,
    typer.Option(
        "--fail-on-drift",
        help="With --if-missing: exit code 5 when the user is there with another password.",
        rich_help_panel=_MODE,
    ),
]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the user.", rich_help_panel=_MODE)]
ListUsers = Annotated[
    bool, typer.Option("--list", help="Show the users and the kinds of their hashes.", rich_help_panel=_MODE)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.", rich_help_panel=_MODE)
]
Generate = Annotated[
    bool,
    typer.Option(
        "--generate",
        help="Make a password of 256 bits and write it to --secret-file, which must not exist.",
        rich_help_panel=_LOGIN,
    ),
]
Show = Annotated[
    bool, typer.Option("--show", help="With --generate: show the password too.", rich_help_panel=_LOGIN)
]
AllowControl = Annotated[
    bool,
    typer.Option("--allow-control", help="Allow control characters in the password.", rich_help_panel=_LOGIN),
]
Iterations = Annotated[
    int | None,
    typer.Option(
        "--iterations",
        metavar="N",
        help="Rounds of PBKDF2, 1000 to 1000000; the broker repeats them at each login. (10000)",
        rich_help_panel=_LOGIN,
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--file", help="Mosquitto's password file. (MQTT_PASSWORD_FILE, else --config's)", rich_help_panel=_FILES
    ),
]
ACLFile = Annotated[
    Path | None,
    typer.Option(
        "--acl-file", help="Give the right to read the devices in this ACL file.", rich_help_panel=_FILES
    ),
]
Owner = Annotated[
    str | None,
    typer.Option(
        "--owner",
        metavar="USER[:GROUP]",
        help="Owner of a file that root makes. (mosquitto)",
        rich_help_panel=_FILES,
    ),
]
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout", metavar="SECONDS", help="How long to wait for another run.", rich_help_panel=_FILES
    ),
]
Backend = Annotated[
    BackendChoice,
    typer.Option(
        "--backend",
        help="Where the broker keeps its users: a password file, or the dynamic security plugin, which is asked "
        "through MQTT as MQTT_ADMIN_USERNAME with MQTT_ADMIN_PASSWORD.",
        rich_help_panel=_BROKER,
    ),
]
BrokerConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The broker's mosquitto.conf: says which files it reads, its pid_file and its listeners. "
        "(MQTT_BROKER_CONFIG)",
        rich_help_panel=_BROKER,
    ),
]
Reload = Annotated[
    str | None,
    typer.Option(
        "--reload",
        metavar="TARGET",
        help="pid:FILE, systemd[:UNIT], docker:NAME, command:CMD or none: the broker to tell, after a check of "
        "all files that it would read. (MQTT_RELOAD, else the pid_file of --config)",
        rich_help_panel=_BROKER,
    ),
]
Verify = Annotated[
    bool | None,
    typer.Option(
        "--verify/--no-verify",
        help="Prove the login on the broker. (when its address is known)",
        show_default=False,
        rich_help_panel=_BROKER,
    ),
]
Canary = Annotated[
    bool,
    typer.Option(
        "--canary",
        help="Try the new files on a private broker of this machine's mosquitto first.",
        rich_help_panel=_BROKER,
    ),
]
EnsureUser = Annotated[
    bool,
    typer.Option(
        "--ensure-user",
        help="First add the login to MQTT_PASSWORD_FILE if it is not there.",
        rich_help_panel=_CONNECTION,
    ),
]
Document = Annotated[
    DocumentChoice, typer.Option("-o", "--output", help="How to show the result.", rich_help_panel=_OUTPUT)
]

Qos = Annotated[
    int, typer.Option("-q", "--qos", help="Highest QoS to receive with: 0, 1, 2.", rich_help_panel=_STREAM)
]
Count = Annotated[
    int | None,
    typer.Option("-C", "--count", metavar="N", help="Stop after N messages shown.", rich_help_panel=_STREAM),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "-W", "--timeout", metavar="SECONDS", help="Stop after so many seconds, 0.5 too.", rich_help_panel=_STREAM
    ),
]
FilterOut = Annotated[
    list[str] | None,
    typer.Option(
        "-T",
        "--filter-out",
        metavar="FILTER",
        help="Leave out topics that match; may be given again.",
        rich_help_panel=_STREAM,
    ),
]
Device = Annotated[
    list[str] | None,
    typer.Option("--device", metavar="ID", help="Only this device; may be given again.", rich_help_panel=_STREAM),
]
KindOnly = Annotated[
    Kind | None, typer.Option("--kind", help="Only this kind of message.", rich_help_panel=_STREAM)
]
NoRetained = Annotated[
    bool, typer.Option("-R", "--no-retained", help="Leave out retained messages.", rich_help_panel=_STREAM)
]
RetainedOnly = Annotated[
    bool, typer.Option("--retained-only", help="Only retained messages.", rich_help_panel=_STREAM)
]
Durable = Annotated[
    str | None,
    typer.Option(
        "--durable",
        metavar="NAME",
        help="Let the broker keep what is published at QoS 1 while this listener is away; one NAME each.",
        rich_help_panel=_STREAM,
    ),
]
SessionExpiry = Annotated[
    int | None,
    typer.Option(
        "--session-expiry",
        metavar="SECONDS",
        help="With --durable: how long the broker keeps it; a day if not given.",
        rich_help_panel=_STREAM,
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="NAME",
        help="Share the stream with all listeners of this group: each message goes to one of them.",
        rich_help_panel=_STREAM,
    ),
]
MaxPacketSize = Annotated[
    int,
    typer.Option(
        "--max-packet-size",
        metavar="BYTES",
        help="Longest packet to take; a longer one ends the connection.",
        rich_help_panel=_STREAM,
    ),
]
WaitForBroker = Annotated[
    bool,
    typer.Option(
        "--wait-for-broker", help="Keep trying if the first connection fails too.", rich_help_panel=_STREAM
    ),
]

Output = Annotated[
    Format | None,
    typer.Option(
        "-o", "--output", help="How to show messages. (pretty on a terminal, else jsonl)", rich_help_panel=_OUTPUT
    ),
]
To = Annotated[
    Path | None,
    typer.Option(
        "--to",
        metavar="FILE",
        help="Append JSON lines to this file instead; a message is acknowledged when it is on the disk.",
        rich_help_panel=_OUTPUT,
    ),
]
RotateSize = Annotated[
    str | None,
    typer.Option(
        "--rotate-size",
        metavar="SIZE",
        help="With --to: begin a new file at this size, 100M or 1G; closed ones are compressed.",
        rich_help_panel=_OUTPUT,
    ),
]
RotateEvery = Annotated[
    str | None,
    typer.Option(
        "--rotate-every",
        metavar="TIME",
        help="With --to: begin a new file every 15m, 1h or 1d, by UTC.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No status and no summary on stderr.", rich_help_panel=_OUTPUT)
]
Debug = Annotated[bool, typer.Option(DEBUG_FLAG, help="Show log and tracebacks.", rich_help_panel=_OUTPUT)]

Once = Annotated[
    bool,
    typer.Option("--once", help="Listen for --wait seconds, show the fleet once, and end.", rich_help_panel=_MODE),
]
Wait = Annotated[
    str | None,
    typer.Option("--wait", metavar="TIME", help="With --once: how long to listen. (30s)", rich_help_panel=_MODE),
]
Events = Annotated[
    bool,
    typer.Option("--events", help="Show a line for each change of state, until stopped.", rich_help_panel=_MODE),
]
Expect = Annotated[
    Path | None,
    typer.Option(
        "--expect",
        metavar="FILE",
        help="Roster of the devices that should be there: an id a line, CSV with a column device_id, or JSON.",
        rich_help_panel=_FLEET,
    ),
]
ExpectIds = Annotated[
    str | None,
    typer.Option("--expect-ids", metavar="ID,ID", help="The same, given here.", rich_help_panel=_FLEET),
]
SaveRoster = Annotated[
    Path | None,
    typer.Option(
        "--save-roster",
        metavar="FILE",
        help="With --once: write the ids that were seen to a new file, for --expect.",
        rich_help_panel=_FLEET,
    ),
]
OfflineAfter = Annotated[
    str | None,
    typer.Option(
        "--offline-after",
        metavar="TIME",
        help="Silence that makes a device offline, 90s or 15m. (four of its intervals)",
        rich_help_panel=_FLEET,
    ),
]
ValueField = Annotated[
    str | None,
    typer.Option(
        "--field",
        metavar="FIELD",
        help="On the board: field whose latest values are drawn, such as soil_moisture.",
        rich_help_panel=_FLEET,
    ),
]
SeqField = Annotated[
    str | None,
    typer.Option(
        "--seq",
        metavar="FIELD",
        help="Field with a sequence number, soil.seq for one in an object: count what is missing.",
        rich_help_panel=_FLEET,
    ),
]
ClockField = Annotated[
    str | None,
    typer.Option(
        "--clock",
        metavar="FIELD",
        help="Field with the device's timestamp, Unix or ISO 8601: measure lag, jitter and skew.",
        rich_help_panel=_FLEET,
    ),
]
Fleet = Annotated[
    FleetChoice | None,
    typer.Option(
        "-o",
        "--output",
        help="With --once: table, json, csv or md. (table on a terminal, else json) "
        "With --events: text or jsonl. (text on a terminal, else jsonl)",
        metavar="FORM",
        rich_help_panel=_OUTPUT,
    ),
]
Within = Annotated[
    str, typer.Option("--within", metavar="TIME", help="How long to look, 90s or 5m.", rich_help_panel=_THRESHOLDS)
]
WarnLate = Annotated[
    int,
    typer.Option(
        "--warn-late",
        metavar="N",
        help="Warning from N devices that are late, mute or without heartbeat.",
        rich_help_panel=_THRESHOLDS,
    ),
]
CritOffline = Annotated[
    int,
    typer.Option(
        "--crit-offline",
        metavar="N",
        help="Critical from N devices that are offline, or expected and not seen.",
        rich_help_panel=_THRESHOLDS,
    ),
]
MinRate = Annotated[
    float | None,
    typer.Option(
        "--min-rate", metavar="RATE", help="Critical below so many messages a second.", rich_help_panel=_THRESHOLDS
    ),
]
MaxInvalid = Annotated[
    int | None,
    typer.Option(
        "--max-invalid",
        metavar="N",
        help="Critical above N invalid telemetry payloads. (with --contract 0, else not looked at)",
        rich_help_panel=_THRESHOLDS,
    ),
]
Contract = Annotated[
    str | None,
    typer.Option(
        "--contract",
        metavar="MODULE:MODEL",
        help="Pydantic model that each telemetry payload must fit.",
        rich_help_panel=_THRESHOLDS,
    ),
]
CheckOutput = Annotated[
    CheckChoice, typer.Option("-o", "--output", help="How to show the result.", rich_help_panel=_OUTPUT)
]

Filters = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILTER", help="Topic filters. (devices/+/telemetry and devices/+/heartbeat)"),
]
WaitForMessage = Annotated[
    str, typer.Option("--wait", metavar="TIME", help="How long to wait for a message.", rich_help_panel=_STREAM)
]
CanaryMessage = Annotated[
    bool,
    typer.Option(
        "--canary",
        help="Publish a heartbeat of a device plantops-canary-... and wait for it: proves the right to read.",
        rich_help_panel=_STREAM,
    ),
]

MetricsPort = Annotated[
    str | None,
    typer.Option(
        "--metrics-port",
        metavar="[ADDRESS:]PORT",
        help="Serve metrics for Prometheus there. (address 127.0.0.1)",
        rich_help_panel=_OUTPUT,
    ),
]
MetricsPerDevice = Annotated[
    bool,
    typer.Option(
        "--metrics-per-device", help="With --metrics-port: series for each device too.", rich_help_panel=_OUTPUT
    ),
]
