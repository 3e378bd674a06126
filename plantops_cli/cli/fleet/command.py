"""``plantops fleet``: which device is alive, late or gone."""

import typer

from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.room import check_room


@command()
def fleet(flags: FleetFlags) -> None:
    """Show which device is online, late, offline, mute or without heartbeat.

    Without --once or --events this is a live board on the terminal. A topic is
    late after two of its observed intervals and silent after four; times without
    a connection of our own are held against no device.
    """
    import asyncio

    from plantops_cli.cli.fleet.run import run_fleet

    check_room()
    raise typer.Exit(asyncio.run(run_fleet(flags)))
