"""The roster: which devices should be there. Pure: text in, ids out."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from plantops_cli.errors import ConfigError
from plantops_cli.formats.spreadsheet import SEPARATORS, Cell, Row, TableError, read_rows, undefuse
from plantops_cli.formats.terminal import json_escape
from plantops_cli.topics import device_topic

# as a header or a key has them, in lower case and without what is neither letter nor digit; the best first
_COLUMNS = ("deviceid", "id", "device", "deviceids", "ids", "devices")
# above a column alone these are no device, and do not say that it has ids
_OTHER_COLUMNS = {"name", "devicename", "clientid", "hostname", "serial", "serialnumber", "uid", "uuid"}
_NOT_IN_NAMES = re.compile(r"[\W_]+")
# Excel writes it above a table, and reads it
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])(?:\r\n|\r|\n|\Z)", re.IGNORECASE)
# lists, settings and tables of other kinds, which would make devices of their punctuation
_OTHER_KIND = re.compile(r"[\[{<]|[-*] |device[ _-]?ids?[\s:=(]|\w+ ?(?::(?:\s|\Z)|=\s)", re.IGNORECASE)
_MARKS = (*SEPARATORS, "|")
_IN_QUOTES = 'name the column of ids device_id; put an id that looks like this in double quotes: "[x], y"'


class _Found(NamedTuple):
    """What may be an id, and where it stands."""

    device_id: object
    where: str


def parse_roster(text: str, *, name: str) -> tuple[str, ...]:
    """Read a roster, each id once, in its order.

    Args:
        text: an id a line (``#`` begins a comment); CSV whose first line names a column ``device_id``,
            ``Device ID`` or the like, with commas, semicolons or tabs between the cells; or JSON: a list of ids or
            of objects with a ``device_id``, or an object that has such a list as ``devices``. An apostrophe that
            ``spreadsheet.defuse`` put before an id is taken off, but not in JSON.
        name: what to call it in an error.

    Raises:
        ConfigError: it holds no id, or something that is none; the message says where.
    """
    text = text.removeprefix("\ufeff")
    found = _in_json(text, name) if text.lstrip()[:1] in ("[", "{") else _in_rows(text, name)
    ids = tuple(dict.fromkeys(map(_checked, found)))
    if not ids:
        raise ConfigError(f"{name}: no device id in it", hint="an id a line, CSV with a column device_id, or JSON")
    return ids


def parse_ids(text: str, *, name: str) -> tuple[str, ...]:
    """Read ids with commas between them, each once.

    Raises:
        ConfigError: one of them is no device id.
    """
    return tuple(dict.fromkeys(_checked(_Found(device_id.strip(), name)) for device_id in text.split(",")))


def write_roster(ids: Iterable[str]) -> str:
    """Return the text of a roster, sorted, which ``parse_roster`` reads back exactly.

    It is an id a line, or a JSON list if one of them would not be read back so, or holds what is not seen.

    Args:
        ids: whatever MQTT allows.
    """
    listed = tuple(sorted(set(ids)))
    lines = "".join(f"{device_id}\n" for device_id in listed)
    if not listed or (lines.replace("\n", "").isprintable() and _reads_as(lines, listed)):
        return lines
    quoted = ",\n".join(json.dumps(device_id, ensure_ascii=False) for device_id in listed)
    return json_escape(f"[\n{quoted}\n]\n".encode()).decode()


def _reads_as(text: str, ids: tuple[str, ...]) -> bool:
    try:
        return parse_roster(text, name="") == ids
    except ConfigError:
        return False


def _in_rows(text: str, name: str) -> Iterator[_Found]:
    """Read lines or CSV."""
    separator_line = _SEPARATOR_LINE.match(text)
    lines_before = 1 if separator_line else 0
    separators = separator_line[1] if separator_line else SEPARATORS
    try:
        for row, device_id in _ids(text[separator_line.end() if separator_line else 0 :], separators):
            yield _Found(device_id, f"{name}, line {row.line + lines_before}")
    except TableError as exc:
        raise ConfigError(f"{name}, line {exc.line + lines_before}: {exc}", hint=_IN_QUOTES) from exc


def _ids(text: str, separators: Iterable[str]) -> Iterator[tuple[Row, str]]:
    for separator in separators:
        header = _header(text, separator)
        names = [_plain(cell) for cell in header.cells] if header else []
        column = next((names.index(known) for known in _COLUMNS if known in names), None)
        if header and column is not None:
            if names.count(names[column]) > 1:
                raise TableError(f"two columns are named {header.cells[column].text!r:.80}", line=header.line)
            rows = read_rows(text, separator, columns=len(names))
            return _in_column(column, len(names), (row for row in rows if row.line > header.line))
    return ((row, _alone(row, is_first=not number)) for number, row in enumerate(read_rows(text, ",")))


def _header(text: str, separator: str) -> Row | None:
    try:
        return next(read_rows(text, separator), None)
    except TableError:  # with another separator it may well be one
        return None


def _in_column(column: int, width: int, rows: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    for row in rows:
        if any(cell.text for cell in row.cells[width:]):
            # one that ought to be in quotes moves those behind it, the id perhaps among them
            raise TableError("more cells than the header has", line=row.line)
        if not row.is_empty:
            yield row, undefuse(row.cells[column].text) if column < len(row.cells) else ""


def _alone(row: Row, *, is_first: bool) -> str:
    """The id of a line that holds nothing else."""
    first = row.cells[0]
    if len(row.cells) > 1 or _has_marks(first):
        raise TableError("several columns, and no header above them that names one device_id", line=row.line)
    if _is_of_other_kind(first):
        raise TableError(f"{first.text!r:.80} looks like part of a list, of a table or of markup", line=row.line)
    if is_first and not first.is_quoted and _plain(first) in _OTHER_COLUMNS:
        raise TableError(f"{first.text!r:.80} looks like the header of a column of something else", line=row.line)
    return undefuse(first.text)


def _in_json(text: str, name: str) -> list[_Found]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        reason = exc if isinstance(exc, ValueError) else "nested too deeply"
        raise ConfigError(f"{name}: not JSON: {reason}", hint=_IN_QUOTES) from exc
    entries = document.get("devices") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ConfigError(f"{name}: JSON without a list of devices", hint='["a", "b"], or {"devices": [...]}')
    return [
        _Found(_id_in(entry) if isinstance(entry, dict) else entry, f"{name}, entry {number}")
        for number, entry in enumerate(entries, start=1)
    ]


def _id_in(entry: dict[str, object]) -> object:
    by_name = {_plain(Cell(key, is_quoted=True)): value for key, value in entry.items()}
    return next((by_name[known] for known in _COLUMNS if known in by_name), None)


def _plain(name: Cell) -> str:
    return "" if _has_marks(name) or _is_of_other_kind(name) else _NOT_IN_NAMES.sub("", name.text).lower()


def _is_of_other_kind(cell: Cell) -> bool:
    return not cell.is_quoted and _OTHER_KIND.match(cell.text) is not None


def _has_marks(cell: Cell) -> bool:
    """Whether it holds what separates the cells of another kind of table."""
    return not cell.is_quoted and any(mark in cell.text for mark in _MARKS)


def _checked(found: _Found) -> str:
    device_id = found.device_id
    if isinstance(device_id, str) and device_topic(f"devices/{device_id}/heartbeat"):
        return device_id
    raise ConfigError(
        f"{found.where}: {device_id!r:.80} is no device id", hint="one topic level: text without / + # and NUL"
    )
