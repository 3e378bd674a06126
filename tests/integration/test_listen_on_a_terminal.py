"""``plantops listen`` on a terminal of its own."""

from uuid import uuid4

import pytest

from tests.support.brokers import Mosquitto
from tests.support.plantops import start_on_terminal
from tests.support.publishing import publish


@pytest.fixture
def device() -> str:
    """A device id that no other test uses."""
    return f"plant-{uuid4().hex[:12]}"


def test_a_terminal_shows_lines_for_people(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b'{"moisture":41.5}', retain=True)
    with start_on_terminal("listen", "--device", device, "-C", "1", env=mosquitto.environment) as (listening, _):
        done = listening.finish()
    assert b"41.5" in done.stdout
    assert b'{"' not in done.stdout
    assert b"\x1b[" in done.stdout


def test_a_stranger_cannot_command_the_terminal_with_lines_for_people(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"\x1b]0;owned\x07", retain=True)
    with start_on_terminal("listen", "--device", device, "-C", "1", env=mosquitto.environment) as (listening, _):
        done = listening.finish()
    assert rb"\x1b]0;owned" in done.stdout
    assert b"\x1b]0;" not in done.stdout


def test_json_lines_on_a_terminal_have_control_characters_escaped(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", '"a\x7f\x9b2J\u202e"'.encode(), retain=True)
    arguments = ("listen", "--device", device, "-o", "jsonl", "-C", "1")
    with start_on_terminal(*arguments, env=mosquitto.environment) as (listening, _):
        done = listening.finish()
    assert rb'"payload":"a\u007f\u009b2J\u202e"' in done.stdout


def test_ctrl_c_typed_at_the_terminal_ends_the_stream(mosquitto: Mosquitto, device: str) -> None:
    with start_on_terminal("listen", "--device", device, env=mosquitto.environment) as (listening, keyboard):
        listening.stderr.wait_for("connected to")
        keyboard.write(b"\x03")
        done = listening.finish()
    assert (done.code, done.errors) == (0, [])
    assert "0 messages in " in done.stderr
