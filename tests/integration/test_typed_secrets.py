"""A password that somebody typed in the wrong place is repeated nowhere, not even with ``--debug``."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from plantops_cli import testing
from tests.support.brokers import Mosquitto, free_port
from tests.support.plantops import run

SECRET = "hunter2hunter2"
COMMANDS = {
    "listen": (),
    "fleet": ("--once",),
    "check": (),
    "doctor": (),
    "provision-user": ("--file", "passwords"),
}
USAGE, CHECK_UNKNOWN = 2, 3


def said(command: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """All that a command says that cannot do what it is told, in which no secret is."""
    done = run(command, *COMMANDS[command], *arguments, env={"MQTT_PORT": str(free_port())} | (env or {}))
    shown = done.stdout.decode() + done.stderr
    assert done.code == (CHECK_UNKNOWN if command == "check" else USAGE), shown
    assert SECRET not in shown
    return shown


@pytest.mark.parametrize("command", COMMANDS)
def test_for_a_secret_file_that_is_not_there(command: str) -> None:
    shown = said(command, "--secret-file", SECRET, "--debug")
    assert "--secret-file: No such file" in shown
    assert "path of a file that holds the password" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_after_the_flag_that_asks_for_it(command: str) -> None:
    assert "-P takes no value" in said(command, "-P", SECRET)


@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_url_that_stands_where_the_host_does(command: str) -> None:
    login = {"MQTT_BACKEND_PASSWORD": "tulip"}
    host = f"alice:{SECRET}@127.0.0.1"
    assert "--host holds a password" in said(command, "-h", f"mqtt://{host}", "--debug", env=login)
    shown = said(command, "--debug", env=login | {"MQTT_HOST": host})
    assert "MQTT_HOST is neither a name nor an address" in shown


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("url", [f"mqtt://alice:{SECRET}@127.0.0.1", f"tcp://:{SECRET}@b", f"alice:{SECRET}@b"])
def test_in_a_url_that_stands_where_arguments_do(command: str, url: str) -> None:
    said(command, url, "--debug", env={"MQTT_BACKEND_PASSWORD": "tulip"})


@pytest.mark.parametrize(
    ("command", "env", "variable"),
    [
        ("listen", {"MQTT_BACKEND_PASSWORD_FILE": SECRET}, "MQTT_BACKEND_PASSWORD_FILE"),
        ("check", {"MQTT_BACKEND_PASSWORD_FILE": f"/{SECRET}/{SECRET}"}, "MQTT_BACKEND_PASSWORD_FILE"),
        ("doctor", {"MQTT_BACKEND_PASSWORD_FILE": f"{__file__}/{SECRET}"}, "MQTT_BACKEND_PASSWORD_FILE"),
        ("listen", {"MQTT_BACKEND_PASSWORD_FILE": SECRET * 300}, "MQTT_BACKEND_PASSWORD_FILE"),
    ],
)
def test_in_the_variable_that_names_a_file(command: str, env: dict[str, str], variable: str) -> None:
    assert f"{variable}: " in said(command, env=env)


def test_in_the_variable_that_names_the_file_of_the_administrator() -> None:
    done = run("provision-user", "--backend", "dynsec", env={"MQTT_ADMIN_PASSWORD_FILE": SECRET})
    assert done.code == USAGE
    assert "MQTT_ADMIN_PASSWORD_FILE: No such file" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("listen", (f"-P{SECRET}",), "-P takes no value"),
        ("listen", ("-P", f"-{SECRET}"), "-P takes no value"),
        ("listen", ("-P", f"--{SECRET}"), "-P takes no value"),
        ("listen", ("-P", "--", SECRET), "-P takes no value"),
        ("listen", ("-RP", SECRET), "-P takes no value"),
        ("listen", (f"-vP{SECRET}",), "-v"),
        ("listen", ("-vP", SECRET), "-v"),
        ("provision-user", ("alice", f"-P={SECRET}"), "-P takes no value"),
        ("doctor", ("devices/#", "-P", f"-{SECRET}"), "-P takes no value"),
        ("listen", (f"--ask-password={SECRET}",), "--ask-password"),
        ("listen", ("--password", SECRET), "--password"),
        ("listen", (f"--pw={SECRET}",), "--pw"),
        ("listen", ("-p", SECRET), "--port"),
        ("listen", ("-u", f"alice:{SECRET}"), "no password for 'alice:...'"),
        ("listen", ("-L", f"alice:{SECRET}@127.0.0.1"), "--url"),
        ("doctor", ("-u", f"alice:{SECRET}"), "no password for 'alice:...'"),
        ("fleet", (SECRET,), "unexpected extra argument"),
        ("provision-user", (f"alice:{SECRET}",), "user name 'alice:...'"),
        ("provision-user", ("--generate", "--secret-file", f"{SECRET}/{SECRET}"), "--secret-file: No such file"),
    ],
)
def test_wherever_else_passwords_are_typed(command: str, arguments: Sequence[str], words: str) -> None:
    assert words in said(command, *arguments, "--debug")


def test_behind_the_user_name_when_the_broker_refuses_it(mosquitto: Mosquitto) -> None:
    for command in ("listen", "doctor"):
        done = run(command, "-u", f"alice:{SECRET}", env=mosquitto.environment)
        shown = done.stdout.decode() + done.stderr
        assert done.code == 5
        assert "'alice:...'" in shown
        assert SECRET not in shown


@pytest.mark.parametrize("arguments", [("devices/#", "-P"), ("--ask-password", "devices/#")])
def test_topic_filters_go_before_the_flag_that_asks_or_behind_its_long_name(arguments: Sequence[str]) -> None:
    done = run("listen", *arguments, "--debug", env={"MQTT_PORT": str(free_port())})
    assert "there is no terminal to ask on" in done.stderr


def test_a_secret_file_that_is_there_is_named_with_its_fault(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    done = run("listen", "--secret-file", str(path))
    assert done.code == USAGE
    assert f"the password in {str(path)!r} is empty" in done.stderr


@pytest.mark.parametrize("command", ["listen", "fleet", "check", "doctor"])
def test_a_token_that_is_a_user_name_is_taken_and_refused_unseen(
    mosquitto: Mosquitto, tmp_path: Path, command: str
) -> None:
    env = {"MQTT_HOST": "127.0.0.1", "MQTT_BACKEND_USERNAME": SECRET}
    with testing.Mosquitto(tmp_path) as open_to_all:
        limits = {"listen": ("-W", "0.3"), "doctor": ("--wait", "0.1")}.get(command, ("--within", "0.3"))
        arguments = (*COMMANDS[command], *limits, "--no-password", "--debug")
        taken = run(command, *arguments, env=env | {"MQTT_PORT": str(open_to_all.port)})
        assert f"u'{SECRET}'" in (tmp_path / "log").read_text()
    refused = run(command, *arguments, env=env | {"MQTT_PORT": str(mosquitto.port)})
    shown = refused.stdout.decode() + refused.stderr
    assert "refused user 'hunt...' without a password" in shown
    assert SECRET not in shown + taken.stdout.decode() + taken.stderr
