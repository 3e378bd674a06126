"""What systemd hears of a service, on a real datagram socket."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto, free_port
from tests.support.plantops import PATIENCE_SECONDS, start
from tests.support.publishing import publish


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_SECONDS)
        yield listening


def words(manager: socket.socket, until: str) -> list[str]:
    """The lines that come, up to one that begins so."""
    heard = list[str]()
    while not any(line.startswith(until) for line in heard):
        heard += manager.recv(4096).decode().splitlines()
    return heard


@pytest.mark.parametrize("command", [("listen",), ("fleet", "--events")])
def test_a_service_is_ready_once_it_is_connected_and_says_how_it_fares(
    own_mosquitto: Mosquitto, manager: socket.socket, command: tuple[str, ...]
) -> None:
    environment = own_mosquitto.environment | {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "400000"}
    with start(*command, env=environment) as running:
        heard = words(manager, "READY=1")
        assert f"STATUS=connecting to 127.0.0.1:{own_mosquitto.port}" in heard
        publish(own_mosquitto, "devices/a/heartbeat", b"1")
        running.stdout.wait_for('"a"')
        assert "WATCHDOG=1" in words(manager, "WATCHDOG=1")
        said = words(manager, f"STATUS=connected to 127.0.0.1:{own_mosquitto.port}")[-1]
        while "1 messages" not in said:
            said = words(manager, "STATUS=connected")[-1]
        assert ("1 online" in said) == (command[0] == "fleet")
        running.process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in words(manager, "STOPPING=1")
        assert running.finish().code == 0


def test_its_status_is_text_whatever_the_settings_hold(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "MQTT_HOST": "\udcff\x1b[2J", "MQTT_PORT": "1"}
    with start("listen", "--anonymous", env=environment) as running:
        assert r"STATUS=connecting to \udcff\x1b[2J:1" in words(manager, "STATUS=connecting")
        done = running.finish()
    assert (done.code, len(done.errors)) == (3, 1)
    assert "Traceback" not in done.stderr


def test_who_waits_for_the_broker_is_ready_too(manager: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(free_port()),
        "MQTT_BACKEND_PASSWORD": "x",
    }
    with start("listen", "--wait-for-broker", env=environment) as running:
        assert any("retry in" in line for line in words(manager, "READY=1"))
        running.finish(signal.SIGTERM)


def test_a_watchdog_of_another_process_is_none_of_ours(own_mosquitto: Mosquitto, manager: socket.socket) -> None:
    environment = own_mosquitto.environment | {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "100000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    with start("listen", env=environment) as running:
        words(manager, "READY=1")
        running.process.send_signal(signal.SIGTERM)
        assert "WATCHDOG=1" not in words(manager, "STOPPING=1")
        running.finish()


def test_without_a_manager_that_listens_nothing_is_missing(own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    environment = own_mosquitto.environment | {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    with start("listen", env=environment) as running:
        running.stderr.wait_for("connected to")
        done = running.finish(signal.SIGTERM)
    assert (done.code, done.errors) == (0, [])


if sys.platform == "linux":  # which alone has abstract sockets (unix(7))

    def test_a_socket_in_the_abstract_namespace_is_found(own_mosquitto: Mosquitto) -> None:
        name = f"plantops-test-{os.getpid()}-{own_mosquitto.port}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0{name}")
            manager.settimeout(PATIENCE_SECONDS)
            with start("listen", env=own_mosquitto.environment | {"NOTIFY_SOCKET": f"@{name}"}) as running:
                words(manager, "READY=1")
                running.finish(signal.SIGTERM)
