"""The panel Fleet: which devices should be there, and what is made of their payloads."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plantops_cli.cli.shared.flags.parsed import DURATION, Parsed
from plantops_cli.errors import ConfigError

_option = partial(typer.Option, rich_help_panel="Fleet")


def _read_roster(path: Path, flag: str) -> tuple[str, ...]:
    from plantops_cli.fleet.roster import parse_roster

    try:
        # as bytes: a line end within an id is part of it
        text = path.read_bytes().decode()
    except OSError as exc:
        raise ConfigError(f"{flag} {str(path)!r}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{flag} {str(path)!r}, line {line}: not UTF-8 text", hint="save it as UTF-8") from exc
    return parse_roster(text, name=f"{flag} {str(path)!r}")


def _read_ids(text: str, flag: str) -> tuple[str, ...]:
    from plantops_cli.fleet.roster import parse_ids

    return parse_ids(text, name=flag)


Expect = Annotated[
    tuple[str, ...],
    Parsed(_read_roster, raw=Path),
    _option(
        "--expect",
        metavar="FILE",
        help="Roster of the devices that should be there: an id a line, CSV with a column device_id, or JSON.",
    ),
]
ExpectIds = Annotated[
    tuple[str, ...], Parsed(_read_ids), _option("--expect-ids", metavar="ID,ID", help="The same, given here.")
]
SaveRoster = Annotated[
    Path | None,
    _option(
        "--save-roster",
        metavar="FILE",
        help="With --once: write the ids that were seen to a new file, for --expect.",
    ),
]
OfflineAfter = Annotated[
    float | None,
    DURATION,
    _option(
        "--offline-after",
        metavar="TIME",
        help="Silence that makes a device offline, 90s or 15m. (four of its intervals)",
    ),
]
ValueField = Annotated[
    str | None,
    _option(
        "--field",
        metavar="FIELD",
        help="On the board: field whose latest values are drawn, such as soil_moisture.",
    ),
]
SeqField = Annotated[
    str | None,
    _option(
        "--seq",
        metavar="FIELD",
        help="Field with a sequence number, soil.seq for one in an object: count what is missing.",
    ),
]
ClockField = Annotated[
    str | None,
    _option(
        "--clock",
        metavar="FIELD",
        help="Field with the device's timestamp, Unix or ISO 8601: measure lag, jitter and skew.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterFlags:
    """The ids of the devices that should be there, by a file or as words; nothing: not given."""

    expect: Expect = ()
    expect_ids: ExpectIds = ()

    def __post_init__(self) -> None:
        if self.expect and self.expect_ids:
            raise ConfigError("--expect and --expect-ids were given together", hint="leave one of them out")

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, whichever flag gave them; none: nobody said."""
        return self.expect or self.expect_ids
