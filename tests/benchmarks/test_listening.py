"""The fake broker serves real listeners; a child that fails says why."""

import sys

import pytest

from benchmarks import listeners
from benchmarks.children import Child
from benchmarks.fake_broker import FakeBroker, receive_maximum
from benchmarks.measure import MeasurementError
from benchmarks.memory import resident
from tests.support.brokers import PASSWORD
from tests.support.scripted_broker import Packet

LISTENERS = [listeners.plantops(), listeners.mosquitto_sub(), listeners.aiomqtt_loop()]
CONNECT_5 = b"\0\4MQTT\5\2\0\x0f"


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("listener", LISTENERS, ids=lambda listener: listener.name)
def test_a_listener_gets_what_was_promised(listener: listeners.Listener, qos: int) -> None:
    with FakeBroker(qos=qos, count=2_500) as broker:
        command = listener.command(port=broker.port, qos=qos, count=2_500)
        with Child(listener.name, command, {"MQTT_BACKEND_PASSWORD": PASSWORD}) as child:
            assert child.read_lines(2_500) > broker.poured_at > child.started_at
            assert child.end() > 0
    assert child.line_count == 2_500


def test_the_floor_hands_on_all_bytes() -> None:
    with FakeBroker(qos=0, count=1_000) as broker:
        command = listeners.floor().command(port=broker.port, qos=0, count=1_000)
        with Child("floor", command) as child:
            child.read_lines(1_000)
            child.end()


def test_a_child_that_ends_early_is_quoted() -> None:
    script = "import sys; print('one'); sys.exit('no such flag')"
    said = pytest.raises(MeasurementError, match="it ended after 1 of 2 lines: no such flag")
    with Child("it", [sys.executable, "-c", script]) as child, said:
        child.read_lines(2)


def test_a_child_that_fails_is_quoted() -> None:
    said = pytest.raises(MeasurementError, match="it ended with 1: full")
    with Child("it", [sys.executable, "-c", "import sys; sys.exit('full')"]) as child, said:
        child.end()


def test_a_silent_child_is_given_up() -> None:
    with Child("it", [sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        assert resident(child.process.pid) > 0
        with pytest.raises(MeasurementError, match="it printed nothing"):
            child.read_lines(1, patience=0.1)
    assert child.process.returncode


@pytest.mark.parametrize(
    ("connect", "expected"),
    [
        (b"\0\4MQTT\4\2\0\x0f\0\1x", 65_535),
        (CONNECT_5 + b"\0\0\1x", 65_535),
        (CONNECT_5 + b"\x03\x21\0\x14\0\1x", 20),
        (CONNECT_5 + b"\x08\x11\0\0\0\x01\x21\x01\0\0\1x", 256),
    ],
)
def test_the_receive_maximum_is_read(connect: bytes, expected: int) -> None:
    assert receive_maximum(Packet(0x10, connect)) == expected
