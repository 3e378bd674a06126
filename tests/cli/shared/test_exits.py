"""Exit codes, and how errors are said."""

import inspect
import os
import sys
from collections.abc import Sequence
from errno import EACCES, EISDIR, ENOENT, ENOSPC
from pathlib import Path

import pytest

from plantops_cli import errors
from plantops_cli.cli.app import run
from plantops_cli.cli.shared.exits import MEANINGS, Exit, complain, exit_code, explain, guard
from plantops_cli.errors import (
    BrokerError,
    ConfigError,
    PayloadError,
    PlantopsError,
    SubscriptionRefusedError,
    TopicError,
)
from tests.support.plantops import run as run_process
from tests.support.plantops import start

CODES = {
    "ConfigError": 2,
    "TopicError": 2,
    "PayloadError": 1,
    "HandlerTimeoutError": 1,
    "StateError": 1,
    "NoRoomError": 1,
    "ForeignFileError": 7,
    "OutputError": 1,
    "BrokerFileError": 7,
    "BrokerFileBusyError": 7,
    "BrokerFileChangedError": 7,
    "ProofError": 5,
    "ReloadError": 3,
    "BrokerError": 3,
    "BrokerUnreachableError": 3,
    "ConnectionLostError": 3,
    "HeldUpError": 3,
    "CredentialsRefusedError": 5,
    "SubscriptionRefusedError": 6,
    "PublishRefusedError": 3,
    "CommandRefusedError": 5,
    "SessionTakenOverError": 3,
    "ProtocolRefusedError": 3,
}
KINDS: list[type[PlantopsError]] = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, PlantopsError) and kind is not PlantopsError
]


def an_error(kind: type[PlantopsError]) -> PlantopsError:
    if issubclass(kind, SubscriptionRefusedError):
        return kind("refused", endpoint="localhost:1883", filters={})
    if issubclass(kind, BrokerError):
        return kind("gone", endpoint="localhost:1883")
    if issubclass(kind, PayloadError):
        return kind("wrong", topic="a")
    return kind("wrong")


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_its_exit_code(kind: type[PlantopsError]) -> None:
    assert exit_code(an_error(kind)) == CODES[kind.__name__]


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_codes_of_signals_are_those_of_the_shell() -> None:
    assert (Exit.INTERRUPTED, Exit.TERMINATED) == (128 + 2, 128 + 15)


@pytest.mark.parametrize(("hint", "said"), [(None, "no host"), ("set MQTT_HOST", "no host (set MQTT_HOST)")])
def test_an_error_is_said_with_its_cure(hint: str | None, said: str) -> None:
    assert explain(ConfigError("no host", hint=hint)) == said


def test_an_error_is_one_line_that_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain("host \x1b[2J\n is unknown")
    assert capsys.readouterr() == ("", "plantops: error: host \\x1b[2J\\n is unknown\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "frobnicate"),
        (["listen", "-p"], "-p"),
        (["listen", "-p", "abc"], "'--port': Input should be a valid integer"),
        (["listen", "-C", "many"], "'--count'"),
        (["listen", "--kind", "status"], "status"),
        (["parse-topic"], "TOPIC"),
    ],
)
def test_bad_usage_is_2_in_one_line(
    arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("plantops: error: ")
    assert words in err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["listen", "--help"], ["--version"]])
def test_help_and_version_are_data_and_0(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == Exit.OK
    out, err = capsys.readouterr()
    assert out.strip()
    assert err == ""


@pytest.mark.parametrize("arguments", [["fleet", "--once", "mqtt://a:hunter2@b"], ["check", "wss://a"]])
def test_a_url_where_no_argument_is_wanted_has_a_cure(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == (3 if "check" in arguments else Exit.USAGE)
    assert (
        capsys.readouterr().err
        == "plantops: error: a URL is given as an argument (the broker is given as -L URL)\n"
    )


def test_a_topic_error_from_a_flag_is_usage() -> None:
    assert run(["listen", "a/#/b"]) == exit_code(TopicError("wrong")) == Exit.USAGE


def test_an_expected_error_shows_its_traceback_with_debug_only() -> None:
    arguments = ("listen", "-p", "70000")
    assert "Traceback" not in run_process(*arguments).stderr
    assert "Traceback" in run_process(*arguments, "--debug").stderr


def test_a_traceback_cannot_command_the_terminal_either() -> None:
    done = run_process("listen", "--debug", env={"MQTT_PORT": "\x1b]0;owned\x07"})
    assert done.stderr.count(r"MQTT_PORT=\x1b]0;owned\x07") == 2
    assert done.stderr.replace("\n", "").isprintable()


def test_an_error_nobody_can_read_keeps_its_exit_code() -> None:
    for redirect in ("2>&-", "2>/dev/null"):
        done = run_process("listen", "-p", "70000", redirect=redirect)
        assert (done.code, done.stdout) == (Exit.USAGE, b"")


def test_a_help_text_whose_reader_has_gone_is_no_failure() -> None:
    with start("listen", "--help", pipe_to="true") as helping:
        assert helping.finish().stderr == "exit 0\n"


def fail(error: OSError) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(EACCES, "Permission denied", "x\x1b"), "cannot use 'x\\x1b': Permission denied ("),
        (FileNotFoundError(ENOENT, "No such file or directory"), "cannot use the current folder: No such file"),
        (OSError(ENOSPC, "No space left on device"), "cannot write to standard output: No space left on device\n"),
    ],
)
def test_only_what_standard_output_refuses_is_said_of_it(
    error: OSError, said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert guard(lambda: fail(error), is_debug=False) == Exit.UNEXPECTED
        monkeypatch.undo()
    assert capfd.readouterr().err.startswith(f"plantops: error: {said}")


def test_who_answers_an_error_is_told_its_code_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    heard = list[tuple[Exit, str]]()

    def answer(code: Exit, said: str) -> int:
        heard.append((code, said))
        return 9

    assert (
        guard(lambda: fail(IsADirectoryError(EISDIR, "Is a directory", "x")), is_debug=False, on_error=answer) == 9
    )
    [(code, said)] = heard
    assert (code, capsys.readouterr().err) == (Exit.UNEXPECTED, f"plantops: error: {said}\n")
