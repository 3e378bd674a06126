"""The commands of ``plantops``, put together and run."""

import os
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import typer

from plantops_cli.cli.check.command import check
from plantops_cli.cli.demo.command import demo
from plantops_cli.cli.doctor.command import doctor
from plantops_cli.cli.fleet.command import fleet
from plantops_cli.cli.listen.command import listen
from plantops_cli.cli.parse_topic import parse_topic
from plantops_cli.cli.provision_user.command import provision_user
from plantops_cli.cli.shared.exits import DEBUG_FLAG, Exit, guard
from plantops_cli.cli.shared.stderr import show_log
from plantops_cli.errors import ConfigError

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
    if "_PLANTOPS_COMPLETE" in os.environ:
        command.main(list(arguments), prog_name="plantops")
    _check_ask_password(arguments)
    try:
        # not .main(): it would answer a closed pipe with exit code 1
        with command.make_context("plantops", list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as exc:
        return exc.exit_code
    return Exit.OK


def _check_ask_password(arguments: Sequence[str]) -> None:
    """Refuse what follows ``-P`` like a value: to mosquitto_sub it is the password, here it would be a filter.

    Args:
        arguments: a command line.

    Raises:
        ConfigError: a word follows, which is not repeated.
    """
    arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    is_joined = any(one.startswith("-P") and one != "-P" for one in arguments)
    is_followed = any(one == "-P" and not after.startswith("-") for one, after in pairwise(arguments))
    if is_joined or is_followed:
        raise ConfigError(
            "-P takes no value: it asks for the password",
            hint="others would see a password on the command line; filters and user names go before -P, or behind "
            "--ask-password",
        )
