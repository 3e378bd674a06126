"""``plantops parse-topic``: the device id and the kind of topics, from the command line or from stdin."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Literal, NamedTuple

import typer

from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.exits import Exit, explain
from plantops_cli.cli.shared.flags.parsed import MANY
from plantops_cli.errors import ConfigError, TopicError
from plantops_cli.topics import DeviceTopic
from plantops_cli.topics import parse_topic as parse

Output = Literal["text", "jsonl"]
Field = Literal["device_id", "kind"]
Format = Callable[[str, DeviceTopic], str]

_READ_BYTES = 1 << 18
_MAX_LINE_BYTES = 1 << 20


class Batch(NamedTuple):
    """Topics that are answered with one write.

    Attributes:
        topics: in the order in which they were given.
        first_line: the number of the first one's line on stdin, or None for arguments.
    """

    topics: list[str]
    first_line: int | None


Topics = Annotated[
    tuple[str, ...],
    MANY,
    typer.Argument(metavar="TOPIC", help="Topics to parse; - reads them from stdin, one a line."),
]
OutputOption = Annotated[
    Output | None, typer.Option("-o", "--output", help="Default: text on a terminal, jsonl elsewhere.")
]
FieldOption = Annotated[Field | None, typer.Option("--field", help="Print this value alone, one a line.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseTopicFlags:
    """The flags of ``parse-topic``, in the order of its help; None: not given."""

    topics: Topics
    output: OutputOption = None
    field: FieldOption = None

    def __post_init__(self) -> None:
        if self.field and self.output == "jsonl":
            raise ConfigError("--field prints plain values", hint="leave out -o jsonl or --field")


@command()
def parse_topic(flags: ParseTopicFlags) -> None:
    """Print device id and kind of topics like devices/ID/telemetry and devices/ID/heartbeat.

    An invalid topic goes to stderr with the reason, after the valid ones; the exit code is then 8.
    """
    show = _format(flags.output, flags.field)
    answers = [_answer(batch, show) for batch in _batches(flags.topics)]
    if not all(answers):
        raise typer.Exit(Exit.TOPIC)


def _batches(arguments: Sequence[str]) -> Iterator[Batch]:
    for is_stdin, group in groupby(arguments, key="-".__eq__):
        if is_stdin:
            yield from _stdin_batches()
        else:
            yield Batch(list(group), first_line=None)


def _stdin_batches() -> Iterator[Batch]:
    """Read whole lines, as many as there are at the moment."""
    if sys.stdin is None:
        raise ConfigError("standard input is closed", hint="give the topics as arguments")
    rest = b""
    first_line = 1
    while chunk := os.read(sys.stdin.fileno(), _READ_BYTES):
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        # No topic is that long: the end of such a line is not worth the memory
        rest = rest[:_MAX_LINE_BYTES]
        if newline:
            batch = Batch(_decode(lines), first_line)
            yield batch
            first_line += len(batch.topics)
    if rest:
        yield Batch(_decode(rest), first_line)


def _decode(lines: bytes) -> list[str]:
    # What is not UTF-8 becomes lone surrogates, as in sys.argv; no valid topic has any
    return lines.decode(errors="surrogateescape").replace("\r\n", "\n").removesuffix("\r").split("\n")


def _answer(batch: Batch, show: Format) -> bool:
    """Print the valid topics, then what is wrong with the others; tell whether there was nothing wrong."""
    shown: list[str] = []
    complaints: list[str] = []
    for number, topic in enumerate(batch.topics, start=batch.first_line or 1):
        try:
            shown.append(show(topic, parse(topic)))
        except TopicError as exc:
            where = "" if batch.first_line is None else f"line {number}: "
            complaints.append(f"plantops: error: {where}{explain(exc)}\n")
    sys.stdout.buffer.write("".join(shown).encode())
    sys.stdout.buffer.flush()
    sys.stderr.write("".join(complaints))
    return not complaints


def _format(output: Output | None, field: Field | None) -> Format:
    if field:
        return _field_format(field)
    if output == "jsonl" or (output is None and not sys.stdout.isatty()):
        return _jsonl_format()
    return _text_format()


def _field_format(field: Field) -> Format:
    from plantops_cli.formats.terminal import escape

    if field == "kind":
        return lambda _, device: f"{device.kind}\n"
    return lambda _, device: f"{escape(device.device_id)}\n"


def _text_format() -> Format:
    from plantops_cli.formats.terminal import escape

    return lambda _, device: f"device_id={escape(device.device_id)}  kind={device.kind}\n"


def _jsonl_format() -> Format:
    from orjson import dumps

    from plantops_cli.formats.terminal import json_escape

    def show(topic: str, device: DeviceTopic) -> str:
        line = dumps({"topic": topic, "device_id": device.device_id, "kind": device.kind})
        return f"{json_escape(line).decode()}\n"

    return show
