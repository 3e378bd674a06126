"""``plantops demo``: all of it with nothing installed and nothing configured."""

from typing import Annotated

import typer

from plantops_cli.cli.shared import options as o
from plantops_cli.cli.shared.room import DEMO_FILES, check_room


def demo(
    *,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use the embedded broker even where Mosquitto is installed.")
    ] = False,
    count: o.Count = None,
    timeout: o.Timeout = None,
    output: o.Output = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Show a dozen simulated plants, live, on a broker that lasts as long as the demo.

    The broker is a Mosquitto of its own where one is installed, else the
    embedded one; the login is made by the code of provision-user, the messages
    are shown by that of listen.
    """
    import asyncio

    from plantops_cli.cli.demo.run import Demonstration
    from plantops_cli.cli.listen.run import renderer
    from plantops_cli.cli.shared.run import Limits
    from plantops_cli.cli.shared.selection import Selection

    check_room(DEMO_FILES)
    limits = Limits(count=count, timeout_seconds=timeout, is_quiet=quiet)
    render = renderer(output, Selection())
    raise typer.Exit(asyncio.run(Demonstration(render, limits, is_embedded=embedded).run()))
