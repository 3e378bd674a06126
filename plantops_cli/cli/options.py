"""Every flag once: Annotated aliases that the commands put into their signatures.

Letters are mosquitto_sub's; ``-h`` is the host, help is ``--help`` only.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from plantops_cli.cli.exits import DEBUG_FLAG
from plantops_cli.topics import Kind

_CONNECTION = "Connection"
_STREAM = "Stream"
_OUTPUT = "Output"
_MODE = "What to do"
_LOGIN = "Password"
_FILES = "Files"
_BROKER = "Broker"


class MQTTVersionChoice(StrEnum):
    """The values of ``-V``."""

    AUTO = "auto"
    V5 = "5"
    V311 = "3.1.1"


class OutputChoice(StrEnum):
    """The values of ``-o`` where messages are shown."""

    PRETTY = "pretty"
    JSONL = "jsonl"


class DocumentChoice(StrEnum):
    """The values of ``-o`` where one result is shown."""

    TEXT = "text"
    JSON = "json"


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
        help="MQTT to speak; auto is 5, and 3.1.1 where the broker refuses 5.",
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
        help="Let the broker keep what comes while this listener is away; one NAME for each listener.",
        rich_help_panel=_STREAM,
    ),
]
SessionExpiry = Annotated[
    int,
    typer.Option(
        "--session-expiry",
        metavar="SECONDS",
        help="With --durable: how long the broker keeps it.",
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
    OutputChoice | None,
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
