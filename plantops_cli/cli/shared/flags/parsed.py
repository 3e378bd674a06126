"""Flags whose value is more than Typer can read: what makes a text into the value that a command gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plantops_cli.errors import ConfigError
from plantops_cli.quantities import format_duration, parse_duration


@dataclass(frozen=True, slots=True)
class Parsed:
    """Stands beside the option in the alias of a flag, between what Typer reads and what the dataclass gets.

    Args:
        read: makes the value out of the raw one and the name of the flag; raises ``ConfigError``, naming the flag.
        raw: the type that Typer reads.
        show: makes the raw value out of a default, for the help.
    """

    read: Callable[[Any, str], Any]
    raw: Any = str
    show: Callable[[Any], Any] = str


def naming(parse: Callable[[Any], Any]) -> Callable[[Any, str], Any]:
    """Let a parser that knows of no flag be used for one: its errors begin with the flag's name.

    Args:
        parse: makes the value out of the raw one.
    """

    def read(raw: Any, flag: str) -> Any:
        try:
            return parse(raw)
        except ConfigError as exc:
            raise ConfigError(f"{flag} {exc}", hint=exc.hint) from exc

    return read


DURATION = Parsed(naming(parse_duration), show=format_duration)
"""A time, in seconds."""

MANY = Parsed(lambda raw, _: tuple(raw), raw=list[str])
"""A flag or an argument that may be given several times."""
