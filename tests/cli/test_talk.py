"""What is said to a person on stderr."""

import logging
import os
import sys

import pytest

from plantops_cli.cli.talk import say, show_log, silence


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


def test_a_line_of_the_log_is_shown_once_however_often_it_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_log(is_debug=False)
    show_log(is_debug=False)
    logging.getLogger("plantops").warning("once")
    assert capsys.readouterr().err == "plantops: warning: once\n"
