"""What ``plantops listen`` says and returns when it cannot do what was asked: one clear line, soon."""

import asyncio
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.brokers import PASSWORD, Mosquitto, free_port
from tests.support.plantops import Done, run
from tests.support.publishing import publish
from tests.support.scripted_broker import CLOSE, ScriptedBroker, serving

WRONG = "this is not the password"
LONGEST_SECONDS = 10


def assert_one_clear_error(done: Done, code: int, *words: str) -> None:
    """The exit code, and one line with what, where and a cure; no traceback, no secret, nothing on stdout."""
    assert (done.code, len(done.errors), done.stdout) == (code, 1, b""), done.stderr
    missing = [word for word in words if word not in done.errors[0]]
    assert not missing, done.stderr
    assert done.errors[0].endswith(")"), "no cure"
    assert "Traceback" not in done.stderr
    assert WRONG not in done.stderr
    assert PASSWORD not in done.stderr
    assert done.seconds < LONGEST_SECONDS


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# Usage and configuration


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (
            ("-h", "127.0.0.1"),
            {"MQTT_BACKEND_PASSWORD": ""},
            ["no password for 'plantops_backend'", "--secret-file"],
        ),
        (("-p", "70000"), {}, ["--port 70000", "less than or equal to 65535"]),
        (("-p", "0"), {}, ["--port 0"]),
        ((), {"MQTT_PORT": "abc"}, ["MQTT_PORT=abc", "integer"]),
        ((), {"MQTT_PORT": "70000"}, ["MQTT_PORT=70000"]),
        ((), {"MQTT_TLS": "perhaps"}, ["MQTT_TLS=perhaps"]),
        (("devices/+bad/x",), {}, ["devices/+bad/x", "'+' must be a whole level"]),
        (("-T", "devices/#/x"), {}, ["devices/#/x", "'#' must be the whole last level"]),
        (("-q", "3"), {}, ["QoS 3"]),
        (("-R", "--retained-only"), {}, ["--no-retained and --retained-only"]),
        (("--cafile", "none.pem"), {}, ["none.pem", "No such file", "--cafile"]),
        (("--cert", "none.pem"), {}, ["none.pem", "No such file", "--cert"]),
        (("--no-tls", "--insecure"), {}, ["--insecure", "switched off"]),
        ((), {"MQTT_BACKEND_PASSWORD_FILE": "secret"}, ["MQTT_BACKEND_PASSWORD_FILE are both set"]),
        (("--secret-file", "-", "-P"), {}, ["--secret-file and --ask-password"]),
        (("--anonymous", "-P"), {}, ["--anonymous"]),
        (("-L", f"mqtt://plantops_backend:{WRONG}@127.0.0.1"), {}, ["--url holds a password", "--secret-file"]),
        (("-L", f"mqtt://plantops_backend:a/{WRONG}@127.0.0.1"), {}, ["--url"]),
        (("-L", "mqtt://127.0.0.1", "-h", "127.0.0.1"), {}, ["--url and --host"]),
        (("-L", "http://127.0.0.1"), {}, ["--url", "mqtts://"]),
        (("--frobnicate",), {}, ["--frobnicate", "--help"]),
        (("-V", "4"), {}, ["3.1.1", "--help"]),
    ],
    ids=str,
)
def test_usage_and_configuration_are_checked_before_anything_is_connected(
    arguments: Sequence[str], env: Mapping[str, str], words: Sequence[str]
) -> None:
    done = run("listen", *arguments, env={"MQTT_BACKEND_PASSWORD": WRONG} | dict(env))
    assert_one_clear_error(done, 2, *words)
    assert "connecting" not in done.stderr


# Who will not let us in


def test_a_wrong_password_is_5_and_names_the_user(mosquitto: Mosquitto) -> None:
    done = run("listen", env=mosquitto.environment | {"MQTT_BACKEND_PASSWORD": WRONG})
    assert_one_clear_error(done, 5, f"127.0.0.1:{mosquitto.port}", "'plantops_backend'", "provision-user")


def test_a_wrong_password_is_5_without_a_second_attempt_even_while_waiting(mosquitto: Mosquitto) -> None:
    env = mosquitto.environment | {"MQTT_BACKEND_PASSWORD": WRONG}
    done = run("listen", "--wait-for-broker", env=env)
    assert_one_clear_error(done, 5, "'plantops_backend'")
    assert "retry" not in done.stderr


def test_a_wrong_password_shows_nowhere_in_the_whole_log(mosquitto: Mosquitto) -> None:
    done = run("listen", "--debug", env=mosquitto.environment | {"MQTT_BACKEND_PASSWORD": WRONG})
    assert done.code == 5
    assert "Traceback" in done.stderr
    assert WRONG not in done.stderr


def test_an_anonymous_client_is_refused_with_5(mosquitto: Mosquitto) -> None:
    done = run("listen", "--anonymous", env=mosquitto.environment)
    assert_one_clear_error(done, 5, "anonymous")


