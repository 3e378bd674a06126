"""``plantops listen --to FILE``, and what is acknowledged when, on a real Mosquitto."""

import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.integration.test_listen import numbered, publish_in_flight
from tests.plantops import run, start

TOPIC = "devices/basil/telemetry"
CONNECTED = "connected to"
DURABLE = ("--durable", "shed")


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages for those who are away."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    yield broker
    broker.stop()


def numbers(*paths: Path) -> list[int]:
    return [json.loads(line)["payload"]["n"] for path in paths for line in path.read_bytes().splitlines()]


def test_lines_go_to_the_file_and_nothing_to_standard_output(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"payload":{"n":-1}}\n{"cut')
    with start("listen", "--to", str(path), "-C", "500", env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(patient, TOPIC, numbered(500))
        done = listening.finish()
    assert (done.code, done.stdout) == (0, b"")
    assert "cut line of 5 bytes" in done.stderr
    assert numbers(path) == [-1, *range(500)]


def test_what_is_counted_off_is_acknowledged_and_what_comes_behind_is_not(patient: Mosquitto) -> None:
    run("listen", *DURABLE, "-W", "0.5", env=patient.environment)
    publish_in_flight(patient, TOPIC, numbered(30))
    seen: list[int] = []
    for _ in range(3):
        done = run("listen", *DURABLE, "-C", "10", "-o", "jsonl", env=patient.environment)
        seen += [json.loads(line)["payload"]["n"] for line in done.lines]
    assert seen == list(range(30))


def test_the_last_acknowledgements_reach_a_broker_that_is_still_sending(patient: Mosquitto) -> None:
    run("listen", *DURABLE, "-W", "0.5", env=patient.environment)
    publish_in_flight(patient, TOPIC, numbered(5_000))
    seen: list[int] = []
    for _ in range(5):
        done = run("listen", *DURABLE, "-C", "10", "-o", "jsonl", env=patient.environment)
        seen += [json.loads(line)["payload"]["n"] for line in done.lines]
    assert seen == list(range(50))


def test_what_a_blocked_reader_did_not_get_comes_again(patient: Mosquitto) -> None:
    run("listen", *DURABLE, "-W", "0.5", env=patient.environment)
    publish_in_flight(patient, TOPIC, numbered(3_000))
    with start("listen", *DURABLE, "-o", "jsonl", env=patient.environment) as listening:
        listening.stderr.wait_for("reader slow: paused")  # nobody reads its output
        listening.process.send_signal(signal.SIGTERM)
        first = listening.finish()
    second = run("listen", *DURABLE, "-W", "2", "-o", "jsonl", env=patient.environment)
    seen = [json.loads(line)["payload"]["n"] for line in (*first.lines, *second.lines)]
    assert 0 < len(first.lines) < 3_000
    assert seen == list(range(3_000))


def test_on_a_full_disk_it_waits_for_room_and_loses_nothing(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with start("listen", *DURABLE, "--to", str(path), env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        resource.prlimit(listening.process.pid, resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
        publish_in_flight(patient, TOPIC, numbered(2_000))
        listening.stderr.wait_for("File too large: waiting for room")
        resource.prlimit(listening.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        listening.stderr.wait_for("there is room again")
        publish_in_flight(patient, TOPIC, numbered(2_001)[2_000:])
        while numbers(path)[-1:] != [2_000]:
            assert listening.process.poll() is None
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert numbers(path) == list(range(2_001))


def test_a_device_is_refused_before_anything_is_taken_from_the_broker(patient: Mosquitto, tmp_path: Path) -> None:
    run("listen", *DURABLE, "-W", "0.5", env=patient.environment)
    publish_in_flight(patient, TOPIC, numbered(100))
    with start("listen", *DURABLE, "--to", "/dev/full", env=patient.environment) as listening:
        refused = listening.finish()
    assert (refused.code, "not a regular file" in refused.stderr) == (2, True)
    path = tmp_path / "lines.jsonl"
    done = run("listen", *DURABLE, "--to", str(path), "-W", "1", env=patient.environment)
    assert done.code == 0
    assert numbers(path) == list(range(100))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rotate-size", "1M"], "--to"),
        (["--rotate-every", "1h"], "--to"),
        (["--to", "x", "-o", "pretty"], "--output pretty"),
        (["--to", "x", "--rotate-size", "1"], "--rotate-size '1'"),
        (["--to", "x", "--rotate-every", "soon"], "--rotate-every 'soon'"),
        (["--to", "no/such/folder"], "No such file"),
        (["--to", "."], "directory"),
        (["--durable", "x", "-q", "0"], "--qos 0"),
        (["--durable", ""], "durable name"),
        (["--durable", "x", "-i", "y"], "client id of its own"),
        (["--durable", "x", "--session-expiry", "0"], "session expiry"),
        (["--group", "a/b"], "group 'a/b'"),
        (["--max-packet-size", "1"], "largest packet"),
    ],
)
def test_flags_that_make_no_sense_are_refused(arguments: list[str], words: str) -> None:
    done = run("listen", *arguments, env={"MQTT_BACKEND_PASSWORD": "x"})
    assert (done.code, done.stdout) == (2, b"")
    assert len(done.errors) == 1
    assert words in done.errors[0]
