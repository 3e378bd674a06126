"""``plantops listen``: subscribe and show what the devices say."""

import typer

from plantops_cli.cli.listen.listen_flags import ListenFlags
from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.room import check_room


@command()
def listen(flags: ListenFlags) -> None:
    """Subscribe and show each message as it comes, until stopped.

    Messages go to standard output, status and the closing summary to standard
    error. Once connected it stays: lost connections are made again.
    """
    from plantops_cli.cli.listen.run import run_listen

    check_room()
    raise typer.Exit(run_listen(flags))
