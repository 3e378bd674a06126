"""The commands of ``plantops``, put together and run."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup, TyperOption

from plantops_cli.cli.check.command import check
from plantops_cli.cli.demo.command import demo
from plantops_cli.cli.doctor.command import doctor
from plantops_cli.cli.fleet.command import fleet
from plantops_cli.cli.listen.command import listen
from plantops_cli.cli.parse_topic import parse_topic
from plantops_cli.cli.provision_user.command import provision_user
from plantops_cli.cli.shared.exits import DEBUG_FLAG, Exit, guard
from plantops_cli.cli.shared.stderr import show_log
from plantops_cli.cli.shared.typed_secrets import check_ask_password

app = typer.Typer(
    name="plantops",
    help="Hear every MQTT device, know who has gone quiet, and provision the Mosquitto login safely.",
    rich_markup_mode="rich",
)
for command in (listen, fleet, check, doctor, provision_user, parse_topic, demo):
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


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are said on stderr, one line each.

    Args:
        arguments: the command line without the name of the program.
    """
    # looked for here, so that it works before the command line is understood
    is_debug = DEBUG_FLAG in arguments
    arguments = arguments or ["--help"]
    # to a monitor 1 is a warning and 2 is critical; what cannot be checked is unknown
    on_error: Callable[[Exit], int] = (lambda _: 3) if arguments[0] == "check" else int
    return guard(lambda: _run(arguments, is_debug=is_debug), is_debug=is_debug, on_error=on_error)


def _run(arguments: Sequence[str], *, is_debug: bool) -> int:
    show_log(is_debug=is_debug)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    if "_PLANTOPS_COMPLETE" in os.environ:
        command.main(list(arguments), prog_name="plantops")
    check_ask_password(list(arguments), _flags(command))
    try:
        # not .main(): it would answer a closed pipe with exit code 1
        with command.make_context("plantops", list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as exc:
        return exc.exit_code
    return Exit.OK


def _flags(group: TyperGroup) -> dict[str, bool]:
    """The names of all flags of all commands, and whether each takes a value."""
    options = [
        one for command in group.commands.values() for one in command.params if isinstance(one, TyperOption)
    ]
    named = {name: not one.is_flag for one in options for name in (*one.opts, *one.secondary_opts)}
    return {"--help": False, **named}
