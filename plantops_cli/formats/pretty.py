"""Lines for people: when, what, who, and the payload as ``key=value``."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.filesize import decimal
from rich.style import Style
from rich.text import Text

from plantops_cli.formats.keyvalue import pairs, quote
from plantops_cli.formats.renderer import OneByOne, Renderer, Wants
from plantops_cli.formats.terminal import escape, escape_name
from plantops_cli.messages import Decoded, Message

MAX_SHOWN_BYTES = 65_536
"""A longer payload is shown as the beginning of its text, not as fields."""

_HEX_BYTES = 32
_KIND_CELLS = len("telemetry")
_MAX_ID_COLUMN = 24
_GAP = "  "

# Each has a contrast of at least 3.5 on black and on white; tests/formats/test_pretty.py holds that
PALETTE = (130, 100, 64, 28, 29, 30, 31, 32, 63, 98, 134, 163, 168, 132)
_NAME_STYLES = tuple(Style(color=Color.from_ansi(number), bold=True) for number in PALETTE)
_DIM = Style(dim=True)
_NOTED = Style(color=Color.from_ansi(136))
_WRONG = Style(color=Color.from_ansi(160), bold=True)


def renderer(wants: Wants, *, is_terminal: bool) -> Renderer:
    """Make what writes lines for people.

    Args:
        wants: whether a message is to be written.
        is_terminal: whether they are cut to the width of the terminal.
    """
    console = Console()
    pretty = Pretty(console, width=console.width if is_terminal else None)
    # a console knows the encoding of the locale, which may be older than Unicode
    encoding = console.encoding
    return OneByOne(lambda messages: pretty.render(messages).encode(encoding, "backslashreplace"), wants)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines as they are: laying them out as rich does a paragraph costs more than all the rest."""

    lines: Sequence[Text]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            yield from line.render(console, end="\n")


class Pretty:
    """Turns messages into lines for a person at a terminal.

    Args:
        console: decides on colour; nothing is printed on it.
        width: cells a line may take, or None for lines of any length.
    """

    def __init__(self, console: Console, *, width: int | None) -> None:
        self._console = console
        self._width = width
        self._id_column = 0

    def render(self, messages: Sequence[Message]) -> str:
        """Return one line for each message, each with its newline.

        The column of the device ids is as wide as the longest one so far, but at most 24 cells.

        Args:
            messages: in the order of their arrival.
        """
        if not messages:
            return ""
        self._widen_id_column(messages)
        lines = _Lines([self._line(message) for message in messages])
        with self._console.capture() as capture:
            self._console.print(lines, soft_wrap=True, end="")
        return capture.get()

    def _widen_id_column(self, messages: Sequence[Message]) -> None:
        longest = max(cell_len(escape_name(message.device_id or "")) for message in messages)
        self._id_column = max(self._id_column, min(longest, _MAX_ID_COLUMN))

    def _line(self, message: Message) -> Text:
        size = len(message.payload)
        decoded = message.decode()
        line = self._head(message)
        _append_marks(line, message, decoded)
        limit = line.cell_len + MAX_SHOWN_BYTES if self._width is None else self._width
        body = _body(message.payload, decoded if size <= MAX_SHOWN_BYTES else None, limit=limit)
        line.append_text(body)
        if size > MAX_SHOWN_BYTES or len(body) > limit or line.cell_len > limit:
            _cut(line, limit, size=f"… {decimal(size)}")
        line.rstrip()
        return line

    def _head(self, message: Message) -> Text:
        head = Text().append(f"{message.received_at.astimezone():%H:%M:%S.%f}"[:-3], _DIM).append(_GAP)
        device = message.device
        if device is None:
            return self._append_name(head, message.topic, cells=_KIND_CELLS + len(_GAP) + self._id_column)
        head.append(device.kind.ljust(_KIND_CELLS), _DIM if device.kind == "heartbeat" else None).append(_GAP)
        return self._append_name(head, device.device_id, cells=self._id_column)

    def _append_name(self, head: Text, name: str, *, cells: int) -> Text:
        text = Text(
            escape_name(name), style=_NAME_STYLES[crc32(name.encode(errors="replace")) % len(_NAME_STYLES)]
        )
        if self._width is not None:
            # A name is the sender's choice: however long, it leaves room for the rest
            text.truncate(max(self._width // 2, _MAX_ID_COLUMN), overflow="ellipsis")
        head.append_text(text)
        return head.append(" " * (cells - text.cell_len) + _GAP)


def _append_marks(line: Text, message: Message, decoded: Decoded) -> None:
    if message.retain:
        line.append("retained", _NOTED).append(_GAP)
    if message.dup:
        line.append("dup", _NOTED).append(_GAP)
    if decoded.error:
        # The position and what was expected instead are for the JSON line
        reason = decoded.error.partition(",")[0]
        line.append("invalid", _WRONG).append(f" ({reason})", _DIM).append(_GAP)


def _body(payload: bytes, decoded: Decoded | None, *, limit: int) -> Text:
    """Show the payload, or so much of its beginning that it is longer than the limit."""
    if decoded is None:
        return _beginning(payload[:MAX_SHOWN_BYTES], limit=limit)
    if decoded.form == "json":
        return _fields(payload.decode(), limit=limit)
    if decoded.form == "binary":
        return _hex(payload)
    text = str(decoded.value)
    return Text(escape(quote(text[: limit + 1]))) if text else Text()


def _fields(document: str, *, limit: int) -> Text:
    body = Text()
    for name, value in pairs(document):
        if body:
            body.append(" ")
        if name:
            body.append(f"{escape(name[: limit + 1])}=", _DIM)
        body.append(escape(value[: limit + 1]))
        if len(body) > limit:
            break
    return body


def _beginning(payload: bytes, *, limit: int) -> Text:
    try:
        # Not final: the end of the piece may fall into the middle of a character
        text = getincrementaldecoder("utf-8")().decode(payload)
    except UnicodeDecodeError:
        return Text(payload[:_HEX_BYTES].hex(" "))
    return Text(escape(text[: limit + 1]))


def _hex(payload: bytes) -> Text:
    ellipsis = " … " if len(payload) > _HEX_BYTES else _GAP
    return Text(payload[:_HEX_BYTES].hex(" ")).append(f"{ellipsis}{decimal(len(payload))}", _DIM)


def _cut(line: Text, limit: int, *, size: str) -> None:
    line.truncate(max(0, limit - cell_len(size)), overflow="crop")
    line.append(size, _DIM)
    line.truncate(limit, overflow="crop")
