"""``plantops check``: exit codes that monitors understand, and what they read."""

import json
import signal
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto, free_port
from tests.support.plantops import run, start
from tests.support.simulated_fleet import publishing, wait_for_clients

WITHIN = ("--within", "3s")
MODEL = "from pydantic import BaseModel\n\nclass Telemetry(BaseModel):\n    soil: float\n"


def beat(number: int) -> list[tuple[str, bytes]]:
    soil = b'"wet|"' if number % 2 else b"1"
    return [("devices/a/telemetry", b'{"soil":%s}' % soil), ("devices/b/telemetry", b"{}")]


def test_a_healthy_fleet_is_ok(own_mosquitto: Mosquitto) -> None:
    with publishing(own_mosquitto, beat, interval=0.5):
        done = run("check", *WITHIN, "--expect-ids", "a,b", env=own_mosquitto.environment)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith(b"PLANTOPS OK - 2 devices (2 online), ")
    assert b" | devices=2;;;0 online=2;;;0 " in done.stdout


def test_the_same_as_json_text_and_prometheus(own_mosquitto: Mosquitto) -> None:
    with publishing(own_mosquitto, beat, interval=0.5):
        forms = {
            form: run("check", "--within", "2", "--expect-ids", "a,b,c", "-o", form, env=own_mosquitto.environment)
            for form in ("json", "text", "prometheus")
        }
    assert {done.code for done in forms.values()} == {2}
    document = json.loads(forms["json"].stdout)
    assert (document["status"], document["code"]) == ("critical", 2)
    assert document["reasons"] == ["1 offline or missing: c (never seen)"]
    assert document["summary"]["missing"] == 1
    assert document["devices"][0]["device_id"] == "c"
    assert forms["text"].stdout.startswith(b"CRITICAL: 3 devices (2 online, 1 never seen)")
    assert b"\n  never seen      1\n" in forms["text"].stdout
    assert b"\n  rhythm unknown  " in forms["text"].stdout
    samples = dict(
        line.split() for line in forms["prometheus"].stdout.decode().splitlines() if not line.startswith("#")
    )
    assert samples["plantops_check_status"] == "2"
    assert samples["plantops_check_gone"] == "1"


def test_a_contract_counts_what_breaks_it(own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "garden.py").write_text(MODEL)
    with publishing(own_mosquitto, beat, interval=0.5):
        done = run("check", *WITHIN, "--contract", "garden:Telemetry", env=own_mosquitto.environment)
    assert done.code == 2
    said = done.stdout.decode()
    assert "soil: Input should be a valid number" in said
    assert "soil: Field required" in said
    assert said.count("|") == 1


def test_too_low_a_rate_is_critical(own_mosquitto: Mosquitto) -> None:
    with publishing(own_mosquitto, beat, interval=0.5):
        done = run("check", *WITHIN, "--min-rate", "1000", env=own_mosquitto.environment)
    assert done.code == 2
    assert b"messages/s, fewer than 1000" in done.stdout


def test_silence_is_critical_and_explained(own_mosquitto: Mosquitto) -> None:
    done = run("check", "--within", "0.5", env=own_mosquitto.environment)
    assert done.code == 2
    assert b"PLANTOPS CRITICAL - no message of any device in" in done.stdout
    assert b"ACL" in done.stdout


def test_a_broker_that_cannot_be_reached_is_unknown() -> None:
    env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(free_port()), "MQTT_BACKEND_PASSWORD": "x"}
    done = run("check", *WITHIN, env=env)
    assert (done.code, done.stderr) == (3, "")
    assert done.stdout.startswith(b"PLANTOPS UNKNOWN - 127.0.0.1:")


def test_a_broker_that_goes_away_meanwhile_is_unknown_and_no_fault_of_the_devices(
    own_mosquitto: Mosquitto,
) -> None:
    with start("check", "--within", "4", "--expect-ids", "a,c", env=own_mosquitto.environment) as running:
        wait_for_clients(own_mosquitto, 1)
        own_mosquitto.stop()
        done = running.finish()
    assert done.code == 3
    assert done.stdout.startswith(b"PLANTOPS UNKNOWN - ")
    assert b"connection lost" in done.stdout


def test_refused_credentials_are_critical(own_mosquitto: Mosquitto) -> None:
    done = run("check", *WITHIN, env={**own_mosquitto.environment, "MQTT_BACKEND_PASSWORD": "wrong"})
    assert done.code == 2
    assert done.stdout.startswith(b"PLANTOPS CRITICAL - ")
    assert b"wrong" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--within", "never"),
        ("--warn-late", "0"),
        ("--expect", "absent"),
        ("--contract", "x"),
        ("--min-rate", "0"),
    ],
)
def test_a_check_that_makes_no_sense_is_unknown(own_mosquitto: Mosquitto, arguments: tuple[str, str]) -> None:
    done = run("check", *arguments, env=own_mosquitto.environment)
    assert done.code == 3
    assert done.stdout.startswith(f"PLANTOPS UNKNOWN - {arguments[0]}".encode())


def test_an_unknown_flag_is_unknown_too() -> None:
    done = run("check", "--no-such-flag")
    assert done.code == 3
    assert "--no-such-flag" in done.errors[0]


def test_an_output_that_fails_is_unknown_too(own_mosquitto: Mosquitto) -> None:
    done = run("check", "--within", "0.3", env=own_mosquitto.environment, redirect=">/dev/full")
    assert done.code == 3
    assert "cannot write to standard output" in done.errors[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it(own_mosquitto: Mosquitto, number: int, code: int) -> None:
    with start("check", env=own_mosquitto.environment) as running, publishing(own_mosquitto, beat, interval=0.5):
        wait_for_clients(own_mosquitto, 2)
        done = running.finish(number)
    assert (done.code, done.stdout) == (code, b"")
