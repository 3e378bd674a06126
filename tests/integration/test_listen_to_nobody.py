"""``plantops listen`` when nobody reads what it writes, nor what it says."""

import fcntl
import signal
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_listen import numbered, publish_in_flight
from tests.support.brokers import Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Running, start, start_on_terminal

TOPIC = "devices/basil/telemetry"
SLOW_SECONDS = 2.5  # longer than it takes to be called slow
PINGS_SECONDS = 2.5  # longer than the broker does without a ping, with -k 1
PROMPT_SECONDS = 10.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    yield broker
    broker.stop()


def stall(listening: Running, broker: Mosquitto, seconds: float = SLOW_SECONDS) -> None:
    """Flood it, and read nothing, until it has written nothing for so long."""
    listening.stdout.wait_for("connected to")
    publish_in_flight(broker, TOPIC, numbered(5_000))
    deadline = time.monotonic() + PATIENCE_SECONDS
    unread, since = 0, time.monotonic()
    while time.monotonic() < since + seconds:
        assert time.monotonic() < deadline, "it goes on writing"
        if (count := bytes_unread(listening.stdout.descriptor)) != unread:
            unread, since = count, time.monotonic()
        time.sleep(0.05)
    assert unread


def bytes_unread(descriptor: int) -> int:
    """How many bytes wait in a pipe or a terminal."""
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(struct.calcsize("i"))))[0]
    return count


def end_unread(listening: Running, number: signal.Signals) -> int:
    """Send a signal, and return the exit code of a process that ends while still nobody reads."""
    listening.process.send_signal(number)
    return listening.process.wait(timeout=PROMPT_SECONDS)


def assert_pings_went_out(broker: Mosquitto) -> None:
    assert "exceeded timeout" not in (broker.folder / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_messages_and_talk_in_one_pipe_that_nobody_reads_leave_pings_and_signals_alive(
    broker: Mosquitto, number: signal.Signals
) -> None:
    with start("listen", "-k", "1", "-o", "jsonl", env=broker.environment, redirect="2>&1") as listening:
        stall(listening, broker, SLOW_SECONDS + PINGS_SECONDS)
        assert_pings_went_out(broker)
        assert end_unread(listening, number) == 0


def test_a_terminal_that_nobody_reads_leaves_pings_and_signals_alive(broker: Mosquitto) -> None:
    with start_on_terminal("listen", "-k", "1", env=broker.environment) as (listening, _):
        stall(listening, broker, SLOW_SECONDS + PINGS_SECONDS)
        assert_pings_went_out(broker)
        assert end_unread(listening, signal.SIGINT) == 0


def test_ctrl_c_typed_at_a_terminal_that_nobody_reads_ends_the_stream(broker: Mosquitto) -> None:
    with start_on_terminal("listen", env=broker.environment) as (listening, keyboard):
        stall(listening, broker)
        keyboard.write(b"\x03")
        assert listening.process.wait(timeout=PROMPT_SECONDS) == 0


def test_what_could_not_be_said_is_said_at_the_end_to_whoever_reads_again(broker: Mosquitto) -> None:
    with start("listen", "-o", "jsonl", env=broker.environment, redirect="2>&1") as listening:
        stall(listening, broker)
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert b"\nplantops: reader slow: paused 2 s\n" in done.stdout
    assert b" messages in " in done.stdout
