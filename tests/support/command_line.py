"""Command lines that are only read: what Typer knows of the commands, and what their flags become."""

from typing import TypeVar

import typer
from typer.core import TyperGroup, TyperOption

from plantops_cli.cli.app import build_app
from plantops_cli.cli.shared.command import command

T = TypeVar("T")


def options_by_command() -> dict[str, list[TyperOption]]:
    """The options of each command of the program."""
    group = typer.main.get_command(build_app())
    assert isinstance(group, TyperGroup)
    return {
        name: [option for option in one.params if isinstance(option, TyperOption)]
        for name, one in group.commands.items()
    }


BY_COMMAND = options_by_command()


def read(kind: type[T], *arguments: str) -> T:
    """What a command of such flags gets when these are typed.

    Args:
        kind: a dataclass of flags.
        arguments: what is typed behind the name of the command.
    """
    read_flags = list[T]()

    def take(flags: T) -> None:
        read_flags.append(flags)

    take.__annotations__["flags"] = kind
    program = typer.Typer(add_completion=False)
    program.command("take")(command()(take))
    # with a second one the first has to be named, as in the program
    program.command("other")(lambda: None)
    typer.main.get_command(program).main(["take", *arguments], standalone_mode=False)
    [flags] = read_flags
    return flags
