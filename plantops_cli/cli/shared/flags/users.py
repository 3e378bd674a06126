"""The panel Broker: where a broker keeps its users, how it is told of new ones, and how that is proven."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_option = partial(typer.Option, rich_help_panel="Broker")


class BackendChoice(StrEnum):
    """The values of ``--backend``."""

    FILE = "file"
    DYNSEC = "dynsec"


Backend = Annotated[
    BackendChoice,
    _option(
        "--backend",
        help="Where the broker keeps its users: a password file, or the dynamic security plugin, which is asked "
        "through MQTT as MQTT_ADMIN_USERNAME with MQTT_ADMIN_PASSWORD.",
    ),
]
BrokerConfigFile = Annotated[
    Path | None,
    _option(
        "--config",
        help="The broker's mosquitto.conf: says which files it reads, its pid_file and its listeners. "
        "(MQTT_BROKER_CONFIG)",
    ),
]
Reload = Annotated[
    str | None,
    _option(
        "--reload",
        metavar="TARGET",
        help="pid:FILE, systemd[:UNIT], docker:NAME, command:CMD or none: the broker to tell, after a check of "
        "all files that it would read. (MQTT_RELOAD, else the pid_file of --config)",
    ),
]
Verify = Annotated[
    bool | None,
    _option(
        "--verify/--no-verify",
        help="Prove the login on the broker. (when its address is known)",
        show_default=False,
    ),
]
TrialBroker = Annotated[
    bool,
    _option("--trial-broker", help="Try the new files on a private broker of this machine's mosquitto first."),
]
