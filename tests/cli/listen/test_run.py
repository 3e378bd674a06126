"""Limits, exit codes and the choice of lines of a stream."""

from dataclasses import replace

import pytest

from plantops_cli.cli.listen.run import renderer
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.formats import jsonl
from plantops_cli.formats.registry import Format
from tests.support.samples import batch_of, message

MESSAGE = message(b'{"note":"\x7f"}', topic="devices/a/telemetry")


@pytest.mark.parametrize("choice", [None, Format.JSONL])
def test_programs_get_json_lines_untouched(choice: Format | None) -> None:
    assert renderer(choice, Selection()).render(batch_of(MESSAGE, MESSAGE), None) == (
        jsonl.encode(MESSAGE) * 2,
        2,
        0,
    )


def test_people_off_a_terminal_get_pretty_lines_when_they_ask() -> None:
    lines, shown, _ = renderer(Format.PRETTY, Selection()).render(batch_of(MESSAGE), None)
    assert shown == 1
    assert b"note=" in lines
    assert b"\x1b" not in lines


@pytest.mark.parametrize("choice", [None, Format.PRETTY])
def test_no_messages_are_no_lines(choice: Format | None) -> None:
    assert renderer(choice, Selection(kind="heartbeat")).render(batch_of(MESSAGE), None) == (b"", 0, 0)


@pytest.mark.parametrize("choice", [None, Format.PRETTY])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_than_the_limit_is_shown(choice: Format | None, limit: int) -> None:
    text = replace(MESSAGE, payload=b"water me")
    lines, shown, invalid = renderer(choice, Selection()).render(batch_of(MESSAGE, text), limit)
    assert (lines.count(b"\n"), shown, invalid) == (min(limit, 2), min(limit, 2), min(limit, 2) - 1)
