"""The panel Output: where to show what was found, in which form, and how much to say beside it."""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plantops_cli.cli.shared.exits import DEBUG_FLAG
from plantops_cli.cli.shared.flags.parsed import Parsed, naming
from plantops_cli.errors import ConfigError
from plantops_cli.formats.registry import Format
from plantops_cli.quantities import parse_address, parse_period, parse_size

_option = partial(typer.Option, rich_help_panel="Output")

# less than a block of the disk is no archive, but a file for each message
_LEAST_ROTATED_BYTES = 4096


class DocumentChoice(StrEnum):
    """The values of ``-o`` where one result is shown."""

    TEXT = "text"
    JSON = "json"


class FleetChoice(StrEnum):
    """The values of ``-o`` where a fleet is shown."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    TEXT = "text"
    JSONL = "jsonl"


class CheckChoice(StrEnum):
    """The values of ``-o`` of a check."""

    NAGIOS = "nagios"
    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


Document = Annotated[DocumentChoice, _option("-o", "--output", help="How to show the result.")]
Output = Annotated[
    Format | None, _option("-o", "--output", help="How to show messages. (pretty on a terminal, else jsonl)")
]
To = Annotated[
    Path | None,
    _option(
        "--to",
        metavar="FILE",
        help="Append JSON lines to this file instead; a message is acknowledged when it is on the disk.",
    ),
]
RotateSize = Annotated[
    int | None,
    Parsed(naming(partial(parse_size, least_bytes=_LEAST_ROTATED_BYTES))),
    _option(
        "--rotate-size",
        metavar="SIZE",
        help="With --to: begin a new file at this size, 100M or 1G; closed ones are compressed.",
    ),
]
RotateEvery = Annotated[
    float | None,
    Parsed(naming(parse_period)),
    _option("--rotate-every", metavar="TIME", help="With --to: begin a new file every 15m, 1h or 1d, by UTC."),
]
Quiet = Annotated[bool, _option("--quiet", help="No status and no summary on stderr.")]
Debug = Annotated[bool, _option(DEBUG_FLAG, help="Show log and tracebacks.")]

Fleet = Annotated[
    FleetChoice | None,
    _option(
        "-o",
        "--output",
        help="With --once: table, json, csv or md. (table on a terminal, else json) "
        "With --events: text or jsonl. (text on a terminal, else jsonl)",
        metavar="FORM",
    ),
]
CheckOutput = Annotated[CheckChoice, _option("-o", "--output", help="How to show the result.")]
MetricsPort = Annotated[
    tuple[str, int] | None,
    Parsed(naming(parse_address)),
    _option(
        "--metrics-port", metavar="[ADDRESS:]PORT", help="Serve metrics for Prometheus there. (address 127.0.0.1)"
    ),
]
MetricsPerDevice = Annotated[
    bool, _option("--metrics-per-device", help="With --metrics-port: series for each device too.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFlags:
    """A file instead of standard output; sizes in bytes, times in seconds, None: not given."""

    to: To = None
    rotate_size: RotateSize = None
    rotate_every: RotateEvery = None

    def __post_init__(self) -> None:
        if self.to is None and (self.rotate_size or self.rotate_every):
            raise ConfigError("--rotate-size and --rotate-every are for --to", hint="give --to FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsFlags:
    """Whether to serve metrics, where (address and port), and how many."""

    metrics_port: MetricsPort = None
    is_per_device: MetricsPerDevice = False

    def __post_init__(self) -> None:
        if self.is_per_device and self.metrics_port is None:
            raise ConfigError("--metrics-per-device is for --metrics-port", hint="give --metrics-port PORT")
