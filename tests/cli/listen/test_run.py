"""Limits, exit codes and the choice of lines of a stream."""

from dataclasses import replace

import pytest

from plantops_cli.cli.listen.run import Limits, announce, renderer
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stopping import Stop, exit_for
from plantops_cli.errors import ConfigError
from plantops_cli.formats import jsonl
from plantops_cli.formats.registry import Format
from plantops_cli.stream.status import Connecting
from tests.support.samples import batch_of, message

MESSAGE = message(b'{"note":"\x7f"}', topic="devices/a/telemetry")


@pytest.mark.parametrize(
    ("reason", "count", "shown", "code"),
    [
        (Stop.COUNT, 3, 3, Exit.OK),
        (Stop.TIMEOUT, None, 0, Exit.TIMEOUT),
        (Stop.TIMEOUT, None, 1, Exit.OK),
        (Stop.TIMEOUT, 3, 2, Exit.TIMEOUT),
        (Stop.INTERRUPTED, None, 0, Exit.OK),
        (Stop.INTERRUPTED, 3, 2, Exit.INTERRUPTED),
        (Stop.TERMINATED, None, 5, Exit.OK),
        (Stop.TERMINATED, 3, 0, Exit.TERMINATED),
        (Stop.READER_GONE, None, 0, Exit.OK),
        (Stop.READER_GONE, 3, 1, Exit.OK),
    ],
)
def test_the_exit_code_follows_from_reason_and_count(
    reason: Stop, count: int | None, shown: int, code: Exit
) -> None:
    assert exit_for(reason, count=count, shown=shown) is code


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"--count {count}"):
        Limits(count=count)


@pytest.mark.parametrize("seconds", [0.0, -0.5, float("inf"), float("nan")])
def test_a_timeout_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="--timeout"):
        Limits(timeout_seconds=seconds)


def test_each_step_is_said_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    announce(Limits())(Connecting("localhost:1883"))
    assert capsys.readouterr().err == "plantops: connecting to localhost:1883\n"
    announce(Limits(is_quiet=True))(Connecting("localhost:1883"))
    assert capsys.readouterr().err == ""


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
