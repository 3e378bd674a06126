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
from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.errors import ConfigError, TopicError
from plantops_cli.topics import DeviceTopic
from plantops_cli.topics import parse_topic as parse

TopicForm = Literal["text", "jsonl"]
Field = Literal["device_id", "kind"]
TopicRenderer = Callable[[str, DeviceTopic], str]
TopicWriter = Callable[[str], None]

_READ_BYTES = 1 << 18
_MAX_LINE_BYTES = 1 << 20


class TopicLines(NamedTuple):
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
TopicFormOption = Annotated[
    TopicForm | None, typer.Option("-o", "--output", help="Default: text on a terminal, jsonl elsewhere.")
]
FieldOption = Annotated[Field | None, typer.Option("--field", help="Print this value alone, one a line.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseTopicFlags:
    """The flags of ``parse-topic``, in the order of its help; None: not given."""

    topics: Topics
    output: TopicFormOption = None
    field: FieldOption = None

    def __post_init__(self) -> None:
        if self.field and self.output == "jsonl":
            raise ConfigError("--field prints plain values", hint="leave out -o jsonl or --field")


@command()
def parse_topic(flags: ParseTopicFlags) -> None:
    """Print device id and kind of topics like devices/ID/telemetry and devices/ID/heartbeat.

    An invalid topic goes to stderr with the reason, after the valid ones; the exit code is then 8.
    """
    show, write = _renderer(flags.output, flags.field)
    answers = [_answer(given, show, write) for given in _gather(flags.topics)]
    if not all(answers):
        raise typer.Exit(Exit.TOPIC)


def _gather(arguments: Sequence[str]) -> Iterator[TopicLines]:
    for is_stdin, group in groupby(arguments, key="-".__eq__):
        if is_stdin:
            yield from _read_stdin()
        else:
            yield TopicLines(list(group), first_line=None)


def _read_stdin() -> Iterator[TopicLines]:
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
            given = TopicLines(_decode(lines), first_line)
            yield given
            first_line += len(given.topics)
    if rest:
        yield TopicLines(_decode(rest), first_line)


def _decode(lines: bytes) -> list[str]:
    # What is not UTF-8 becomes lone surrogates, as in sys.argv; no valid topic has any
    return lines.decode(errors="surrogateescape").replace("\r\n", "\n").removesuffix("\r").split("\n")


def _answer(given: TopicLines, show: TopicRenderer, write: TopicWriter) -> bool:
    """Print the valid topics, then what is wrong with the others; tell whether there was nothing wrong."""
    shown: list[str] = []
    complaints: list[str] = []
    for number, topic in enumerate(given.topics, start=given.first_line or 1):
        try:
            shown.append(show(topic, parse(topic)))
        except TopicError as exc:
            where = "" if given.first_line is None else f"line {number}: "
            complaints.append(f"plantops: error: {where}{explain(exc)}\n")
    write("".join(shown))
    sys.stderr.write("".join(complaints))
    return not complaints


def _renderer(output: TopicForm | None, field: Field | None) -> tuple[TopicRenderer, TopicWriter]:
    if field:
        return _field_renderer(field), show_text
    if output == "jsonl" or (output is None and not sys.stdout.isatty()):
        return _jsonl_renderer(), lambda text: show_document(text.encode())
    return _text_renderer(), show_text


def _field_renderer(field: Field) -> TopicRenderer:
    from plantops_cli.formats.terminal import escape

    if field == "kind":
        return lambda _, device: f"{device.kind}\n"
    return lambda _, device: f"{escape(device.device_id)}\n"


def _text_renderer() -> TopicRenderer:
    from plantops_cli.formats.terminal import escape_name

    return lambda _, device: f"device_id={escape_name(device.device_id)}  kind={device.kind}\n"


def _jsonl_renderer() -> TopicRenderer:
    from orjson import dumps

    from plantops_cli.formats.terminal import json_escape

    def show(topic: str, device: DeviceTopic) -> str:
        line = dumps({"topic": topic, "device_id": device.device_id, "kind": device.kind})
        return f"{json_escape(line).decode()}\n"

    return show
