"""The panel Thresholds: how long to look, and what is too much or too little."""

from functools import partial
from typing import Annotated, Any

import typer

from plantops_cli.cli.shared.flags.parsed import DURATION

_PANEL = "Thresholds"
_option = partial(typer.Option, rich_help_panel=_PANEL)


def within_option(panel: str, text: str) -> Any:
    """Make ``--within``, which in each command that has it stands in another panel.

    Args:
        panel: the title of the panel.
        text: the help.
    """
    return typer.Option("--within", metavar="TIME", help=text, rich_help_panel=panel)


Within = Annotated[float, DURATION, within_option(_PANEL, "How long to look, 90s or 5m.")]
WarnLate = Annotated[
    int,
    _option("--warn-late", metavar="N", help="Warning from N devices that are late, mute or without heartbeat."),
]
CritOffline = Annotated[
    int,
    _option(
        "--crit-offline", metavar="N", help="Critical from N devices that are offline, or expected and not seen."
    ),
]
MinRate = Annotated[
    float | None, _option("--min-rate", metavar="RATE", help="Critical below so many messages a second.")
]
MaxInvalid = Annotated[
    int | None,
    _option(
        "--max-invalid",
        metavar="N",
        help="Critical above N invalid telemetry payloads. (with --contract 0, else not looked at)",
    ),
]
Contract = Annotated[
    str | None,
    _option("--contract", metavar="MODULE:MODEL", help="Pydantic model that each telemetry payload must fit."),
]
