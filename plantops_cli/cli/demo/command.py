"""``plantops demo``: all of it with nothing installed and nothing configured."""

import typer

from plantops_cli.cli.demo.demo_flags import DemoFlags
from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.room import DEMO_FILES, check_room


@command()
def demo(flags: DemoFlags) -> None:
    """Show a dozen simulated plants, live, on a broker that lasts as long as the demo.

    The broker is a Mosquitto of its own where one is installed, else the
    embedded one; the login is made by the code of provision-user, the messages
    are shown by that of listen.
    """
    from plantops_cli.cli.demo.run import run_demo

    check_room(DEMO_FILES)
    raise typer.Exit(run_demo(flags))
