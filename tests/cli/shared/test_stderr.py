"""What is said to a person on stderr."""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import pytest

from plantops_cli.cli.shared.stderr import finish, say, show_log, silence, tell


@contextmanager
def full_stderr() -> Iterator[int]:
    """Make a full pipe stderr, and yield its reading end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(reader, "rb"), os.fdopen(writer, "w") as stderr, redirect_stderr(stderr):
        while select.select([], [writer], [], 0)[1]:
            os.write(writer, b"." * select.PIPE_BUF)
        try:
            yield reader
        finally:
            finish()


def read(reader: int) -> str:
    """What is in a pipe, without what filled it."""
    return os.read(reader, 1 << 20).decode().lstrip(".")


def test_a_line_is_said_on_stderr_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello \x1b[2J\u202e")
    assert capsys.readouterr() == ("", "plantops: hello \\x1b[2J\\u202e\n")


def test_a_stderr_without_a_reader_is_silenced_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        say("nobody hears this")
        say("nor this")
        monkeypatch.undo()


def test_a_silenced_stream_goes_nowhere() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as heard, os.fdopen(writer, "w") as stream:
        stream.write("before\n")
        stream.flush()
        silence(stream)
        stream.write("after\n")
        stream.flush()
        assert heard.read() == b"before\n"


def test_warnings_are_shown_with_their_level_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show_log(is_debug=False)
    logging.getLogger("plantops.stream").warning("from %s", "\x1b[2J")
    logging.getLogger("plantops.stream").info("not shown")
    logging.getLogger("plantops.paho").error("not shown")
    assert capsys.readouterr().err == "plantops: warning: from \\x1b[2J\n"


def test_debug_shows_the_whole_log(capsys: pytest.CaptureFixture[str]) -> None:
    show_log(is_debug=True)
    logging.getLogger("plantops.paho").debug("a detail")
    assert capsys.readouterr().err == "plantops: debug: a detail\n"


def test_the_traceback_in_the_log_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_log(is_debug=False)
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logging.getLogger("plantops").exception("failed")
    said = capsys.readouterr().err
    assert said.startswith("plantops: error: failed\nTraceback")
    assert said.endswith("ValueError: \\x1b[2J\n")


def test_a_line_of_the_log_is_shown_once_however_often_it_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_log(is_debug=False)
    show_log(is_debug=False)
    logging.getLogger("plantops").warning("once")
    assert capsys.readouterr().err == "plantops: warning: once\n"


def test_a_stream_in_memory_is_spoken_to_too() -> None:
    stderr = StringIO()
    with redirect_stderr(stderr):
        say("hello")
    assert stderr.getvalue() == "plantops: hello\n"


def test_what_stderr_does_not_take_is_not_waited_for_but_kept() -> None:
    with full_stderr() as reader:
        say("one")
        show_log(is_debug=False)
        logging.getLogger("plantops").warning("two")
        assert read(reader) == ""
        say("three")
        assert read(reader) == "plantops: one\nplantops: warning: two\nplantops: three\n"
        say("four")
        assert read(reader) == "plantops: four\n"


def test_only_the_newest_is_kept_but_a_line_that_was_begun_is_ended() -> None:
    with full_stderr() as reader:
        os.read(reader, select.PIPE_BUF)
        begun = "x" * (2 * select.PIPE_BUF) + "\n"
        tell(begun)
        for number in range(1_000):
            tell(f"{number}\n")
        said = read(reader)
        assert 0 < len(said) < len(begun)
        finish()
        rest = read(reader)
        assert (said + rest).startswith(begun)
        numbers = [int(line) for line in (said + rest).splitlines()[1:]]
        assert numbers == list(range(1_000 - len(numbers), 1_000))
        assert 10 < len(numbers) < 1_000


def test_at_the_end_a_slow_reader_is_given_a_moment() -> None:
    with full_stderr() as reader:
        say("the last word")
        reading = threading.Timer(0.1, os.read, (reader, 1 << 20))
        reading.start()
        finish()
        reading.join()
        assert read(reader) == "plantops: the last word\n"


def test_at_the_end_a_reader_that_is_stuck_is_given_no_more_than_that() -> None:
    with full_stderr() as reader:
        say("nobody hears this")
        finish()
        assert read(reader) == ""
        say("but this")
        assert read(reader) == "plantops: but this\n"


def test_ctrl_c_ends_the_last_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with full_stderr() as reader:
        say("nobody hears this")
        monkeypatch.setattr(time, "sleep", interrupt)
        finish()
        assert read(reader) == ""
