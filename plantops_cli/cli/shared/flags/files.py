"""The panel Files: which of Mosquitto's files to write, and how."""

import grp
import pwd
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plantops_cli.cli.shared.flags.parsed import Parsed, naming
from plantops_cli.errors import ConfigError

_option = partial(typer.Option, rich_help_panel="Files")


def find_owner(text: str) -> tuple[int, int]:
    """Look up the uid and gid of ``USER[:GROUP]``; the group is the user's own when none is named.

    Raises:
        ConfigError: there is no such user or group on this machine.
    """
    user, _, group = text.partition(":")
    try:
        known = pwd.getpwnam(user)
        return known.pw_uid, grp.getgrnam(group).gr_gid if group else known.pw_gid
    except (KeyError, ValueError) as exc:
        raise ConfigError(f"{text!a}: no such user or group", hint="USER or USER:GROUP") from exc


PasswordFile = Annotated[
    Path | None, _option("--file", help="Mosquitto's password file. (MQTT_PASSWORD_FILE, else --config's)")
]
ACLFile = Annotated[
    Path | None, _option("--acl-file", help="Give the right to read the devices in this ACL file.")
]
FileOwner = Annotated[
    tuple[int, int] | None,
    Parsed(naming(find_owner)),
    _option("--owner", metavar="USER[:GROUP]", help="Owner of a file that root makes. (mosquitto)"),
]
LockTimeout = Annotated[
    float, _option("--lock-timeout", metavar="SECONDS", help="How long to wait for another run.")
]
