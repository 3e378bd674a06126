"""The flags that every command with a connection has."""

import dataclasses
import re
from pathlib import Path

import pytest

import plantops_cli
from plantops_cli.cli.shared.flags.connect import ConnectionFlags, MQTTVersionChoice, WatchfulConnectionFlags
from plantops_cli.stream.options import MQTTVersion
from tests.support.command_line import BY_COMMAND, read

FIELDS = [field.name for field in dataclasses.fields(ConnectionFlags)]
PACKAGE = Path(plantops_cli.__file__).parent


def test_the_versions_on_the_command_line_are_those_of_the_library() -> None:
    assert [str(choice) for choice in MQTTVersionChoice] == [str(version) for version in MQTTVersion]


@pytest.mark.parametrize("command", ["listen", "fleet", "check", "doctor"])
def test_every_command_that_listens_has_all_of_them(command: str) -> None:
    assert set(FIELDS) <= {option.name for option in BY_COMMAND[command]}


def test_provision_user_has_those_that_a_proof_needs() -> None:
    names = {option.name for option in BY_COMMAND["provision-user"]} & set(FIELDS)
    address = {"url", "host", "port", "tls", "cafile", "cert", "key", "insecure", "env_file", "connect_timeout"}
    assert names == address | {"secret_file", "ask_password"}


def test_who_tells_whether_devices_are_there_notices_sooner_that_it_hears_nothing() -> None:
    assert read(ConnectionFlags).keepalive == 15
    assert read(WatchfulConnectionFlags).keepalive == 5
    assert read(WatchfulConnectionFlags, "-k", "7").keepalive == 7


def test_what_is_given_goes_to_the_settings_or_to_the_subscriber() -> None:
    flags = read(ConnectionFlags, "-h", "::1", "-p", "1884", "-V", "5", "--websockets", "/mqtt")
    assert (flags.settings["mqtt_host"], flags.settings["mqtt_port"]) == ("::1", 1884)
    assert (flags.keywords["mqtt_version"], flags.keywords["websocket_path"]) == ("5", "/mqtt")
    assert {name for name, value in flags.settings.items() if value is not None} == {"mqtt_host", "mqtt_port"}


def test_a_connection_flag_is_written_down_in_one_file_of_the_command_line() -> None:
    # beside the options and the subscriber of the library, which have a keyword for it: three files in all
    named = [path for path in (PACKAGE / "cli").rglob("*.py") if re.search(r"\bkeepalive", path.read_text())]
    assert [path.name for path in named] == ["connect.py"]
