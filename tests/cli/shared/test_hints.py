"""What the library says of an argument, said of the flag that sets it."""

import ast
from functools import cache
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from plantops_cli.cli.app import build_app
from plantops_cli.cli.shared.exits import explain
from plantops_cli.cli.shared.hints import PHRASES, SETTINGS, in_flags
from plantops_cli.config import Settings
from plantops_cli.errors import ConfigError

PACKAGE = Path(__file__).parents[3] / "plantops_cli"


@cache
def said_by_the_library() -> str:
    """Every text in the modules below the command line."""
    paths = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "cli" not in path.parents]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@cache
def flags() -> set[str]:
    group = get_command(build_app())
    assert isinstance(group, TyperGroup)
    return {name for command in group.commands.values() for option in command.params for name in option.opts}


@pytest.mark.parametrize("phrase", PHRASES)
def test_each_phrase_is_said_by_the_library(phrase: str) -> None:
    assert phrase in said_by_the_library()


def test_each_setting_with_a_flag_is_one() -> None:
    assert SETTINGS.keys() <= Settings.model_fields.keys()


@pytest.mark.parametrize("words", [*PHRASES.values(), *SETTINGS.values()])
def test_each_flag_that_is_named_is_one(words: str) -> None:
    named = {word.strip(",:()") for part in words.split() for word in part.split("/") if word.startswith("-")}
    assert {name for name in named if name.strip("-")} <= flags()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a TLS port needs tls=TLSOptions()", "a TLS port needs --tls"),
        ("check TLSOptions(certfile=..., keyfile=...)", "check --cert and --key"),
        ("give TLSOptions(certfile=...) / MQTT_CERTFILE too", "give --cert / MQTT_CERTFILE too"),
        ("mqtt_port 70000: too large", "--port 70000: too large"),
        ("MQTT_PORT=70000: too large", "MQTT_PORT=70000: too large"),
        ("secret_file: No such file", "--secret-file: No such file"),
        (
            "give secret_file=FILE or ask=True",
            "give --secret-file FILE, -P, --anonymous, or --no-password for a token",
        ),
        ("broker URL: no host", "--url: no host"),
        ("try again later, or wait longer for the lock", "try again later, or wait longer with --lock-timeout"),
        ("reload by 'x': no such way", "--reload 'x': no such way"),
        ("let a command do it: command:CMD", "let a command do it: --reload 'command:...'"),
        ("the disk is full", "the disk is full"),
        ("without TLS leave tls= away", "without TLS leave --tls and mqtts:// away"),
    ],
)
def test_an_argument_is_shown_as_its_flag(said: str, shown: str) -> None:
    assert in_flags(said) == shown


@pytest.mark.parametrize("path", ["'/run/secret_file: x'", "my_secret_file: x", "/etc/mqtt_port", "a.mqtt_host"])
def test_the_name_of_a_file_is_left_as_it_is(path: str) -> None:
    assert in_flags(path) == path


@pytest.mark.parametrize(
    "said",
    [
        "topic filter 'mqtt_host#': # has to be a level of its own",
        "group 'client_id=ID/' is not usable",
        "'it\\'s mqtt_host'",
        '"it\'s mqtt_host" does not exist',
        "mqtt_host:1: unknown host name",
        "handler f failed on a message of 'tls=TLSOptions()'",
    ],
)
def test_what_others_wrote_is_left_as_it_is(said: str) -> None:
    assert in_flags(said) == said


def test_a_phrase_behind_something_quoted_is_ours_again() -> None:
    assert (
        in_flags("'mqtt_host' and mqtt_port, or secret_file='-'") == "'mqtt_host' and --port, or --secret-file -"
    )


def test_an_error_and_its_cure_are_said_in_flags() -> None:
    assert explain(ConfigError("mqtt_port 0: no", hint="durable=NAME")) == "--port 0: no (--durable NAME)"
