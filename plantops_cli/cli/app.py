"""The commands of ``plantops``, put together and run."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NamedTuple

import typer
from typer.core import TyperGroup, TyperOption

from plantops_cli.cli.shared.exits import DEBUG_FLAG, Exit, guard
from plantops_cli.cli.shared.stderr import show_log
from plantops_cli.cli.shared.typed_secrets import check_ask_password


class CommandEntry(NamedTuple):
    """A command as the overview knows it.

    Attributes:
        module: has the function of the command.
        summary: the first sentence of its docstring, said here too so that the overview loads none of them.
    """

    module: str
    summary: str


COMMANDS = {
    "listen": CommandEntry("listen.command", "Subscribe and show each message as it comes, until stopped."),
    "fleet": CommandEntry(
        "fleet.command", "Show which device is online, late, offline, mute or without heartbeat."
    ),
    "check": CommandEntry(
        "check.command",
        "Look at the fleet for a while, and exit with 0 ok, 1 warning, 2 critical or 3 unknown.",
    ),
    "doctor": CommandEntry(
        "doctor.command", "Try each step to the broker by itself, and say what is broken and how to mend it."
    ),
    "provision-user": CommandEntry(
        "provision_user.command",
        "Create or update a login in Mosquitto's password file, tell the broker, and prove it.",
    ),
    "parse-topic": CommandEntry(
        "parse_topic", "Print device id and kind of topics like devices/ID/telemetry and devices/ID/heartbeat."
    ),
    "demo": CommandEntry(
        "demo.command", "Show a dozen simulated plants, live, on a broker that lasts as long as the demo."
    ),
}
"""Each command, in the order of the help."""

_OVERVIEWS = ("--help", "--version")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"plantops {version('plantops-cli')}")
        raise typer.Exit


def plantops(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Hear every MQTT device, know who has gone quiet, and provision the Mosquitto login safely."""


def build_app(first: str | None = None) -> typer.Typer:
    """Put the commands together, or as much of them as a command line needs: half of a start is their flags.

    Args:
        first: the first word of the command line; None: whatever it may be.
    """
    app = typer.Typer(name="plantops", help=plantops.__doc__, rich_markup_mode="rich")
    app.callback()(plantops)
    for name in (first,) if first in COMMANDS else COMMANDS:
        if first in _OVERVIEWS:
            app.command(name, help=COMMANDS[name].summary)(lambda: None)
        else:
            module = import_module(f"plantops_cli.cli.{COMMANDS[name].module}")
            app.command()(getattr(module, name.replace("-", "_")))
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are said on stderr, one line each.

    Args:
        arguments: the command line without the name of the program.
    """
    # looked for here, so that it works before the command line is understood
    is_debug = DEBUG_FLAG in arguments
    arguments = arguments or ["--help"]
    if arguments[0] != "check":
        return guard(lambda: _run(arguments, is_debug=is_debug), is_debug=is_debug)

    def answer(_: Exit, said: str) -> int:
        from plantops_cli.cli.check.failure import answer_failure

        return answer_failure(said, arguments)

    return guard(lambda: _run(arguments, is_debug=is_debug), is_debug=is_debug, on_error=answer)


def _run(arguments: Sequence[str], *, is_debug: bool) -> int:
    show_log(is_debug=is_debug)
    is_completion = "_PLANTOPS_COMPLETE" in os.environ
    command = typer.main.get_command(build_app(None if is_completion else arguments[0]))
    assert isinstance(command, TyperGroup)
    if is_completion:
        command.main(list(arguments), prog_name="plantops")
    check_ask_password(list(arguments), _flags(command))
    code: int = Exit.OK
    try:
        # not .main(): it would answer a closed pipe with exit code 1
        with command.make_context("plantops", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as exc:
        code = exc.exit_code
    # Python would do it at its end, where nobody can say any more that it failed
    sys.stdout.flush()
    return code


def _flags(group: TyperGroup) -> dict[str, bool]:
    """The names of all flags of all commands, and whether each takes a value."""
    options = [
        one for command in group.commands.values() for one in command.params if isinstance(one, TyperOption)
    ]
    named = {name: not one.is_flag for one in options for name in (*one.opts, *one.secondary_opts)}
    return {"--help": False, **named}
