"""The flags: one meaning each, and no password among their values."""

import pytest
from typer.core import TyperOption

from tests.support.command_line import BY_COMMAND

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
