"""The flags: one meaning each, and no password among their values."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperOption

import plantops_cli
from plantops_cli.cli.app import COMMANDS, build_app, run
from tests.support.brokers import Mosquitto
from tests.support.command_line import BY_COMMAND
from tests.support.plantops import run as run_process

# Those of mosquitto_sub; -P asks here, because everybody can read a password on a command line
LETTERS_OF_LISTEN = {
    ("-L", "--url"),
    ("-h", "--host"),
    ("-p", "--port"),
    ("-u", "--username"),
    ("-i", "--client-id"),
    ("-k", "--keepalive"),
    ("-V", "--mqtt-version"),
    ("-q", "--qos"),
    ("-C", "--count"),
    ("-W", "--timeout"),
    ("-T", "--filter-out"),
    ("-R", "--no-retained"),
    ("-P", "--ask-password"),
    ("-o", "--output"),
}


# each command shows forms of its own, fleet's former --wait is hidden, and a topic has other fields than a payload
MEANT_OTHERWISE_ELSEWHERE = {"--output", "--wait", "--field"}
PACKAGE = Path(plantops_cli.__file__).parent
ALL = [
    pytest.param(option, id=f"{command} {option.opts[-1]}")
    for command, options in BY_COMMAND.items()
    for option in options
]


def letters(options: list[TyperOption]) -> set[tuple[str, ...]]:
    return {tuple(option.opts) for option in options if len(option.opts[0]) == 2}


def test_the_letters_of_listen_are_those_of_mosquitto_sub() -> None:
    assert letters(BY_COMMAND["listen"]) == LETTERS_OF_LISTEN


@pytest.mark.parametrize("command", BY_COMMAND)
def test_a_letter_means_the_same_in_every_command(command: str) -> None:
    assert {tuple(sorted(names, key=len)) for names in letters(BY_COMMAND[command])} <= LETTERS_OF_LISTEN


@pytest.mark.parametrize("option", ALL)
def test_every_flag_has_a_help_text(option: TyperOption) -> None:
    assert (option.help or "").endswith((".", ")"))


@pytest.mark.parametrize("option", ALL)
def test_no_flag_takes_a_password_as_its_value(option: TyperOption) -> None:
    is_about_passwords = "password" in str(option.name) or "secret" in str(option.name)
    assert option.is_flag or not is_about_passwords or option.opts == ["--secret-file"]


def test_a_flag_is_written_down_once() -> None:
    declared = Counter(name for path in (PACKAGE / "cli").rglob("*.py") for name in declared_in(path.read_text()))
    assert {name for name, count in declared.items() if count > 1} == MEANT_OTHERWISE_ELSEWHERE


def declared_in(source: str) -> Iterator[str]:
    """The long names that options are made with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Option", "_option"):
            names = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
            yield from (name for name in names if name.startswith("--"))


@pytest.mark.parametrize(
    ("first", "rooms"), [("listen", {"listen", "shared"}), ("--help", set()), ("--version", set())]
)
def test_only_the_command_that_is_typed_is_loaded(first: str, rooms: set[str]) -> None:
    source = f"import sys; from plantops_cli.cli.app import build_app; build_app({first!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded = [name.split(".") for name in done.stdout.split() if name.endswith(".command")]
    assert {room for package, _, room, _ in loaded if package == "plantops_cli"} == rooms


def test_the_overview_is_that_of_the_commands_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    overview = capsys.readouterr().out
    typer.main.get_command(build_app()).main(["--help"], prog_name="plantops", standalone_mode=False)
    assert capsys.readouterr().out == overview
    assert list(BY_COMMAND) == list(COMMANDS)


def test_a_command_behind_the_end_of_flags_is_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--", "parse-topic", "devices/a/telemetry"]) == 0
    assert '"device_id":"a"' in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["lisen", "--no-such-flag"])
def test_what_is_no_command_is_said_to_be_none(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([typed]) == 2
    assert typed in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("check", "--within", "0.1"), 3),
        (("doctor", "-o", "json"), 1),
        (("doctor",), 1),
        (("fleet", "--once", "--within", "0.1"), 1),
        (("--version",), 1),
    ],
)
def test_an_output_that_fails_at_the_very_end_is_said_and_has_its_exit_code(
    mosquitto: Mosquitto, arguments: tuple[str, ...], code: int
) -> None:
    done = run_process(*arguments, env=mosquitto.environment, redirect=">/dev/full")
    assert done.code == code
    assert "cannot write to standard output: No space left on device" in done.errors[-1]