async def test_a_refused_subscription_is_6_and_names_the_filter() -> None:
    async with serving(ScriptedBroker(subacks=[[0x87]])) as broker:
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port), "MQTT_BACKEND_PASSWORD": WRONG}
        done = await asyncio.to_thread(run, "listen", "devices/+/telemetry", env=env)
    assert_one_clear_error(done, 6, "'devices/+/telemetry'", "0x87", "access control")


# Who is not there, or no broker


def test_a_port_where_nothing_listens_is_3() -> None:
    port = free_port()
    done = run("listen", "-h", "127.0.0.1", "-p", str(port), env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert_one_clear_error(done, 3, f"127.0.0.1:{port}: nothing listens there")
    assert "0 messages" not in done.stderr


def test_an_unknown_host_is_3() -> None:
    done = run("listen", "-h", "no-such-host.invalid", env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert_one_clear_error(done, 3, "no-such-host.invalid:1883")


def test_a_broker_that_accepts_and_says_nothing_is_3(silent_port: int) -> None:
    arguments = ("listen", "-h", "127.0.0.1", "-p", str(silent_port), "--connect-timeout", "2")
    done = run(*arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert_one_clear_error(done, 3, f"127.0.0.1:{silent_port}: no MQTT answer within 2 s")


async def test_a_broker_that_hangs_up_is_3() -> None:
    async with serving(ScriptedBroker(answers=[CLOSE])) as broker:
        arguments = ("listen", "-h", "127.0.0.1", "-p", str(broker.port))
        done = await asyncio.to_thread(run, *arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert_one_clear_error(done, 3, "closed before any MQTT answer")


def test_quiet_keeps_the_error() -> None:
    arguments = ("listen", "--quiet", "-h", "127.0.0.1", "-p", str(free_port()))
    done = run(*arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert done.stderr.splitlines() == done.errors
    assert_one_clear_error(done, 3)


def test_a_full_disk_is_an_error_that_is_said(mosquitto: Mosquitto) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has a device that is always full")
    publish(mosquitto, "devices/full-disk/telemetry", b"1", retain=True)
    done = run("listen", "--device", "full-disk", env=mosquitto.environment, redirect=">/dev/full")
    assert (done.code, len(done.errors)) == (1, 1)
    assert "No space left on device" in done.errors[0]


# Where the time runs out first


def assert_ran_out(done: Done, *words: str) -> None:
    assert (done.code, done.stdout, done.errors) == (27, b"", []), done.stderr
    waited, stopped = done.stderr.splitlines()[-1].split("; ")
    assert waited in [f"plantops: {one}" for one in words], done.stderr
    assert re.fullmatch(r"stopped after \d+\.\d s without a connection", stopped)


@pytest.mark.parametrize(
    "command", [("listen",), ("fleet", "--events"), ("fleet", "--events", "--wait-for-broker")]
)
@pytest.mark.parametrize(
    ("flags", "words"), [((), "no MQTT answer"), (("--tls",), "no connection (name, TCP, TLS)")]
)
def test_a_timeout_says_what_a_silent_broker_was_waited_for(
    silent_port: int, command: Sequence[str], flags: Sequence[str], words: str
) -> None:
    arguments = (*command, *flags, "-W", "0.5", "-h", "127.0.0.1", "-p", str(silent_port))
    assert_ran_out(run(*arguments, env={"MQTT_BACKEND_PASSWORD": WRONG}), f"127.0.0.1:{silent_port}: {words}")


def test_a_timeout_says_that_not_even_a_connection_was_made() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as busy,
        socket.create_connection(busy.getsockname()),  # fills the queue of the listener
    ):
        port = busy.getsockname()[1]
        arguments = ("listen", "-W", "0.5", "-h", "127.0.0.1", "-p", str(port))
        done = run(*arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert_ran_out(done, f"127.0.0.1:{port}: no connection (name, TCP)")


async def test_a_timeout_says_that_no_suback_came() -> None:
    async with serving(ScriptedBroker(subacks=[None])) as broker:
        arguments = ("listen", "-W", "0.5", "-h", "127.0.0.1", "-p", str(broker.port))
        done = await asyncio.to_thread(run, *arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert_ran_out(done, f"127.0.0.1:{broker.port}: no answer to SUBSCRIBE")


@pytest.mark.parametrize("command", [("listen",), ("fleet", "--events")], ids=" ".join)
def test_a_timeout_while_waiting_for_a_broker_says_why_it_is_not_there(command: Sequence[str]) -> None:
    port = free_port()
    arguments = (*command, "-W", "0.9", "--wait-for-broker", "-h", "127.0.0.1", "-p", str(port))
    done = run(*arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    # or the time has run out in the very moment of an attempt
    assert_ran_out(
        done, f"127.0.0.1:{port}: nothing listens there", f"127.0.0.1:{port}: no connection (name, TCP)"
    )


def test_quiet_leaves_the_timeout_to_its_code(silent_port: int) -> None:
    arguments = ("listen", "--quiet", "-W", "0.5", "-h", "127.0.0.1", "-p", str(silent_port))
    done = run(*arguments, env={"MQTT_BACKEND_PASSWORD": WRONG})
    assert (done.code, done.stdout, done.stderr) == (27, b"", "")
