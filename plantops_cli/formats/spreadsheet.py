"""Tables for spreadsheets (CSV, RFC 4180): written so that no cell runs as a formula, read as people write them.

Pure.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

SEPARATORS = (",", ";", "\t")
"""What may stand between two cells; ``;`` where a comma is the decimal point."""

# what Excel, LibreOffice and Google Sheets take for the beginning of a formula, the full-width forms included; an
# apostrophe in front is part of it, so that one more can be told from one that was there
_FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NEEDS_QUOTES = re.compile(r"""[,;\t|"\r\n#]|\A\s|\s\Z""")
_LINE_END = re.compile(r"\r\n|\r|\n")


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        text: what it says, without quotes; blanks around it are left out unless they were in quotes.
        is_quoted: whether it stood in quotes.
    """

    text: str
    is_quoted: bool


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        line: the number of the line that it begins in, from 1.
        cells: its cells.
    """

    line: int
    cells: tuple[Cell, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written in any of its cells."""
        return not any(cell.text for cell in self.cells)


class TableError(ValueError):
    """A table that cannot be read.

    Attributes:
        line: where.
    """

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


def defuse(text: str) -> str:
    """Return a stranger's text as a cell that no spreadsheet runs: an apostrophe goes before a formula.

    Args:
        text: anything; a number such as -12.5 stays as it is.
    """
    return f"'{text}" if _is_formula(text) else text


def undefuse(text: str) -> str:
    """Return what ``defuse`` was given, exactly."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def csv_line(cells: Iterable[object]) -> str:
    """Return a row of CSV with its newline: text defused, None as an empty cell.

    Args:
        cells: text, numbers, booleans or None.
    """
    return ",".join(map(_written, cells)) + "\n"


def read_rows(text: str, separator: str, *, columns: int = 1) -> Iterator[Row]:
    """Read a table row by row, lines that are empty left out.

    Args:
        text: the table; lines end as on any system, and a cell in quotes may hold line ends of its own.
        separator: one of ``SEPARATORS``.
        columns: how many the table has; a line that begins with ``#`` and has fewer is a comment, and any such
            line in a table of one column.

    Raises:
        TableError: quotes are not closed, or something follows them.
    """
    cell = _cell_pattern(separator)
    position, line = 0, 1
    while position < len(text):
        ended = _LINE_END.search(text, position)
        end = ended.start() if ended else len(text)
        first = text[position:end]
        if not first.strip() or (first.lstrip().startswith("#") and _is_comment(first, separator, columns)):
            row_end = end
        else:
            row, row_end = _row(text, position, cell, line)
            yield row
        ended = _LINE_END.match(text, row_end)
        after = ended.end() if ended else row_end
        line += len(_LINE_END.findall(text, position, after))
        position = after


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def _written(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = defuse(value)
    if not _NEEDS_QUOTES.search(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _is_comment(line: str, separator: str, columns: int) -> bool:
    return columns == 1 or line.count(separator) < columns - 1


def _cell_pattern(separator: str) -> re.Pattern[str]:
    blank = "[ ]*" if separator == "\t" else "[ \t]*"
    end = re.escape(separator)
    return re.compile(
        rf'{blank}"(?P<quoted>[^"]*+(?:""[^"]*+)*+)"{blank}(?={end}|[\r\n]|\Z)|(?P<bare>[^{end}\r\n]*)'
    )


def _row(text: str, position: int, pattern: re.Pattern[str], line: int) -> tuple[Row, int]:
    """Read one row; return it, and where it ends."""
    cells = list[Cell]()
    start = position
    while True:
        found = pattern.match(text, position)
        assert found is not None  # a cell may be empty
        cells.append(_cell(found, line + len(_LINE_END.findall(text, start, found.start()))))
        position = found.end()
        if position == len(text) or text[position] in "\r\n":
            return Row(line, tuple(cells)), position
        position += 1


def _cell(found: re.Match[str], line: int) -> Cell:
    if found["quoted"] is not None:
        return Cell(found["quoted"].replace('""', '"'), is_quoted=True)
    bare = found["bare"].strip()
    if bare.startswith('"'):
        raise TableError("quotes are not closed, or not followed by a separator", line=line)
    return Cell(bare, is_quoted=False)
