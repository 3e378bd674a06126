"""The commands of ``plantops``, put together."""

from typing import Annotated

import typer

from plantops_cli.cli.demo import demo
from plantops_cli.cli.listen import listen
from plantops_cli.cli.parse_topic import parse_topic
from plantops_cli.cli.provision_user import provision_user

app = typer.Typer(
    name="plantops",
    help="Hear every MQTT device, know who has gone quiet, and provision the Mosquitto login safely.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
for command in (listen, provision_user, parse_topic, demo):
    app.command()(command)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"plantops {version('plantops-cli')}")
        raise typer.Exit


@app.callback()
def plantops(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Hear every MQTT device, know who has gone quiet, and provision the Mosquitto login safely."""
