"""The library's words of provisioning, said by flags."""

import re
from pathlib import Path

import pytest

import plantops_cli.mosquitto
from plantops_cli.cli.provision_user.flag_names import FLAGS_FOR, in_flags, naming_flags
from plantops_cli.errors import BrokerFileBusyError, BrokerUnreachableError, ConfigError
from tests.support.plantops import run

LIBRARY = Path(plantops_cli.mosquitto.__path__[0])
# what follows in them is put in when they are said
OPEN_ENDED = {"ways to tell it: pid:": "ways to tell it: {"}


@pytest.mark.parametrize("words", FLAGS_FOR)
def test_whatever_is_said_by_flags_is_said_by_the_library(words: str) -> None:
    assert any(OPEN_ENDED.get(words, words) in path.read_text() for path in LIBRARY.rglob("*.py"))


def test_every_flag_that_is_named_is_one_of_the_command() -> None:
    named = {flag for text in FLAGS_FOR.values() for flag in re.findall(r"--[a-z-]+", text)}
    help_text = run("provision-user", "--help").stdout.decode()
    assert sorted(flag for flag in named if flag not in help_text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("try again later, or wait longer for the lock", "try again later, or wait longer with --lock-timeout"),
        ("reload by 'x': no such way", "--reload 'x': no such way"),
        ("let a command do it: command:CMD", "let a command do it: --reload 'command:...'"),
        ("the disk is full", "the disk is full"),
    ],
)
def test_what_the_library_advises_is_said_by_the_flag_that_does_it(text: str, said: str) -> None:
    assert in_flags(text) == said


def test_an_error_keeps_its_class_and_its_data() -> None:
    with pytest.raises(BrokerFileBusyError, match="locked") as caught, naming_flags():
        raise BrokerFileBusyError("'/x' is locked", hint="wait longer for the lock")
    assert caught.value.hint == "wait longer with --lock-timeout"
    with pytest.raises(BrokerUnreachableError, match="no answer") as lost, naming_flags():
        raise BrokerUnreachableError("no answer", endpoint="broker:1883")
    assert (lost.value.endpoint, lost.value.hint) == ("broker:1883", None)


def test_a_message_is_said_by_flags_too() -> None:
    with pytest.raises(ConfigError, match=r"^--reload 'x': no such way$"), naming_flags():
        raise ConfigError("reload by 'x': no such way")
