"""The formats of a stream by name: a new one is a module of this room and one line here."""

from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # a command line that shows no message loads none of it
    from plantops_cli.formats.renderer import Renderer, Wants


class Format(StrEnum):
    """The formats of a stream, each the name of the module that has its ``renderer``."""

    PRETTY = "pretty"
    JSONL = "jsonl"

    def renderer(self, wants: "Wants", *, is_terminal: bool) -> "Renderer":
        """Make what writes messages in this format; only now is its module loaded.

        Args:
            wants: whether a message is to be written.
            is_terminal: whether a terminal shows it, which a stranger's bytes must not command.
        """
        module = import_module(f"plantops_cli.formats.{self}")
        return cast("Renderer", module.renderer(wants, is_terminal=is_terminal))
