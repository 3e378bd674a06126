"""``plantops demo``, on both of its brokers."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import plantops

DEMO = [sys.executable, "-m", "plantops_cli", "demo"]
BROKERS = [pytest.param(["--embedded"], id="embedded"), pytest.param([], id="mosquitto")]
FIRST_MESSAGE_SECONDS = 3.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = plantops.run("demo", *arguments)
    return subprocess.CompletedProcess((), done.code, done.stdout.decode(), done.stderr)


@pytest.mark.parametrize("broker", BROKERS)
def test_it_shows_simulated_plants_and_stops_at_the_count(broker: list[str]) -> None:
    done = run(*broker, "-C", "8")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(lines) == 8
    assert {line["kind"] for line in lines} <= {"telemetry", "heartbeat"}
    assert "8 messages" in done.stderr


@pytest.mark.parametrize("broker", BROKERS)
def test_the_first_message_comes_within_three_seconds(broker: list[str]) -> None:
    # with the time that it takes to load the program
    command = [*DEMO, *broker, "-C", "1", "-W", str(FIRST_MESSAGE_SECONDS)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def test_the_first_line_says_what_goes_on_and_what_to_type_for_a_broker_of_ones_own() -> None:
    first = run("--embedded", "-C", "1").stderr.splitlines()[0]
    assert "simulated plants" in first
    assert "embedded amqtt" in first
    assert "plantops listen -h HOST" in first


def test_a_mosquitto_that_is_installed_is_used_unless_embedded_is_asked_for() -> None:
    assert "on mosquitto " in run("-C", "1").stderr


def test_the_output_is_chosen_as_in_listen() -> None:
    done = run("--embedded", "-C", "2", "-o", "pretty")
    assert not done.stdout.startswith("{")
    assert "uptime_s=" in done.stdout or "soil_moisture=" in done.stdout or "invalid" in done.stdout


def test_the_timeout_ends_it_with_success_after_messages() -> None:
    done = run("--embedded", "-W", "1.5")
    assert done.returncode == 0
    assert done.stdout


def test_quiet_leaves_the_messages_alone() -> None:
    assert run("--embedded", "-C", "1", "--quiet").stderr == ""


@pytest.mark.parametrize("broker", BROKERS)
def test_ctrl_c_ends_it_cleanly_with_a_summary(broker: list[str]) -> None:
    process = subprocess.Popen([*DEMO, *broker], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert " messages in " in stderr or " message in " in stderr


def test_on_a_terminal_it_shows_lines_for_people() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*DEMO, "--embedded", "-C", "3"], stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    shown = read_terminal(ours)
    assert process.wait(timeout=30) == 0
    assert "\x1b[" in shown
    assert "{" not in shown.splitlines()[0]


def read_terminal(terminal: int) -> str:
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux: the other side has closed it
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    return shown.decode()


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run("-C", "1").returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("broker", BROKERS)
def test_a_full_disk_is_one_clear_line(broker: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*DEMO, *broker]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "plantops: error: cannot write to standard output: No space left on device"


@pytest.mark.parametrize("seconds", [0.15, 0.2, 0.25, 0.3, 0.4])
def test_sigterm_while_it_starts_leaves_nothing_behind(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = subprocess.Popen(DEMO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=10)
    # before the first line of the program has run, the signal has its usual effect
    assert process.returncode in (0, -signal.SIGTERM), stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_dies_ends_it_with_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    (folder,) = tmp_path.iterdir()
    children = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=True).stdout
    os.kill(int(children.split()[0]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 3, stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
