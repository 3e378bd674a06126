"""The panel What to do: which of a command's several trades is wanted."""

from functools import partial
from typing import Annotated

import typer

from plantops_cli.cli.shared.flags.parsed import DURATION
from plantops_cli.cli.shared.flags.thresholds import within_option

_PANEL = "What to do"
_option = partial(typer.Option, rich_help_panel=_PANEL)


IfMissing = Annotated[bool, _option("--if-missing", help="Create only: leave a user alone who is there.")]
FailOnDrift = Annotated[
    bool,
    _option(
        "--fail-on-drift", help="With --if-missing: exit code 5 when the user is there with another password."
    ),
]
Remove = Annotated[bool, _option("--remove", help="Remove the user.")]
ListUsers = Annotated[bool, _option("--list", help="Show the users and the kinds of their hashes.")]
DryRun = Annotated[bool, _option("--dry-run", help="Say what would be done, and do nothing.")]
Once = Annotated[bool, _option("--once", help="Listen for --within seconds, show the fleet once, and end.")]
WithinOnce = Annotated[float | None, DURATION, within_option(_PANEL, "With --once: how long to listen. (30s)")]
FormerWait = Annotated[
    float | None,
    DURATION,
    _option("--wait", metavar="TIME", hidden=True, help="What --within of fleet was called before."),
]
Events = Annotated[bool, _option("--events", help="Show a line for each change of state, until stopped.")]
