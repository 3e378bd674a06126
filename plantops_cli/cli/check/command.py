"""``plantops check``: one bounded look with the exit codes of a Nagios plugin."""

from collections.abc import Mapping
from typing import Any

import typer

from plantops_cli.cli.check.check_flags import CheckFlags
from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.room import check_room
from plantops_cli.errors import PlantopsError


def _answer_refusal(error: PlantopsError, given: Mapping[str, Any]) -> int:
    """Say on standard output, where a monitor reads, that flags are refused: nothing is known of the fleet."""
    from plantops_cli.cli.check.answer import say_error

    return say_error(error, given["output"])


@command(on_refusal=_answer_refusal)
def check(flags: CheckFlags) -> None:
    """Look at the fleet for a while, and exit with 0 ok, 1 warning, 2 critical or 3 unknown.

    One line says why, with performance data. Who says nothing within the time
    is missed only if --expect names it.
    """
    import asyncio

    from plantops_cli.cli.check.run import run_check

    check_room()
    raise typer.Exit(asyncio.run(run_check(flags)))
