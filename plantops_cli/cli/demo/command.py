"""``plantops demo``: all of it with nothing installed and nothing configured."""

from dataclasses import dataclass
from typing import Annotated

import typer

from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.flags import display, subscribe
from plantops_cli.cli.shared.room import DEMO_FILES, check_room

Embedded = Annotated[
    bool, typer.Option("--embedded", help="Use the embedded broker even where Mosquitto is installed.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFlags:
    """The flags of ``demo``, in the order of its help; None and False mean: not given."""

    is_embedded: Embedded = False
    count: subscribe.Count = None
    timeout_seconds: subscribe.Timeout = None
    output: display.Output = None
    is_quiet: display.Quiet = False


@command()
def demo(flags: DemoFlags) -> None:
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
    limits = Limits(count=flags.count, timeout_seconds=flags.timeout_seconds, is_quiet=flags.is_quiet)
    render = renderer(flags.output, Selection())
    raise typer.Exit(asyncio.run(Demonstration(render, limits, is_embedded=flags.is_embedded).run()))
