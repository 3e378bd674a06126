"""The live board on a real terminal, which it leaves as it found it."""

import fcntl
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from tests.support.brokers import Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Running, run, start_on_terminal
from tests.support.publishing import publish
from tests.support.simulated_fleet import publishing

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@contextmanager
def board(broker: Mosquitto, *arguments: str, **environment: str) -> Iterator[tuple[Running, BinaryIO]]:
    with start_on_terminal("fleet", *arguments, env=broker.environment | environment) as (running, keyboard):
        yield running, keyboard


def settings_of(keyboard: BinaryIO) -> list[object]:
    """What the terminal does with keys; the same on both of its sides."""
    return termios.tcgetattr(keyboard.fileno())[:6]


def assert_left_as_it_was(shown: bytes) -> None:
    text = shown.decode()
    assert text.rfind(ENTER) < text.rfind(LEAVE)
    assert text.rfind(HIDE) < text.rfind(SHOW)


def beat(number: int) -> list[tuple[str, bytes]]:
    return [(f"devices/plant-{n}/telemetry", b'{"soil_moisture":%d}' % (number + n)) for n in range(3)]


def test_it_shows_the_fleet_and_quits_with_a_key(own_mosquitto: Mosquitto) -> None:
    with (
        publishing(own_mosquitto, beat, interval=0.3),
        board(own_mosquitto, "--field", "soil_moisture", "--expect-ids", "plant-0,gone") as (running, keyboard),
    ):
        before = settings_of(keyboard)
        running.stdout.wait_for("connected for")
        running.stdout.wait_for("3 online")
        running.stdout.wait_for("never seen.*gone")
        assert settings_of(keyboard) != before
        keyboard.write(b"/plant-1\r")
        running.stdout.wait_for("1 of 4")
        keyboard.write(b"q")
        done = running.finish()
        assert settings_of(keyboard) == before
    assert done.code == 0
    assert_left_as_it_was(done.stdout)
    assert b"4 devices: 3 online, 1 never seen" in done.stdout[done.stdout.rfind(LEAVE.encode()) :]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGQUIT, 0)],
)
def test_whatever_ends_it_the_terminal_is_given_back(own_mosquitto: Mosquitto, number: int, code: int) -> None:
    with board(own_mosquitto) as (running, keyboard):
        before = settings_of(keyboard)
        running.stdout.wait_for("connected for")
        done = running.finish(number)
        assert settings_of(keyboard) == before
    assert done.code == code
    assert_left_as_it_was(done.stdout)


def test_asked_twice_it_ends_at_once_and_the_terminal_is_given_back_all_the_same(own_mosquitto: Mosquitto) -> None:
    with board(own_mosquitto) as (running, keyboard):
        before = settings_of(keyboard)
        running.stdout.wait_for("connected for")
        own_mosquitto.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]  # it runs
        try:
            running.process.send_signal(signal.SIGINT)
            running.stdout.wait_for(LEAVE.replace("[", r"\[").replace("?", r"\?"))
            done = running.finish(signal.SIGINT)
        finally:
            own_mosquitto.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]  # it runs
        assert settings_of(keyboard) == before
    assert done.code in (0, -signal.SIGINT)
    assert_left_as_it_was(done.stdout)


def test_an_error_is_said_on_the_terminal_as_it_was(own_mosquitto: Mosquitto) -> None:
    with board(own_mosquitto, MQTT_BACKEND_PASSWORD="wrong") as (running, _):
        done = running.finish()
    assert done.code == 5
    assert_left_as_it_was(done.stdout)
    assert b"plantops: error: " in done.stdout[done.stdout.rfind(LEAVE.encode()) :]


def test_an_outage_is_on_the_board_and_changes_nobody(own_mosquitto: Mosquitto) -> None:
    with board(own_mosquitto) as (running, keyboard):
        running.stdout.wait_for("connected for")
        publish(own_mosquitto, "devices/a/telemetry", b"{}")
        running.stdout.wait_for("online .*a ")
        own_mosquitto.stop()
        running.stdout.wait_for("NOT CONNECTED")
        own_mosquitto.start()
        running.stdout.wait_for("resumed after")
        running.stdout.wait_for("connected for")
        keyboard.write(b"q")
        done = running.finish()
    assert done.code == 0
    assert b"offline" not in done.stdout
    assert b"1 outage of our own" in done.stdout


def test_it_follows_the_size_of_the_terminal(own_mosquitto: Mosquitto) -> None:
    publish(own_mosquitto, "devices/a/heartbeat", b"1", retain=True)
    with board(own_mosquitto, LINES="30", COLUMNS="100") as (running, keyboard):
        running.stdout.wait_for("latest")
        fcntl.ioctl(keyboard.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
        running.stdout.wait_for(r"\x1b\[H(?:[^\n]*\n){9}[^\n]*\x1b\[H")
        keyboard.write(b"q")
        assert running.finish().code == 0


def test_ctrl_z_leaves_the_terminal_and_fg_takes_it_again(own_mosquitto: Mosquitto) -> None:
    with board(own_mosquitto) as (running, keyboard):
        before = settings_of(keyboard)
        running.stdout.wait_for("connected for")
        running.process.send_signal(signal.SIGTSTP)
        wait_until_stopped(running.process.pid)
        assert settings_of(keyboard) == before
        running.process.send_signal(signal.SIGCONT)
        running.stdout.wait_for(r"\?1049l")
        running.stdout.wait_for(r"\?1049h")
        running.stdout.wait_for("connected for")
        keyboard.write(b"q")
        done = running.finish()
    assert done.code == 0
    assert_left_as_it_was(done.stdout)


def wait_until_stopped(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    while not subprocess.run(command, capture_output=True, check=True).stdout.startswith(b"T"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_terminal_that_is_too_simple_for_it_is_told(mosquitto: Mosquitto) -> None:
    with board(mosquitto, TERM="dumb") as (running, _):
        done = running.finish()
    assert done.code == 2
    assert b"give --once or --events" in done.stdout


def test_off_a_terminal_it_says_what_to_do_instead(mosquitto: Mosquitto) -> None:
    done = run("fleet", env=mosquitto.environment)
    assert done.code == 2
    assert "give --once or --events" in done.errors[0]
