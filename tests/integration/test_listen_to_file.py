"""``plantops listen --to FILE``, and what is acknowledged when, on a real Mosquitto."""

import gzip
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_listen import numbered, publish_in_flight
from tests.support.brokers import Mosquitto
from tests.support.plantops import run, start
from tests.support.recording import POLL_SECONDS
from tests.support.samples import lines

TOPIC = "devices/basil/telemetry"
CONNECTED = "connected to"
DURABLE = ("--durable", "shed")

FAILING = """
import errno, os, stat

def fsync(descriptor, system_fsync=os.fsync):
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    system_fsync(descriptor)

os.fsync = fsync
"""

SLOW = """
import os, stat, time

lines = 0

def write(descriptor, data, system_write=os.write):
    global lines
    count = system_write(descriptor, data)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        lines += bytes(data[:count]).count(b"\\n")
    return count

def fsync(descriptor, system_fsync=os.fsync):
    global lines
    system_fsync(descriptor)
    if lines:
        time.sleep(0.1)
        with open(os.path.join(os.path.dirname(__file__), "groups"), "a") as groups:
            print(lines, file=groups)
        lines = 0

os.write, os.fsync = write, fsync
"""


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages for those who are away."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that waits for no acknowledgement before it sends the next message."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0\nmax_inflight_messages 0")
    broker.start()
    yield broker
    broker.stop()


def with_disk(habits: str, folder: Path) -> dict[str, str]:
    """Variables that give a program a disk with habits of its own: Python runs this module before the program."""
    (folder / "sitecustomize.py").write_text(habits)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def numbers(*paths: Path) -> list[int]:
    return [json.loads(line)["payload"]["n"] for path in paths for line in path.read_bytes().splitlines()]


def test_lines_go_to_the_file_and_nothing_to_standard_output(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(lines(-1) + lines(0)[:5])
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
            time.sleep(POLL_SECONDS)
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert numbers(path) == list(range(2_001))


def test_on_a_full_disk_a_signal_ends_it_and_only_what_is_on_the_disk_is_acknowledged(
    patient: Mosquitto, tmp_path: Path
) -> None:
    path = tmp_path / "lines.jsonl"
    with start("listen", *DURABLE, "--to", str(path), env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(patient, TOPIC, numbered(1))
        while not path.stat().st_size:
            assert listening.process.poll() is None
            time.sleep(POLL_SECONDS)
        resource.prlimit(listening.process.pid, resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
        publish_in_flight(patient, TOPIC, numbered(2_000)[1:])
        listening.stderr.wait_for("File too large: waiting for room")
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert done.seconds < 10
    on_disk = numbers(path)
    assert on_disk == list(range(len(on_disk)))
    rest = str(2_000 - len(on_disk))
    assert run("listen", *DURABLE, "--to", str(path), "-C", rest, env=patient.environment).code == 0
    assert numbers(path) == list(range(2_000))


def test_what_a_failing_disk_did_not_take_is_not_acknowledged(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    arguments = ("listen", *DURABLE, "--to", str(path), "-C", "100")
    run("listen", *DURABLE, "-W", "0.5", env=patient.environment)
    publish_in_flight(patient, TOPIC, numbered(100))
    failing = run(*arguments, env=patient.environment | with_disk(FAILING, tmp_path))
    assert (failing.code, len(failing.errors), path.read_bytes()) == (1, 1, b"")
    assert "lines.jsonl': Input/output error" in failing.errors[0]
    assert run(*arguments, env=patient.environment).code == 0
    assert numbers(path) == list(range(100))


def test_a_flood_is_written_in_groups_of_at_most_a_thousand(hasty: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    arguments = ("listen", *DURABLE, "--to", str(path), "-C", "5000")
    run("listen", *DURABLE, "-W", "0.5", env=hasty.environment)
    publish_in_flight(hasty, TOPIC, numbered(5_000))
    assert run(*arguments, env=hasty.environment | with_disk(SLOW, tmp_path)).code == 0
    groups = [int(line) for line in (tmp_path / "groups").read_text().split()]
    assert numbers(path) == list(range(5_000))
    assert sum(groups) == 5_000
    assert max(groups) <= 1_000
    assert len(groups) < 50


def test_a_file_that_would_become_too_long_is_closed_and_compressed(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    earlier = lines(-1) * (4_096 // len(lines(-1)))
    path.write_bytes(earlier)
    arguments = ("listen", "--to", str(path), "--rotate-size", "4K", "-C", "1")
    with start(*arguments, env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(patient, TOPIC, numbered(1))
        assert listening.finish().code == 0
    [closed] = tmp_path.glob("lines.jsonl.*")
    assert gzip.decompress(closed.read_bytes()) == earlier
    assert numbers(path) == [0]


def test_a_new_period_begins_a_new_file(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    arguments = ("listen", "--to", str(path), "--rotate-every", "1s", "-C", "2")
    with start(*arguments, env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(patient, TOPIC, numbered(1))
        while not (first := path.read_bytes()).endswith(b"\n"):
            assert listening.process.poll() is None
            time.sleep(POLL_SECONDS)
        time.sleep(1)
        publish_in_flight(patient, TOPIC, numbered(2)[1:])
        assert listening.finish().code == 0
    [closed] = tmp_path.glob("lines.jsonl.*")
    assert gzip.decompress(closed.read_bytes()) == first
    assert numbers(path) == [1]


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


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0" * 600, b'{"name": "pump"}', lines(1) + b"milk", b"milk\n"]
)
def test_a_file_of_somebody_elses_is_refused_before_anything_is_connected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    nowhere = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": "1", "MQTT_BACKEND_PASSWORD": "x"}
    done = run("listen", "--to", str(path), "--rotate-size", "4K", env=nowhere)
    assert (done.code, done.stdout, len(done.errors)) == (7, b"", 1)
    assert "config.json' does not end in lines of plantops (name another file, or move" in done.errors[0]
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_not_ours_in_the_place_of_a_moved_file_ends_the_run_and_costs_no_message(
    patient: Mosquitto, tmp_path: Path
) -> None:
    path, moved = tmp_path / "lines.jsonl", tmp_path / "lines.jsonl.1"
    with start("listen", *DURABLE, "--to", str(path), env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(patient, TOPIC, numbered(1))
        while not path.read_bytes():
            assert listening.process.poll() is None
            time.sleep(POLL_SECONDS)
        path.rename(moved)
        path.write_bytes(b"milk")
        publish_in_flight(patient, TOPIC, numbered(500)[1:])
        done = listening.finish()
    assert (done.code, len(done.errors), path.read_bytes()) == (7, 1, b"milk")
    path.unlink()
    assert run("listen", *DURABLE, "--to", str(path), "-W", "2", env=patient.environment).code == 0
    # the first may be in both, if it was still being brought to the disk when the file was moved
    assert sorted(set(numbers(moved, path))) == list(range(500))


def test_a_cut_line_in_the_place_of_a_moved_file_is_taken_off_and_told(patient: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with start("listen", "--to", str(path), "-C", "1", env=patient.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        path.rename(tmp_path / "lines.jsonl.1")
        path.write_bytes(lines(-1) + lines(0)[:-9])
        publish_in_flight(patient, TOPIC, numbered(1))
        done = listening.finish()
    assert done.code == 0
    assert f"cut line of {len(lines(0)) - 9} bytes" in done.stderr
    assert numbers(path) == [-1, 0]
